"""What a page says in each of its states, and what may be done in them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.timer import Timer
from textual.widgets import Input

from console.app import ConsoleApp
from console.commands import PublishWords
from console.core.errors import Rejected
from console.screens.journal.screen import JournalScreen
from console.screens.shared.dialog import Dialog
from console.screens.shared.table import Table
from controlplane.wire.api import LatencyView
from controlplane.wire.base import Problem
from controlplane.wire.nodes import NodeState
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import START, bare, entry, groups, node, quiet, report, snapshot, stream

REFUSED = Rejected(Problem(code="unauthorized", title="the operator token is not accepted", status=401))


@pytest.mark.parametrize(("page", "words"), [("1", "Loading"), ("2", "Loading the nodes"), ("3", "Loading"),
                                             ("4", "Loading the journal")])  # fmt: skip
async def test_loading(stand: OpenStand, page: str, words: str) -> None:
    async with stand() as it:
        await it.until_shown("connecting")
        await it.press(page)
        await it.until_shown(words)


async def test_an_error_before_anything_came_is_told_with_the_retry(stand: OpenStand) -> None:
    async with stand() as it:
        await it.until_shown("connecting")
        it.feed.down(4)
        await it.press("2")
        await it.until_shown("connection refused", "4 times so far")


@pytest.mark.parametrize("page", ["1", "2", "3", "4"])
async def test_no_permission(stand: OpenStand, page: str) -> None:
    async with stand() as it:
        await it.until_shown("connecting")
        it.feed.send(REFUSED)
        await it.press(page)
        await it.until_shown("no permission", "the operator token is not accepted")


async def test_empty_says_why_and_the_next_key(stand: OpenStand) -> None:
    async with stand(bare()) as it:
        await it.press("2")
        await it.until_shown("No nodes: none has been asked for", "+ adds an edge")
        await it.press("3")
        await it.until_shown("Nothing is on air", "b  start a broadcast")
        await it.press("4")
        await it.until_shown("Nothing is written yet")


@pytest.mark.parametrize(("page", "total"), [("2", 5), ("4", 7)])
async def test_a_filter_that_hides_all_says_so_and_how_to_clear_it(
    stand: OpenStand, page: str, total: int
) -> None:
    async with stand(snapshot(), page=page) as it:
        await it.press("slash")
        await it.type("zzz")
        await it.until_shown(f"0 of {total}", "'zzz' hides all", "c clears")
        await it.press("enter", "c")
        await it.until_gone("hides all")
        await it.until_shown("edge-1")


@pytest.mark.parametrize(("page", "turns"), [("fleet", 0), ("broadcast", 2), ("journal", 1), ("events", 1)])
async def test_the_console_ends_while_a_page_is_being_made(stand: OpenStand, page: str, turns: int) -> None:
    async with stand(snapshot()) as it:
        it.app.call_later(it.app.switch_mode, page)
        for _ in range(turns):  # of the event loop: so far has the page come
            await asyncio.sleep(0)


async def test_a_filter_takes_words_and_their_opposite(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        await it.press("slash")
        await it.type("edge !draining")
        await it.until_shown("3 of 5 shown")
        lines = it.app.screen.query_one(Table).lines()
        assert [line.split()[0] for line in lines] == ["edge-1", "edge-3", "edge-4"]
        await it.press("escape")
        await it.until_gone("shown, c clears")


async def test_stale_data_stays_dated_and_nothing_can_be_changed(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        it.clock.now += 12
        it.feed.down(3)
        text = await it.until_shown("as of 14:13:20, 12 s ago, retry 3", "add: off", "drain: off")
        assert "edge-1" in text
        assert it.page.has_class("-stale")
        await it.press("d")
        await it.until_shown("Not now: the stream manager does not answer")
        assert not isinstance(it.app.screen, Dialog)
        it.feed.up(quiet())
        await it.until_shown("link ●")
        assert not it.page.has_class("-stale")
        text = await it.until_gone("▲ suspect")
        assert "edge-1" in text


async def test_a_feed_that_falls_silent_is_stale_although_the_link_is_up(stand: OpenStand) -> None:
    async with stand(snapshot()) as it:
        it.clock.now += 3.5
        await it.until_shown("as of 14:13:20, 3.5 s ago")


async def test_ages_go_on_between_messages(stand: OpenStand) -> None:
    async with stand(snapshot()) as it:
        await it.until_shown("1.2 s old")
        it.clock.now += 2
        await it.until_shown("3.2 s old", "link ● 2.0 s")


async def test_what_is_wrong_is_told_worst_first(stand: OpenStand) -> None:
    first = snapshot(
        nodes=[node("origin-1", NodeState.FAULTY, state_reason="it ended with signal 9"), node("edge-1")],
        streams=[stream(state="reconnecting", viewers=3)],
    )
    async with stand(first, size=(120, 40)) as it:
        wanted = ["No origin in service", "main is reconnecting; 3 viewers keep the last picture",
                  "origin-1 faulty for 1 min: it ended with signal 9"]  # fmt: skip
        text = await it.until_shown(*wanted)
        places = [text.index(words) for words in wanted]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"report": report(missed=4000)}, "✗ main: 5.4 % of the frames missed by source"),
        ({"report": report(missed=0, dropped=800)}, "▲ main: 1.1 % of the frames dropped by network"),
        ({"report": report(missed=0, target_fps=60.0)}, "✗ main: 29.9 of 60 fps"),
        ({"report": report(missed=0), "bitrate_bps": 3.0e6}, "▲ main: 3.00 Mbps of 4.50 Mbps"),
        ({"report": report(missed=0), "loss": 0.03}, "▲ main: 3.00 % lost on the way to the origin"),
        ({"report": None, "loss": 0.09}, "✗ main: 9.00 % lost on the way to the origin"),
    ],
)
async def test_a_broadcast_that_goes_wrong_needs_somebody(
    stand: OpenStand, more: dict[str, Any], says: str
) -> None:
    """What the Broadcast page marks is on the Overview too."""
    nodes = [node("origin-1"), node("edge-1"), node("edge-2")]
    async with stand(snapshot(nodes=nodes, streams=[stream(**more)])) as it:
        await it.until_shown(says)
        await it.press("3")
        await it.until_shown(says[0])


async def test_loss_on_the_way_to_the_viewers_needs_somebody(stand: OpenStand) -> None:
    nodes = [node("origin-1"), node("edge-1", connections=3, loss=0.02)]
    first = snapshot(nodes=nodes, streams=[stream(report=report(missed=0), edges=["edge-1"])])
    async with stand(first) as it:
        await it.until_shown("▲ main: 2.00 % lost on the way to the viewers")


async def test_a_broadcast_that_goes_well_needs_nobody(stand: OpenStand) -> None:
    nodes = [node("origin-1"), node("edge-1")]
    young = stream(since=START - 3, bitrate_bps=1e6, report=report(missed=0))  # its rate still rises
    async with stand(snapshot(nodes=nodes, streams=[young])) as it:
        await it.until_shown("● Nothing. 2 nodes in service")


async def test_an_edge_without_media_needs_somebody_when_it_lasts(stand: OpenStand) -> None:
    nodes = [node("origin-1"), node("edge-1")]
    starved = stream(report=report(missed=0), starved={"edge-1": 3})
    async with stand(snapshot(nodes=nodes, streams=[starved])) as it:
        await it.until_shown("● Nothing.")  # it may have asked for it just now
        it.feed.delta(at=START + 3, streams=[starved])
        await it.until_shown("✗ No media of main reaches edge-1 for 3.0 s: 3 viewers there.")
        it.feed.delta(at=START + 4, streams=[stream(report=report(missed=0))])
        await it.until_gone("No media of main")


async def test_deltas_move_what_is_shown(stand: OpenStand) -> None:
    async with stand(quiet(), page="2") as it:
        it.feed.delta(
            nodes=[
                node("edge-1", connections=37),
                node("edge-2", NodeState.BOOTING, None, state_since=START),
            ],
            journal=[
                entry(99, "one more edge was asked for: 2 in all", "fleet.add", "edge", actor="operator")
            ],
        )
        await it.until_shown("37/400", "edge-2", "booting", "one more edge was asked for")
        it.feed.delta(removed_nodes=["edge-2"])
        await it.until_gone("booting")


async def test_the_cursor_stays_on_its_node_while_rows_change(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        table = it.app.screen.query_one(Table)
        await it.press("down", "down", "down")
        assert table.chosen == "edge-3"
        it.feed.delta(removed_nodes=["edge-1"], nodes=[node("edge-10"), node("origin-2")])
        await it.until_shown("edge-10")
        assert table.chosen == "edge-3"
        assert [line.split()[0] for line in table.lines()] == [
            "origin-1", "origin-2", "edge-2", "edge-3", "edge-4", "edge-10"
        ]  # fmt: skip


async def test_an_unmeasured_latency_is_not_a_number(stand: OpenStand) -> None:
    first = snapshot(streams=[stream(viewers=2, latency_ms=LatencyView())])
    async with stand(first) as it:
        await it.until_shown("nobody has measured yet")


async def test_the_journal_follows_until_somebody_looks_back(stand: OpenStand) -> None:
    async with stand(snapshot(journal=[entry(i, f"thing {i}") for i in range(1, 101)]), page="4") as it:
        await it.until_shown("thing 100", "following")
        it.feed.delta(journal=[entry(101, "thing 101")])
        await it.until_shown("thing 101")
        await it.press("up")
        await it.until_shown("held here")
        it.feed.delta(journal=[entry(102, "thing 102")])
        await it.until_shown("102 entries")
        assert "thing 102" not in it.text()
        await it.press("f")
        await it.until_shown("thing 102")


async def test_a_journal_entry_opens_in_full(stand: OpenStand) -> None:
    first = snapshot(journal=[entry(1, "edge-1 is in service", data={"launch_s": 1.4})])
    async with stand(first, page="4") as it:
        await it.press("enter")
        await it.until_shown("Journal entry", "launch_s", "1.4")


async def test_why_tells_of_the_chosen_node(stand: OpenStand) -> None:
    async with stand(snapshot(), page="2") as it:
        await it.until_shown("Why: the fleet")
        await it.press("down", "down", "down", "w")
        await it.until_shown("Why: edge-3", "has been silent for 10 s")


async def test_two_broadcasts_and_the_keys_between_them(stand: OpenStand) -> None:
    first = snapshot(streams=[stream("main"), stream("second", viewers=1)])
    async with stand(first, page="3") as it:
        await it.until_shown("371 watching", "2 of 2 on air", "[ previous  ] next")
        await it.press("right_square_bracket")
        await it.until_shown("/watch/second", "1 watching")


async def test_counters_start_anew(stand: OpenStand) -> None:
    async with stand(snapshot(), page="3") as it:
        await it.until_shown("1.5 %", "▲ over 1 %")
        await it.press("r")
        it.clock.now += 2
        await it.until_shown("counted for 2.0 s")
        assert "over 1 %" not in it.text()


async def test_a_stream_that_is_not_ours_keeps_its_own_counters(stand: OpenStand) -> None:
    first = snapshot(streams=[stream(report=None, publisher="OBS")])
    async with stand(first, page="3") as it:
        await it.until_shown("Not one of our publishers", "OBS")


async def test_a_palette_is_kept_for_the_next_time(stand: OpenStand) -> None:
    async with stand(quiet()) as it:
        assert it.app.theme == "dark"
        await it.press("T")
        await it.until_shown("Palette: Light")
    async with stand(quiet()) as it:
        assert it.app.theme == "light"
        await it.press("colon")
        await it.type("theme nonsense")
        await it.press("enter")
        await it.until_shown("No palette 'nonsense'", "colour-blind-safe")


@pytest.mark.parametrize("name", ["dark", "light", "high-contrast", "colour-blind-safe"])
async def test_every_palette_draws_every_page(stand: OpenStand, name: str) -> None:
    async with stand(snapshot()) as it:
        it.app.theme = name
        for page in ("2", "3", "4", "1"):
            await it.press(page)
            await it.pilot.pause()
        await it.until_shown("Needs you")


async def test_words_from_elsewhere_do_not_reach_the_terminal_as_they_are(stand: OpenStand) -> None:
    evil = "caf\u00e9 \x1b[31mred\x1b[0m [bold]放送[/bold]"
    first = snapshot(journal=[entry(1, evil, kind="node.x")], streams=[stream(publisher=evil)])
    async with stand(first) as it:
        for page in ("4", "2", "3"):
            await it.press(page)
            text = await it.until_shown("café ·[31mred·[0m [bold]放送[/bold]")
            assert "\x1b" not in text


async def test_a_page_is_asked_to_draw_while_it_is_taken_down_and_after(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers and the feed go on whatever becomes of a page."""
    called: list[Callable[[], object]] = []
    really = ConsoleApp.set_interval

    def set_interval(self: ConsoleApp, interval: float, callback: Any) -> Timer:
        called.append(callback)
        return really(self, interval, callback)

    monkeypatch.setattr(ConsoleApp, "set_interval", set_interval)
    async with stand(snapshot(), page="2") as it:
        fleet = it.page
        await it.press("enter")
        inside = it.page
        assert inside is not fleet
        await it.press("escape")
        await it.until_shown("Why: the fleet")
        async with asyncio.timeout(10):
            while inside.is_attached:
                await it.pilot.pause(0.02)
        inside.show(it.app.look())
        await it.pilot.pause()
    fleet.show(it.app.look())
    assert called
    for callback in called:  # a timer whose time comes before it is ended itself
        callback()
    JournalScreen().show(it.app.look())  # not even begun


async def test_a_mistake_of_the_console_is_in_its_log_with_its_traceback(
    stand: OpenStand, caplog: pytest.LogCaptureFixture
) -> None:
    def mistake() -> None:
        raise ZeroDivisionError("by hand")

    async def meet_it() -> None:
        async with stand(snapshot()) as it:
            it.app.call_later(mistake)
            await it.until_shown("never")

    with pytest.raises(ZeroDivisionError):
        await meet_it()
    assert "mistake of its own" in caplog.text
    assert "ZeroDivisionError: by hand" in caplog.text
    assert "in mistake" in caplog.text


async def test_a_broadcast_that_ended_by_itself_is_told_and_started_again(
    stand: OpenStand, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    own = stream(report=report(missed=0))
    async with stand(quiet(), page="3") as it:
        await it.burst(f":publish '{clip}' main 2M", "enter")
        await it.until_shown("main did not come on air")  # there is no stage; it comes by the feed
        it.feed.delta(streams=[own])
        await it.until_shown("ON AIR")
        end = entry(8, "main is ended: its file was at its end.", "stream.ended", "main", actor="publisher",
                    at=START + 5, data={"reason": "its file was at its end"})  # fmt: skip
        it.feed.delta(removed_streams=["main"], journal=[end])
        await it.until_shown("Nothing is on air.", "main ended: its file was at its end")
        await it.until_shown("main ended at 14:13:25: its file was at its end. b starts it again.")
        it.app.last_words = PublishWords(channel="another")
        await it.press("b")
        assert it.app.screen.query_one("#file", Input).value == str(clip)
        assert it.app.screen.query_one("#channel", Input).value == "main"


async def test_an_end_of_long_ago_is_not_told(stand: OpenStand) -> None:
    old = entry(1, "main is ended: stopped.", "stream.ended", "main", at=START - 90_000)
    async with stand(snapshot(streams=[], journal=[old]), page="3") as it:
        await it.until_shown("Nothing is on air. Nobody publishes")


async def test_without_colours_there_is_no_palette_to_choose(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with stand(quiet()) as it:
        before = it.app.theme
        await it.press("T")
        await it.until_shown("NO_COLOR is set")
        assert it.app.theme == before


async def test_a_stage_that_comes_up_with_more_edges_than_one_says_why(stand: OpenStand) -> None:
    nodes = [node("origin-1"), node("edge-1"), node("edge-2"), node("edge-3")]
    old = entry(1, "edge-3 is asked for", at=START - 90_000)
    first = snapshot(nodes=nodes, groups=groups(nodes), streams=[], journal=[old], started_at=START - 3)
    async with stand(first) as it:
        await it.until_shown("3 edges, as you left it")


async def test_another_stream_manager_is_named_when_the_feed_comes_from_there(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        it.feed.down(1)
        await it.until_shown("retry 1")
        it.feed.epoch, it.feed.n = "e2", 0
        it.feed.up(snapshot(api="http://127.0.0.1:7"))
        await it.until_shown("Now speaking to http://127.0.0.1:7", "http://127.0.0.1:8080 does not answer")
        await it.until_shown("local stage   http://127.0.0.1:7")
        assert it.app.client.api == "http://127.0.0.1:7"
