"""What a policy may say. `faults` names all that is wrong with one, each with its place."""

import math
from dataclasses import dataclass
from decimal import Decimal

from controlplane.domain.fleet.schedule import schedule_faults
from controlplane.wire.fleet import Policy, Unit

MOST_NODES = 1024  # of a group: beyond it a mistake is likelier than a crowd
MOST_CAPACITY = 100_000
LONGEST_S = 86_400.0
MOST_PERIODS = 3600


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where it stands (`prestage.schedule.windows.0.end`), and why."""

    place: str
    text: str


def faults(policy: Policy) -> list[Fault]:
    """All of them; none: the policy can be used."""
    found: list[Fault] = []

    def check(good: bool, place: str, text: str) -> None:
        if not good:
            found.append(Fault(place, text))

    def counts(place: str, value: int, least: int, most: int) -> None:
        check(least <= value <= most, place, f"{value} is not from {least} to {most}")

    def lasts(place: str, value: float) -> None:
        good = math.isfinite(value) and 0 <= value <= LONGEST_S
        check(good, place, f"{value:g} is not from 0 to {LONGEST_S:g} seconds")

    units = [unit.value for unit in Unit]
    check(policy.unit in units, "unit", f"there is no unit {policy.unit!r}; there are {', '.join(units)}")
    counts("capacity", policy.capacity, 1, MOST_CAPACITY)
    check(_between(policy.alarm, 0, 1), "alarm", f"{plain(policy.alarm)} is not above 0 and at most 1")
    check(
        policy.in_fraction.is_finite() and policy.in_fraction >= 0,
        "in_fraction",
        f"{plain(policy.in_fraction)} is below 0",
    )
    if policy.alarm.is_finite() and policy.in_fraction.is_finite():
        check(
            policy.in_fraction < policy.alarm,
            "in_fraction",
            f"{plain(policy.in_fraction)} is not below the alarm, {plain(policy.alarm)}: "
            "a node that was ended would be launched again",
        )
    counts("min", policy.min, 0, MOST_NODES)
    counts("max", policy.max, 0, MOST_NODES)
    check(policy.min <= policy.max, "min", f"{policy.min} is above max, {policy.max}")
    counts("increment", policy.increment, 1, MOST_NODES)
    counts("up_periods", policy.up_periods, 1, MOST_PERIODS)
    counts("down_periods", policy.down_periods, 1, MOST_PERIODS)
    lasts("up_cooldown_s", policy.up_cooldown_s)
    lasts("down_cooldown_s", policy.down_cooldown_s)
    counts("launches", policy.launches, 1, MOST_NODES)
    lasts("drain_deadline_s", policy.drain_deadline_s)
    if policy.spend_cap is not None:
        check(
            policy.spend_cap.is_finite() and policy.spend_cap >= 0,
            "spend_cap",
            f"{plain(policy.spend_cap)} is below 0 dollars an hour",
        )
    counts("prestage.nodes", policy.prestage.nodes, 0, MOST_NODES)
    above = f"is above max, {policy.max}: so many are never there"
    stage = policy.prestage
    check(stage.nodes <= policy.max or stage.nodes > MOST_NODES, "prestage.nodes", f"{stage.nodes} {above}")
    for number, window in enumerate(stage.schedule.windows):
        check(
            window.nodes <= policy.max or window.nodes > MOST_NODES,
            f"prestage.schedule.windows.{number}.nodes",
            f"{window.nodes} {above}",
        )
    for place, text in schedule_faults(policy.prestage.schedule, MOST_NODES):
        found.append(Fault(f"prestage.schedule.{place}", text))
    return found


def _between(value: Decimal, above: int, at_most: int) -> bool:
    return value.is_finite() and above < value <= at_most


def plain(value: Decimal) -> str:
    """0.6, also where 0.60 was written."""
    return f"{value.normalize():f}"
