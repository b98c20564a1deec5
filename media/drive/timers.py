"""Many deadlines, one timer of the event loop.

A session's next moment changes with almost every datagram, mostly to later. So a deadline set later than the
one in the heap costs a dictionary store: the heap entry is looked at when it comes up, and put back if early.
"""

import asyncio
import heapq
from collections.abc import Callable, Hashable
from itertools import count

TURN_S = 0.003  # seconds; then packets get their turn, however many deadlines have passed


class Timers:
    """At most one deadline a key. Callbacks get `now` and may set, move and cancel deadlines."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines: dict[Hashable, tuple[float, Callable[[float], None]]] = {}
        self._queued: dict[Hashable, float] = {}  # the earliest heap entry of a key
        self._heap: list[tuple[float, int, Hashable]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: Hashable, at: float | None, callback: Callable[[float], None]) -> None:
        """Call `callback(now)` at `at` (loop time); None cancels."""
        if at is None:
            self._deadlines.pop(key, None)
            return
        self._deadlines[key] = (at, callback)
        queued = self._queued.get(key)
        if queued is None or at < queued:
            self._push(key, at)
            self._arm()

    def cancel(self, key: Hashable) -> None:
        self._deadlines.pop(key, None)

    def close(self) -> None:
        self._deadlines.clear()
        self._heap.clear()
        self._queued.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _push(self, key: Hashable, at: float) -> None:
        self._queued[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._handle is not None:
            if self._armed_for is not None and self._armed_for <= first:
                return
            self._handle.cancel()
        self._armed_for = first
        self._handle = self._loop.call_at(first, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = self._loop.time()
        # The loop's clock has a resolution: what is due within it is due.
        horizon = now + 0.0005
        ends = now + TURN_S
        # What callbacks set from here on waits for the next turn, even if it is due: packets come between.
        newest = next(self._order)
        early: list[tuple[float, int, Hashable]] = []
        fired = False
        while self._heap and self._heap[0][0] <= horizon:
            if fired and self._loop.time() >= ends:
                break
            item = heapq.heappop(self._heap)
            at, order, key = item
            if self._queued.get(key) != at:
                continue  # an earlier entry of this key has been queued since
            if order > newest:
                early.append(item)
                continue
            del self._queued[key]
            entry = self._deadlines.get(key)
            if entry is None:
                continue
            if entry[0] > horizon:
                self._push(key, entry[0])
                continue
            del self._deadlines[key]
            fired = True
            try:
                entry[1](max(now, entry[0]))
            except Exception as error:
                # One deadline's fault: the others of this process are still kept.
                self._loop.call_exception_handler(
                    {"message": "a deadline's callback failed", "exception": error}
                )
        for item in early:
            heapq.heappush(self._heap, item)
        self._arm()
