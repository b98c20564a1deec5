"""What a policy may say: refused whole, each fault named with its place; schedules by a clock on a wall."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.fleet.policy import faults
from controlplane.domain.fleet.prestage import floor, lead_s, nodes_for
from controlplane.domain.fleet.schedule import DAYS, schedule_faults, wanted
from controlplane.wire.fleet import Expected, Policy, Schedule, Window

BERLIN = ZoneInfo("Europe/Berlin")


def policy(**said: object) -> Policy:
    return Policy.model_validate(said)


def places(made: Policy) -> list[str]:
    return [fault.place for fault in faults(made)]


def test_the_usual_policy_has_no_fault() -> None:
    assert faults(Policy()) == []


@pytest.mark.parametrize(
    ("said", "place", "text"),
    [
        ({"min": 5, "max": 4}, "min", "5 is above max, 4"),
        ({"alarm": 0}, "alarm", "0 is not above 0 and at most 1"),
        ({"alarm": 1.01}, "alarm", "1.01 is not above 0 and at most 1"),
        ({"alarm": 0.4}, "in_fraction", "0.4 is not below the alarm, 0.4: a node that was ended"),
        ({"in_fraction": -1}, "in_fraction", "-1 is below 0"),
        ({"up_cooldown_s": -1}, "up_cooldown_s", "-1 is not from 0 to 86400 seconds"),
        ({"down_cooldown_s": 86401}, "down_cooldown_s", "86401 is not from 0 to 86400 seconds"),
        ({"max": 1025}, "max", "1025 is not from 0 to 1024"),
        ({"unit": "people"}, "unit", "there is no unit 'people'; there are connections, publishers, mbps"),
        ({"capacity": 0}, "capacity", "0 is not from 1 to 100000"),
        ({"increment": 0}, "increment", "0 is not from 1 to 1024"),
        ({"launches": 0}, "launches", "0 is not from 1 to 1024"),
        ({"down_periods": 0}, "down_periods", "0 is not from 1 to 3600"),
        ({"spend_cap": -0.01}, "spend_cap", "-0.01 is below 0 dollars an hour"),
        ({"prestage": {"nodes": 1025}}, "prestage.nodes", "1025 is not from 0 to 1024"),
        (
            {"max": 4, "prestage": {"nodes": 10}},
            "prestage.nodes",
            "10 is above max, 4: so many are never there",
        ),
        (
            {"max": 4, "prestage": {"schedule": {"windows": [{"nodes": 5, "start": "1:00", "end": "2:00"}]}}},
            "prestage.schedule.windows.0.nodes",
            "5 is above max, 4",
        ),
        ({"prestage": {"schedule": {"zone": "Mars/Base"}}}, "prestage.schedule.zone", "no time zone 'Mars"),
    ],
)
def test_each_fault_is_named_with_its_place(said: dict[str, object], place: str, text: str) -> None:
    found = {fault.place: fault.text for fault in faults(policy(**said))}
    assert text in found[place]


def test_all_faults_are_named_at_once() -> None:
    wrong = policy(unit="x", alarm=2, min=3, max=2, increment=0, up_cooldown_s=-1, prestage={"nodes": -1})
    assert places(wrong) == ["unit", "alarm", "min", "increment", "up_cooldown_s", "prestage.nodes"]


@pytest.mark.parametrize(
    ("windows", "place"),
    [
        ([{"nodes": -1, "start": "1:00", "end": "2:00"}], "windows.0.nodes"),
        ([{"nodes": 1, "start": "25:00", "end": "2:00"}], "windows.0.start"),
        ([{"nodes": 1, "start": "1:00", "end": "noon"}], "windows.0.end"),
        ([{"nodes": 1, "start": "1:00", "end": "1:00"}], "windows.0.end"),
        ([{"nodes": 1, "start": "1:00", "end": "2:00", "days": ["sun", "day"]}], "windows.0.days"),
        ([{"nodes": 1, "start": "1:00", "end": "2:00", "date": "2027-02-30"}], "windows.0.date"),
        ([{"nodes": 1, "start": "1:00", "end": "2:00", "date": "2027-02-28", "days": ["sun"]}],
         "windows.0.date"),
        ([{"nodes": 1, "start": "20:00", "end": "23:00"}, {"nodes": 2, "start": "22:59", "end": "23:30"}],
         "windows.1"),
        ([{"nodes": 1, "start": "22:00", "end": "2:00", "days": ["sun"]},
          {"nodes": 2, "start": "1:00", "end": "3:00", "days": ["mon"]}], "windows.1"),
        ([{"nodes": 1, "start": "22:00", "end": "2:00", "date": "2027-05-01"},
          {"nodes": 2, "start": "1:59", "end": "3:00", "date": "2027-05-02"}], "windows.1"),
        ([{"nodes": 1, "start": "22:00", "end": "2:00", "days": ["sat"]},
          {"nodes": 2, "start": "1:59", "end": "3:00", "date": "2027-05-02"}], "windows.1"),
    ],
)  # fmt: skip
def test_a_window_that_makes_no_sense_or_overlaps_is_named(windows: list[object], place: str) -> None:
    schedule = Schedule.model_validate({"windows": windows})
    assert [found for found, _ in schedule_faults(schedule, 100)] == [place]


def test_windows_that_only_touch_do_not_overlap() -> None:
    touching = [
        {"nodes": 1, "start": "20:00", "end": "22:00"},
        {"nodes": 2, "start": "22:00", "end": "1:00", "days": ["sat"]},
        {"nodes": 3, "start": "1:00", "end": "2:00", "days": ["sun"]},
        {"nodes": 3, "start": "2:00", "end": "3:00", "date": "2027-05-01"},
        {"nodes": 3, "start": "2:00", "end": "3:00", "date": "2027-05-08"},
    ]
    assert list(schedule_faults(Schedule.model_validate({"windows": touching}), 100)) == []


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


EVENING = Schedule(
    zone="Europe/Berlin",
    windows=[Window(nodes=4, start="20:00", end="01:30", days=["fri", "sat"])],
)


@pytest.mark.parametrize(
    ("when", "nodes"),
    [
        ("2027-05-07T19:59", 0),  # a Friday
        ("2027-05-07T20:00", 4),
        ("2027-05-08T01:29", 4),
        ("2027-05-08T01:30", 0),
        ("2027-05-09T00:10", 4),  # Sunday, and Saturday's is still on
        ("2027-05-09T20:00", 0),
        ("2027-01-08T20:00", 4),  # in winter it is another hour of the world
    ],
)
def test_a_schedule_follows_the_clock_on_the_wall(when: str, nodes: int) -> None:
    assert wanted(EVENING, at(when))[0] == nodes


minutes = st.integers(0, 24 * 60 - 1).map(lambda it: f"{it // 60:02}:{it % 60:02}")
windows = st.lists(
    st.builds(
        Window,
        nodes=st.integers(1, 9),
        start=minutes,
        end=minutes,
        days=st.lists(st.sampled_from(DAYS), max_size=3),
    ),
    max_size=4,
)


@given(windows, st.integers(0, 2 * 7 * 24 * 60))
def test_without_a_fault_no_two_windows_are_on_at_once(made: list[Window], minute: int) -> None:
    schedule = Schedule(zone="UTC", windows=made)
    if list(schedule_faults(schedule, 100)):
        return
    now = 1_800_000_000.0 + minute * 60
    alone = [wanted(Schedule(zone="UTC", windows=[one]), now)[0] for one in made]
    assert sum(1 for nodes in alone if nodes) <= 1
    assert wanted(schedule, now)[0] == sum(alone)


FIGHT = Expected(title="Fight night", starts=10_000.0, ends=20_000.0, crowd=50_000)


def test_nodes_for_a_crowd_keep_it_below_the_alarm() -> None:
    assert [nodes_for(crowd, Policy()) for crowd in (0, 1, 240, 241, 50_000)] == [0, 1, 1, 2, 209]
    assert nodes_for(29, policy(capacity=50, alarm=0.58)) == 1


def test_an_events_nodes_are_asked_for_as_early_as_launches_take() -> None:
    made = policy(max=300, launches=50, prestage={"events": True})
    lead = lead_s(209, made, launch_s=40.0)
    assert lead == 5 * 40 + 60
    assert floor(made, 10_000 - lead - 1, [FIGHT], 40.0)[0] == 0
    assert floor(made, 10_000 - lead, [FIGHT], 40.0) == (
        209,
        "prestage for 'Fight night', 50,000 expected: 209 nodes by 02:45 UTC",
    )
    assert floor(made, 19_999, [FIGHT], 40.0)[0] == 209
    assert floor(made, 20_000, [FIGHT], 40.0)[0] == 0


def test_of_a_number_a_window_and_events_the_largest_counts() -> None:
    other = Expected(title="Replay", starts=15_000.0, ends=21_000.0, crowd=500)
    made = policy(
        max=300,
        prestage={
            "nodes": 2,
            "schedule": {"windows": [{"nodes": 3, "start": "03:00", "end": "04:00", "date": "1970-01-01"}]},
            "events": True,
        },
    )
    events = [FIGHT, other]
    assert floor(made, 0.0, [], 1.0) == (2, "2 are prestaged")
    window = (3, "3 are prestaged from 03:00 to 04:00 UTC")
    assert floor(made, 3 * 3600.0, [], 1.0) == window
    early = 120  # lead_s(3, ...) is 61 s, and a schedule goes by the minute
    assert lead_s(3, made, launch_s=1.0) == 61
    for since in range(-early, 3600, 30):
        assert floor(made, 3 * 3600.0 + since, [], 1.0) == window, f"from as early as launches take: {since}"
    assert floor(made, 3 * 3600.0 - early - 1, [], 1.0)[0] == 2
    assert floor(made, 4 * 3600.0, [], 1.0)[0] == 2
    slow = policy(max=40, launches=2, prestage=made.prestage.model_copy(update={"nodes": 0, "events": False}))
    on = [floor(slow, minute * 60.0, [], 1800.0)[0] for minute in range(5 * 60)]
    assert on == [0] * (180 - 61) + [3] * (61 + 60) + [0] * 60, "a lead longer than the window leaves no gap"
    both = "prestage for 'Fight night' and 'Replay', 50,500 expected: 211 nodes until 05:50 UTC"
    assert floor(made, 15_500.0, events, 1.0) == (211, both)
    assert floor(made, 20_500.0, events, 1.0)[0] == 3 == nodes_for(500, made)


def test_a_policy_comes_back_from_json_as_it_was() -> None:
    made = policy(alarm="0.58", in_fraction="0.29", spend_cap="12.34")
    assert Policy.model_validate_json(made.model_dump_json()) == made
    assert made.alarm == Decimal("0.58")
