"""Moments as people write them, read by the clocks of a place; and said again.

A clock on a wall is not a time: in spring an hour of it does not exist, in autumn one comes twice. What
cannot be meant, and what could be meant twice, is refused with what to write instead.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from controlplane.domain.fleet.schedule import zone

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_FROM_NOW = re.compile(r"\+(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_DATE = re.compile(r"[0-9-]+|[0-9]+-?W[0-9-]+")

EXAMPLES = "write it like 2026-11-28T20:00, 2026-11-28T20:00+01:00, 20:00 or +30m"


def place(name: str) -> ZoneInfo:
    """The zone of this name; UTC where this machine does not know it any more."""
    return zone(name) or ZoneInfo("UTC")


class NoMoment(Exception):
    """It cannot be read as a moment. The message says why, and what to write instead."""


def moment(text: str, there: ZoneInfo, now: float, after: float | None = None) -> float:
    """Unix time of ISO 8601 with an offset; of one without, or a time of day, by the clocks `there`; of +30m,
    from `now`. A time of day is the next one after `after` (or `now`). Raises NoMoment."""
    text = text.strip()
    if (found := _FROM_NOW.fullmatch(text)) is not None and any(found.groups()):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return now + ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if (found := _CLOCK.fullmatch(text)) is not None:
        return _next(int(found[1]), int(found[2]), there, now if after is None else after)
    if _DATE.fullmatch(text) is not None:
        raise NoMoment(f"{text!r} is without a time of day: {EXAMPLES}")
    try:
        said = datetime.fromisoformat(text)
        return _on_the_wall(said, there) if said.tzinfo is None else said.timestamp()
    except (ValueError, OverflowError):
        raise NoMoment(f"{text!r} is no time: {EXAMPLES}") from None


def _next(hour: int, minute: int, there: ZoneInfo, after: float) -> float:
    """The next time the clocks there show this. Not always tomorrow, where it is not today: an hour that is
    left out in spring is refused rather than put off."""
    today = datetime.fromtimestamp(after, there)
    wall = today.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None)
    for day in (wall, wall + timedelta(days=1)):
        if (at := _on_the_wall(day, there)) > after:
            return at
    raise NoMoment(f"{hour:02d}:{minute:02d} is not to come within a day: {EXAMPLES}")


def _on_the_wall(wall: datetime, there: ZoneInfo) -> float:
    """When the clocks there show this. Raises NoMoment where they never do, or do twice."""
    first, second = (wall.replace(tzinfo=there, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.timestamp()
    day, clock = f"{wall:%Y-%m-%d}", f"{wall:%H:%M}"
    if first.astimezone(UTC).astimezone(there).replace(tzinfo=None) != wall:
        raise NoMoment(f"there is no {clock} on {day} in {there.key}: the clocks are put forward over it")
    choice = " or ".join(it.isoformat(timespec="minutes") for it in (first, second))
    raise NoMoment(f"it is {clock} twice on {day} in {there.key}: write {choice}")


def iso(at: float, there: ZoneInfo) -> str:
    """ISO 8601 with the offset there."""
    return datetime.fromtimestamp(at, there).isoformat(timespec="seconds")


def spoken(at: float, there: ZoneInfo) -> str:
    """As in: Sat 28 Nov 2026 20:00 Europe/Berlin. The names are English whatever the machine speaks."""
    local = datetime.fromtimestamp(at, there)
    day = DAYS[local.weekday()]
    month = MONTHS[local.month - 1]
    seconds = f":{local.second:02d}" if local.second else ""
    return f"{day} {local.day} {month} {local.year} {local:%H:%M}{seconds} {there.key}"
