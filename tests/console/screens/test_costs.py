"""What the stage costs, on the Overview and the Fleet, and a budget that is used up."""

from decimal import Decimal

import pytest

from console.screens.shared import costs
from console.screens.shared.words import plain
from controlplane.wire.money import MoneyNow
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import money, snapshot

OVER = "Nothing more is launched: 5 nodes and the egress are $4.10 an hour. Raise [budget] in the settings."


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (money(), "$4.10/h  $20.50 of $50.00 this month, 41 %"),
        (money(per_month=None, known=False), "$4.10/h+  $20.50 this month"),
        (money(currency="CHF", hour=0.062), "CHF 0.062/h  CHF 20.50 of CHF 50.00 this month, 41 %"),
        (None, ""),
    ],
)
def test_it_is_told_in_a_line(said: MoneyNow | None, words: str) -> None:
    assert plain(costs.line(said)) == words


def test_a_month_that_is_nearly_spent_and_a_budget_that_is_used_up_stand_out() -> None:
    assert costs.line(money())[1][1] == "$muted"
    assert costs.line(money(month=45))[1][1] == "bold $warn"
    assert costs.line(money(warning=OVER))[0][1] == "bold $warn"


def test_what_a_node_less_saves() -> None:
    assert costs.saves(money()) == "$0.21"
    assert costs.saves(money(node_hour=Decimal(0))) == ""
    assert costs.saves(None) == ""


async def test_a_budget_that_is_used_up_needs_you_until_it_is_not(stand: OpenStand) -> None:
    async with stand(snapshot(money=money(warning=OVER)), size=(120, 40)) as it:
        await it.until_shown("Nothing more is launched: 5 nodes", "Raise [budget]")
        await it.press("2")
        await it.until_shown("▲ nothing more is launched   $4.10/h  $20.50 of $50.00 this month, 41 %")
        it.feed.delta(money=money(hour=2, month=21))
        await it.until_shown("$2.00/h  $21.00 of $50.00 this month, 42 %")
        it.feed.delta()  # without a word of it: it stays
        await it.press("1")
        await it.until_shown("$2.00/h")
        assert "Nothing more is launched" not in it.text()


async def test_a_drain_says_what_it_saves(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(80, 24)) as it:
        for key in ("2", "down", "d"):
            await it.press(key)
        await it.until_shown("Saves $0.21 an hour once it has ended.")


async def test_a_manager_that_counts_nothing_is_shown_without(stand: OpenStand) -> None:
    async with stand(snapshot(money=None), size=(80, 24)) as it:
        await it.until_shown("latency p50")
        assert "$" not in it.text()
        await it.press("2")
        await it.until_shown("edge-1")
        assert "$" not in it.text()
