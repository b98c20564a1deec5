"""How many people wait for a seat: who was told that there is none, and when to ask again."""

import heapq
from collections import Counter, OrderedDict

from controlplane.ports.clock import Clock
from controlplane.wire.nodes import Role

MOST = 100_000  # that are remembered
ELSEWHERE_S = 5.0  # what another manager has said counts for so long
SPREAD = 1.25  # pages come back up to a quarter earlier or later than they were told (web/static/events.js)
LATE_S = 0.5  # and later by the way there and back, and by what an offer takes them


class Waiting:
    """Whoever is refused counts until he is refused once more, has a seat, or has not come back in time.

    A page says that it is the same that asked before, by a word of its own: it counts once, for as long as
    the latest return takes. Of anybody else nobody knows that he is the same: he counts until the moment he
    was told to ask again. So many of those count right in their sum, but for what the times they wait differ.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.refusals: Counter[Role] = Counter()  # since the start, who asked again included
        self._pages: dict[Role, OrderedDict[str, float]] = {}  # until when; whoever was refused last is last
        self._others: dict[Role, list[float]] = {}  # heaps
        self._elsewhere: dict[str, tuple[float, dict[Role, int]]] = {}  # manager -> when, monotonic; how many

    def refused(self, role: Role, retry_after_s: float, page: str | None = None) -> None:
        """Somebody found no seat on a node of the role."""
        self.refusals[role] += 1
        now = self._clock.monotonic()
        pages, others = self._current(role)
        if page is not None:
            pages.pop(page, None)
        if len(pages) + len(others) >= MOST:
            return
        if page is None:
            heapq.heappush(others, now + retry_after_s)
        else:
            pages[page] = now + retry_after_s * SPREAD + LATE_S

    def seated(self, role: Role, page: str | None = None) -> None:
        """Somebody has one: a page, or of the others who waited longest, if anybody did."""
        pages, others = self._current(role)
        if page is not None:
            pages.pop(page, None)
        elif others:
            heapq.heappop(others)

    def people(self, role: Role) -> int:
        """Here and at the other managers."""
        fresh = self._clock.monotonic() - ELSEWHERE_S
        others = (people.get(role, 0) for at, people in self._elsewhere.values() if at >= fresh)
        return self._here(role) + sum(others)

    def here(self) -> dict[Role, int]:
        return {role: self._here(role) for role in list(self._pages)}

    def elsewhere(self, manager: str, people: dict[Role, int], at: float) -> None:
        """As another manager has said. `at` is monotonic."""
        self._elsewhere[manager] = at, people

    def _here(self, role: Role) -> int:
        return sum(map(len, self._current(role)))

    def _current(self, role: Role) -> tuple[OrderedDict[str, float], list[float]]:
        """Pages are looked through from the one that was refused first: where one may come back later than
        another that was refused after it, that one counts as long as it does."""
        pages, others = self._pages.setdefault(role, OrderedDict()), self._others.setdefault(role, [])
        now = self._clock.monotonic()
        while others and others[0] <= now:
            heapq.heappop(others)
        while pages and next(iter(pages.values())) <= now:
            pages.popitem(last=False)
        return pages, others
