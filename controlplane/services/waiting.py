"""How many people wait for a seat: who was told that there is none, and when to ask again."""

import heapq
from collections import Counter

from controlplane.ports.clock import Clock
from controlplane.wire.nodes import Role

MOST = 100_000  # that are remembered
ELSEWHERE_S = 5.0  # what another manager has said counts for so long


class Waiting:
    """Whoever is refused counts until the moment he was told to ask again, and then is refused once more, or
    has a seat, or has gone. So each who waits counts once, but for what the times he waits differ."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.refusals: Counter[Role] = Counter()  # since the start, who asked again included
        self._until: dict[Role, list[float]] = {}  # heaps
        self._elsewhere: dict[str, tuple[float, dict[Role, int]]] = {}  # manager -> when, monotonic; how many

    def refused(self, role: Role, retry_after_s: float) -> None:
        """Somebody found no seat on a node of the role."""
        self.refusals[role] += 1
        waiting = self._current(role)
        if len(waiting) < MOST:
            heapq.heappush(waiting, self._clock.monotonic() + retry_after_s)

    def seated(self, role: Role) -> None:
        """Somebody has one: who waited longest, if anybody did."""
        waiting = self._current(role)
        if waiting:
            heapq.heappop(waiting)

    def people(self, role: Role) -> int:
        """Here and at the other managers."""
        fresh = self._clock.monotonic() - ELSEWHERE_S
        others = (people.get(role, 0) for at, people in self._elsewhere.values() if at >= fresh)
        return len(self._current(role)) + sum(others)

    def here(self) -> dict[Role, int]:
        return {role: len(self._current(role)) for role in self._until}

    def elsewhere(self, manager: str, people: dict[Role, int], at: float) -> None:
        """As another manager has said. `at` is monotonic."""
        self._elsewhere[manager] = at, people

    def _current(self, role: Role) -> list[float]:
        waiting = self._until.setdefault(role, [])
        now = self._clock.monotonic()
        while waiting and waiting[0] <= now:
            heapq.heappop(waiting)
        return waiting
