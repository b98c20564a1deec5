"""Whether a soak was held: pure functions of what was sampled.

    |-- warm-up --|-- first window --|          ...          |-- last window --|

Memory is flat when the median of the last window is at most 2 % above that of the first, for each process and
for all together. What is held against it is memory of the processes' own (`Held.own`): a share of what others
map too changes with who else runs. A process that is small may gain `GRAIN`: an allocator gives and takes in
chunks. Caches and buffers fill during the warm-up, a fifth of the time and five minutes at most.

Descriptors are back when each process, once everybody has left, has no more of them than before the crowd
came. One that was replaced meanwhile did not hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from tests.soak.samples import Sample

GROWTH = 0.02
GRAIN = 1 << 20  # bytes, of one process
WARM_UP, WARM_UP_MOST_S = 0.2, 300.0
WINDOW = 0.2  # of the time after it
ALL = "all together"


@dataclass(frozen=True)
class Verdict:
    """Of one process, or of all of them."""

    name: str
    first: float  # bytes, the median of the first window
    last: float
    before: int  # descriptors
    peak: int
    after: int
    problems: tuple[str, ...] = ()

    @property
    def growth(self) -> float:
        return self.last / self.first - 1 if self.first else 0.0


def windows(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The first and the last window. ValueError where either is empty: too few samples."""
    begin, end = samples[0].at, samples[-1].at
    begin += min(WARM_UP * (end - begin), WARM_UP_MOST_S)
    length = WINDOW * (end - begin)
    first = [one for one in samples if begin <= one.at <= begin + length]
    last = [one for one in samples if one.at >= end - length]
    if len(first) < 2 or len(last) < 2:
        raise ValueError(f"{len(samples)} samples are too few to judge by")
    return first, last


def judge(before: Sample, samples: Sequence[Sample], after: Sample) -> list[Verdict]:
    """A verdict for each process, and the last one for all together.

    `before` is from before the crowd came, `samples` from while it was there, `after` from once it had left.
    """
    first, last = windows(samples)
    everything = [before, *samples, after]
    names = sorted({one.name for sample in everything for one in sample.held})
    verdicts = [_of_one(name, before, first, last, after, everything) for name in names]
    total = Verdict(
        ALL,
        sum(one.first for one in verdicts),
        sum(one.last for one in verdicts),
        sum(one.before for one in verdicts),
        sum(one.peak for one in verdicts),
        sum(one.after for one in verdicts),
    )
    return [*verdicts, replace(total, problems=_growth(total, 0))]


def _of_one(
    name: str,
    before: Sample,
    first: Sequence[Sample],
    last: Sequence[Sample],
    after: Sample,
    everything: Sequence[Sample],
) -> Verdict:
    def own(window: Sequence[Sample]) -> float:
        sizes = [one.own for sample in window for one in sample.held if one.name == name]
        return median(sizes) if sizes else 0.0

    def descriptors(sample: Sample) -> int:
        return sum(one.descriptors for one in sample.held if one.name == name)

    measured = Verdict(
        name,
        own(first),
        own(last),
        descriptors(before),
        max(map(descriptors, everything)),
        descriptors(after),
    )
    problems = list(_growth(measured, GRAIN))
    pids = [{one.pid for one in sample.held if one.name == name} for sample in everything]
    if len(set().union(*pids)) > 1:
        problems.append("it was replaced")
    elif not all(pids):
        problems.append("it was not there all the time")
    if measured.after > measured.before:
        problems.append(f"{measured.after - measured.before} descriptors are left")
    return replace(measured, problems=tuple(problems))


def _growth(measured: Verdict, grain: int) -> tuple[str, ...]:
    if measured.last - measured.first <= max(GROWTH * measured.first, grain):
        return ()
    return (f"its memory grew by {measured.growth:.1%}",)
