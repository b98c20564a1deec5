"""What is recorded of a group's load, and how it comes back as a crowd.

    a Sample each second --Tally--> a HistoryLine each minute  ...  lines --replay--> people in each second

What nobody recorded is unknown and never nothing: a hole of a few seconds is filled with what was before it,
a longer one stays a gap.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_CEILING

from controlplane.domain.fleet.prestage import nodes_for
from controlplane.wire.fleet import Policy, Unit
from controlplane.wire.history import MINUTE, Coverage, Gap, HistoryLine, Recorded, series

STILL_S = 5  # what was before holds so long
GAPS_NAMED = 100
UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A group at one moment; load as in a HistoryLine."""

    connections: int
    publishers: int
    mbps: int
    waiting: int
    refused: int  # since the sample before
    in_service: int
    launching: int
    suspect: int
    draining: int
    leaving: int
    unit: str
    capacity: int

    @property
    def paid(self) -> int:
        """Nodes that cost money."""
        return self.in_service + self.launching + self.suspect + self.draining + self.leaving


@dataclass(slots=True)
class _Minute:
    at: int
    first: Sample
    connections: list[int] = field(default_factory=list)
    publishers: list[int] = field(default_factory=list)
    mbps: list[int] = field(default_factory=list)
    paid: list[int] = field(default_factory=list)
    waiting: int = 0
    refused: int = 0

    def add(self, sample: Sample, second: int) -> None:
        """The second of two samples in one second counts where it is greater."""
        for values, value in (
            (self.connections, sample.connections),
            (self.publishers, sample.publishers),
            (self.mbps, sample.mbps),
            (self.paid, sample.paid),
        ):
            place = second - self.at
            values.extend(values[-1:] * (place - len(values)))
            if place < len(values):
                values[place] = max(values[place], value)
            else:
                values.append(value)
        self.waiting = max(self.waiting, sample.waiting)
        self.refused += sample.refused


class Tally:
    """The samples of one group, gathered into minutes of the clock."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._open: _Minute | None = None

    def add(self, second: int, sample: Sample) -> HistoryLine | None:
        """`second` of Unix time, which may be set. The line that this completes, if it does."""
        closed = None
        if self._open is not None and not self._goes_on(self._open, second, sample):
            closed = self.close()
        if self._open is None:
            self._open = _Minute(second, sample)
        self._open.add(sample, second)
        return closed

    @staticmethod
    def _goes_on(minute: _Minute, second: int, sample: Sample) -> bool:
        last = minute.at + len(minute.connections) - 1
        return (
            last <= second <= last + STILL_S
            and second // MINUTE == minute.at // MINUTE
            and (sample.unit, sample.capacity) == (minute.first.unit, minute.first.capacity)
        )

    def close(self) -> HistoryLine | None:
        """What there is of a minute that is not over yet."""
        minute, self._open = self._open, None
        if minute is None:
            return None
        first = minute.first
        return HistoryLine(
            at=minute.at,
            group=self._group,
            seconds=len(minute.connections),
            connections=series(minute.connections),
            publishers=None if minute.publishers == minute.connections else series(minute.publishers),
            mbps=series(minute.mbps) if first.unit == Unit.MBPS else [max(minute.mbps)],
            waiting=minute.waiting,
            refused=minute.refused,
            in_service=first.in_service,
            launching=first.launching,
            suspect=first.suspect,
            draining=first.draining,
            leaving=first.leaving,
            node_s=None if len(set(minute.paid)) == 1 else sum(minute.paid),
            unit=first.unit,
            capacity=first.capacity,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    people: list[int | None]  # in each second from coverage.first on; None: nobody knows
    nodes: int  # that carried, or soon would, at the first of them
    coverage: Coverage


def replay(recorded: Recorded, group: str, unit: str, start: int, end: int) -> Replay | None:
    """The load of a group from `start` to `end` (Unix seconds), in a unit. None: nothing is recorded of it.

    Of a second that was recorded twice, because the clock was set back, the later record counts.
    """
    known, twice = [UNKNOWN] * (end - start), 0
    lines = within(recorded.lines, group, start, end)
    for line in lines:
        for place, load in enumerate(line.load(unit), line.at - start):
            if 0 <= place < len(known):
                twice += known[place] != UNKNOWN
                known[place] = load
    if not lines:
        return None
    first = next(place for place, load in enumerate(known) if load != UNKNOWN)
    people: list[int | None] = []
    gaps: list[Gap] = []
    last = first  # the place of the last second that is known
    for place in range(first, len(known)):
        if known[place] == UNKNOWN:
            continue
        hole = place - last - 1
        if 0 < hole <= STILL_S:
            people += [known[last]] * hole
        elif hole > 0:
            people += [None] * hole
            gaps.append(Gap(start=start + last + 1, end=start + place))
        people.append(known[place])
        last = place
    at_first = next(line for line in reversed(lines) if line.at <= start + first < line.at + line.seconds)
    named = sorted(gaps, key=lambda gap: gap.start - gap.end)[:GAPS_NAMED]
    known_loads = [load for load in people if load is not None]
    coverage = Coverage(
        group=group,
        start=start,
        end=end,
        first=start + first,
        last=start + last,
        known_s=len(known_loads),
        gaps=sorted(named, key=lambda gap: gap.start),
        gaps_in_all=len(gaps),
        twice_s=twice,
        torn=recorded.torn,
        damaged=recorded.damaged,
        damaged_in_all=recorded.damaged_in_all,
        most=max(known_loads),
        mean=sum(known_loads) / len(known_loads),
        refused=sum(line.refused for line in lines),
        most_nodes=max(line.paid for line in lines),
        node_hours=sum(line.paid_s for line in lines) / 3600,
    )
    return Replay(people=people, nodes=at_first.nodes, coverage=coverage)


def settled(policy: Policy, load: int, nodes: int) -> int:
    """How many nodes a policy would have had at this load, when another one had so many: `nodes`, or the
    nearest number at which it wants neither more nor less."""
    least = nodes_for(load, policy)
    kept = policy.in_fraction * policy.capacity
    most = max(least, int((load / kept).to_integral_value(ROUND_CEILING)) if kept else nodes)
    return min(max(least, min(nodes, most), policy.min), policy.max)


def within(lines: Iterable[HistoryLine], group: str, start: int, end: int) -> list[HistoryLine]:
    """Those of a group that have a second between start and end, in the order in which they were written."""
    return [it for it in lines if it.group == group and it.at < end and it.at + it.seconds > start]
