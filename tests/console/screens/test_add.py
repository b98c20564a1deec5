"""Adding a node: what it costs is said before, and a budget is exceeded by saying so alone."""

from typing import Any

import pytest

from console.core.client import Client
from console.core.errors import Rejected
from controlplane.wire.api import DrainView
from controlplane.wire.base import Problem
from controlplane.wire.nodes import NodeState, Role
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import money, quiet, snapshot

OVER = "Nothing more is launched: 5 nodes and the egress are $4.10 an hour. Raise [budget] in the settings."


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Role, bool]]:
    """What the manager was asked for, and gave."""
    asked: list[tuple[Role, bool]] = []

    async def add(role: Role, region: str | None = None, *, over_budget: bool = False) -> DrainView:
        asked.append((role, over_budget))
        return DrainView(node=f"{role}-9", state=NodeState.REQUESTED, viewers=0, deadline_s=None)

    monkeypatch.setattr(Client, "fleet_add", staticmethod(add))
    return asked


async def test_it_says_what_there_will_be_and_what_that_costs_and_starts_on_cancel(
    stand: OpenStand, added: list[Any]
) -> None:
    async with stand(quiet(), size=(80, 24), page="2") as it:
        await it.press("plus")
        text = await it.until_shown("Add an edge", "one more edge: 1 -> 2 edges, room for 400 -> 800.")
        assert "It costs +$0.21 an hour: $4.10 -> $4.31 an hour in all." in text
        assert "Spent: $20.50 of $50.00 this month, 41 %" in text
        await it.press("enter")
        assert added == []
        await it.press("plus", "right", "enter")
        await it.until_shown("edge-9 asked for: it takes viewers when it is in service")
        await it.burst(":add origin", "enter")
        await it.until_shown("Add an origin", "It takes broadcasts")
        await it.press("right", "enter")
        await it.until_shown("origin-9 asked for: it takes broadcasts")
    assert added == [(Role.EDGE, False), (Role.ORIGIN, False)]


async def test_a_budget_that_is_used_up_is_exceeded_by_saying_so(stand: OpenStand, added: list[Any]) -> None:
    async with stand(snapshot(money=money(warning=OVER)), size=(80, 24), page="2") as it:
        await it.press("plus")
        text = await it.until_shown(
            "▲ Nothing more is launched: 5 nodes", "[▸Cancel ]", "[ Add over the budget ]"
        )
        assert "[ Add ]" not in text
        assert "the budget is then" in text
        await it.press("right", "enter")
        await it.until_shown("edge-9 asked for")
    assert added == [(Role.EDGE, True)]


async def test_a_budget_that_was_used_up_meanwhile_is_said_by_the_manager(
    stand: OpenStand, added: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Client.fleet_add

    async def refuse(role: Role, region: str | None = None, *, over_budget: bool = False) -> DrainView:
        if not over_budget:
            detail = "No edge was added: it would be $5.10 an hour, over the budget of $5.00."
            raise Rejected(
                Problem(code="over_budget", title="It would be over the budget", detail=detail, status=409)
            )
        return await give(role, region, over_budget=over_budget)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "fleet_add", staticmethod(refuse))
    async with stand(quiet(), size=(80, 24), page="2") as it:
        await it.press("plus", "right", "enter")
        await it.until_shown("It would be over the budget. No edge was added", "[ Add over the budget ]")
        assert added == []
        await it.press("right", "enter")
        await it.until_shown("edge-9 asked for")
    assert added == [(Role.EDGE, True)]


async def test_without_prices_only_the_effect_is_said(stand: OpenStand, added: list[Any]) -> None:
    async with stand(snapshot(money=None), size=(80, 24), page="2") as it:
        await it.press("plus")
        text = await it.until_shown("one more edge: 3 -> 4 edges")
        assert "$" not in text


async def test_a_policy_that_allows_no_more_is_said_beforehand(stand: OpenStand) -> None:
    first = quiet()
    groups = [it.model_copy(update={"id": f"{it.role}@local", "most": it.desired}) for it in first.groups]
    async with stand(first.model_copy(update={"groups": groups}), size=(120, 40), page="2") as it:
        await it.press("plus")
        text = await it.until_shown("▲ The policy of edge@local has 1 at most: one more is refused.")
        assert "showcaller fleet add edge --over-policy" in text
