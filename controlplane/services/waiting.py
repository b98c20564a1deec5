"""How many people wait for a seat: who was told that there is none, and will ask again in a moment."""

from collections import deque

from controlplane.ports.clock import Clock

ASKS_AGAIN_S = 3.0  # a page that was refused asks again within this (Retry-After, and some)


class Waiting:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused: deque[float] = deque()

    def refused(self) -> None:
        self._refused.append(self._clock.monotonic())

    def people(self) -> int:
        """Each who waits asks about once in this time, so those who asked in it are those who wait."""
        since = self._clock.monotonic() - ASKS_AGAIN_S
        while self._refused and self._refused[0] < since:
            self._refused.popleft()
        return len(self._refused)
