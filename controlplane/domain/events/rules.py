"""What an event may be. `planned` reads what somebody asks for, and names all that is wrong with it."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from controlplane.domain.events.model import PREFIX, Event
from controlplane.domain.events.times import NoMoment, moment, place, spoken
from controlplane.domain.fleet.policy import Fault
from controlplane.domain.fleet.schedule import zone
from controlplane.wire.api import CHANNEL_PATTERN, CHANNEL_RULE
from controlplane.wire.events import EventChanges, EventRequest

LONGEST_TITLE = 200
LONGEST_ZONE = 64
MOST_EXPECTED = 1_000_000
LONGEST_S = 14 * 86_400.0  # beyond it a mistake is likelier than a show
FARTHEST_S = 3 * 366 * 86_400.0
EARLIEST_S = 86_400.0  # it may have begun already, though not long ago

_CHANNEL = re.compile(CHANNEL_PATTERN)
_RULE = f"{CHANNEL_RULE[0].lower()}{CHANNEL_RULE[1:]}"


@dataclass(frozen=True, slots=True)
class Planned:
    """What is asked for, read; with faults it is nothing to go by."""

    event: Event
    faults: tuple[Fault, ...]


def planned(asked: EventRequest | EventChanges, now: float, before: Event | None = None) -> Planned:
    """The event that is asked for: a new one, or `before` with what is said of it changed.

    Where only the start is moved the event lasts as long as it did. Whether its channel is free is asked by
    `overlapping`, of all others.
    """
    found: list[Fault] = []
    event = before or Event(
        id=0,
        title="",
        starts_at=now,
        ends_at=math.inf,
        zone="UTC",
        channel="",
        expected=0,
        created_at=now,
    )
    if asked.title is not None:
        event = replace(event, title=" ".join(asked.title.split()))
        found += _title_faults(event.title)
    if asked.channel is not None:
        event = replace(event, channel=asked.channel)
        if _CHANNEL.fullmatch(asked.channel) is None:
            found.append(Fault("channel", f"{_short(asked.channel)} is none: {_RULE}"))
    if asked.expected is not None:
        event = replace(event, expected=asked.expected)
        if not 0 <= asked.expected <= MOST_EXPECTED:
            found.append(Fault("expected", f"{asked.expected:,} people are not from 0 to {MOST_EXPECTED:,}"))
    if asked.zone is not None:
        event = replace(event, zone=asked.zone)
        if len(asked.zone) > LONGEST_ZONE or zone(asked.zone) is None:
            what = f"there is no time zone {_short(asked.zone)}: one is Europe/Berlin"
            return Planned(event, (*found, Fault("zone", what)))  # its times cannot be read
    event, wrong = _timed(event, asked, now, before)
    return Planned(event, (*found, *wrong))


def _title_faults(title: str) -> list[Fault]:
    if not title:
        return [Fault("title", "it is empty: say what is shown")]
    if len(title) > LONGEST_TITLE:
        return [Fault("title", f"{len(title)} characters are more than {LONGEST_TITLE}")]
    if not title.isprintable():
        return [Fault("title", "it has characters that cannot be shown")]
    return []


def _timed(
    event: Event, asked: EventRequest | EventChanges, now: float, before: Event | None
) -> tuple[Event, list[Fault]]:
    there = place(event.zone)
    found: list[Fault] = []
    starts, length = event.starts_at, event.ends_at - event.starts_at
    if asked.start is not None:
        try:
            starts = moment(asked.start, there, now)
        except NoMoment as error:
            return event, [Fault("start", str(error)), *_end_faults(asked, there, now, before)]
        if not now - EARLIEST_S <= starts <= now + FARTHEST_S:
            days = round(EARLIEST_S / 86_400), round(FARTHEST_S / 86_400)
            what = f"is not from {days[0]} day ago to {days[1]:,} days from now"
            return event, [Fault("start", f"{_spoken(starts, there)} {what}")]
    try:
        ends = _end(asked, there, now, starts, length)
    except NoMoment as error:
        return event, [Fault("end", str(error))]
    except _Bad as error:
        return event, [error.fault]
    if not starts < ends:
        found.append(Fault("end", f"it is not after the start, {spoken(starts, there)}"))
    elif ends - starts > LONGEST_S:
        found.append(Fault("end", f"it would last more than {LONGEST_S / 86_400:.0f} days"))
    elif ends <= now:
        found.append(Fault("end", f"it would be over already, since {spoken(ends, there)}"))
    return replace(event, starts_at=starts, ends_at=ends), found


def _end_faults(
    asked: EventRequest | EventChanges, there: ZoneInfo, now: float, before: Event | None
) -> list[Fault]:
    """What can be said against the end while it is not known when the start is."""
    try:
        _end(asked, there, now, now, math.inf if before is None else 1.0)
    except NoMoment as error:
        return [Fault("end", str(error))]
    except _Bad as error:
        return [error.fault]
    return []


class _Bad(Exception):
    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.fault = Fault(place, text)


def _end(
    asked: EventRequest | EventChanges, there: ZoneInfo, now: float, starts: float, length: float
) -> float:
    if asked.end is not None and asked.lasts_s is not None:
        raise _Bad("end", "an event has an end or lasts so long: say one of them")
    if asked.end is not None:
        return moment(asked.end, there, now, after=starts)
    if asked.lasts_s is not None:
        if not 0 < asked.lasts_s <= LONGEST_S:
            raise _Bad("lasts_s", f"{asked.lasts_s:g} is not above 0 and at most {LONGEST_S:g} seconds")
        return starts + asked.lasts_s
    if math.isinf(length):
        raise _Bad("end", "it is missing: say when it ends, or how long it lasts")
    return starts + length


def _spoken(at: float, there: ZoneInfo) -> str:
    """As `spoken`, where a calendar goes so far."""
    try:
        return spoken(at, there)
    except (ValueError, OverflowError, OSError):
        return "that"


def overlapping(event: Event, others: Iterable[Event]) -> Event | None:
    """The first other event that is on the same channel at the same time."""
    clashing = [
        it
        for it in others
        if it.id != event.id
        and it.channel == event.channel
        and it.cancelled_at is None
        and it.starts_at < event.ends_at
        and event.starts_at < it.ends_at
    ]
    return min(clashing, key=lambda it: (it.starts_at, it.id), default=None)


def named(text: str, events: Sequence[Event], now: float) -> list[Event]:
    """Those that are meant: by name (ev-7), by title, or by how the title begins, small letters or large.

    Of several whose titles begin so, those that are not over are meant, if there are any.
    """
    word = " ".join(text.split()).casefold()
    if not word:
        return []
    number = word.removeprefix(PREFIX)
    by_number = [it for it in events if it.name == word or (number == word and str(it.id) == word)]
    if by_number:
        return by_number
    exact = [it for it in events if it.title.casefold() == word]
    found = exact or [it for it in events if it.title.casefold().startswith(word)]
    return [it for it in found if it.is_due(now)] or found


def _short(text: str) -> str:
    return repr(text if len(text) <= 70 else f"{text[:67]}...")
