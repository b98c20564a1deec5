"""A policy as it is typed into a form, and what the stream manager is asked for by it. Pure.

What can be read here is only the form of it: that a number is one. What it may be the manager says, of the
whole policy, each fault with its place (`Problem.faults`); `field_of` tells which field that is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from console.core.errors import UsageError
from console.core.units import parse_duration
from controlplane.wire.base import FaultView
from controlplane.wire.fleet import Point, Policy, Schedule, Window

LONGEST_S = 7 * 86_400.0  # of a crowd, as the manager takes it
NONE = "none"
WINDOW = "12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00"
SCHEDULE = f"{WINDOW} Europe/Berlin, or none"
CURVE = "Write it like 0=0 10m=2000 2h=2000: times from the start, each later than before, and people"
_NUMBER = re.compile(r"\$?(-?[0-9]{1,6}(?:\.[0-9]+)?)")  # as the wire takes it: at most six places
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCKS = re.compile(r":\S*-\S*:")  # of a window: 19:30-23:30


@dataclass(frozen=True, slots=True)
class PolicyWords:
    """What stands in the fields. Named as the policy's, but for what is prestaged."""

    unit: str
    capacity: str
    alarm: str
    in_fraction: str
    min: str
    max: str
    increment: str
    launches: str
    up_periods: str
    down_periods: str
    up_cooldown_s: str
    down_cooldown_s: str
    drain_deadline_s: str
    spend_cap: str
    nodes: str
    events: bool
    windows: str
    zone: str


NAMES = tuple(field.name for field in fields(PolicyWords))
AGAINST = {
    "min": "max",
    "in_fraction": "alarm",
    "prestage.nodes": "max",
}  # what is at fault only beside the other
PLACES = {"prestage.nodes": "nodes", "prestage.events": "events", "prestage.schedule.zone": "zone"}


class WrongFields(Exception):
    """Some fields cannot be read: why, by name. `rest` is what can be."""

    def __init__(self, faults: Mapping[str, str], rest: Policy) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in faults.items()))
        self.faults, self.rest = dict(faults), rest


def words_of(policy: Policy) -> PolicyWords:
    """A policy as it stands in the fields."""
    stage = policy.prestage
    return PolicyWords(
        unit=policy.unit,
        capacity=str(policy.capacity),
        alarm=plain(policy.alarm),
        in_fraction=plain(policy.in_fraction),
        min=str(policy.min),
        max=str(policy.max),
        increment=str(policy.increment),
        launches=str(policy.launches),
        up_periods=str(policy.up_periods),
        down_periods=str(policy.down_periods),
        up_cooldown_s=lasting(policy.up_cooldown_s),
        down_cooldown_s=lasting(policy.down_cooldown_s),
        drain_deadline_s=lasting(policy.drain_deadline_s),
        spend_cap=NONE if policy.spend_cap is None else plain(policy.spend_cap),
        nodes=str(stage.nodes),
        events=stage.events,
        windows="; ".join(_window_words(window) for window in stage.schedule.windows),
        zone=stage.schedule.zone,
    )


def changes(words: PolicyWords, before: Policy | None) -> Policy:
    """What differs from the policy in force; all of it where there is none. Raises WrongFields, which names
    every field that cannot be read."""
    wrong: dict[str, str] = {}
    kept = None if before is None else words_of(before)

    def read(name: str, reader: Callable[[str], Any]) -> Any:
        text = str(getattr(words, name)).strip()
        try:
            return reader(text)
        except UsageError as error:
            wrong[name] = str(error)
            return None

    def differs(*names: str) -> bool:
        return kept is None or any(getattr(words, name) != getattr(kept, name) for name in names)

    said: dict[str, Any] = {}
    for name, reader in READERS.items():
        if differs(name):
            said[name] = read(name, reader)
    stage: dict[str, Any] = {}
    if differs("nodes"):
        stage["nodes"] = read("nodes", _whole)
    if differs("events"):
        stage["events"] = words.events
    if differs("windows", "zone"):
        windows = read("windows", _windows)
        stage["schedule"] = Schedule(zone=words.zone.strip(), windows=windows or [])
    if "windows" in wrong or "zone" in wrong:
        del stage["schedule"]
    if stage := {name: value for name, value in stage.items() if name not in wrong}:
        said["prestage"] = stage
    read_well = Policy.model_validate({name: value for name, value in said.items() if name not in wrong})
    if wrong:
        raise WrongFields(wrong, read_well)
    return read_well


def sound(faults: Sequence[FaultView], unread: Iterable[str]) -> list[FaultView]:
    """The manager's faults of what could be read, beside those that could not: without what would be said of
    one against another that is not known (`min` above a `max` that could not be read)."""
    doubtful = {name for name, other in AGAINST.items() if other in unread}
    return [fault for fault in faults if fault.place not in doubtful]


def field_of(place: str) -> str:
    """The field that a fault's place belongs to."""
    if place in PLACES:
        return PLACES[place]
    return "windows" if place.startswith("prestage.schedule") else place


def at_fields(faults: Sequence[FaultView]) -> dict[str, str]:
    """The manager's faults by field; of the schedule with the place in it, for it has several windows."""
    found: dict[str, str] = {}
    for fault in faults:
        name = field_of(fault.place)
        inside = fault.place.removeprefix("prestage.schedule.")
        text = f"{inside}: {fault.text}" if name == "windows" else fault.text
        found[name] = f"{found[name]}; {text}" if name in found else text
    return found


def plain(value: Decimal) -> str:
    """0.6, also where 0.60 was written."""
    return f"{value.normalize():f}"


def lasting(seconds: float) -> str:
    """As it can be typed again, in its largest whole unit: 5m, 90s."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{Decimal(repr(seconds)).normalize():f}s"


def read_curve(text: str) -> list[Point]:
    """People at moments: `0=0 10m=2000 2h=2000`. Raises UsageError."""
    points: list[Point] = []
    for word in re.split(r"[\s,]+", text.strip()):
        at, equals, people = word.partition("=")
        if not equals or not (people.isascii() and people.isdecimal()) or len(people) > 6:
            raise UsageError(f"{word!r} is not TIME=PEOPLE", CURVE)
        points.append(Point(at_s=parse_duration(at, most_s=LONGEST_S), people=int(people)))
    if len(points) < 2:
        raise UsageError("one moment is no crowd", CURVE)
    return points


def curves(people: int) -> dict[str, str]:
    """Crowds that can be picked, with so many at their height."""
    half, most = people // 2, people
    return {
        "rush": f"0=0 5m={most} 2h={most} 2h10m=0",
        "evening": f"0=0 1h={half} 2h={most} 3h={most} 5h=0",
        "waves": f"0=0 20m={most} 1h={half} 2h={most} 3h={half} 4h={most} 5h=0",
    }


def _whole(text: str) -> int:
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.removeprefix("-").isdecimal() and len(digits) <= 9):
        raise UsageError(f"{text!r} is no whole number" if text else "a whole number is missing")
    return int(digits)


def _number(text: str, places: int = 6) -> Decimal:
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[1].partition(".")[2]) > places:
        raise UsageError(f"{text!r} is no number" if text else "a number is missing", "Write it like 0.6")
    return Decimal(match[1])


def _share(text: str) -> Decimal:
    """0.6, 60% or 60 %."""
    return _number(text[:-1].rstrip(), places=4) / 100 if text.endswith("%") else _number(text)


def _cap(text: str) -> Decimal | None:
    return None if text.lower() in ("", NONE) else _number(text)


def _seconds(text: str) -> float:
    return 0.0 if text.lower() == NONE else parse_duration(text)


def _windows(text: str, like: str = WINDOW) -> list[Window]:
    """`NODES [DAYS|DATE] START-END`, semicolons between. What a day or a time may be the manager says."""
    return [_window(part.strip(), like) for part in text.split(";") if part.strip()]


def _window(text: str, like: str) -> Window:
    parts = text.split()
    start, dash, end = parts[-1].partition("-")
    if not dash or len(parts) not in (2, 3) or not parts[0].isdecimal() or len(parts[0]) > 6:
        raise UsageError(f"{text!r} is no window", f"Write it like {like}")
    when = parts[1] if len(parts) == 3 else ""
    dated = _DATE.fullmatch(when) is not None
    return Window(
        nodes=int(parts[0]),
        start=start,
        end=end,
        date=when if dated else None,
        days=[] if dated or not when else when.lower().split(","),
    )


def read_schedule(text: str) -> Schedule:
    """Windows as the form takes them, and after the last the zone where it is not to stay as it is:
    `12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00 Europe/Berlin`; `none` for no windows. UsageError."""
    if text.strip().lower() == NONE:
        return Schedule(windows=[])
    windows, _, last = text.strip().rpartition(" ")
    zoned = bool(windows) and ":" not in last and _CLOCKS.search(windows) is not None
    found = _windows(windows if zoned else text, SCHEDULE)
    if not found:
        raise UsageError("no window is named", f"Write it like {SCHEDULE}")
    return Schedule(zone=last, windows=found) if zoned else Schedule(windows=found)


def _window_words(window: Window) -> str:
    when = window.date or ",".join(window.days)
    return " ".join(part for part in (str(window.nodes), when, f"{window.start}-{window.end}") if part)


READERS: dict[str, Callable[[str], Any]] = {
    "unit": str,
    "capacity": _whole,
    "alarm": _share,
    "in_fraction": _share,
    "min": _whole,
    "max": _whole,
    "increment": _whole,
    "launches": _whole,
    "up_periods": _whole,
    "down_periods": _whole,
    "up_cooldown_s": _seconds,
    "down_cooldown_s": _seconds,
    "drain_deadline_s": _seconds,
    "spend_cap": _cap,
}
