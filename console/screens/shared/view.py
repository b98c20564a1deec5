"""What a screen is given to draw, several times a second: the state, and how sure it is. Pure.

All ages are counted on the manager's clock (`now`), so a console whose clock is wrong shows right ages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from console.core.live import Link, LinkState
from console.core.model import State
from console.core.stage import PublisherSpec
from console.screens.shared import figures
from console.screens.shared.health import Marks
from controlplane.wire.api import HistoryPoint, JournalEntry, NodeDetail, StreamDetail
from controlplane.wire.nodes import NodeState, Role

STALE_S = 3.0  # the manager speaks once a second: three missed are too many
SERVING = (NodeState.IN_SERVICE, NodeState.SUSPECT, NodeState.DRAINING)
COMING = (NodeState.REQUESTED, NodeState.CREATING, NodeState.BOOTING)


@dataclass(frozen=True, slots=True)
class Load:
    """Connections of some nodes against what they can hold."""

    connections: int
    capacity: int
    egress_bps: float | None
    loss: float | None
    in_service: int
    coming: int
    draining: int

    @property
    def fraction(self) -> float | None:
        return self.connections / self.capacity if self.capacity else None


@dataclass(frozen=True, slots=True)
class Pending:
    """A broadcast asked for from here that the feed does not show yet."""

    spec: PublisherSpec
    since: float  # here, Unix time
    error: str = ""


@dataclass(frozen=True)
class View:
    state: State = field(default_factory=State)
    link: Link = field(default_factory=lambda: Link(LinkState.CONNECTING))
    age_s: float | None = None  # of the newest message
    wall: float = 0.0  # the clock here, Unix time
    remote: bool = False
    refused: str = ""  # the manager does not take the token: its words
    pending: Mapping[str, Pending] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)
    started: frozenset[str] = frozenset()  # channels started from here: `b` can start them again

    @property
    def now(self) -> float:
        """The manager's clock, as far as known."""
        return self.state.at + (self.age_s or 0.0) if self.state.ready else self.wall

    @property
    def stale(self) -> bool:
        if not self.state.ready:
            return False
        return self.link.state is not LinkState.UP or (self.age_s or 0.0) > STALE_S or bool(self.refused)

    @property
    def as_of(self) -> str:
        """ "as of 21:04:17, 12 s ago, retry 3"."""
        age = self.age_s or 0.0
        words = f"as of {figures.clock(self.wall - age)}, {figures.age(age)} ago"
        return f"{words}, retry {self.link.attempts}" if self.link.attempts else words

    @property
    def writes_off(self) -> str:
        """Why nothing can be changed just now; empty when it can."""
        if self.refused:
            return "no permission: the token is not accepted"
        if not self.state.ready:
            return "not connected yet"
        if self.stale:
            return "the stream manager does not answer"
        return ""

    # --- figures

    @property
    def nodes(self) -> list[NodeDetail]:
        order = {Role.ORIGIN: 0, Role.TRANSCODER: 1, Role.EDGE: 2}
        return sorted(self.state.nodes.values(), key=lambda node: (order[node.role], natural(node.id)))

    @property
    def streams(self) -> list[StreamDetail]:
        return sorted(self.state.streams.values(), key=lambda stream: stream.channel)

    def roles(self) -> list[Role]:
        present = {node.role for node in self.state.nodes.values()} | {role for role, _ in self.state.groups}
        return [role for role in (Role.ORIGIN, Role.TRANSCODER, Role.EDGE) if role in present]

    def load(self, role: Role | None = None) -> Load:
        """Of one role, or of all nodes. A draining node's viewers count, its room does not; who is moved off
        it has two connections for a moment and counts once, as the groups count."""
        nodes = [n for n in self.state.nodes.values() if role is None or n.role == role]
        serving = [n for n in nodes if n.state in SERVING]
        egress = [n.egress_bps for n in serving if n.egress_bps is not None]
        return Load(
            connections=self._connections(role, serving),
            capacity=sum(n.capacity for n in serving if n.state != NodeState.DRAINING),
            egress_bps=sum(egress) if egress else None,
            loss=mean_loss(serving),
            in_service=sum(n.state == NodeState.IN_SERVICE for n in nodes),
            coming=sum(n.state in COMING for n in nodes),
            draining=sum(n.state == NodeState.DRAINING for n in nodes),
        )

    def _connections(self, role: Role | None, serving: Sequence[NodeDetail]) -> int:
        counted = sum(n.connections or 0 for n in serving)
        if not any(n.drain is not None and n.drain.moving for n in serving):
            return counted
        return min(
            counted, sum(g.connections for (r, _), g in self.state.groups.items() if role in (None, r))
        )

    def loss_to_viewers(self, stream: StreamDetail) -> float | None:
        """Between the edges that carry a stream and those who watch there."""
        return mean_loss(self.state.nodes[edge] for edge in stream.edges if edge in self.state.nodes)

    def latency(self) -> StreamDetail | None:
        """The stream whose viewers are furthest behind, among those where somebody measured."""
        measured = [s for s in self.state.streams.values() if s.latency_ms.p95 is not None]
        return max(measured, key=lambda s: s.latency_ms.p95 or 0.0, default=None)

    def history(self, role: Role | None = None) -> list[HistoryPoint]:
        """One point a moment. Over all roles: edges, or whatever role there is, for viewers are on edges."""
        role = role or Role.EDGE
        return [point for point in self.state.history if point.role == role]

    def last_ended(self) -> JournalEntry | None:
        """The broadcast that ended last, since the stream manager began."""
        return next(
            (
                entry
                for entry in reversed(self.state.journal)
                if entry.kind == "stream.ended" and entry.at >= self.state.started_at
            ),
            None,
        )

    def journal_about(self, subjects: Iterable[str] | None) -> list[JournalEntry]:
        """Entries about these subjects (None: about nodes and the fleet), newest first."""
        wanted = None if subjects is None else set(subjects)
        return [
            entry
            for entry in reversed(self.state.journal)
            if (
                entry.kind.startswith(("node.", "fleet.", "group.", "scale.", "drill."))
                if wanted is None
                else entry.subject in wanted
            )
        ]


def mean_loss(nodes: Iterable[NodeDetail]) -> float | None:
    """Over all who are connected to these nodes."""
    lossy = [(n.loss, n.connections) for n in nodes if n.loss is not None and n.connections]
    weight = sum(number for _, number in lossy)
    return sum(value * number for value, number in lossy) / weight if weight else None


def natural(name: str) -> tuple[str, int]:
    """edge-2 before edge-10."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdecimal() else (name, 0)


def matches(text: str, wanted: str) -> bool:
    """The filter after `/`: every word must be there, a word after ! must not."""
    low = text.lower()
    for word in wanted.lower().split():
        if word.startswith("!") and len(word) > 1:
            if word[1:] in low:
                return False
        elif word not in low:
            return False
    return True
