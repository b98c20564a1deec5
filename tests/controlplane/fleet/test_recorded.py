"""What is recorded comes back as it was; what is not known stays unknown."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.fleet.planner import plan
from controlplane.fleet.recorded import Sample, Tally, replay, settled
from controlplane.fleet.simulator import Simulation
from controlplane.fleet.snapshot import Candidate, Past, Snapshot
from controlplane.wire.fleet import Policy
from controlplane.wire.history import HistoryLine, Recorded
from tests.controlplane.histories import GROUP, minute

NOON = 1_764_158_400


def sample(load: int, **more: Any) -> Sample:
    said: dict[str, Any] = dict.fromkeys(
        ("waiting", "refused", "launching", "suspect", "draining", "leaving"), 0
    )
    load_of = {"connections": load, "publishers": load, "mbps": 2 * load}
    said |= {"in_service": 1, "unit": "connections", "capacity": 400} | load_of
    return Sample(**said | more)


def recorded(loads: dict[int, int], **more: Any) -> list[HistoryLine]:
    """By the second, in the order in which the samples came."""
    tally = Tally(GROUP)
    lines = [tally.add(second, sample(load, **more)) for second, load in loads.items()]
    return [line for line in [*lines, tally.close()] if line is not None]


def replayed(lines: list[HistoryLine], start: int, end: int, unit: str = "connections") -> list[int | None]:
    found = replay(Recorded(lines), GROUP, unit, start, end)
    assert found is not None
    return found.people


@given(st.integers(0, 100_000), st.lists(st.integers(0, 60_000), min_size=1, max_size=200))
def test_what_was_sampled_is_replayed_second_by_second(start: int, loads: list[int]) -> None:
    lines = recorded(dict(enumerate(loads, start)))
    assert replayed(lines, start, start + len(loads)) == loads
    assert all(line.at // 60 == (line.at + line.seconds - 1) // 60 for line in lines), "a minute of the clock"
    in_mbps = recorded(dict(enumerate(loads, start)), unit="mbps")
    assert replayed(in_mbps, start, start + len(loads), "mbps") == [2 * load for load in loads]


def test_what_no_policy_counts_in_is_known_by_the_greatest_of_each_minute() -> None:
    lines = recorded({NOON + second: second for second in range(120)})
    assert replayed(lines, NOON, NOON + 120, "mbps") == [2 * 59] * 60 + [2 * 119] * 60


def test_a_second_that_was_missed_is_as_before_and_of_two_samples_the_greater_counts() -> None:
    tally = Tally(GROUP)
    for second, load in ((0, 5), (2, 7), (2, 9), (2, 8), (3, 1)):
        assert tally.add(NOON + second, sample(load)) is None
    line = tally.close()
    assert line is not None
    assert line.load("connections") == [5, 5, 9, 1]
    assert tally.close() is None


def test_a_line_has_the_nodes_of_its_beginning_and_all_that_was_refused() -> None:
    tally = Tally(GROUP)
    tally.add(NOON, sample(1, in_service=3, refused=2, waiting=4))
    tally.add(NOON + 1, sample(1, in_service=9, refused=5, waiting=1))
    line = tally.close()
    assert line is not None
    assert (line.in_service, line.refused, line.waiting, line.paid_s) == (3, 7, 4, 3 + 9)
    assert [it.node_s for it in recorded({NOON: 1, NOON + 3: 2})] == [None]


def test_a_hole_of_seconds_is_filled_and_a_longer_one_is_a_gap_and_no_load_of_zero() -> None:
    known = {NOON + second: 300 for second in range(10)} | {NOON + second: 200 for second in range(15, 20)}
    known |= {NOON + second: 100 for second in range(7220, 7300)}
    found = replay(Recorded(recorded(known)), GROUP, "connections", NOON - 3600, NOON + 10_000)
    assert found is not None
    assert found.people[:21] == [300] * 15 + [200] * 5 + [None]
    assert found.people[7219:7222] == [None, 100, 100]
    assert len(found.people) == 7300
    coverage = found.coverage
    assert [(gap.start - NOON, gap.end - NOON) for gap in coverage.gaps] == [(20, 7220)]
    assert (coverage.first, coverage.last) == (NOON, NOON + 7299)
    assert (coverage.known_s, coverage.most, coverage.gaps_in_all) == (100, 300, 1)


def test_a_clock_that_is_set_back_records_a_time_twice_and_the_later_record_counts() -> None:
    first = [(NOON + second, 10) for second in range(90)]
    second = [(NOON + second, 20) for second in range(30, 100)]
    tally = Tally(GROUP)
    lines = [tally.add(at, sample(load)) for at, load in [*first, *second]]
    kept = [line for line in [*lines, tally.close()] if line is not None]
    found = replay(Recorded(kept), GROUP, "connections", NOON, NOON + 200)
    assert found is not None
    assert found.people == [10] * 30 + [20] * 70
    assert found.coverage.twice_s == 60
    assert found.coverage.gaps == []


def test_only_the_group_and_the_time_that_were_asked_for_count() -> None:
    lines = [minute(NOON, [1]), minute(NOON, [99], group="origin@local"), minute(NOON + 60, [2])]
    assert replayed(lines, NOON + 30, NOON + 90) == [1] * 30 + [2] * 30
    for start, end, group in ((NOON + 120, NOON + 180, GROUP), (NOON, NOON + 60, "edge@mars")):
        assert replay(Recorded(lines), group, "connections", start, end) is None


@given(st.integers(0, 20_000), st.integers(0, 90), st.integers(1, 800), st.integers(0, 5))
def test_a_fleet_that_has_settled_wants_neither_more_nor_less(
    load: int, nodes: int, capacity: int, least: int
) -> None:
    policy = Policy(capacity=capacity, min=least, max=90_000, up_periods=1, down_periods=1, launches=1024)
    there = settled(policy, load, nodes)
    decision = plan(
        Snapshot(
            in_service=there,
            load=Decimal(load),
            candidates=tuple(Candidate(node=f"edge-{number}") for number in range(min(there, 3))),
            past=Past(agreed_up=9, agreed_down=9),
        ),
        policy,
        0.0,
    )
    assert decision.wanted == 0, decision.because


def test_in_a_gap_nothing_is_planned_or_counted_and_after_it_everybody_has_a_place() -> None:
    policy = Policy(max=20, up_periods=1, down_periods=5, down_cooldown_s=0)
    people: list[int | None] = [*[2000] * 120, *[None] * 3600, *[4000] * 120]
    outcome = Simulation(policy, boot_s=30, at_first=9).run(people)
    assert outcome.refused == outcome.waited_s == 0
    assert [at for at, _ in outcome.decisions] == [3720], "at the end of it, and not before"
    assert outcome.decisions[0][1].because.startswith("+7: 4,000 of 4,000 is 100 %")
    assert outcome.node_seconds == 9 * 120 + 17 * 120
    assert [minute.known for minute in outcome.minutes] == [True] * 2 + [False] * 60 + [True] * 2
    assert {minute.people for minute in outcome.minutes if not minute.known} == {2000}


def test_who_is_there_at_first_is_not_refused_but_who_comes_above_the_maximum_is() -> None:
    outcome = Simulation(Policy(max=20), boot_s=30, at_first=1).run([3000] * 60)
    assert outcome.refused == 0
    assert outcome.minutes[0].in_service + outcome.minutes[0].launching == 13
    full = Simulation(Policy(max=2), boot_s=30, at_first=1).run([1000] * 30 + [1100] * 30)
    assert full.refused == 100
    assert full.waited_s == 200 * 30 + 300 * 30


@pytest.mark.parametrize("role", ["edge", "origin"])
def test_the_nodes_of_a_replay_are_called_as_the_group_is(role: str) -> None:
    policy = Policy(down_periods=1, down_cooldown_s=0)
    outcome = Simulation(policy, boot_s=1, at_first=3, called=role).run([10] * 5)
    assert f"{role}-" in outcome.decisions[0][1].because
