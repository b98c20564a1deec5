"""Accounting: exact amounts, what is free, the turn of a month, and a sum that no restart changes."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.money.model import GB, HOUR_MS, TB, Budget, Prices
from controlplane.domain.money.rules import (
    Running,
    Takes,
    ahead,
    by_hours,
    day,
    egress_cost,
    life,
    month,
    months,
    node_cost,
    room,
    takes,
)
from controlplane.wire.money import hourly, money
from controlplane.wire.nodes import NodeState
from tests.controlplane.domain.test_rules import NODE

PRICES = Prices(node_hour=Decimal("0.031"), egress_gb=Decimal("0.0085"), egress_free=10 * TB)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("before", "sent", "costs"),
    [
        (0, 10 * TB, "0"),  # all of it is free
        (0, 10 * TB + GB, "0.0085"),
        (10 * TB - GB, 2 * GB, "0.0085"),  # the boundary lies within
        (10 * TB, GB, "0.0085"),
        (25 * TB, 4 * TB, "34"),
        (3 * TB, 0, "0"),
    ],
)
def test_of_a_months_egress_the_first_ten_terabytes_are_free(before: int, sent: int, costs: str) -> None:
    assert egress_cost(before, sent, PRICES) == Decimal(costs)


@given(st.lists(st.integers(0, 6 * TB), max_size=8))
def test_egress_costs_the_same_in_parts_as_in_one(parts: list[int]) -> None:
    costs, before = Decimal(0), 0
    for part in parts:
        costs += egress_cost(before, part, PRICES)
        before += part
    assert costs == egress_cost(0, before, PRICES)


def test_node_time_costs_exactly_its_share_of_an_hour() -> None:
    assert node_cost(10 * HOUR_MS, PRICES) == Decimal("0.31")
    assert node_cost(HOUR_MS // 4, PRICES) == Decimal("0.00775")


def test_a_month_and_a_day_are_utcs() -> None:
    assert month(at("2026-12-31T23:59:59")) == (at("2026-12-01T00:00"), at("2027-01-01T00:00"))
    assert month(at("2028-02-29T12:00")) == (at("2028-02-01T00:00"), at("2028-03-01T00:00"))
    assert day(at("2026-11-26T23:59:59.9")) == at("2026-11-26T00:00")


def test_what_is_to_come_begins_anew_with_what_is_free_at_the_turn_of_a_month() -> None:
    now, until = at("2026-11-30T23:00"), at("2026-12-01T01:00")
    a_second = 100 * GB // 3600 * 3600 // 3600  # some, and whole
    nodes, egress = ahead(now, until, nodes=2, egress_s=a_second, sent=10 * TB, prices=PRICES)
    assert nodes == Decimal("0.124")
    assert egress == egress_cost(10 * TB, a_second * 3600, PRICES), "in December the first are free"
    assert ahead(until, now, nodes=2, egress_s=a_second, sent=0, prices=PRICES) == (0, 0), "it is over"


def test_what_an_event_takes_of_the_hour_and_of_the_months_it_touches() -> None:
    def found(now: str, starts: str, ends: str, sent: int = 10 * TB) -> Takes:
        return takes(
            at(now),
            at(starts),
            at(ends),
            before=Running(nodes=2, egress_s=0),
            during=Running(nodes=10, egress_s=GB),
            spent=Decimal(7),
            sent=sent,
            prices=PRICES,
        )

    november, december = month(at("2026-11-30T00:00"))
    hour = Decimal("0.31") + Decimal("0.0085") * 3600
    before = Decimal("0.062")  # of two nodes, an hour
    one = found("2026-11-30T10:00", "2026-11-30T12:00", "2026-11-30T15:00")
    assert one == Takes(hour, 3 * hour, ((november, 7 + 2 * before + 3 * hour),))
    on = found("2026-11-30T10:00", "2026-11-30T09:00", "2026-11-30T11:00")
    assert on == Takes(hour, hour, ((november, 7 + hour),)), "what it took so far is spent"
    short = found("2026-11-30T10:00", "2026-11-30T10:00", "2026-11-30T10:30")
    assert short == Takes(hour, hour / 2, ((november, 7 + hour),)), "an hour has to be paid for"
    both = found("2026-11-30T22:00", "2026-11-30T23:00", "2026-12-01T02:00")
    free = Decimal("0.31")  # of December's egress the first ten terabytes cost nothing: 7.2 are sent
    assert both == Takes(hour, hour + 2 * free, ((november, 7 + before + hour), (december, 2 * free)))
    later = found("2026-11-30T22:00", "2026-12-02T00:00", "2026-12-02T04:00")
    beyond = Decimal("0.0085") * (4 * 3600 - 10_000)  # of 14.4 TB
    assert later.hour == hour, "the last hour: nothing of it is free any more"
    assert later.whole == 4 * free + beyond
    assert later.months == ((december, 24 * before + 4 * free + beyond),), "of November nothing"
    assert found("2026-11-30T10:00", "2026-11-30T12:00", "2026-11-30T13:00", sent=0).whole == free


@pytest.mark.parametrize(
    ("budget", "spent", "egress", "nodes", "left"),
    [
        (Budget(), "0", "0", 50, None),
        (Budget(per_hour=Decimal("0.31")), "0", "0", 8, 2),
        (Budget(per_hour=Decimal("0.31")), "0", "0.001", 8, 1),
        (Budget(per_hour=Decimal("0.31")), "0", "0", 10, 0),
        (Budget(per_hour=Decimal("0.31")), "0", "0", 12, -2),
        (Budget(per_month=Decimal(50)), "49.69", "0", 9, 1),
        (Budget(per_month=Decimal(50)), "49.70", "0", 9, 0),
        (Budget(per_month=Decimal(50)), "60", "0", 1, -324),
        (Budget(per_month=Decimal(50), per_hour=Decimal("0.31")), "0", "0", 9, 1),
    ],
)
def test_the_next_hour_has_to_be_paid_for(
    budget: Budget, spent: str, egress: str, nodes: int, left: int | None
) -> None:
    found, why = room(budget, PRICES, nodes=nodes, egress_hour=Decimal(egress), spent=Decimal(spent))
    assert found == left
    assert bool(why) == budget.is_set


def test_the_budget_that_is_nearer_is_named() -> None:
    budget = Budget(per_hour=Decimal("0.31"), per_month=Decimal(50))
    _, why = room(budget, PRICES, nodes=10, egress_hour=Decimal(0), spent=Decimal(10))
    assert why == "10 nodes and the egress are $0.31 an hour, and one more would be over the budget of $0.31"
    _, why = room(budget, PRICES, nodes=1, egress_hour=Decimal(0), spent=Decimal("49.98"))
    assert why == (
        "$49.98 of the $50.00 of this month are spent, 1 node and the egress are $0.031 an hour, and an hour "
        "with one more would be over it"
    )


def test_nodes_that_cost_nothing_are_held_back_by_egress_alone() -> None:
    free = replace(PRICES, node_hour=Decimal(0))
    budget = Budget(per_hour=Decimal(1))
    assert room(budget, free, nodes=5, egress_hour=Decimal(1), spent=Decimal(0))[0] is None
    assert room(budget, free, nodes=5, egress_hour=Decimal("1.01"), spent=Decimal(0))[0] == 0


def test_a_life_is_from_launch_to_terminated() -> None:
    node = replace(NODE, created_at=10.0, state_since=20.0)
    assert life(node, 50_000) == (10_000, 50_000)
    assert life(replace(node, state=NodeState.FAULTY), 50_000) == (10_000, 50_000), (
        "it costs until it is gone"
    )
    assert life(replace(node, state=NodeState.TERMINATED), 50_000) == (10_000, 20_000)
    by_hand = replace(node, managed=False, enrolled_at=None)
    assert life(by_hand, 50_000) is None
    assert life(replace(by_hand, enrolled_at=15.0), 50_000) == (15_000, 50_000)


@given(st.integers(0, 10 * HOUR_MS), st.lists(st.integers(0, 9 * HOUR_MS), max_size=10))
def test_a_time_that_is_cut_anywhere_has_the_same_hours(start: int, steps: list[int]) -> None:
    """However often it is counted, and up to whatever moments."""
    cuts = [start]
    for step in steps:
        cuts.append(cuts[-1] + step)
    whole = by_hours(start, cuts[-1])
    parts = by_hours(start, start)
    for begin, end in pairwise(cuts):
        parts += by_hours(begin, end)
    assert whole == parts
    assert sum(whole.values()) == cuts[-1] - start
    for hour, ms in whole.items():
        overlap = min(cuts[-1], hour * 1000 + HOUR_MS) - max(start, hour * 1000)
        assert ms == overlap
        assert hour % 3600 == 0


def test_the_months_of_a_time() -> None:
    cut = months(at("2026-12-31T22:00"), at("2027-01-01T02:00"))
    assert cut == [
        (at("2026-12-31T22:00"), at("2027-01-01T00:00")),
        (at("2027-01-01T00:00"), at("2027-01-01T02:00")),
    ]


@pytest.mark.parametrize(
    ("amount", "sign", "written"),
    [
        ("4.1", "$", "$4.10"),
        ("1204.5", "$", "$1,204.50"),
        ("0.31", "$", "$0.31"),
        ("0.031", "$", "$0.031"),
        ("0.00004", "$", "$0.00"),
        ("-0.00004", "$", "$0.00"),
        ("0.99999", "$", "$1.00"),
        ("-0.062", "€", "-€0.062"),
        ("2.005", "CHF", "CHF 2.01"),
        ("0", "$", "$0.00"),
        ("10", "$", "$10.00"),
    ],
)
def test_there_is_one_way_to_write_an_amount(amount: str, sign: str, written: str) -> None:
    assert money(Decimal(amount), sign) == written


def test_a_step_has_its_sign() -> None:
    assert hourly(Decimal("0.31"), "$") == "+$0.31 an hour"
    assert hourly(Decimal("-0.031"), "$") == "-$0.031 an hour"
