"""What a node is asked when somebody wants to know, and at no other time: metrics, a session's inside."""

from controlplane.domain.nodes.model import Node
from controlplane.errors import Conflict, ControlError, NotFound, Unavailable
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.services.board import Board
from controlplane.wire.inside import SessionInside

NAMED = 20  # nodes and sessions that a refusal names at most
INCOMING = ".in"  # at the end of a relay's id, on the node that receives
SHORT = 8  # characters of a session's id, as it is shown
SHORTEST = 4  # that are taken for the beginning of one


class Asking:
    def __init__(self, board: Board, control: NodeControl) -> None:
        self._board = board
        self._control = control

    async def metrics(self, node_id: str) -> bytes:
        """Raises NotFound, Unavailable."""
        node = self.node(node_id)
        try:
            return await self._control.metrics(node)
        except (NodeUnreachable, NodeRefused) as error:
            raise _refusal(error) from error

    async def inspect(self, session: str, node_id: str | None = None) -> SessionInside:
        """What is inside a session. Its first few characters do, where they fit one alone.

        Without a node it is looked for on all of them. Raises NotFound, Conflict, Unavailable.
        """
        node, found = self._find(session, node_id)
        try:
            inside = await self._control.inspect(node, found)
        except NodeRefused as error:
            if error.problem.code == "no_such_session":
                raise self._no_session(session, node.id) from error
            raise _refusal(error) from error
        except NodeUnreachable as error:
            raise _refusal(error) from error
        return inside.model_copy(update={"node": node.id})

    def _find(self, session: str, node_id: str | None) -> tuple[Node, str]:
        """The node and the whole id of a session that was named by its beginning."""
        node = None if node_id is None else self.node(node_id)
        known = self._sessions(node_id)
        found = [session] if session in known else []
        if not found and len(session) >= SHORTEST:
            beginning = session.removesuffix(INCOMING)
            found = sorted(name for name in known if name.startswith(beginning))
            # A relay has two ends, on two nodes: the one that receives is called like the other, and `.in`.
            if beginning != session:
                found = [name for name in found if name.endswith(INCOMING)]
            elif found:
                found = [name for name in found if name != found[0] + INCOMING]
        if len(found) > 1:
            there = named([short(name) + f" on {known[name]}" for name in found])
            raise Conflict(
                f"It may be {there}. Name more of it.",
                code="ambiguous_session",
                title=f"More than one session begins with {session}",
            )
        if not found:
            if node is None:
                raise self._no_session(session, None)
            return node, session  # younger than the node's last report, it may be
        return self.node(known[found[0]]), found[0]

    def _sessions(self, node_id: str | None) -> dict[str, str]:
        """Session -> node, of one node or all: those that we made, and those that nodes told of last."""
        known = {session.id: session.node for session in self._board.sessions.values()}
        for node in self._board.reporting():
            heard = self._board.heard.get(node.id)
            for said in heard.sessions or () if heard is not None else ():
                known.setdefault(said["id"], node.id)
        return {
            session: node
            for session, node in known.items()
            if node_id in (None, node) and node in self._board.nodes
        }

    def _no_session(self, session: str, node_id: str | None) -> NotFound:
        where = "" if node_id is None else f" on {node_id}"
        there = named([short(name) for name in sorted(self._sessions(node_id))])
        return NotFound(
            f"Sessions: {there}.", code="no_such_session", title=f"There is no session {session}{where}"
        )

    def node(self, node_id: str) -> Node:
        node = self._board.nodes.get(node_id)
        if node is None:
            there = named(sorted(self._board.nodes))
            raise NotFound(f"Nodes: {there}.", code="no_such_node", title=f"There is no node {node_id}")
        return node


def short(session: str) -> str:
    """The beginning of a session's id, which is enough to name it by; a relay's own end keeps its mark."""
    return session[:SHORT] + (INCOMING if session.endswith(INCOMING) else "")


def named(names: list[str]) -> str:
    """Some of them, and how many more there are."""
    if not names:
        return "none"
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _refusal(error: NodeUnreachable | NodeRefused) -> ControlError:
    if isinstance(error, NodeUnreachable):
        return Unavailable(
            f"{error}. If it has died, it is replaced within a minute: see showcaller nodes.",
            code="node_unreachable",
            title="The node does not answer",
            retry_after_s=1,
        )
    problem = error.problem
    words = " ".join(part for part in (problem.title, problem.detail) if part)
    if problem.status == 404:
        return NotFound(f"{error.node}: {words}", code=problem.code, title=problem.title)
    return Unavailable(f"{error.node}: {words}", code=problem.code, title=problem.title, retry_after_s=1)
