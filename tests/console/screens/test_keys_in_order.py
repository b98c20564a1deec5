"""Keys do what they mean in the order in which they were pressed, also when screens open more slowly."""

from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from console.screens.fleet.drain import DrainDialog
from console.screens.inside.screen import InsideScreen
from console.screens.shared.dialog import Dialog
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import quiet, snapshot


async def test_a_broadcast_is_started_without_a_pause_between_the_keys(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        await it.burst(
            "b", "tab", "ctrl+u", "side", "tab", "end", *["backspace"] * 4, "1.5M", "enter", "enter"
        )
        await it.until_shown("side did not come on air")  # no stage behind this screen: it was asked for
        assert it.app.pending["side"].spec.bitrate_bps == 1.5e6
        assert not isinstance(it.app.screen, Dialog)


async def test_the_kind_of_source_and_its_path_are_typed_in_one_go(stand: OpenStand, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "fight.mkv").write_bytes(b"x")
    async with stand(quiet()) as it:
        await it.burst("b", "right", f"{tmp_path}/fil", "tab", "fi", "tab", "tab", "ctrl+u", "second")
        fields = {field.id: field.value for field in it.app.screen.query(Input)}
        assert fields["file"] == f"{tmp_path}/films/fight.mkv"
        assert fields["channel"] == "second"


async def test_what_is_taken_away_is_what_was_there(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        await it.burst("b", "right", "abc", "left", "backspace", "d", "ctrl+u", "end", "x")
        assert it.app.screen.query_one("#file", Input).value == "cx"


async def test_a_field_is_filled_anew_however_late_its_focus_is_told(stand: OpenStand) -> None:
    """Up goes to the field, and what was in it is selected: before the letters, never after them."""
    async with stand(quiet(), page="2") as it:
        await it.burst("end", "d")
        for letter in ("up", "a", "b", "c"):
            await it.burst(letter)
        assert it.app.screen.query_one("#deadline", Input).value == "abc"
        await it.burst("end", "ctrl+u", "7m")
        assert it.app.screen.query_one("#deadline", Input).value == "7m"


@pytest.mark.parametrize("times", range(3))
async def test_a_drain_is_cancelled_by_enter_however_fast(stand: OpenStand, times: int) -> None:
    async with stand(quiet(), page="2") as it:
        await it.burst("end", "d", "enter", "d")
        await it.until_shown("Drain edge-1", "[▸Cancel ]")
        assert isinstance(it.app.screen, DrainDialog)
        await it.burst("enter")
        assert not isinstance(it.app.screen, Dialog)
        assert "Not done" not in it.text()  # nothing was asked of the stage


async def test_a_command_and_the_answer_to_its_dialog_in_one_go(stand: OpenStand) -> None:
    async with stand(quiet(), page="1") as it:
        await it.burst(":drain edge-1 2m", "enter", "right", "enter")
        await it.until_shown("Not done", "no stream manager answers")  # asked: nobody is behind this screen


async def test_a_filter_is_entered_and_the_rows_are_walked(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        await it.burst("/edge", "enter", "home")
        await it.until_gone("origin-1   ")
        await it.burst("home", "down", "down")
        assert it.page.chosen_node() == "edge-3"


async def test_one_step_in_and_one_step_back(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        await it.burst("home", "enter", "escape")
        assert it.page.NAME == "fleet"
        await it.burst("enter")
        assert isinstance(it.page, InsideScreen)


async def test_the_palette_takes_what_is_typed_right_after_it_was_called(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        await it.burst("ctrl+p", "journal")
        await it.until_shown("Journal: what happened")
        assert it.app.screen.query_one(Input).value == "journal"


async def test_pasted_text_keeps_its_place_among_the_keys(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        await it.burst("b", "right", "a")
        it.app.post_message(events.Paste("/some/where"))
        await it.burst("backspace", "z")
        assert it.app.screen.query_one("#file", Input).value == "a/some/wherz"
