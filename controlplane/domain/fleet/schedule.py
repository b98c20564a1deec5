"""A schedule of nodes by the clock on the wall of some place, with its summer time."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from controlplane.wire.fleet import Schedule, Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES = 24 * 60
MOST_WINDOWS = 200
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def zone(name: str) -> ZoneInfo | None:
    """None when there is no such time zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name at all; the name of a folder
        return None


def wanted(
    schedule: Schedule, now: float, lead_s: Callable[[int], float] = lambda nodes: 0.0
) -> tuple[int, str]:
    """How many nodes it wants at this moment (Unix time), and the window in words. Of a schedule without
    faults. So many nodes are wanted `lead_s(nodes)` seconds before their window; of several the most count.
    """
    there = zone(schedule.zone)
    if there is None:  # this machine does not know it any more
        return 0, ""
    local = datetime.fromtimestamp(now, there)
    most, words = 0, ""
    for window in schedule.windows:
        start, length = _span(window)
        lead = math.ceil(lead_s(window.nodes) / 60)
        for ahead in range(-1, lead // MINUTES + 2):  # one that began yesterday, and those that are coming
            if _begins_on(window, local.date() + timedelta(ahead)):
                since = local.hour * 60 + local.minute - ahead * MINUTES
                if start - lead <= since < start + length and window.nodes > most:
                    most, words = window.nodes, f"{window.start} to {window.end} {schedule.zone}"
    return most, words


def schedule_faults(schedule: Schedule, most: int) -> Iterator[tuple[str, str]]:
    """What is wrong: places within it, and why."""
    if zone(schedule.zone) is None:
        yield "zone", f"there is no time zone {schedule.zone!r}; one is Europe/Berlin"
    if len(schedule.windows) > MOST_WINDOWS:
        yield "windows", f"{len(schedule.windows)} are more than {MOST_WINDOWS}"
        return
    good: list[tuple[int, Window]] = []
    for number, window in enumerate(schedule.windows):
        wrong = [(f"windows.{number}.{place}", text) for place, text in _window_faults(window, most)]
        yield from wrong
        if not wrong:
            good.append((number, window))
    for number, earlier in _overlaps(good):
        yield f"windows.{number}", f"it is on at the same time as window {earlier}"


def _window_faults(window: Window, most: int) -> Iterator[tuple[str, str]]:
    if not 0 <= window.nodes <= most:
        yield "nodes", f"{window.nodes} is not from 0 to {most}"
    for place, text in (("start", window.start), ("end", window.end)):
        if _CLOCK.fullmatch(text) is None:
            yield place, f"{text!r} is no time of day; one is 20:00"
    if window.start == window.end:
        yield "end", f"{window.end} is the start: it is never on"
    for day in window.days:
        if day not in DAYS:
            yield "days", f"there is no day {day!r}; there are {' '.join(DAYS)}"
    if window.date is not None:
        if window.days:
            yield "date", "a window has days or a date, not both"
        if _date(window) is None:
            yield "date", f"{window.date!r} is no date; one is 2027-05-01"


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _span(window: Window) -> tuple[int, int]:
    """The minute of the day it starts at, and how many minutes it lasts."""
    start = _minutes(window.start)
    return start, (_minutes(window.end) - start) % MINUTES


def _date(window: Window) -> date | None:
    try:
        return None if window.date is None else date.fromisoformat(window.date)
    except ValueError:
        return None


def _begins_on(window: Window, day: date) -> bool:
    if window.date is not None:
        return _date(window) == day
    return not window.days or DAYS[day.weekday()] in window.days


def _overlaps(windows: Sequence[tuple[int, Window]]) -> Iterator[tuple[int, int]]:
    """Each window that is on while an earlier one of the list is, and which.

    By the minutes of a week; a date takes those of the week it lies in, and two dates are held against each
    other by when they are.
    """
    weekly: dict[int, int] = {}  # minute of the week -> the window that has it
    dated: dict[int, int] = {}  # minute of the week -> the first window with a date that has it
    days: list[tuple[int, int, int]] = []  # windows with a date: start and end in minutes, number
    for number, window in windows:
        minutes = _week(window)
        day = _date(window)
        found = next((weekly[minute] for minute in minutes if minute in weekly), None)
        if day is None:
            found = found if found is not None else next((dated[it] for it in minutes if it in dated), None)
            weekly |= {minute: number for minute in minutes if minute not in weekly}
        else:
            start, length = _span(window)
            begins = day.toordinal() * MINUTES + start
            if found is None:
                found = next((it for a, b, it in days if a < begins + length and begins < b), None)
            days.append((begins, begins + length, number))
            dated |= {minute: number for minute in minutes if minute not in dated}
        if found is not None:
            yield number, found


def _week(window: Window) -> list[int]:
    """The minutes of a week in which it is on."""
    start, length = _span(window)
    day = _date(window)
    days = {day.weekday()} if day is not None else {DAYS.index(name) for name in window.days or DAYS}
    minutes = (range(number * MINUTES + start, number * MINUTES + start + length) for number in days)
    return [minute % (7 * MINUTES) for span in minutes for minute in span]
