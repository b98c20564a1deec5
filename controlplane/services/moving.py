"""Moves viewers off edges that drain: at once, party by party, paced, and without a break in the picture.

    draining edge --a party, by size--> a node with room for all of it
    one transaction: a reserved session (and its seat) for each of the party, beside the one it has
    `move` event with an address --> the page sets its new session up there, switches, leaves the old one

A session that is reserved has `move_until`: kept until then, and taken once, by whoever has the token that
only its viewer's event stream was told (services.tokens). Taken, it is a session as any other. The move is
over when the old session has ended: by the viewer's DELETE, or as its node tells. When the new one ends
first, it has failed; the viewer has lost nothing and is tried again, after a while, on another node.

The manager that leads does it. All of it is in the rows, so one that is restarted in the middle goes on, or
another one does; what failed how often, and the pace, begin anew. Who does not listen to events cannot be
moved: at the deadline the rounds tell whoever is left, and end the node (services.rounds).
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import structlog

from controlplane.config import FleetConfig
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.moving import order_for, parties, wait_after
from controlplane.domain.nodes.states import LAUNCHING
from controlplane.domain.streams.model import EndReason, Party, Session, StreamState
from controlplane.ports.store import StoreBusy
from controlplane.services.board import Board, Drain
from controlplane.services.books import Books, Change, Changed, LeaseLost
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.pages import Pages
from controlplane.services.placement import new_session_id
from controlplane.services.rehoming import end_viewer, give_back
from controlplane.services.streams import Streams
from controlplane.services.words import counted
from controlplane.wire.nodes import NodeState, Role, SessionKind

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.25
FINISH_S = 15.0  # from a viewer's coming to its new session, to its leaving the old one
SCATTERED_S = 5.0  # how long those of a party who listen wait for the others to
SAY_EVERY_S = 60.0  # how often the journal is told of the same reason to wait


class _NoRoom(Exception):
    """No node has room for all of a party. Nothing is written."""


@dataclass(slots=True)
class _Tried:
    """A viewer whose moves came to nothing so far."""

    failures: int = 0
    not_before: float = -math.inf  # monotonic
    avoid: set[str] = field(default_factory=set)


class Mover:
    def __init__(
        self,
        books: Books,
        pages: Pages,
        streams: Streams,
        losses: Losses,
        config: FleetConfig,
        lease: Leading,
        shuffle: Callable[[list[str]], None] = secrets.SystemRandom().shuffle,
    ) -> None:
        """`shuffle` puts a few names into an order of chance."""
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._pages = pages
        self._streams = streams
        self._losses = losses
        self._config = config
        self._lease = lease
        self._shuffle = shuffle
        self._wake = asyncio.Event()
        self._tried: dict[str, _Tried] = {}  # by the session that a viewer is still on
        self._seen: dict[str, float] = {}  # draining nodes: since when they are looked at, monotonic
        self._told: dict[tuple[str, str], float] = {}  # node and what it waits for: when that was journalled

    # what happens

    def changed(self, changed: Changed) -> None:
        """services.books.Listener: a move that is over makes place for the next."""
        for session in changed.sessions.values():
            if session.kind is not SessionKind.WHEP or session.ended_at is None:
                continue
            if session.end_reason is EndReason.REHOMED:
                self._drain(session.node).moved_at.append(self._clock.monotonic())
            elif session.moved_from is not None and session.moved_from in self._board.sessions:
                self._failed(session)
            else:
                self._tried.pop(session.id, None)
                continue
            self._tried.pop(session.id, None)
            self._wake.set()
        if any(node.state is NodeState.DRAINING for node in changed.nodes.values()):
            self._wake.set()

    def _failed(self, new: Session) -> None:
        old = self._board.sessions[new.moved_from or ""]
        node = self._board.nodes.get(old.node)
        if node is None or node.state is not NodeState.DRAINING:
            return  # taken back: nothing is to be tried again
        tried = self._tried.setdefault(old.id, _Tried())
        tried.failures += 1
        tried.not_before = self._clock.monotonic() + wait_after(tried.failures)
        tried.avoid.add(new.node)
        self._drain(old.node).failed += 1

    def _drain(self, node: str) -> Drain:
        return self._board.drains.setdefault(node, Drain())

    # the loop

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._lease.acts:
                    with self._lease.acting():
                        await self.step()
            except LeaseLost:
                log.info("another stream manager moves viewers")
            except StoreBusy as error:
                log.warning("the database is busy; moves wait", error=str(error))
            except Exception:
                log.exception("a look at the draining edges failed; it is repeated")
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    async def step(self) -> None:
        """One look at every move that is under way, and at every edge that drains."""
        await self._close_old_moves()
        draining = [
            node
            for node in self._board.nodes.values()
            if node.role is Role.EDGE and node.state is NodeState.DRAINING
        ]
        names = {node.id for node in draining}
        self._seen = {name: at for name, at in self._seen.items() if name in names}
        self._told = {key: at for key, at in self._told.items() if key[0] in names}
        for node in draining:
            if node.id in self._losses.told_to_move:
                continue  # at its deadline: everybody has been told to go
            self._seen.setdefault(node.id, self._clock.monotonic())
            await self._empty(node)
            if not self._board.seats_on(node.id):
                self._losses.wake.set()

    # moves under way

    async def _close_old_moves(self) -> None:
        """Seats that nobody came for are given back; moves that do not end are ended, this way or that."""
        now = self._clock.now()
        over = [new for new in self._board.kept() if self._is_over(new, now)]
        if over:
            await self._books.change(give_back, over)
        for old, new in self._board.moves():
            if new.move_until is not None or 0 <= now - new.created_at <= FINISH_S:
                continue
            if self._connected(new):
                await self._books.change(end_viewer, old, moved=True)
                self._streams.drop_session(old, "the viewer has another session by now")
            else:
                await self._books.change(Change.end_session, new, EndReason.REFUSED)
                self._streams.drop_session(new, "the viewer never came to it")

    def _is_over(self, new: Session, now: float) -> bool:
        """Whether a seat is kept too long, or for a viewer who has gone, or where nobody goes any more."""
        node = self._board.nodes.get(new.node)
        serves = node is not None and node.state is NodeState.IN_SERVICE
        late = new.move_until is not None and now > new.move_until
        return late or not serves or new.moved_from not in self._board.sessions

    def _connected(self, session: Session) -> bool:
        heard = self._board.heard.get(session.node)
        return heard is not None and session.id in heard.connected

    # an edge that drains

    async def _empty(self, node: Node) -> None:
        """Begin as many moves as there is room for."""
        drain = self._drain(node.id)
        now = self._clock.monotonic()
        moving = {old.id for old, _ in self._board.moves()}
        staying = [
            it
            for it in self._board.sessions_on(node.id)
            if it.kind is SessionKind.WHEP and it.id not in moving and self._live(it.channel)
        ]
        deaf = {it.id for it in staying if not self._pages.hears(it.id)}
        under_way = len(moving)
        full_for = math.inf  # no node has so many seats together
        unplaced = unheard = 0
        for party in parties(staying):
            can = [it for it in party if it.id not in deaf]
            unheard += len(party) - len(can)
            scattered = len(can) < len(party) and now - self._seen[node.id] < SCATTERED_S
            early = any(self._tried.get(it.id, _NOT_YET).not_before > now for it in can)
            if scattered or early or not can:
                continue
            if len(can) >= full_for:
                unplaced += len(can)
                continue
            if under_way and under_way + len(can) > self._config.moves_at_once:
                break  # the larger party has its turn: smaller ones would keep it waiting for ever
            avoid = set().union(*(self._tried.get(it.id, _NOT_YET).avoid for it in can))
            try:
                under_way += await self._books.change(self._rehome, node.id, can, avoid)
            except _NoRoom:
                full_for = min(full_for, len(can))
                unplaced += len(can)
        drain.unplaced = unplaced
        known = now - self._seen[node.id] >= SCATTERED_S  # after a restart pages need a moment to come back
        drain.waits = self._waits(node, drain, under_way, unheard if known else 0, full_for)
        await self._say_waiting(node, drain)

    def _live(self, channel: str) -> bool:
        """Whether there are pictures to move a viewer by: without one, no page leaves its old session."""
        stream = self._board.streams.get(channel)
        return stream is not None and stream.state is StreamState.LIVE

    async def _rehome(
        self, change: Change, node_id: str, party: Sequence[Session], avoid: Collection[str]
    ) -> int:
        """Reserve a session and a seat for each of a party, all on one node. How many that are.

        Raises _NoRoom.
        """
        node = await change.tx.node(node_id)
        if node is None or node.state is not NodeState.DRAINING:
            return 0
        board = self._board
        party = [it for it in party if it.id in board.sessions and board.successor(it.id) is None]
        if not party:
            return 0
        size = len(party)
        row = await self._row_of(change, party[0])
        rooms = await change.tx.rooms(Role.EDGE)
        if row is not None:  # what is kept for a party is room for it
            rooms = [
                replace(it, reserved=it.reserved - row.kept) if it.node == row.node else it for it in rooms
            ]
        near = {name for name, other in board.nodes.items() if other.region == node.region}
        prefer = board.node_of_party(party[0].channel, party[0].party)
        if row is not None and row.node != node_id:
            prefer = row.node
        rest = row.kept if row is not None and row.node == node_id else 0
        order: list[tuple[str, int]] = []
        for also in sorted({rest, 0}, reverse=True):  # with room for those who are still to come, or without
            seats = size + also
            tried = order_for(rooms, seats, near=near, shuffle=self._shuffle, prefer=prefer, avoid=avoid)
            # One that failed is better than none, where there is nobody else.
            failed = [it for it in rooms if it.node in avoid]
            tried += order_for(failed, seats, near=near, shuffle=self._shuffle)
            order += [(target, also) for target in tried]
        for target, also in order:
            if await _reserve(change, row, node_id, target, size, also):
                break
        else:
            raise _NoRoom
        for viewer in party:
            await change.add_session(
                Session(
                    id=new_session_id(),
                    kind=SessionKind.WHEP,
                    channel=viewer.channel,
                    node=target,
                    created_at=change.now,
                    party=viewer.party,
                    moved_from=viewer.id,
                    move_until=change.now + self._config.move_kept_s,
                )
            )
        return size

    async def _row_of(self, change: Change, viewer: Session) -> Party | None:
        if viewer.party is None:
            return None
        rows = await change.tx.parties_among([(viewer.channel, viewer.party)])
        return rows[0] if rows else None

    # words

    def _waits(self, node: Node, drain: Drain, under_way: int, unheard: int, full_for: float) -> str:
        """What a drain waits for, in a sentence without its end; "" while it goes on."""
        left = self._board.viewers_on(node.id)
        if drain.unplaced:
            of = left if node.drain_viewers is None else f"{left} of {node.drain_viewers}"
            seats = "a seat" if full_for == 1 else f"{full_for:g} seats together"
            return f"waits for room: {of} left, no edge has {seats}; {self._way_out(node)}"
        if unheard and unheard == left and not under_way:
            whom = counted(unheard, "viewer")
            return f"waits for its deadline: {whom} left, who cannot be told to move"
        return ""

    def _way_out(self, node: Node) -> str:
        peers = [it for it in self._board.nodes.values() if (it.role, it.region) == (node.role, node.region)]
        coming = sum(1 for it in peers if it.state in LAUNCHING)
        if coming:
            return f"{counted(coming, 'edge')} coming up"
        group = self._board.groups.get((node.role, node.region))
        if group is not None and group.policy is not None:
            return f"{group.id} is asked for more (showcaller fleet why {group.id})"
        return f"add one (showcaller fleet add edge), or take it back (showcaller fleet undo {node.id})"

    async def _say_waiting(self, node: Node, drain: Drain) -> None:
        if not drain.waits:
            return
        kind = drain.waits.partition(":")[0]
        now = self._clock.monotonic()
        if now - self._told.get((node.id, kind), -math.inf) < SAY_EVERY_S:
            return
        self._told[node.id, kind] = now
        data = {"unplaced": drain.unplaced, "left": self._board.viewers_on(node.id)}
        text = f"The drain of {node.id} {drain.waits}."
        await self._books.change(Change.note, "fleet.waiting", node.id, text, data=data)


async def _reserve(change: Change, row: Party | None, source: str, target: str, size: int, also: int) -> bool:
    """Seats for so many of a party on `target`, and `also` for the rest of it where the party goes from
    `source` with them. False where there is no room."""
    if row is None or row.node not in (source, target):
        return await change.tx.reserve(target, size)
    if row.node == target:
        taken = min(row.kept, size)
        if size > taken and not await change.tx.reserve(target, size - taken):
            return False
        await change.save_parties([replace(row, kept=row.kept - taken)])
        return True
    if not await change.tx.reserve(target, size + also):
        return False
    if row.kept:
        await change.tx.release(source, row.kept)
    await change.save_parties([replace(row, node=target, kept=also)])
    return True


_NOT_YET = _Tried()
