"""Which cores a process may run on, so that two sides of a measurement do not take turns on one.

What a process starts stays on the cores it was on itself at that time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bench.figures import NotRun


def cores() -> list[int]:
    """Those this process may use. Raises NotRun where they are fewer than two, or a system cannot tell."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2:
        raise NotRun("it takes two cores, and a system on which processes can be kept on one (Linux)")
    return allowed


@contextmanager
def on(*numbers: int) -> Iterator[None]:
    """This process on these of its cores, counted from 0."""
    allowed = cores()
    os.sched_setaffinity(0, {allowed[number] for number in numbers})
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(allowed))


@contextmanager
def off_the_first() -> Iterator[int]:
    """This process on all its cores but the first, which is returned: for whoever is to have it alone."""
    allowed = cores()
    with on(*range(1, len(allowed))):
        yield allowed[0]
