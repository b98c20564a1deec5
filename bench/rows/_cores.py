"""Which core a process may run on, so that two sides of a measurement do not take turns on one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> list[int]:
    """Those this process may use; empty where a system cannot tell (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def apart(number: int) -> Iterator[None]:
    """This process and what it starts stay on the `number`th of the cores, counted round."""
    allowed = cores()
    if len(allowed) < 2:
        yield
        return
    os.sched_setaffinity(0, {allowed[number % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(allowed))
