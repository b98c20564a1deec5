"""What a node is asked when somebody wants to know, and at no other time: metrics, a session's inside."""

from controlplane.domain.nodes.model import Node
from controlplane.errors import ControlError, NotFound, Unavailable
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.services.board import Board

NAMED = 20  # nodes and sessions that a refusal names at most


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

    def node(self, node_id: str) -> Node:
        node = self._board.nodes.get(node_id)
        if node is None:
            there = named(sorted(self._board.nodes))
            raise NotFound(f"There is no node {node_id}. Nodes: {there}.", code="no_such_node")
        return node


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
