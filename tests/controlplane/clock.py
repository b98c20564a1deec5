"""Time of the test's own."""


class VirtualClock:
    """ports.clock.Clock. `wall` may be set; what is steady only goes on."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 1000.0
        self._started = self.wall - self.steady

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    @property
    def was_set(self) -> bool:
        """Whether the wall's clock has been set since the start."""
        return abs(self.wall - self.steady - self._started) > 1e-3
