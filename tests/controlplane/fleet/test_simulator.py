"""A crowd and a policy: the same plan, faster. Nobody is lost or counted twice on the way."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.fleet.simulator import Simulation, curve
from controlplane.wire.fleet import Expected, Policy

SHOW = curve([(0, 0), (600, 2000), (3600, 2000), (4200, 0), (9000, 0)])
QUICK = Policy(max=20, down_cooldown_s=60, launches=20)


def on(simulation: Simulation) -> int:
    nodes = [*simulation._serving.values(), *simulation._leaving.values()]
    return sum(node.people for node in nodes) + simulation._waiting


def test_a_curve_is_straight_between_its_points() -> None:
    assert curve([(0, 0), (4, 8), (6, 8)]) == [0, 2, 4, 6, 8, 8]


def test_a_show_brings_the_nodes_it_needs_and_sends_them_home() -> None:
    simulation = Simulation(QUICK, boot_s=30, price=Decimal("0.10"))
    outcome = simulation.run(SHOW)
    peak = max(minute.in_service for minute in outcome.minutes)
    assert peak == 9  # 2,000 of 9 x 240
    assert outcome.minutes[-1].in_service == 1
    assert outcome.launches == outcome.drains == 8
    assert outcome.refused == 0
    assert outcome.cost == Decimal("0.10") * outcome.node_seconds / 3600
    assert outcome.node_hours == pytest.approx(sum(m.in_service + m.launching + m.draining
                                                   for m in outcome.minutes) / 60, rel=0.02)  # fmt: skip


def test_nodes_that_come_too_late_make_people_wait_and_prestaged_ones_do_not() -> None:
    rush = curve([(0, 0), (300, 0), (310, 3000), (900, 3000)])
    late = Simulation(QUICK, boot_s=60).run(rush)
    assert late.refused > 2000
    assert late.waited_s > 2000 * 40
    doors = Expected(title="Doors", starts=300.0, ends=900.0, crowd=3000)
    policy = QUICK.model_copy(update={"prestage": QUICK.prestage.model_copy(update={"events": True})})
    assert Simulation(policy, boot_s=60, expected=[doors]).run(rush).refused == 0


def test_headroom_is_what_is_free_on_the_nodes_that_serve() -> None:
    outcome = Simulation(Policy(max=2), boot_s=70).run([300] * 180)
    assert [(minute.in_service, minute.headroom) for minute in outcome.minutes] == [
        (1, 100),
        (2, 500),
        (2, 500),
    ]
    outcome = Simulation(Policy(max=2), boot_s=10).run([1000] * 120)
    assert outcome.minutes[-1].headroom == 0, "who waits has no place to take"


def test_what_held_it_back_is_told_each_minute() -> None:
    outcome = Simulation(Policy(max=2), boot_s=10).run([1000] * 300)
    assert [(at, decision.outcome, decision.held_by) for at, decision in outcome.decisions] == [
        (1, "add", "max"),
        *[(at, "held", "max") for at in (3, 63, 123, 183, 243)],
    ]
    assert outcome.minutes[-1].waiting == 200


def test_a_smaller_party_takes_the_last_seats() -> None:
    assert Simulation(Policy(capacity=10, max=1), boot_s=1, party=8).run([10] * 5).waited_s == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3000)), min_size=1, max_size=8),
    st.integers(1, 8),
    st.integers(0, 90),
    st.integers(8, 500),
    st.integers(1, 12),
)
def test_everybody_is_somewhere_and_no_node_is_overfilled(
    steps: list[tuple[int, int]], party: int, boot_s: int, capacity: int, most: int
) -> None:
    policy = Policy(
        capacity=capacity, max=most, up_periods=1, down_periods=2, down_cooldown_s=5.0, drain_deadline_s=20.0
    )
    simulation = Simulation(policy, boot_s=boot_s, party=party)
    for lasting, people in steps:
        for _ in range(lasting):
            simulation.second(people)
            assert on(simulation) == people
            assert all(0 <= node.people <= capacity for node in simulation._serving.values())
            assert len(simulation._serving) + len(simulation._coming) <= most
