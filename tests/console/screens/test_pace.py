"""How soon the console shows what came, and how often it draws."""

import pytest

import console.app as app_module
from controlplane.services import enrolment, feed
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import node, snapshot


def test_a_report_and_its_way_to_the_screen_take_less_than_a_second() -> None:
    assert enrolment.REPORT_INTERVAL_S + feed.BEAT_S + app_module.DRAW_S < 0.9


async def test_what_comes_right_after_a_draw_is_drawn_without_waiting_for_the_clock(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "TICK_S", 3600.0)  # nothing is drawn by the clock here
    async with stand(snapshot(), page="2") as it:
        for connections in (201, 202, 203):
            it.feed.delta(nodes=[node("edge-1", connections=connections).model_dump()])
        await it.until_shown("203/400")


async def test_a_storm_of_messages_is_drawn_at_its_own_pace(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[int] = []
    async with stand(snapshot(), page="2") as it:
        show = it.page.show
        monkeypatch.setattr(it.page, "show", lambda view: (draws.append(view.state.n), show(view))[-1])
        first = it.feed.n
        for connections in range(300):
            it.feed.delta(nodes=[node("edge-1", connections=connections).model_dump()])
        await it.until_shown("299/400")
    assert len(draws) < 100, f"{len(draws)} draws of 300 messages"
    assert draws[-1] == first + 300
