"""A policy typed into a form: what is read of it, what is sent, and where the manager's faults belong."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.errors import UsageError
from console.core.policies import (
    NAMES,
    WINDOW,
    WrongFields,
    at_fields,
    changes,
    curves,
    field_of,
    read_curve,
    read_schedule,
    sound,
    words_of,
)
from controlplane.domain.fleet.policy import faults
from controlplane.services.scaling import merged
from controlplane.services.whatif import _crowd_faults
from controlplane.wire.base import FaultView
from controlplane.wire.fleet import Policy, Prestage, Schedule, Window

WINDOWS = [
    Window(nodes=12, start="19:30", end="23:30", days=["fri", "sat"]),
    Window(nodes=20, start="18:00", end="02:00", date="2026-12-31"),
    Window(nodes=3, start="12:00", end="13:00", days=["mon"]),
]
FULL = Policy(
    alarm=Decimal("0.58"),
    spend_cap=Decimal("4.1"),
    up_cooldown_s=90,
    prestage=Prestage(nodes=2, events=True, schedule=Schedule(zone="Europe/Berlin", windows=WINDOWS)),
)


def typed(policy: Policy, **said: Any) -> Any:
    from dataclasses import replace

    return replace(words_of(policy), **said)


def test_a_policy_stands_in_the_fields_as_it_can_be_typed_again() -> None:
    words = words_of(FULL)
    assert (words.alarm, words.spend_cap, words.up_cooldown_s, words.down_cooldown_s) == (
        "0.58",
        "4.1",
        "90s",
        "5m",
    )
    assert words.windows == "12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00; 3 mon 12:00-13:00"
    assert changes(words, None) == FULL
    assert words_of(Policy()).spend_cap == "none"


def test_only_what_differs_is_sent() -> None:
    assert changes(words_of(FULL), FULL).model_fields_set == set()
    said = changes(typed(FULL, max=" 20 ", alarm="60 %", spend_cap="none", events=False), FULL)
    assert said.model_fields_set == {"max", "alarm", "spend_cap", "prestage"}
    assert said.prestage.model_fields_set == {"events"}
    after = merged(FULL, said)
    assert (after.max, after.alarm, after.spend_cap) == (20, Decimal("0.6"), None)
    assert after.prestage == FULL.prestage.model_copy(update={"events": False})


def test_everything_that_cannot_be_read_is_named_at_once() -> None:
    wrong = typed(Policy(), capacity="many", alarm="", up_cooldown_s="soon", windows="12 20:00", min="²")
    with pytest.raises(WrongFields) as caught:
        changes(wrong, Policy())
    assert caught.value.faults == {
        "capacity": "'many' is no whole number.",
        "alarm": "a number is missing. Write it like 0.6.",
        "up_cooldown_s": "'soon' is not a duration. Write it like 60s, 5m, 1h30m or 7d.",
        "windows": f"'12 20:00' is no window. Write it like {WINDOW}.",
        "min": "'²' is no whole number.",
    }


BAD = Policy(
    unit="x",
    capacity=0,
    alarm=Decimal(2),
    in_fraction=Decimal(3),
    min=9,
    max=8,
    increment=0,
    up_periods=0,
    down_periods=0,
    up_cooldown_s=-1,
    down_cooldown_s=-1,
    launches=0,
    drain_deadline_s=-1,
    spend_cap=Decimal(-1),
    prestage=Prestage(
        nodes=-1, schedule=Schedule(zone="Nowhere", windows=[Window(nodes=1, start="25:00", end="1:00")])
    ),
)


def test_every_fault_the_manager_can_find_belongs_to_a_field() -> None:
    found = [FaultView(place=fault.place, text=fault.text) for fault in faults(BAD)]
    told = at_fields(found)
    assert set(told) == set(NAMES) - {"max", "events"}  # max is faulty only where it is out of all bounds
    assert {field_of(fault.place) for fault in found} <= set(NAMES)
    assert told["min"] == "9 is above max, 8"
    assert told["windows"] == "windows.0.start: '25:00' is no time of day; one is 20:00"
    assert told["zone"].startswith("there is no time zone 'Nowhere'")
    assert "; " in told["in_fraction"] or told["in_fraction"].endswith("launched again")


def test_crowds_that_can_be_picked_are_ones_the_manager_takes() -> None:
    for text in curves(2000).values():
        points = read_curve(text)
        assert max(point.people for point in points) == 2000
        assert not list(_crowd_faults(points))
    with pytest.raises(UsageError, match="'5m' is not TIME=PEOPLE"):
        read_curve("0=0 5m")
    with pytest.raises(UsageError, match="one moment is no crowd"):
        read_curve("0=7")


numbers = st.integers(-5, 2000)
shares = st.decimals("0", "2", places=4)
times = st.sampled_from(["fri", "fri,sat", "2026-12-31", ""])


@given(
    st.builds(
        Policy,
        capacity=numbers,
        alarm=shares,
        in_fraction=shares,
        min=numbers,
        max=numbers,
        up_cooldown_s=st.integers(0, 100_000),
        down_cooldown_s=st.floats(0, 100, width=16),
        spend_cap=st.none() | shares,
        prestage=st.builds(Prestage, nodes=numbers, events=st.booleans()),
    )
)
def test_any_policy_is_read_again_as_it_was_written(policy: Policy) -> None:
    assert changes(words_of(policy), None) == policy


@given(
    st.text(max_size=20), st.sampled_from([name for name in NAMES if name not in ("unit", "events", "zone")])
)
def test_any_text_in_a_field_is_read_or_refused_at_it(text: str, name: str) -> None:
    wrong: set[str] = set()
    try:
        changes(typed(FULL, **{name: text}), FULL)
    except WrongFields as error:
        wrong = set(error.faults)
    assert wrong <= {name}


def test_a_schedule_is_read_with_the_words_of_the_form_and_its_zone() -> None:
    said = read_schedule("12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00; 3 mon 12:00-13:00 Europe/Berlin")
    assert said == FULL.prestage.schedule
    assert read_schedule("3 12:00-13:00 Etc/GMT-3").zone == "Etc/GMT-3"
    stays = read_schedule("3 mon 12:00-13:00;")
    assert (stays.windows, stays.model_fields_set) == ([WINDOWS[2]], {"windows"})
    assert read_schedule(" None ").model_dump(exclude_unset=True) == {"windows": []}


@pytest.mark.parametrize(
    "text", ["", ";", "12 fri", "fri 19:30-23:30", "12 fri 19:30-23:30 Europe/Berlin; 3"]
)
def test_a_schedule_that_cannot_be_read_says_how_one_is_written(text: str) -> None:
    with pytest.raises(UsageError, match="12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00 Europe/Berlin"):
        read_schedule(text)


def test_what_can_be_read_is_kept_beside_what_cannot() -> None:
    with pytest.raises(WrongFields) as wrong:
        changes(typed(Policy(), alarm="7", max="many", windows="3 soon", nodes="2"), Policy())
    assert set(wrong.value.faults) == {"max", "windows"}
    assert wrong.value.rest.model_dump(exclude_unset=True) == {
        "alarm": Decimal(7),
        "prestage": {"nodes": 2},
    }


def test_a_fault_beside_what_could_not_be_read_is_not_passed_on() -> None:
    found = [FaultView(place=it, text="x") for it in ("min", "alarm", "prestage.nodes")]
    assert [it.place for it in sound(found, ["max"])] == ["alarm"]
    assert sound(found, ["alarm"]) == found


def test_what_the_how_to_shows_can_be_set() -> None:
    text = (Path(__file__).parents[3] / "docs/howto/set-a-policy.md").read_text(encoding="utf-8")
    schedules = re.findall(r"--schedule '(.+)'", text)
    assert len(schedules) == 2
    for words in schedules:
        said = Prestage(schedule=read_schedule(words))
        assert said.schedule.zone == "Europe/Berlin"
        assert faults(Policy(max=40, prestage=said)) == []
    shown = json.loads(text[text.index('    {"unit"') : text.index("\n\n| field")])
    assert set(shown) == set(Policy.model_fields)
    assert faults(Policy.model_validate(shown)) == []
