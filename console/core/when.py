"""Moments as people read them: in the zone of an event, with how far away they are."""

import os
import re
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from console.core.units import show_duration

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")


def local_zone(
    environment: "os._Environ[str] | dict[str, str]" = os.environ,
    clock: Path = Path("/etc/localtime"),
    names: Path = Path("/etc/timezone"),
) -> str | None:
    """The name of this machine's time zone (Europe/Berlin), or None where it cannot be told.

    TZ goes first; then where the system's clock file points, then the name that Debian keeps beside it.
    """
    said = environment.get("TZ")
    if said is not None:
        return _known(said.removeprefix(":").rpartition("zoneinfo/")[2] or "UTC")
    if clock.is_symlink():
        found = _known(os.path.realpath(clock).rpartition("zoneinfo/")[2])
        if found is not None:
            return found
    try:
        return _known(names.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None if clock.exists() else "UTC"  # as the C library takes it


def _known(name: str) -> str | None:
    try:
        return name if _NAME.fullmatch(name) and ZoneInfo(name) else None
    except (KeyError, ValueError, OSError):
        return None


def zone_of(name: str) -> ZoneInfo:
    """UTC where this machine does not know the name."""
    return ZoneInfo(_known(name) or "UTC")


def show_moment(at: float, zone: str, now: float, *, seconds: bool = True) -> str:
    """ "Sat 28 Nov 20:00"; with the year where it is another one than now's, and seconds if there are any."""
    there = zone_of(zone)
    local = datetime.fromtimestamp(at, there)
    year = f" {local.year}" if local.year != datetime.fromtimestamp(now, there).year else ""
    return f"{DAYS[local.weekday()]} {local.day} {MONTHS[local.month - 1]}{year} {_clock(local, seconds)}"


def show_span(starts: float, ends: float, zone: str, now: float) -> str:
    """ "Sat 28 Nov 20:00 to 22:00 Europe/Berlin"; how long that is where the clocks are changed meanwhile."""
    there = zone_of(zone)
    first, last = (datetime.fromtimestamp(at, there) for at in (starts, ends))
    end = _clock(last) if first.date() == last.date() else show_moment(ends, zone, now)
    changed = first.utcoffset() != last.utcoffset()
    lasting = f" ({show_duration(ends - starts)}: the clocks are changed)" if changed else ""
    return f"{show_moment(starts, zone, now)} to {end} {there.key}{lasting}"


def _clock(local: datetime, seconds: bool = True) -> str:
    return f"{local:%H:%M:%S}" if local.second and seconds else f"{local:%H:%M}"


def until(at: float, now: float) -> str:
    """ "in 2 days", "in 25 min", "now", "5 min ago"."""
    away = at - now
    if abs(away) < 1:
        return "now"
    return f"in {_lasting(away)}" if away > 0 else f"{_lasting(-away)} ago"


def _lasting(seconds: float) -> str:
    days = round(seconds / 86_400)
    if seconds >= 48 * 3600:
        return f"{days:,} days"
    return show_duration(round(seconds) if seconds >= 10 else seconds)


def local_time(at: float) -> str:
    """By the clock of this machine: "14:07"."""
    return time.strftime("%H:%M", time.localtime(at))
