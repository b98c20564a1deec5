"""Bringing the stage up: the steps, and what is told when it fails."""

import asyncio
from pathlib import Path

import pytest

from console import app
from console.core.errors import StageError
from console.core.paths import Home
from console.core.stage import HeldByBudget, Report, StageOptions
from console.core.target import ConsoleOptions, Target
from console.screens.start.screen import StartScreen
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import quiet


async def test_each_step_is_told_in_words(stand: OpenStand) -> None:
    async with stand(ready=False) as it:
        await it.until_shown("Showcaller: bringing the stage up", "… looking for the stage on this machine")


async def test_a_failure_shows_the_log_and_the_next_step_and_can_be_tried_again(stand: OpenStand) -> None:
    tries = 0

    async def opener(options: ConsoleOptions, report: Report) -> Target:
        nonlocal tries
        tries += 1
        report(f"try {tries}")
        if tries == 1:
            raise StageError(
                "port 8080 is in use by another program", "Give another with --port", details=["OSError: 98"]
            )
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async with stand(opener=opener) as it:
        await it.until_shown(
            "✗ port 8080 is in use by another program.", "OSError: 98", "Give another with --port."
        )
        await it.press("R")
        await it.until_shown("try 2")
        assert "8080" not in it.text()


async def test_where_the_budget_holds_the_nodes_back_the_console_opens_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What can be done about it is done there: an edge over the budget, a look at what it costs."""
    told: list[str] = []
    target = Target("http://127.0.0.1:1", "x" * 43, None, remote=False)

    async def up(options: StageOptions, *, report: Report) -> None:
        raise HeldByBudget("there is no edge, and nothing more is launched", "Raise [budget]")

    monkeypatch.setattr(app, "up", up)
    monkeypatch.setattr(app, "find_target", lambda options: target)
    options = ConsoleOptions(stage=StageOptions(home=Home(tmp_path)))
    assert await app.open_stage(options, told.append) is target
    assert "there is no edge, and nothing more is launched. Raise [budget]. Opening its live feed" in told


async def test_a_mistake_of_ours_is_told_too(stand: OpenStand) -> None:
    async def opener(options: ConsoleOptions, report: Report) -> Target:
        raise ZeroDivisionError("oh")

    async with stand(opener=opener) as it:
        await it.until_shown("a mistake in the console itself: ZeroDivisionError: oh", "console.log")


async def test_leaving_before_it_is_up(stand: OpenStand) -> None:
    async with stand(ready=False) as it:
        await it.until_shown("looking for the stage")
        assert isinstance(it.app.screen, StartScreen)
        await it.press("q")
        await it.pilot.pause()
        assert it.app.return_code == 0


async def test_the_pages_come_when_the_stage_is_there(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        await it.until_shown("Nothing. 2 nodes in service.")
        assert it.page.NAME == "overview"
