"""What the stream manager knows right now, in memory: an image of the database and the latest reports.

The rows on the board are what was last committed (services.books puts them here, after the commit). The
reports are kept here only: after a restart they are back within a second. Reading the board is free; nothing
on it is decided here. Ages are measured on the monotonic clock.
"""

import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import GONE, REPORTING
from controlplane.domain.streams.model import Party, PartyKey, Session, Stream, StreamState
from controlplane.services.counts import Counts
from controlplane.services.latency import LatencyPosts
from controlplane.wire.api import HistoryPoint, JournalEntry
from controlplane.wire.money import MoneyNow
from controlplane.wire.nodes import NodeReport, NodeState, Role, SessionKind, SessionRow, StreamReport
from controlplane.wire.publishing import PublisherReport

K = TypeVar("K")

JOURNAL_SHOWN = 200
PAUSE_S = 5.0  # a gap between two looks that says we stood still ourselves

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Heard:
    """The latest report of a node."""

    report: NodeReport | None
    at: float  # monotonic; for a node that has not reported yet, when we began to listen
    sessions: tuple[SessionRow, ...] | None = None  # as it told of them last; None: not yet
    sessions_at: float = 0.0
    said_at: float = -math.inf  # when the report came; `at` may be forgiven since
    told: frozenset[str] = frozenset()  # the ids of those that are not closed
    connected: frozenset[str] = frozenset()  # of those that stand; told elsewhere: that do so lately
    elsewhere: bool = False  # another manager was told


@dataclass(slots=True)
class PublisherHeard:
    report: PublisherReport
    at: float  # monotonic
    jti: str
    elsewhere: bool = False  # another manager was told


@dataclass(slots=True)
class Drain:
    """How the drain of a node goes, beside what its row says. Begins anew with a restarted manager."""

    moved_at: deque[float] = field(default_factory=lambda: deque(maxlen=2000))  # monotonic
    failed: int = 0  # moves that came to nothing
    unplaced: int = 0  # viewers for whom no node has room just now
    waits: str = ""  # for what, in words; "" while it goes on


@dataclass
class Board:
    nodes: dict[str, Node] = field(default_factory=dict)  # not terminated
    groups: dict[tuple[Role, str], Group] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)  # on air
    sessions: dict[str, Session] = field(default_factory=dict)  # not ended
    parties: dict[PartyKey, Party] = field(default_factory=dict)  # that have somebody on their node
    journal: deque[JournalEntry] = field(default_factory=lambda: deque(maxlen=JOURNAL_SHOWN))
    history: deque[HistoryPoint] = field(default_factory=deque)

    money: MoneyNow | None = None  # as of the last round

    heard: dict[str, Heard] = field(default_factory=dict)  # by node
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)  # its report: when (monotonic), why
    publishers: dict[str, PublisherHeard] = field(default_factory=dict)  # by channel
    latency: LatencyPosts = field(default_factory=LatencyPosts)
    in_state_since: dict[str, float] = field(default_factory=dict)  # by channel, monotonic: `state_since`
    drains: dict[str, Drain] = field(default_factory=dict)  # by node

    _looked_at: float | None = None
    _on_node: dict[str, set[str]] = field(default_factory=dict)
    _watching: dict[str, set[str]] = field(default_factory=dict)  # channel -> WHEP sessions
    _counts: Counts = field(default_factory=Counts)
    _credentials: dict[str, str] = field(default_factory=dict)  # hash -> node
    _successors: dict[str, str] = field(default_factory=dict)  # session -> the one its viewer is moved to
    _kept: dict[str, None] = field(default_factory=dict)  # sessions that are reserved, and nobody's yet
    _moving: dict[str, None] = field(default_factory=dict)  # sessions whose viewers have both, oldest first
    _room: Counter[str] = field(default_factory=Counter)  # node -> seats that are kept there for parties
    _moved: Counter[str] = field(
        default_factory=Counter
    )  # channel -> sessions that somebody is moved to, or was

    # what books puts here after a commit

    def put_node(self, node: Node, now: float) -> None:
        before = self.nodes.get(node.id)
        if before is not None and before.credential_hash is not None:
            self._credentials.pop(before.credential_hash, None)
        if node.state in GONE:
            self.nodes.pop(node.id, None)
            self.heard.pop(node.id, None)
            self.drains.pop(node.id, None)
            self.refused.pop(node.id, None)
            return
        self.nodes[node.id] = node
        if node.state is not NodeState.DRAINING:
            self.drains.pop(node.id, None)
        if node.credential_hash is not None:
            self._credentials[node.credential_hash] = node.id
        if node.id not in self.heard:
            self.heard[node.id] = Heard(None, now)

    def put_stream(self, stream: Stream, now: float) -> None:
        before = self.streams.get(stream.channel)
        if stream.state is StreamState.ENDED:
            self.streams.pop(stream.channel, None)
            self.publishers.pop(stream.channel, None)
            self.in_state_since.pop(stream.channel, None)
            return
        self.streams[stream.channel] = stream
        if before is None or (before.state, before.state_since) != (stream.state, stream.state_since):
            self.in_state_since[stream.channel] = now

    def put_session(self, session: Session) -> None:
        if session.ended_at is None:
            new = session.id not in self.sessions
            self.sessions[session.id] = session
            self._on_node.setdefault(session.node, set()).add(session.id)
            if session.kind is SessionKind.WHEP:
                self._watching.setdefault(session.channel, set()).add(session.id)
            if session.move_until is not None:
                self._kept[session.id] = None
            else:
                self._kept.pop(session.id, None)
            if session.moved_from is not None:
                self._moved[session.channel] += new
                self._successors[session.moved_from] = session.id
                if session.moved_from in self.sessions:
                    self._moving[session.moved_from] = None
            if session.id in self._successors:  # at start they come in any order
                self._moving[session.id] = None
            if new:
                self._counts.came(session)
            return
        known = self.sessions.pop(session.id, None)
        if known is not None:
            self._counts.went(known)
            self.latency.forget(known.channel, known.id)
        self._moving.pop(session.id, None)
        self._kept.pop(session.id, None)
        self._discard(self._on_node, session.node, session.id)
        self._discard(self._watching, session.channel, session.id)
        if session.moved_from is not None and self._successors.get(session.moved_from) == session.id:
            del self._successors[session.moved_from]
            self._moving.pop(session.moved_from, None)
        if session.moved_from is not None and known is not None:
            self._moved[session.channel] -= 1
            if not self._moved[session.channel]:
                del self._moved[session.channel]

    def put_party(self, party: Party) -> None:
        before = self.parties.pop(party.key, None)
        if before is not None:
            self._room[before.node] -= before.kept
            if not self._room[before.node]:
                del self._room[before.node]
        if party.node:
            self.parties[party.key] = party
            self._room[party.node] += party.kept

    def add_journal(self, entries: list[JournalEntry]) -> None:
        """In the order of their numbers, though those of another manager may come a little later."""
        last = self.journal[-1].id if self.journal else 0
        self.journal.extend(entries)
        if entries and min(entry.id for entry in entries) < last:
            ordered = sorted(self.journal, key=lambda entry: entry.id)
            self.journal.clear()
            self.journal.extend(ordered)

    @staticmethod
    def _discard(index: dict[K, set[str]], key: K, value: str) -> None:
        if (values := index.get(key)) is not None:
            values.discard(value)
            if not values:
                del index[key]

    # what those who look at it every second do first

    def forgive_a_pause(self, now: float) -> None:
        """After a suspend or a stall of our own, silence and waiting are nobody's fault: ages begin anew."""
        if self._looked_at is not None and now - self._looked_at > PAUSE_S:
            log.warning("the stream manager stood still", seconds=round(now - self._looked_at, 1))
            for heard in self.heard.values():
                heard.at = now
            for channel in self.in_state_since:
                self.in_state_since[channel] = now
        self._looked_at = now

    # questions

    def node_with_credential(self, credential_hash: str) -> Node | None:
        name = self._credentials.get(credential_hash)
        return None if name is None else self.nodes.get(name)

    def in_service(self, node: str) -> bool:
        row = self.nodes.get(node)
        return row is not None and row.state is NodeState.IN_SERVICE

    def sessions_on(self, node: str) -> list[Session]:
        return [self.sessions[name] for name in self.ids_on(node)]

    def ids_on(self, node: str) -> Set[str]:
        return self._on_node.get(node, frozenset())

    def successor(self, session: str) -> Session | None:
        """The session that a viewer is moved to, or was; None once that one has ended."""
        name = self._successors.get(session)
        return None if name is None else self.sessions.get(name)

    def kept(self) -> list[Session]:
        """The sessions that are reserved for viewers being moved, and that nobody has come to yet."""
        return [self.sessions[name] for name in self._kept]

    def moves(self) -> list[tuple[Session, Session]]:
        """The viewers who are on their way: the session each has, and the one it is moved to."""
        return [(self.sessions[old], self.sessions[self._successors[old]]) for old in self._moving]

    def moving_from(self, node: str) -> int:
        """Viewers on a node, by its rows or by its last report, who have a seat elsewhere already.

        A connection may outlive its row, and the report is up to a second old, so of those without a row no
        more are counted than the report has connections beyond the rows.
        """
        with_rows = sum(1 for old, _ in self.moves() if old.node == node)
        heard = self.heard.get(node)
        if heard is None or heard.report is None:
            return with_rows
        beyond = max(0, heard.report.connections - self.seats_on(node))
        if not beyond:
            return with_rows
        gone = sum(1 for it in heard.told if it in self._successors and it not in self.sessions)
        return with_rows + min(beyond, gone)

    def node_of_party(self, channel: str, party: str | None) -> str | None:
        """The node in service where most of a party watch; None where none of it does."""
        if party is None:
            return None
        there = [
            (-number, name)
            for name, number in self._counts.party(channel, party).items()
            if (node := self.nodes.get(name)) is not None and node.state is NodeState.IN_SERVICE
        ]
        return min(there)[1] if there else None

    def seats_on(self, node: str) -> int:
        """Those that sessions have."""
        return self._counts.seats(node)

    def reserved_on(self, node: str) -> int:
        """Those, and the ones that are kept for parties."""
        return self.seats_on(node) + self._room[node]

    def viewers_on(self, node: str) -> int:
        return self._counts.viewers(node)

    def relays_from(self, node: str) -> int:
        """Sessions by which it feeds other nodes of ours."""
        return self._counts.relays(node)

    def party_sizes(self, node: str) -> Collection[int]:
        """How many of each party are on it."""
        return self._counts.party_sizes(node)

    def watching(self, channel: str) -> list[Session]:
        return [self.sessions[name] for name in self._watching.get(channel, ())]

    def sessions_watching(self) -> int:
        """WHEP sessions in all, those included that have not connected yet."""
        return sum(len(sessions) for sessions in self._watching.values())

    def watchers(self, channel: str | None = None) -> int:
        """Viewers of a channel, or all, by their rows, whether they have connected yet or not; whoever is
        being moved counts once."""
        rows = self.sessions_watching() if channel is None else len(self._watching.get(channel, ()))
        return rows - sum(1 for it in self._second_sessions() if channel in (None, it.channel))

    def is_second(self, session: Session) -> bool:
        """Whether its viewer has another one, which it is moved from, or nobody has come to it."""
        return session.move_until is not None or session.moved_from in self.sessions

    def _second_sessions(self) -> list[Session]:
        """As in `is_second`."""
        found = dict(self._kept)
        found.update((self._successors[old], None) for old in self._moving)
        return [self.sessions[name] for name in found]

    def viewers(self, channel: str) -> int:
        """Who watches a channel, as the edges count them: whoever has no connection does not, and whoever is
        being moved, and has two for a moment, counts once."""
        counted = self._connected_to(channel)
        if not self._moved[channel]:
            return counted
        return counted - min(self._moved[channel], max(0, counted - self.watchers(channel)))

    def connections(self, nodes: Sequence[str]) -> int:
        """Publishers and viewers of some nodes, as these count them. Who is moved from one of them to another
        has two connections for a moment, and counts once.

        As in `viewers`, what counts twice is what there is beyond the rows, and no more of it than there are
        moves: a report is up to a second old, and so may be the rows of other managers.
        """
        counted = sum(report.connections for it in nodes if (report := self.report_of(it)) is not None)
        if not self._moved:
            return counted
        within = set(nodes)
        rows = sum(self.seats_on(it) for it in nodes)
        for new in self._second_sessions():
            old = self.sessions.get(new.moved_from or "")
            if new.node in within and (
                new.move_until is not None or (old is not None and old.node in within)
            ):
                rows -= 1
        return counted - min(self._moved.total(), max(0, counted - rows))

    def _connected_to(self, channel: str) -> int:
        return sum(
            said.viewers
            for node in self.reporting()
            if (report := self.report_of(node.id)) is not None
            for said in report.streams
            if said.channel == channel and said.kind == "relayed"  # an origin serves our edges, not viewers
        )

    def report_of(self, node: str) -> NodeReport | None:
        heard = self.heard.get(node)
        return None if heard is None else heard.report

    def stream_report(self, stream: Stream) -> StreamReport | None:
        """What the origin of a stream last said of it."""
        report = self.report_of(stream.origin) if stream.origin else None
        for said in report.streams if report is not None else ():
            if said.channel == stream.channel and said.kind == "published":
                return said
        return None

    def edges_with(self, channel: str) -> list[Node]:
        """Reachable nodes that have viewers of a channel, or say that they relay it."""
        names = set(self._counts.nodes_with(channel))
        for name, heard in self.heard.items():
            if heard.report is not None and any(
                said.channel == channel and said.kind == "relayed" for said in heard.report.streams
            ):
                names.add(name)
        return [node for name in sorted(names) if (node := self.nodes.get(name)) and node.state in REPORTING]

    def starved(self, stream: Stream) -> dict[str, int]:
        """Edges that have viewers of a stream and say that nothing of it comes to them."""
        return {
            node.id: said.viewers
            for node in self.reporting()
            if (report := self.report_of(node.id)) is not None
            for said in report.streams
            if (said.channel, said.kind) == (stream.channel, "relayed")
            and said.state != "live"
            and said.viewers
        }

    def reporting(self) -> Iterable[Node]:
        return (node for node in self.nodes.values() if node.state in REPORTING)
