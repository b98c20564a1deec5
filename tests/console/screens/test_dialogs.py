"""Dialogs: what they state, where they start, what they refuse."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from console.commands import PublishWords
from console.core import media_files
from console.core.client import Client
from console.core.target import Target
from console.handlers.broadcasts import free_channel
from console.handlers.own import left_words
from console.messages import DrillEnded, DrillSeen, DrillStep, DrillWaits
from console.screens.broadcast import dialogs
from console.screens.broadcast.dialogs import FieldError, Seen, complete, look, make_spec, shared_start
from console.screens.fleet.drain import DrainDialog
from console.screens.shared.dialog import Checkbox, Dialog
from controlplane.wire.api import DrainView
from controlplane.wire.drills import DrillKind, DrillRequest, Milestone
from controlplane.wire.nodes import NodeState
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import drill, node, quiet, snapshot, stream


def focus(it: Any) -> str:
    return str(it.app.focused.id)


async def test_a_drain_states_its_effect_and_starts_on_cancel(stand: OpenStand) -> None:
    first = snapshot(nodes=[node("origin-1"), node("edge-1", connections=10), node("edge-2", connections=3)])
    async with stand(first, page="2") as it:
        await it.press("down", "down", "d")
        await it.until_shown(
            "edge-2: 3 viewers; 2 -> 1 edges", "They go to edge-1. Room there: 390.", "Deadline"
        )
        assert focus(it) == "cancel"
        await it.press("enter")
        assert not isinstance(it.app.screen, Dialog)


async def test_draining_the_last_one_says_so(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        await it.press("down", "d")
        await it.until_shown("1 -> 0 edges", "It is the last edge in service")


async def test_the_last_edge_of_what_is_on_air_is_drained_when_that_is_typed(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained: list[Any] = []

    async def drain(self: Client, *words: Any) -> DrainView:
        drained.append(words)
        return DrainView(node="edge-1", state=NodeState.DRAINING, viewers=371, deadline_s=300)

    monkeypatch.setattr(Client, "drain", drain)
    nodes = [node("origin-1"), node("edge-1", connections=371)]
    async with stand(snapshot(nodes=nodes), page="2") as it:
        await it.press("down", "d")
        await it.until_shown("type main to drain it")
        await it.press("right", "enter")
        await it.until_shown("Type main: no edge will be left for it")
        assert focus(it) == "channels"
        await it.type("main")
        await it.press("enter", "enter")
        await it.until_shown("edge-1 is draining: 371 viewers on it")
        assert drained == [("edge-1", 60.0, ("main",))]


async def test_a_drain_says_on_the_page_how_far_it_is_and_what_it_waits_for(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        await it.until_shown("58 of 400 moved, 20 moving, 340 left, 1 move failed, about 36 s.")
        progress = {"since": 0, "viewers": 9, "moved": 2, "moving": 0, "left": 7, "failed": 0}
        waits = progress | {"waits": "waits for room: 7 of 9 left, no edge has a seat; add one"}
        it.feed.up(snapshot(nodes=[node("edge-2", NodeState.DRAINING, 7, drain_deadline=2e9, drain=waits)]))
        await it.until_shown("▲ draining, waits", ": 2 of 9 moved, 7 left; it waits for room: 7 of 9")


async def test_too_little_room_elsewhere_says_so(stand: OpenStand) -> None:
    first = snapshot(nodes=[node("edge-1", connections=399), node("edge-2", connections=300)])
    async with stand(first, page="2") as it:
        await it.press("down", "d")
        await it.until_shown("That is not room enough for all of them: add one first (+).")


async def test_a_deadline_that_is_none_is_refused(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        await it.press("colon")
        await it.type("drain edge-1 soon")
        await it.press("enter")
        await it.until_shown("Drain edge-1")
        await it.press("right", "enter")
        await it.until_shown("'soon' is not a duration. Write it like 60s, 5m, 1h30m or 7d.")
        assert isinstance(it.app.screen, DrainDialog)
        assert focus(it) == "deadline"


async def test_what_cannot_be_drained_says_why(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        await it.press("down", "down", "d")
        await it.until_shown("edge-2 is draining already: u undoes it")
        await it.press("end", "d")
        await it.until_shown("edge-4 is booting: only a node in service can be drained")


async def test_what_is_live_is_killed_only_by_its_name(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        begun: list[DrillRequest] = []
        it.app._rehearse = begun.append
        it.app.post_message(DrillSeen(drill()))
        await it.until_shown("Drill: kill edge-1", "This is live.", "Type edge-1 to go on.")
        assert focus(it) == "name"
        await it.burst("enter", "enter")  # two keys are not enough
        await it.until_shown("Type edge-1, or cancel.")
        assert (focus(it), begun) == ("name", [])
        await it.burst("edge-1", "enter", "enter")
        await it.until_shown("waiting for a viewer to watch what is live")
        assert begun == [DrillRequest(kind=DrillKind.KILL_EDGE, node="edge-1")]


async def test_what_is_not_live_is_killed_by_choosing_so_and_starts_on_cancel(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        begun: list[DrillRequest] = []
        it.app._rehearse = begun.append
        it.app.post_message(DrillSeen(drill(None, live=False)))
        await it.until_shown("Drill: kill manager")
        assert focus(it) == "cancel"
        await it.press("enter")
        assert begun == []
        it.app.post_message(DrillSeen(drill(None, live=False)))
        await it.until_shown("Drill: kill manager")
        await it.press("right", "enter")
        assert begun == [DrillRequest(kind=DrillKind.KILL_MANAGER)]


async def test_a_drill_tells_what_happens_and_its_end(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        it.app._rehearse = lambda request: None
        it.app.post_message(DrillSeen(drill(live=False)))
        await it.until_shown("Drill: kill edge-1")
        await it.press("right", "enter")
        it.app.post_message(DrillStep(Milestone(name="noticed", at_s=0.1, words="noticed")))
        it.app.post_message(DrillWaits("viewers 3/5"))
        await it.until_shown("0.1 s  noticed", "waiting for viewers 3/5", "Closing this stops nothing")
        it.app.post_message(DrillEnded("edge-1 was killed on purpose: all went well.", good=True))
        text = await it.until_shown("all went well.")
        assert "waiting for" not in text
        await it.press("enter")
        it.app.post_message(DrillSeen(drill(live=False)))  # the next one may begin
        await it.until_shown("Drill: kill edge-1")


async def test_a_drill_whose_dialog_was_closed_ends_in_a_toast_and_there_is_one_at_a_time(
    stand: OpenStand,
) -> None:
    async with stand(quiet(), page="2") as it:
        it.app._rehearse = lambda request: None
        it.app.post_message(DrillSeen(drill(live=False)))
        await it.until_shown("Drill: kill edge-1")
        await it.press("right", "enter")
        await it.until_shown("waiting for")
        await it.press("escape", "K")
        await it.until_shown("A drill goes on: one at a time")
        it.app.post_message(DrillEnded("edge-1 was killed on purpose.", good=True))
        await it.until_shown("edge-1 was killed on purpose.")


async def test_a_drill_that_is_refused_says_why(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        it.app._target = Target("http://127.0.0.1:9", "t" * 32, None, remote=False)
        await it.press("K")
        await it.until_shown("no stream manager answers at")


async def test_undo_of_what_does_not_drain(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        await it.press("u")
        await it.until_shown("origin-1 is not draining")


async def test_stopping_states_the_viewers_and_starts_on_cancel(stand: OpenStand) -> None:
    async with stand(snapshot(), page="3") as it:
        await it.press("S")
        await it.until_shown("main: 371 viewers watching now.")
        assert focus(it) == "cancel"
        await it.press("escape")
        assert not isinstance(it.app.screen, Dialog)


async def test_quitting_says_what_ends_and_does_not_start_there(stand: OpenStand) -> None:
    async with stand(snapshot(streams=[stream(viewers=3)])) as it:
        await it.press("q")
        await it.until_shown(
            "On air: main, 3 viewers.", "Ending the stage ends the broadcast for all of them."
        )
        assert focus(it) == "leave"
        await it.press("escape")
        assert it.app.is_running
        await it.press("q", "enter")
        await it.pilot.pause()
        assert it.app.return_code == 0


async def test_quitting_while_nobody_answers_promises_nothing(stand: OpenStand) -> None:
    async with stand(snapshot()) as it:
        it.clock.now += 12
        it.feed.down(3)
        await it.until_shown("retry 3")
        await it.press("q")
        text = await it.until_shown(
            "The stream manager does not answer", "12 s ago", "the stage may be down", "[▸Leave ]"
        )
        assert "goes on. The next" not in text.replace("\n", " ")
        assert "Leave it running" not in text
        assert left_words(it.app.look()).startswith("The stage did not answer.")
        it.feed.up(snapshot())
        await it.until_shown("link ●")
        assert left_words(it.app.look()).startswith("The stage goes on at http")


async def test_a_broadcast_that_failed_is_offered_again_with_its_own_values(
    stand: OpenStand, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    async with stand(quiet(), size=(120, 40)) as it:
        for line in (f"publish '{clip}' first 2M loop", "publish test second 3M"):
            await it.burst(f":{line}", "enter")
            await it.until_shown(f"{line.split()[2]} did not come on air")
        await it.press("3", "left_square_bracket")
        assert it.page.chosen_channel() == "first"
        await it.press("b")
        fields = {field.id: field.value for field in it.app.screen.query(Input)}
        assert fields == {"file": str(clip), "channel": "first", "bitrate": "2M"}
        assert it.app.screen.query_one("#loop", Checkbox).value


@pytest.mark.parametrize(
    ("channel", "taken", "free"),
    [
        ("main", {"main"}, "main-2"),
        ("main", {"main", "main-2"}, "main-3"),
        ("main-2", {"main", "main-2"}, "main-3"),
        ("2026", {"2026"}, "2026-2"),
        ("a-b", {"a-b"}, "a-b-2"),
        ("x" * 63, {"x" * 63}, "x" * 61 + "-2"),
    ],
)
def test_the_next_free_name(channel: str, taken: set[str], free: str) -> None:
    assert free_channel(channel, taken) == free


async def test_a_remote_stage_is_left_without_asking(stand: OpenStand) -> None:
    async with stand(quiet(), remote=True) as it:
        await it.press("b")
        await it.until_shown("This stage runs elsewhere")
        await it.press("q")
        await it.pilot.pause()
        assert it.app.return_code == 0


async def test_a_call_nobody_answers_is_told_with_the_next_step(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        await it.press("plus", "right", "enter")
        await it.until_shown("Not done", "no stream manager answers")


# --- starting a broadcast


async def test_the_path_is_completed_and_checked_while_it_is_typed(stand: OpenStand, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "fight night.mkv").write_bytes(b"x" * 200_000)
    (tmp_path / "films" / "fight song.mkv").write_bytes(b"x")
    async with stand(quiet(), size=(120, 40)) as it:
        await it.press("b", "right")
        field = it.app.screen.query_one("#file", Input)
        field.focus()
        field.value = f"{tmp_path}/fil"
        await it.press("tab")
        assert field.value == f"{tmp_path}/films/"
        await it.press("tab")
        assert field.value == f"{tmp_path}/films/fight "
        await it.until_shown("2: fight night.mkv  fight song.mkv")
        field.value = f"{tmp_path}/films/fight n"
        await it.press("tab")
        await it.until_shown("● fight night.mkv, 0.2 MB")
        await it.press("tab")
        assert focus(it) == "channel"


async def test_enter_in_the_deadline_goes_on_to_drain_and_a_wrong_one_is_said(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.press("2")
        await it.until_shown("edge-2")
        await it.press("home", "down", "d")
        await it.until_shown("Drain edge-1")
        await it.press("shift+tab")
        await it.until_focused("deadline")
        await it.press("ctrl+u", "x", "enter")
        await it.until_focused("drain")
        await it.press("enter")
        await it.until_shown("✗ ")
        await it.until_focused("deadline")


async def test_every_choice_is_in_sight_in_a_narrow_terminal(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(60, 16)) as it:
        await it.press("q")
        await it.until_shown("[ Cancel ]", "[▸Leave it running ]", "[ End the stage ]")
        await it.press("down")
        assert focus(it) == "end"
        await it.press("up", "up")
        assert focus(it) == "cancel"


async def test_a_box_taller_than_the_terminal_can_be_read_from_its_top(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(60, 10)) as it:
        await it.press("q")
        await it.press("pageup", "pageup")
        await it.until_shown("On air")
        await it.press("pagedown", "pagedown")
        await it.until_shown("[ End the stage ]")


async def test_an_arrow_chooses_the_kind_of_source_at_once(stand: OpenStand) -> None:
    async with stand(quiet(), size=(120, 40)) as it:
        await it.press("b", "right")
        await it.until_shown("▐●▌ File", "▸ File")
        await it.press("shift+tab", "left")
        await it.until_shown("▐●▌ Test pattern")
        assert focus(it) == "kind"


async def test_an_unusable_file_keeps_the_dialog_open(stand: OpenStand, tmp_path: Path) -> None:
    async with stand(quiet(), size=(120, 40)) as it:
        await it.press("b", "right")
        it.app.screen.query_one("#file", Input).value = str(tmp_path / "none.mkv")
        it.app.screen.query_one("#start").focus()
        await it.press("enter")
        await it.until_shown("✗ no file ")
        assert focus(it) == "file"


async def test_a_channel_on_air_is_not_offered_again(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.press("b")
        assert it.app.screen.query_one("#channel", Input).value == "main-2"


@pytest.mark.parametrize(
    ("words", "field", "says"),
    [
        (PublishWords(channel="x", bitrate="0"), "bitrate", "out of range"),
        (PublishWords(channel="x", bitrate="much"), "bitrate", "is not a bitrate"),
        (PublishWords(channel="Main Feed"), "channel", "small letters"),
        (PublishWords(channel="main"), "channel", "on air already"),
        (PublishWords(source="/"), "file", "is a folder"),
        (PublishWords(source="/nowhere/at/all.mp4"), "file", "no file"),
    ],
)
def test_what_cannot_be_broadcast(words: PublishWords, field: str, says: str) -> None:
    with pytest.raises(FieldError, match=says) as caught:
        make_spec(words, frozenset({"main"}))
    assert caught.value.field == field


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert look(str(empty)) == Seen("", f"{empty} is empty", "empty.mp4 is empty", [str(empty)])


def test_copy_asks_for_no_bitrate(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    spec = make_spec(PublishWords(str(clip), "main", "nonsense", copy=True, loop=True), frozenset())
    assert (spec.copy_mode, spec.bitrate_bps, spec.loop, spec.source) == (True, None, True, str(clip))


def test_completion_hides_hidden_files_and_survives_what_is_not_there(tmp_path: Path) -> None:
    for name in (".secret", "a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    assert complete(f"{tmp_path}/") == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]
    assert complete(f"{tmp_path}/.s") == [f"{tmp_path}/.secret"]
    assert complete("/nowhere/at/all") == []
    assert shared_start(["abc", "abd"]) == "ab"
    assert shared_start([]) == ""


async def test_a_line_starts_a_broadcast_only_when_it_can_be_meant(stand: OpenStand) -> None:
    async with stand(snapshot(nodes=[node("edge-1", NodeState.IN_SERVICE)]), size=(120, 40)) as it:
        await it.press("colon")
        await it.type("publish test main")
        await it.press("enter")
        await it.until_shown("main is on air already")


async def test_a_path_of_a_user_nobody_knows_is_told(stand: OpenStand) -> None:
    async with stand(quiet(), size=(120, 40)) as it:
        await it.burst("b", "right", "~nobody-of-this-name/x")
        await it.until_shown("no file ~nobody-of-this-name/x")
        await it.burst("enter", "enter")
        await it.until_shown("✗ no file ~nobody-of-this-name/x")
        assert focus(it) == "file"


async def test_a_pipe_does_not_hold_the_console_up(stand: OpenStand, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with stand(quiet(), size=(120, 40)) as it:
        await it.burst("b", "right", f"{tmp_path}/pipe")
        await it.until_shown("pipe is not a regular file")
        await it.burst("enter", "enter")
        await it.until_shown("✗ ", "is not a regular file")


async def test_a_disk_that_does_not_answer_holds_nothing_up_and_the_newest_path_wins(
    stand: OpenStand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk that is gone cannot be had here: looking at one path waits until the test is over."""
    (tmp_path / "clip.mp4").write_bytes(b"x")
    answers, really = threading.Event(), media_files.media_file

    def slow(text: str) -> media_files.MediaFile:
        if "gone" in text:
            answers.wait(30)
        return really(text)

    monkeypatch.setattr(dialogs, "media_file", slow)
    try:
        async with stand(quiet(), size=(120, 40)) as it:
            await it.burst("b", "right", "/gone/clip.mp4")
            await it.until_shown("waiting for the disk")
            await it.burst("enter", "enter")
            await it.burst("tab", "home")  # the dialog still takes keys
            field = it.app.screen.query_one("#file", Input)
            it.app.screen.set_focus(field)
            await it.burst("end", "ctrl+u", f"{tmp_path}/clip.mp4")
            await it.until_shown("● clip.mp4, 1 bytes")
            answers.set()
            await it.pilot.pause(0.1)
            assert "● clip.mp4, 1 bytes" in it.text()
            await it.press("escape")
            assert not isinstance(it.app.screen, Dialog)
    finally:
        answers.set()


async def test_the_same_words_again_take_the_place_of_the_old_ones(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        for _ in range(3):
            await it.press("u")
        text = await it.until_shown("origin-1 is not draining")
        assert text.count("origin-1 is not draining") == 1
        it.app.say("something else")
        text = await it.until_shown("something else")
        assert text.count("origin-1 is not draining") == 1


async def test_a_toast_waits_until_the_dialog_is_answered(stand: OpenStand) -> None:
    async with stand(quiet(), page="2", size=(80, 24)) as it:
        await it.press("u")
        await it.until_shown("is not draining")
        await it.press("b")
        await it.until_shown("Start a broadcast")
        it.app.say("edge-9 is in service again")
        await it.pilot.pause(0.7)
        assert "edge-9" not in it.text()
        assert not [toast for toast in it.app.screen.query("Toast") if toast.region.area]
        await it.press("escape")
        await it.until_shown("edge-9 is in service again")
