"""The clock as a port, so that services can be tested on a time of the test's own."""

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix time in seconds. May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from some moment; never goes back. For ages and time-outs within one process."""
        ...
