"""Nodes that go away, and what becomes of everything that was on them.

Death is told by the provisioner (pidfd) or by a refused control connection, at once; silence is only the last
resort. In the one transaction that calls a node faulty, its viewers are told to move, its publishers are
waited for and its relays forgotten; right after it, the edges that had a stream from it subscribe anew. Then
`wake` is set, and the fleet replaces it.

Any manager may find out that a node is lost, and writes it down. Its process is ended by the one that leads:
at its next look every node that is on its way out and still runs is told to end.
"""

import asyncio

import structlog

from controlplane.domain.managers.model import ActKind
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE, LEAVING
from controlplane.domain.streams.model import EndReason, Session
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.ports.provisioner import Provisioner, ProvisionUnknown
from controlplane.services.background import Background
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.lease import Leading
from controlplane.services.rehoming import was_moved
from controlplane.services.streams import Streams
from controlplane.services.words import counted, lasting
from controlplane.wire.nodes import NodeState, SessionKind

log = structlog.get_logger(__name__)


class Losses:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        control: NodeControl,
        streams: Streams,
        background: Background,
        lease: Leading,
    ) -> None:
        self._books = books
        self._lease = lease
        self._board: Board = books.board
        self._provisioner = provisioner
        self._control = control
        self._streams = streams
        self._background = background
        self.wake = asyncio.Event()
        self.told_to_move: dict[str, float] = {}  # draining nodes past their deadline: since when, monotonic
        self._knocking: set[str] = set()
        self._ending: set[str] = set()  # were told to end
        provisioner.watch(self._on_ended)

    def _on_ended(self, node_id: str, reason: str) -> None:
        self._ending.discard(node_id)
        self._background.start(self.lost(node_id, reason, gone=True), f"{node_id} has ended")

    async def unreachable(self, error: NodeUnreachable) -> None:
        """A control call failed. Refused twice means that nobody listens there any more: it has died."""
        node = self._board.nodes.get(error.node)
        if node is not None and error.refused and await self._control.refuses(node):
            await self.lost(error.node, "it refuses control connections", gone=False)

    def knock(self, node: Node) -> None:
        """Ask a node that has become silent, and that no provisioner watches, whether it still lives."""
        if node.id not in self._knocking:
            self._knocking.add(node.id)
            self._background.start(self._knock(node), f"knock at {node.id}")

    async def _knock(self, node: Node) -> None:
        try:
            if await self._control.refuses(node):
                await self.lost(node.id, "it refuses control connections", gone=True)
        finally:
            self._knocking.discard(node.id)

    async def never_started(self, node_id: str) -> None:
        """A node that somebody was to start by hand, and whose token nobody has used: no fault."""

        async def work(change: Change) -> None:
            node = await change.tx.node(node_id)
            if node is not None and node.state is NodeState.BOOTING and node.enrolled_at is None:
                await change.move_node(
                    node, NodeState.TERMINATED, "nobody started it before its enrolment token expired"
                )

        await self._books.change(work)

    async def lost(self, node_id: str, reason: str, *, gone: bool) -> None:
        """A node is no more: `gone` when its process certainly is, otherwise it is to be ended as well."""

        async def work(change: Change) -> Node | None:
            node = await change.tx.node(node_id)
            if node is None or node.state in GONE:
                return None
            if node.state in LEAVING:
                if gone:
                    await self.lose_sessions(change, node, reason)
                    return await change.move_node(node, NodeState.TERMINATED, reason)
                return None
            if node.state is NodeState.REQUESTED:
                return await change.move_node(node, NodeState.TERMINATED, reason)
            return await self.fail(change, node, reason, gone=gone)

        node = await self._books.change(work)
        if node is None:
            return
        self.after_loss(node)

    async def fail(self, change: Change, node: Node, reason: str, *, gone: bool) -> Node:
        await self.lose_sessions(change, node, reason)
        node = await change.move_node(
            node, NodeState.FAULTY, reason, faulted_at=change.now, drain_deadline=None
        )
        if gone:
            node = await change.move_node(node, NodeState.TERMINATED, "nothing of it is left")
        return node

    async def lose_sessions(self, change: Change, node: Node, reason: str) -> None:
        """Viewers are moved, publishers waited for, relays forgotten. By the rows: the board may lack what
        another manager has just committed."""
        others: dict[EndReason, list[Session]] = {EndReason.REHOMED: [], EndReason.MOVED: []}
        for session in await change.tx.sessions_on(node.id):
            if session.kind is SessionKind.WHIP:
                why = f"its origin {node.id} has gone ({reason})"
                await self._streams.publisher_gone(change, session, why, EndReason.MOVED)
            else:
                moved = was_moved(self._board, session)
                others[EndReason.REHOMED if moved else EndReason.MOVED].append(session)
        for end, sessions in others.items():
            await change.end_sessions(sessions, end)
        await change.end_sessions(await change.tx.relays_to(node.id), EndReason.LEFT)

    def after_loss(self, node: Node) -> None:
        """What others are told, after the commit."""
        self.taken_back(node.id)
        for stream in self._board.streams.values():
            if stream.origin == node.id:
                self._streams.resubscribe_edges(stream.channel)
        self.wake.set()

    def taken_back(self, node_id: str) -> None:
        """A drain was undone: its publishers and viewers may stay."""
        self.told_to_move.pop(node_id, None)
        self._streams.leaving.discard(node_id)

    async def terminate(self, node_id: str, reason: str) -> None:
        """End a node that is draining: what is still on it is moved."""

        async def work(change: Change) -> Node | None:
            node = await change.tx.node(node_id)
            if node is None or node.state is not NodeState.DRAINING:
                return None
            left = self._board.viewers_on(node.id)
            await self.lose_sessions(change, node, "it was drained")
            if node.drain_viewers is not None:
                took = max(0.0, change.now - node.state_since)
                data = {"viewers": node.drain_viewers, "moved": node.drain_moved, "left": left}
                text = f"{node.id} drained: {counted(node.drain_moved, 'viewer')} moved in {lasting(took)}"
                text += f", {left} ended at the deadline." if left else "."
                await change.note("fleet.drained", node.id, text, data=data | {"took_s": round(took, 1)})
            return await change.move_node(node, NodeState.TERMINATING, reason)

        node = await self._books.change(work)
        if node is not None:
            self.after_loss(node)
            await self._end(node)

    async def _end(self, node: Node) -> None:
        if node.managed:
            await self.end(node.id)
        else:
            try:
                await self._control.terminate(node)
            except (NodeUnreachable, NodeRefused) as error:  # its next report is answered with the same order
                log.info("node was not told to end", node=node.id, error=str(error))

    async def end(self, node_id: str) -> None:
        """Tell the process of a node to end, once. Under the lease: raises LeaseLost."""
        if node_id in self._ending:
            return
        act = await self._books.change(Change.begin_act, ActKind.END, node_id)
        if not self._lease.held:
            return  # we were stopped meanwhile: whoever leads now finds the act, and the node
        self._ending.add(node_id)
        try:
            await self._provisioner.end(node_id)
        except ProvisionUnknown as error:  # the reconciler asks again
            log.warning("nobody knows whether a node was told to end", node=node_id, error=str(error))
            return
        await self._books.change(Change.end_act, act, "asked")

    def end_again(self, node_id: str) -> None:
        """It was told to end, and is still there."""
        self._ending.discard(node_id)
