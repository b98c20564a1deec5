"""The state of a stage as a console shows it: a pure fold of the live feed.

`State().apply(message)` gives the next state; states are immutable, so a screen can compare the one it drew
with the one it has. Deltas carry whole rows keyed by id; a delta that comes before any snapshot, from another
epoch or out of turn leaves the state as it is (`LiveSource` never lets that happen: it starts over).
Ages are the reader's to compute, from `at` (Unix time, the manager's clock) and its own clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from controlplane.wire.api import (
    GroupView,
    HistoryPoint,
    JournalEntry,
    LiveMessage,
    NodeDetail,
    Snapshot,
    StreamDetail,
)
from controlplane.wire.money import MoneyNow
from controlplane.wire.nodes import Role

JOURNAL_KEPT = 1000  # entries
HISTORY_KEPT_S = 30 * 60.0

GroupKey = tuple[Role, str]  # role, region


@dataclass(frozen=True)
class State:
    """What is known. Before the first snapshot `ready` is False and everything is empty."""

    epoch: str = ""
    n: int = 0
    at: float = 0.0  # when the manager sent the last message, Unix time
    api: str = ""
    watch: str = ""
    version: str = ""
    started_at: float = 0.0
    nodes: Mapping[str, NodeDetail] = field(default_factory=lambda: MappingProxyType({}))
    groups: Mapping[GroupKey, GroupView] = field(default_factory=lambda: MappingProxyType({}))
    streams: Mapping[str, StreamDetail] = field(default_factory=lambda: MappingProxyType({}))
    journal: tuple[JournalEntry, ...] = ()  # oldest first, at most JOURNAL_KEPT
    history: tuple[HistoryPoint, ...] = ()  # oldest first, at most HISTORY_KEPT_S long
    money: MoneyNow | None = None  # None: not known, or a stream manager that does not count it

    @property
    def ready(self) -> bool:
        return self.epoch != ""

    def apply(self, message: LiveMessage) -> "State":
        """The state after this message. Pure; never raises on a message that validates."""
        if message.kind == "snapshot":
            return self if message.snapshot is None else self._restart(message, message.snapshot)
        if message.epoch != self.epoch or message.n != self.n + 1:
            return self
        nodes = {**self.nodes, **{node.id: node for node in message.nodes}}
        for gone in message.removed_nodes:
            nodes.pop(gone, None)
        streams = {**self.streams, **{stream.channel: stream for stream in message.streams}}
        for gone in message.removed_streams:
            streams.pop(gone, None)
        groups = {**self.groups, **{(group.role, group.region): group for group in message.groups}}
        return replace(
            self,
            n=message.n,
            at=message.at,
            nodes=MappingProxyType(nodes),
            groups=MappingProxyType(groups),
            streams=MappingProxyType(streams),
            journal=_merge_journal(self.journal, message.journal),
            history=_merge_history(self.history, message.history),
            money=message.money or self.money,
        )

    def _restart(self, message: LiveMessage, snapshot: Snapshot) -> "State":
        """A snapshot replaces all rows; journal and history are joined with what is already known."""
        return State(
            epoch=message.epoch,
            n=message.n,
            at=message.at,
            api=snapshot.api,
            watch=snapshot.watch,
            version=snapshot.version,
            started_at=snapshot.started_at,
            nodes=MappingProxyType({node.id: node for node in snapshot.nodes}),
            groups=MappingProxyType({(group.role, group.region): group for group in snapshot.groups}),
            streams=MappingProxyType({stream.channel: stream for stream in snapshot.streams}),
            journal=_merge_journal(self.journal, snapshot.journal),
            history=_merge_history(self.history, snapshot.history),
            money=snapshot.money,
        )

    def nodes_of(self, role: Role) -> list[NodeDetail]:
        return [node for node in self.nodes.values() if node.role == role]

    @property
    def viewers(self) -> int:
        """Everyone who is watching, over all channels."""
        return sum(stream.viewers for stream in self.streams.values())


def _merge_journal(known: tuple[JournalEntry, ...], new: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Ids only rise, within one database: entries already known are passed over."""
    new = list(new)
    if not new:
        return known
    if known and new[-1].id < known[-1].id:
        known = ()  # another database: its numbers start again
    last = known[-1].id if known else 0
    return (known + tuple(entry for entry in new if entry.id > last))[-JOURNAL_KEPT:]


def _merge_history(known: tuple[HistoryPoint, ...], new: Iterable[HistoryPoint]) -> tuple[HistoryPoint, ...]:
    new = list(new)
    if not new:
        return known
    latest: dict[Role, float] = {}
    for point in known:
        latest[point.role] = max(latest.get(point.role, 0.0), point.at)
    merged = known + tuple(point for point in new if point.at > latest.get(point.role, 0.0))
    horizon = merged[-1].at - HISTORY_KEPT_S
    return merged if merged[0].at >= horizon else tuple(p for p in merged if p.at >= horizon)
