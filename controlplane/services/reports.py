"""What nodes report twice a second, and what they are told in return.

A report only costs a database transaction when something has happened: a node came into service, a session
ended, a stream changed its state. Everything else stays on the board.

The database and the node are compared both ways: a session the node does not know (twice running, and not
brand new) has ended; one that the database does not know is a stray and is ordered to end.

What cannot be is refused whole, and the journal says what it was: the node counts as silent from then on, and
its last good figures grow old. So a lie starts nothing, ends nothing and costs nothing. A clock that is wrong
is only told of, as nothing here goes by it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.rules import clock_off, implausible
from controlplane.domain.nodes.states import GONE, LEAVING, REPORTING
from controlplane.domain.streams.model import EndReason, Session, StreamState
from controlplane.errors import BadRequest
from controlplane.ports.store import Transaction
from controlplane.services.board import Board, Heard
from controlplane.services.books import Books, Change
from controlplane.services.rehoming import end_viewer, was_moved
from controlplane.services.streams import Streams
from controlplane.wire.nodes import (
    NodeOrder,
    NodeReport,
    NodeState,
    ReportAnswer,
    SessionKind,
    StreamReport,
)

SETTLED_S = 10.0  # a session younger than this may not be in a report yet
SAY_EVERY_S = 60.0  # how often the journal is told that a node's reports are refused
CLOCK_EVERY_S = 3600.0  # and that its clock is wrong


@dataclass(slots=True)
class _News:
    """What a report says that the database does not know yet."""

    into_service: bool = False
    ended: list[Session] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)  # of those: viewers who have another session by now
    streams: list[StreamReport] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.into_service or self.ended or self.streams)


class Reports:
    def __init__(
        self, books: Books, streams: Streams, metrics_sha256: str, managers: Callable[[], list[str]]
    ) -> None:
        """`metrics_sha256`: of the token that may read nodes' metrics; `managers`: where those that live are
        reached. Each answer tells both."""
        self._managers = managers
        self._metrics_sha256 = metrics_sha256
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._streams = streams
        self._told: dict[tuple[str, str], float] = {}  # node and what is wrong with it: when, monotonic

    async def report(self, node: Node, report: NodeReport) -> ReportAnswer:
        """Raises BadRequest where what is said cannot be."""
        if node.state in GONE:
            order = NodeOrder(kind="terminate", reason=f"{node.id} was given up: {node.state_reason}")
            return ReportAnswer(orders=[order])
        await self._check(node, report)
        before = self._board.heard.get(node.id)
        if before is not None and before.report is not None and report.seq < before.report.seq:
            return ReportAnswer(metrics_sha256=self._metrics_sha256)  # overtaken on the way
        heard = self._heard(report, before)
        if node.id in self._board.nodes:  # it may have been given up since it was authenticated
            self._board.heard[node.id] = heard
        if node.state not in LEAVING:
            news = self._news(node, report, before, heard)
            if news:
                await self._books.change_together(self._write, node.id, news)
        return ReportAnswer(
            orders=await self._orders(node, report, heard),
            metrics_sha256=self._metrics_sha256,
            managers=self._managers(),
        )

    async def _check(self, node: Node, report: NodeReport) -> None:
        if found := implausible(report, node.capacity):
            what = "; ".join(found[:3])
            text = f"A report of {node.id} was refused: {what}. Until it is right it counts as silent."
            self._board.refused[node.id] = self._clock.monotonic(), what
            await self._flag(node, "node.refused", text, SAY_EVERY_S)
            raise BadRequest(
                f"The report of {node.id} cannot be: {what}. Nothing of it was taken.",
                code="implausible_report",
                title="The report cannot be",
                status=422,
            )
        if (off := clock_off(report, self._clock.now())) is not None:
            way = "ahead of" if off > 0 else "behind"
            text = (
                f"The clock of {node.id} is {min(abs(off), 1e9):,.0f} s {way} this stream manager's. Nothing "
                f"goes by it but its own logs; set it right (chrony, ntpd)."
            )
            await self._flag(node, "node.clock", text, CLOCK_EVERY_S)

    async def _flag(self, node: Node, kind: str, text: str, every_s: float) -> None:
        """Told to the journal, not more often than `every_s`."""
        now = self._clock.monotonic()
        self._told = {key: at for key, at in self._told.items() if key[0] in self._board.nodes}
        if now - self._told.get((node.id, kind), -math.inf) >= every_s:
            self._told[node.id, kind] = now
            await self._books.change_together(Change.note, kind, node.id, text)

    def _heard(self, report: NodeReport, before: Heard | None) -> Heard:
        """A report with the sessions that it tells of, or else with those of an earlier one."""
        now = self._clock.monotonic()
        if report.sessions is not None:
            told = frozenset(said["id"] for said in report.sessions if said["state"] != "closed")
            connected = frozenset(said["id"] for said in report.sessions if said["state"] == "connected")
            return Heard(report, now, tuple(report.sessions), now, now, told, connected)
        if before is not None:
            return replace(before, report=report, at=now, said_at=now, elsewhere=False)
        return Heard(report, now, said_at=now)

    def _news(self, node: Node, report: NodeReport, before: Heard | None, heard: Heard) -> _News:
        news = _News(into_service=node.state in (NodeState.BOOTING, NodeState.SUSPECT))
        ended = set(report.ended)
        if report.sessions is not None:
            if len(heard.told) < len(report.sessions):
                ended |= {said["id"] for said in report.sessions if said["state"] == "closed"}
            ended |= self._missing(node, heard, before)
        found = (self._board.sessions.get(name) for name in ended)
        news.ended = [session for session in found if session is not None and session.node == node.id]
        news.moved = {it.id for it in news.ended if was_moved(self._board, it)}
        news.streams = [said for said in report.streams if self._streams.differs(node.id, said)]
        return news

    def _missing(self, node: Node, heard: Heard, before: Heard | None) -> set[str]:
        """Sessions on this node, not brand new, that it has now not told of twice running."""
        if before is None or before.sessions is None:
            return set()
        now = self._clock.now()
        missing = self._board.ids_on(node.id) - heard.told - before.told
        return {
            session.id
            for session in map(self._board.sessions.__getitem__, missing)
            if session.move_until is None  # else nobody has come to it yet, and the node cannot know it
            # One from the future is not new: the clock was set back.
            and not 0 <= now - session.created_at <= SETTLED_S
        }

    async def _write(self, change: Change, node_id: str, news: _News) -> None:
        node = await change.tx.node(node_id)
        if node is None or node.state in GONE | LEAVING:
            return
        if news.into_service and node.state is NodeState.BOOTING:
            took = change.now - node.created_at
            await change.move_node(
                node,
                NodeState.IN_SERVICE,
                f"enrolled and reporting, {took:.1f} s after it was asked for",
                in_service_at=change.now,
            )
        elif news.into_service and node.state is NodeState.SUSPECT:
            await change.move_node(node, NodeState.IN_SERVICE, "it reports again")
        for session in news.ended:
            if session.kind is SessionKind.WHIP:
                await self._streams.publisher_gone(
                    change, session, "its publisher has vanished", EndReason.LEFT
                )
            else:
                # A page that still listens did not leave: its worker died, or it slept too long.
                await end_viewer(change, session, moved=session.id in news.moved, why=EndReason.MOVED)
        for said in news.streams:
            await self._streams.said_by_origin(change, node_id, said)

    def _strays(self, report: NodeReport, heard: Heard) -> set[str]:
        """Sessions that it tells of, and the board does not."""
        if report.sessions is None or not (unknown := heard.told.difference(self._board.sessions)):
            return set()
        ours = (SessionKind.WHIP, SessionKind.WHEP)  # relays may be a node's own affair
        return {said["id"] for said in report.sessions if said["id"] in unknown and said["kind"] in ours}

    async def _orders(self, reporting: Node, report: NodeReport, heard: Heard) -> list[NodeOrder]:
        """What the node is to do. What the board does not show, another manager may have just written: so a
        stray is one that has no row either. A row is written before the node is asked."""
        node = self._board.nodes.get(reporting.id, reporting)
        if node.state in LEAVING | GONE:
            return [NodeOrder(kind="terminate", reason=node.state_reason)]
        relayed = {said.channel for said in report.streams if said.kind == "relayed"}
        off_air = relayed - self._board.streams.keys()
        strays = self._strays(report, heard) if node.state in REPORTING else set()
        if off_air or strays:
            off_air, strays = await self._books.store.read(lambda tx: self._without_rows(tx, off_air, strays))
        orders = [
            NodeOrder(kind="resubscribe", channel=channel, reason="its origin has changed")
            for channel in sorted(self._streams.to_resubscribe(node.id, relayed))
        ]
        orders += [
            NodeOrder(kind="end_channel", channel=channel, reason="it is not on air")
            for channel in sorted(off_air)
        ]
        orders += [
            NodeOrder(kind="end_session", session=session, reason="the stream manager does not know it")
            for session in sorted(strays)
        ]
        return orders

    @staticmethod
    async def _without_rows(
        tx: Transaction, off_air: set[str], strays: set[str]
    ) -> tuple[set[str], set[str]]:
        streams = await tx.streams_among(off_air)
        sessions = await tx.sessions_among(strays)
        return (
            off_air - {it.channel for it in streams if it.state is not StreamState.ENDED},
            strays - {it.id for it in sessions if it.ended_at is None},
        )
