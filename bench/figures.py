"""What a row measures: figures that mean something on another machine too.

A figure is a ratio of two measurements of the same run, or a percentile. Absolute costs differ by 30 % from
run to run and by more from machine to machine; a ratio does not, and a percentile is what a viewer feels.
Costs (CPU, memory) and counts stand beside them where somebody plans with them: read them with the machine in
mind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ratio", "percentile", "cost", "count"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. A limit that is not held makes `python -m bench` fail."""

    name: str
    value: float
    unit: str  # "x", "ms", "us"
    kind: Kind
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def held(self) -> bool:
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def limit(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"


class NotRun(Exception):
    """The row cannot be measured here; the message says what is missing."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of a non-empty sequence."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
