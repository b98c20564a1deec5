"""Go or no-go, line by line: what is ready, what will not be in time, what is not set up."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from controlplane.domain.events.preflight import (
    Crew,
    budget_check,
    database_check,
    event_check,
    is_go,
    nodes_check,
    publisher_check,
    stage_budget_check,
    unset,
)
from controlplane.domain.money.model import Budget
from controlplane.domain.money.rules import Takes
from controlplane.wire.events import CheckView, Verdict
from tests.controlplane.domain.events.test_rules import EVENT, NOW

STARTS = EVENT.starts_at
CREW = Crew(
    group="edge@local",
    role="edge",
    needed=34,
    serving=34,
    coming=0,
    coming_by=NOW,
    lacking_by=NOW,
    asked_at=NOW,
    has_policy=True,
    launches=True,
    most=40,
    launch_words="40 s",
    price=Decimal("0.031"),
    cap=Decimal(2),
)


def read(line: CheckView) -> tuple[str, str, str]:
    return line.verdict.value, line.says, line.next


@pytest.mark.parametrize(
    ("changes", "verdict", "says", "step"),
    [
        ({}, "green", "34 edges in service, 34 needed", ""),
        ({"needed": 0, "serving": 0}, "green", "0 edges in service, 0 needed", ""),
        ({"serving": 10, "coming": 24, "coming_by": STARTS}, "green", "and 24 launching, 34 needed", ""),
        ({"serving": 10, "coming": 24, "coming_by": STARTS + 1}, "red", "after the start", "begin later"),
        ({"serving": 1, "asked_at": NOW + 60}, "amber", "33 are lacking; they are asked for at", "nothing"),
        ({"serving": 1, "lacking_by": STARTS}, "amber", "they can be there by", "ask again"),
        ({"serving": 1, "lacking_by": STARTS + 1}, "red", "after the start", "edit ev-7 --start"),
        ({"serving": 1, "most": 33}, "red", "there may be 33 at most", "set edge@local --max 34"),
        ({"serving": 1, "asked_at": None}, "red", "does not prestage", "edge@local --prestage-events"),
        (
            {"serving": 1, "asked_at": None, "has_policy": False, "most": None},
            "red",
            "the group has no policy",
            "--prestage-events",
        ),
        ({"serving": 1, "launches": False}, "red", "none are launched here", "showcaller node token"),
        ({"serving": 1, "held": "so it is"}, "red", "33 are lacking, and held back: so it is", "fleet why"),
        ({"serving": 33, "held": "so it is", "most": 33}, "red", "1 is lacking, and there", "--max 34"),
        ({"serving": 1, "stopped": True}, "red", "too many failed lately", "fleet why edge@local"),
    ],
)
def test_the_nodes_of_a_group(changes: dict[str, Any], verdict: str, says: str, step: str) -> None:
    found = read(nodes_check(replace(CREW, **changes), EVENT, NOW))
    assert found[0] == verdict
    assert says in found[1]
    assert step in found[2]
    assert bool(found[2]) == (verdict != "green"), "what is not green says what to do"


def test_what_the_crowd_costs_against_the_cap() -> None:
    def check(cap: str | None, budget: Budget = NO_BUDGET) -> tuple[str, str, str]:
        return read(budget_check(replace(CREW, cap=None if cap is None else Decimal(cap)), EVENT, budget))

    cost = "34 edges at $0.031 cost $1.05 an hour, $2.11 in all"  # two hours
    assert check("2") == ("green", f"{cost}, within the cap of $2.00 an hour", "")
    tight = check("1.05")  # of 1.054
    assert tight[0] == "red"
    assert tight[2] == "showcaller fleet policy set edge@local --spend-cap 1.06", "enough, and no dollar more"
    assert check("1.054")[0] == "green"
    step = "showcaller fleet policy set edge@local --spend-cap DOLLARS"
    assert check(None) == ("amber", f"{cost}; no spend cap is set", step)
    held = check(None, Budget(per_hour=Decimal(1)))
    assert held == ("green", f"{cost}; no spend cap is set beside the stage's budget", "")
    in_marks = budget_check(replace(CREW, sign="DM"), EVENT, NO_BUDGET)
    assert "DM 1.05 an hour" in in_marks.says


NO_BUDGET = Budget()
NOVEMBER, DECEMBER = 1_793_491_200, 1_796_083_200  # their starts, in 2026
TAKES = Takes(
    Decimal("20.404"), Decimal("40.80"), ((NOVEMBER, Decimal("290.009")), (DECEMBER, Decimal("20.404")))
)
COST = "nodes and egress cost up to $20.40 an hour, $40.80 in all"


@pytest.mark.parametrize(
    ("per_hour", "per_month", "verdict", "says", "step"),
    [
        (None, None, "amber", "; the stage has no budget", "[budget] per_hour and per_month in"),
        ("20.404", None, "green", ", within the budget of $20.40 an hour", ""),
        ("20.403", None, "red", ": over the budget of $20.40 an hour", "raise [budget] per_hour to 20.41 in"),
        (
            "30",
            "290.009",
            "green",
            ", within the budget of $30.00 an hour and the $290.01 of November, which comes to $290.01 "
            "and the $290.01 of December, which comes to $20.40",
            "",
        ),
        (
            "30",
            "290",
            "red",
            ": over the $290.00 of November, which comes to $290.01",
            "raise [budget] per_month to 290.01 in",
        ),
        (
            "10",
            "20",
            "red",
            ": over the budget of $10.00 an hour and the $20.00 of November, which comes to $290.01 "
            "and the $20.00 of December, which comes to $20.40",
            "raise [budget] per_hour to 20.41 and per_month to 290.01 in the manager's settings, or make it "
            "smaller: showcaller event edit ev-7 --expected PEOPLE",
        ),
    ],
)
def test_what_the_event_costs_against_the_stages_budget(
    per_hour: str | None, per_month: str | None, verdict: str, says: str, step: str
) -> None:
    budget = Budget(
        per_hour=None if per_hour is None else Decimal(per_hour),
        per_month=None if per_month is None else Decimal(per_month),
    )
    found = read(stage_budget_check(TAKES, budget, EVENT, sign="$"))
    assert found[:2] == (verdict, f"{COST}{says}")
    assert step in found[2]
    assert bool(found[2]) == (verdict != "green"), "what is not green says what to do"


def test_what_fits_the_event_and_is_spent_on_others_now_is_told() -> None:
    budget = Budget(per_hour=Decimal(30))
    found = read(stage_budget_check(TAKES, budget, EVENT, sign="$", held="9 nodes are $29.00 an hour"))
    assert found[:2] == ("red", f"{COST}, but nothing is launched now: 9 nodes are $29.00 an hour")
    assert "drain" in found[2]


@pytest.mark.parametrize(
    ("state", "samples", "verdict", "says"),
    [
        ("live", [4.4e6, 4.5e6, 4.6e6], "green", "4.50 Mbps, from 4.40 to 4.60 in the last 3 s"),
        ("live", [2.25e6, 4.5e6, 4.5e6, 9e6], "green", "4.50 Mbps"),
        ("live", [2.24e6, 4.5e6, 4.5e6], "red", "it is not steady: 4.50 Mbps, from 2.24"),
        ("live", [4.5e6, 4.5e6, 9.1e6], "red", "not steady"),
        ("live", [0.0, 0.0, 0.0], "red", "not steady"),
        ("live", [4.5e6, None, 4.5e6, None], "red", "not known yet"),
        ("live", [], "red", "not known yet"),
        ("stalled", [4.5e6] * 5, "red", "main is stalled"),
        ("connecting", [], "red", "main is connecting"),
    ],
)
def test_what_a_publisher_sends(state: str, samples: list[float | None], verdict: str, says: str) -> None:
    found = read(publisher_check(EVENT, NOW, state, samples))
    assert found[0] == verdict
    assert says in found[1]


def test_nothing_on_air_is_in_order_until_a_while_before_the_start() -> None:
    early = read(publisher_check(EVENT, STARTS - 300.1, None, []))
    assert early == (
        "amber",
        "nothing is on air on main yet; it has to be 5 min before the start",
        "showcaller publish SOURCE --channel main",
    )
    for at in (STARTS - 300, STARTS, STARTS + 60):
        assert read(publisher_check(EVENT, at, None, []))[:2] == ("red", "nothing is on air on main")


def test_what_the_database_says() -> None:
    verdicts = [database_check(took).verdict for took in (0.012, 0.25, 0.3, 1.0, 1.1)]
    assert verdicts == [Verdict.GREEN, Verdict.GREEN, Verdict.AMBER, Verdict.AMBER, Verdict.RED]
    assert database_check(0.012).says == "a write took 12 ms"
    assert read(database_check(None, "database is locked"))[:2] == (
        "red",
        "it cannot be written: database is locked",
    )


def test_an_event_that_will_not_be_is_a_no_go() -> None:
    moments = (NOW, EVENT.starts_at, EVENT.ends_at)
    assert [event_check(EVENT, at).verdict.value for at in moments] == ["green", "green", "red"]
    assert event_check(replace(EVENT, cancelled_at=NOW), NOW).verdict is Verdict.RED


def test_red_alone_holds_it_up() -> None:
    green, amber = event_check(EVENT, NOW), unset("turn", "none is named", "name one")
    red = database_check(None, "full")
    assert is_go([green, amber])
    assert not is_go([green, red, amber])
