"""The state of a stage as a console shows it: a pure fold of the live feed.

`State().apply(message)` gives the next state; states are immutable, so a screen can compare the one it drew
with the one it has. Deltas carry whole rows keyed by id; a delta that comes before any snapshot, from another
epoch or out of turn leaves the state as it is (`LiveSource` never lets that happen: it starts over).
Ages are the reader's to compute, from `at` (Unix time, the manager's clock) and its own clock.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    news: tuple[
        JournalEntry, ...
    ] = ()  # what the last message added to the journal; nothing of the first one

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
        journal = _merge_journal(self.journal, message.journal)
        return replace(
            self,
            n=message.n,
            at=message.at,
            nodes=MappingProxyType(nodes),
            groups=MappingProxyType(groups),
            streams=MappingProxyType(streams),
            journal=journal,
            history=_merge_history(self.history, message.history),
            money=message.money or self.money,
            news=_new(self.journal, journal),
        )

    def _restart(self, message: LiveMessage, snapshot: Snapshot) -> "State":
        """A snapshot replaces all rows; journal and history are joined with what is already known."""
        journal = _merge_journal(self.journal, snapshot.journal)
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
            journal=journal,
            history=_merge_history(self.history, snapshot.history),
            money=snapshot.money,
            news=_new(self.journal, journal) if self.ready else (),
        )

    def nodes_of(self, role: Role) -> list[NodeDetail]:
        return [node for node in self.nodes.values() if node.role == role]

    @property
    def viewers(self) -> int:
        """Everyone who is watching, over all channels."""
        return sum(stream.viewers for stream in self.streams.values())


def _merge_journal(known: tuple[JournalEntry, ...], new: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    """By their numbers, which are the database's: an entry that is known is passed over, whichever manager
    tells of it, and one that was committed later than a higher number has its place before that."""
    new = list(new)
    if not new:
        return known
    entries = {} if _of_another_database(known, new) else {entry.id: entry for entry in known}
    before = len(entries)
    entries.update((entry.id, entry) for entry in new)
    if len(entries) == before:
        return known
    return tuple(entries[number] for number in sorted(entries))[-JOURNAL_KEPT:]


def _of_another_database(known: Sequence[JournalEntry], new: Sequence[JournalEntry]) -> bool:
    """Numbers that mean something else here, or that all begin again below those that are known."""
    if not known:
        return False
    ids = {entry.id: entry for entry in known}
    shared = [entry for entry in new if entry.id in ids]
    if shared:
        return any(ids[entry.id].at != entry.at or ids[entry.id].kind != entry.kind for entry in shared)
    return max(entry.id for entry in new) < known[0].id


def _new(before: tuple[JournalEntry, ...], after: tuple[JournalEntry, ...]) -> tuple[JournalEntry, ...]:
    """Those that were not there before."""
    if before is after:
        return ()
    known = {entry.id for entry in before}
    return tuple(entry for entry in after if entry.id not in known)


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
