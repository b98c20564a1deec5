"""When to start a process again that has ended by itself: a pure rule.

The first restart comes at once, the next ones after 0.2, 0.4 ... 5 s. A process that ends `LIMIT` times
within `WINDOW_S` opens the circuit: it is not started for `REST_S`, and whoever asks is told so. A process
that ran for `STEADY_S` starts with a clean sheet.
"""

from dataclasses import dataclass, field

FIRST_S = 0.1
LONGEST_S = 5.0
LIMIT = 5
WINDOW_S = 60.0
REST_S = 60.0
STEADY_S = 30.0


@dataclass
class Restarts:
    """One process's history of ends. Times are seconds on the caller's clock."""

    ends: list[float] = field(default_factory=list)
    total: int = 0
    tripped: bool = False

    def ended(self, now: float, ran_s: float) -> float:
        """Note an end; seconds to wait before the next start."""
        if ran_s >= STEADY_S or self.tripped:
            self.reset()
        self.ends = [at for at in self.ends if now - at < WINDOW_S] + [now]
        self.total += 1
        if len(self.ends) >= LIMIT:
            self.tripped = True
            return REST_S
        return min(LONGEST_S, FIRST_S * 2.0 ** (len(self.ends) - 1))

    def reset(self) -> None:
        """A clean sheet: a person asked for another try."""
        self.ends = []
        self.tripped = False
