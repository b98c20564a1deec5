"""Ends of sessions that a move has to do with, as parts of a change. They look at their transaction alone."""

from collections.abc import Iterable

from controlplane.domain.streams.model import EndReason, Session
from controlplane.services.board import Board
from controlplane.services.books import Change
from controlplane.wire.nodes import NodeState


def was_moved(board: Board, session: Session) -> bool:
    """Whether a viewer has come to the session that was reserved for it elsewhere."""
    new = board.successor(session.id)
    return new is not None and new.move_until is None


async def end_viewer(
    change: Change, session: Session, *, moved: bool, why: EndReason = EndReason.LEFT
) -> None:
    """A viewer's session is over, because it left or, where it was moved, has another one by now: then the
    drain of its node has one more."""
    if not moved:
        await change.end_session(session, why)
    elif await change.end_session(session, EndReason.REHOMED):
        node = await change.tx.node(session.node)
        if node is not None and node.state is NodeState.DRAINING:
            await change.update_node(node, drain_moved=node.drain_moved + 1)


async def give_back(change: Change, reserved: Iterable[Session]) -> None:
    """End sessions that were reserved, unless somebody has come to them meanwhile."""
    for session in reserved:
        row = await change.tx.session(session.id)
        if row is not None and row.ended_at is None and row.move_until is not None:
            await change.end_session(row, EndReason.GIVEN_BACK)
