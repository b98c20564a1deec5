"""What a node is asked when somebody wants to know, and at no other time: metrics, a session's inside.

Any manager asks any node, at its control endpoint. A node tells of its sessions one by one only to the
manager that it reports to, as they are most of a report; another one asks the node what it told last.
"""

import asyncio
from collections.abc import Mapping

from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import REPORTING
from controlplane.errors import Conflict, ControlError, NotFound, Unavailable
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.services.board import Board
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionsTold

ASKED_AT_ONCE = 16  # nodes, where a session may be on any
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

    async def sessions(self, node: Node) -> SessionsTold | None:
        """What a node that tells another manager of its sessions says of them; None where it tells us, has
        not reported yet, or is of an earlier version, that does not say. Raises Unavailable."""
        if not self._tells_another(node):
            return None
        try:
            return await self._control.sessions(node)
        except NodeUnreachable as error:
            raise _refusal(error) from error
        except NodeRefused as error:
            if error.problem.status == 404:
                return None
            raise _refusal(error) from error

    async def inspect(self, session: str, node_id: str | None = None) -> SessionInside:
        """What is inside a session. Its first few characters do, where they fit one alone.

        Without a node it is looked for on all of them. Raises NotFound, Conflict, Unavailable.
        """
        node, found = await self.find(session, node_id)
        try:
            inside = await self._control.inspect(node, found)
        except NodeRefused as error:
            if error.problem.code == "no_such_session":
                known = self._sessions(node.id)
                more, silent = await self._told_elsewhere(node.id)
                raise no_session(session, node.id, known | more, silent) from error
            raise _refusal(error) from error
        except NodeUnreachable as error:
            raise _refusal(error) from error
        return inside.model_copy(update={"node": node.id})

    async def find(self, session: str, node_id: str | None) -> tuple[Node, str]:
        """The node and the whole id of a session that was named by its beginning. Raises as `inspect`.

        Those that have a row and those that we are told of are looked through first, and where it is not
        among them those that nodes tell other managers of: their own relays.
        """
        node = None if node_id is None else self.node(node_id)
        known = self._sessions(node_id)
        found = self._named(session, known)
        silent: list[str] = []
        if not found:
            more, silent = await self._told_elsewhere(node_id)
            known |= more
            found = self._named(session, known)
        if len(found) > 1:
            there = named([short(name) + f" on {known[name]}" for name in found])
            raise Conflict(
                f"It may be {there}. Name more of it.",
                code="ambiguous_session",
                title=f"More than one session begins with {session}",
            )
        if not found:
            if node is None:
                raise no_session(session, None, known, silent)
            return node, session  # younger than the node's last report, it may be
        return self.node(known[found[0]]), found[0]

    @staticmethod
    def _named(session: str, known: Mapping[str, str]) -> list[str]:
        """Whole ids that may be meant, in order."""
        found = [session] if session in known else []
        if not found and len(session) >= SHORTEST:
            beginning = session.removesuffix(INCOMING)
            found = sorted(name for name in known if name.startswith(beginning))
            # A relay has two ends, on two nodes: the one that receives is called like the other, and `.in`.
            if beginning != session:
                found = [name for name in found if name.endswith(INCOMING)]
            elif found:
                found = [name for name in found if name != found[0] + INCOMING]
        return found

    def _tells_another(self, node: Node) -> bool:
        heard = self._board.heard.get(node.id)
        reports = heard is not None and heard.report is not None and node.state in REPORTING
        return reports and heard is not None and heard.sessions is None

    async def _told_elsewhere(self, node_id: str | None) -> tuple[dict[str, str], list[str]]:
        """Session -> node, of the node or all that tell other managers, asked now; and who did not answer."""
        turns = asyncio.Semaphore(ASKED_AT_ONCE)
        silent: list[str] = []

        async def ask(node: Node) -> dict[str, str]:
            async with turns:
                try:
                    told = await self.sessions(node)
                except Unavailable:
                    silent.append(node.id)
                    told = None
            return {} if told is None else {said["id"]: node.id for said in told.sessions}

        nodes = [it for it in self._board.nodes.values() if node_id in (None, it.id)]
        found: dict[str, str] = {}
        for said in await asyncio.gather(*(ask(it) for it in nodes if self._tells_another(it))):
            found |= said
        return found, sorted(silent)

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

    def node(self, node_id: str) -> Node:
        node = self._board.nodes.get(node_id)
        if node is None:
            there = named(sorted(self._board.nodes))
            raise NotFound(f"Nodes: {there}.", code="no_such_node", title=f"There is no node {node_id}")
        return node


def no_session(session: str, node_id: str | None, known: Mapping[str, str], silent: list[str]) -> NotFound:
    """`known`: what there is; `silent`: nodes that were asked and did not answer."""
    where = "" if node_id is None else f" on {node_id}"
    there = named([short(name) for name in sorted(known)])
    unasked = f" {named(silent)} did not answer." if silent else ""
    return NotFound(
        f"Sessions: {there}.{unasked}",
        code="no_such_session",
        title=f"There is no session {session}{where}",
    )


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
