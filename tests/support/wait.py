"""Wait for a condition instead of sleeping: as long as it takes, and no longer than a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")

INTERVAL_S = 0.05


class NotInTime(AssertionError):
    """The condition did not come true before the deadline; says what was seen last."""


def _complain(what: str, deadline: float, last: object) -> NotInTime:
    return NotInTime(f"not within {deadline:g} s: {what}; last seen: {last!r}")


@overload
async def wait_for(
    condition: Callable[[], Awaitable[Value]], deadline: float, what: str = ..., interval: float = ...
) -> Value: ...


@overload
async def wait_for(
    condition: Callable[[], Value], deadline: float, what: str = ..., interval: float = ...
) -> Value: ...


async def wait_for(
    condition: Callable[[], object],
    deadline: float,
    what: str = "the condition",
    interval: float = INTERVAL_S,
) -> object:
    """The first true value of `condition`, which may be async. NotInTime after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= end:
            raise _complain(what, deadline, value)
        await asyncio.sleep(interval)


def wait_until(
    condition: Callable[[], Value], deadline: float, what: str = "the condition", interval: float = INTERVAL_S
) -> Value:
    """The same for tests without an event loop."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() >= end:
            raise _complain(what, deadline, value)
        time.sleep(interval)
    return value
