"""Events, as people plan them, and the question whether one can begin (`/api/v1/events`).

What comes from people is not checked here field by field, but as a whole by
`controlplane.domain.events.rules`, which names every fault with its place.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controlplane.wire.base import Message, Request

Count = Annotated[int, Field(strict=True)]  # true is no number of people


class EventState(StrEnum):
    """Told by the clock, but for the last one."""

    COMING = "coming"
    ON = "on"
    ENDED = "ended"
    CANCELLED = "cancelled"


class EventRequest(Request):
    """`POST /api/v1/events`.

    A time is ISO 8601: with its offset (2026-11-28T20:00+01:00), or without one as the clocks of `zone` show
    it (2026-11-28T20:00, or 20:00: the next time it is that); or from now on (+30m, +1h30m). Say when it
    ends, or how long it lasts.
    """

    title: str
    start: str
    end: str | None = None
    lasts_s: float | None = None
    zone: str = "UTC"  # of the IANA time zone database
    channel: str = "main"
    expected: Count = 0  # people who will watch


class EventChanges(Request):
    """`PATCH /api/v1/events/{id}`: what is said is changed.

    Where only the start is, it lasts as long as before.
    """

    title: str | None = None
    start: str | None = None
    end: str | None = None
    lasts_s: float | None = None
    zone: str | None = None
    channel: str | None = None
    expected: Count | None = None


class EventCancel(Request):
    """`POST /api/v1/events/{id}/cancel`."""

    reason: str = Field(default="", max_length=200)


class EventView(Message):
    id: str  # ev-7
    title: str
    state: EventState
    start: str  # ISO 8601, with the offset of its zone
    end: str
    zone: str
    starts_at: float  # Unix time
    ends_at: float
    channel: str
    expected: int  # people, as somebody thinks
    registered: int  # people who said that they come
    crowd: int  # the larger of the two: what nodes are there for
    created_at: float  # Unix time
    cancelled_at: float | None = None
    cancel_reason: str = ""
    checked_at: float | None = None  # of the last preflight, Unix time


class Verdict(StrEnum):
    GREEN = "green"
    AMBER = "amber"  # not set up, or not due yet: it holds nothing up, and somebody should know
    RED = "red"


class CheckView(Message):
    """One line of a preflight."""

    check: str  # event nodes publisher database budget settings viewer
    subject: str = ""  # a group, a channel, a region
    verdict: Verdict
    says: str  # a sentence without its full stop
    next: str = ""  # what to do about it; empty where it is green


class PreflightView(Message):
    """`POST /api/v1/events/{id}/preflight`: what the manager knows.

    `showcaller event preflight` adds a viewer.     A red line is a no-go, and nothing else is.
    """

    event: EventView
    at: float  # Unix time
    go: bool
    checks: list[CheckView]
    regions: list[str]  # that have edges
