"""Terminals of every size: nothing overlaps, the next keys are in sight, and a small one is told so."""

import asyncio

import pytest

from console.screens.shared.chart import Chart
from console.screens.shared.frame import Panel
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import entry, snapshot

PAGES = ["1", "2", "3", "4"]


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (100, 30), (132, 43), (250, 70)], ids=str)
@pytest.mark.parametrize("page", PAGES)
async def test_nothing_overlaps_and_the_keys_are_in_sight(
    stand: OpenStand, page: str, size: tuple[int, int]
) -> None:
    async with stand(snapshot(), size=size, page=page) as it:
        await it.pilot.pause(0.1)
        lines = it.text().splitlines()
        assert len(lines) == size[1]
        assert "? keys" in lines[-1]
        assert "q quit" in lines[-1]
        boxes = [w.region for w in it.page.query("#body > *") if w.display and w.region.area]
        for number, one in enumerate(boxes):
            assert all(not one.overlaps(other) for other in boxes[number + 1 :])
        if size >= (80, 24):
            bottom = it.page.query_one("#body").region.bottom
            assert all(box.bottom <= bottom for box in boxes), "a panel is cut off"
            assert all(box.right <= size[0] for box in boxes)


@pytest.mark.parametrize("size", [(59, 30), (80, 15), (40, 10), (20, 5)], ids=str)
async def test_a_small_terminal_is_told_and_stays_usable(stand: OpenStand, size: tuple[int, int]) -> None:
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.pilot.resize_terminal(*size)
        await it.until_shown(f"▲ {size[0]}x{size[1]} is small"[: size[0] - 2])
        for page in PAGES:
            await it.press(page)
        await it.press("q")
        await it.until_shown("Quit")
        await it.press("escape")
        await it.pilot.resize_terminal(120, 40)
        await it.until_shown("4 Journal")


async def test_a_small_place_gets_sparks_and_a_large_one_a_chart(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40)) as it:
        await it.until_shown("-30 min")
        assert it.page.query_one(Chart).kind == "plot"
        await it.pilot.resize_terminal(60, 16)
        await it.pilot.pause(0.2)
        assert it.page.query_one(Chart).kind == "sparks"


@pytest.mark.parametrize("size", [(60, 20), (60, 16), (40, 10)], ids=str)
async def test_how_many_watch_is_the_last_thing_to_go(stand: OpenStand, size: tuple[int, int]) -> None:
    async with stand(snapshot(), size=size) as it:
        text = await it.until_shown("watching 371", "p95 164 ms, 1.2 s old", "116 %")
        assert len(it.page.query_one("#now", Panel).lines) == 2
        inside = [line for line in text.splitlines() if line.startswith("│")]
        assert len([line for line in inside if "watching" in line or "latency" in line]) == 2
        assert "watching" in inside[0], "nothing is broken in its middle"
        assert "latency" in inside[1]


async def test_below_80_columns_the_panels_of_a_broadcast_stand_below_each_other(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(60, 20), page="3") as it:
        await it.until_shown(
            "4.48 of 4.50 Mbps", "fps        29.9 of 30", "round trip 11 ms", "-14 dB", "371 watching"
        )
        await it.press("pagedown")
        await it.until_shown("missed by source", "makes its token", "What happened")
        await it.press("pageup")
        await it.until_shown("ON AIR")


async def test_a_journal_without_room_keeps_what_happened(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(40, 10), page="4") as it:
        await it.until_shown("happened", "edge-2 drains: 340")


async def test_who_and_what_are_not_cut_at_120_columns(stand: OpenStand) -> None:
    first = snapshot(journal=[entry(1, "it has started", "manager.up", "stream manager")])
    async with stand(first, size=(120, 40), page="4") as it:
        text = await it.until_shown("it has started")
        assert text.count("stream manager") == 2


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (("q",), ["On air: main", "[ Cancel ]", "[▸Leave it running ]", "[ End the stage ]"]),
        (("2", "down", "d"), ["edge-1: 371 viewers", "[▸Cancel ]", "[ Drain ]"]),
        (("b",), ["Test pattern", "File", "[ Cancel ]", "[ Start ]"]),
        (("b", "right"), ["●▌ File", "▸ File", "[ Cancel ]", "[ Start ]"]),
        (("3", "S"), ["main: 371 viewers", "[▸Cancel ]", "[ Stop ]"]),
    ],
    ids=["quit", "drain", "test", "file", "stop"],
)
async def test_a_small_dialog_shows_its_effect_its_choices_and_where_the_keys_go(
    stand: OpenStand, keys: tuple[str, ...], says: list[str]
) -> None:
    async with stand(snapshot(), size=(40, 10)) as it:
        await it.press(*keys)
        await it.until_shown(*says)
        dialog = it.app.screen
        for _ in dialog.focus_chain:
            dialog.focus_next()
            focused = it.app.focused
            assert focused is not None
            inside = dialog.query_one("#choices" if focused in dialog.query("#choices *") else "#scroll")
            async with asyncio.timeout(5):
                while not inside.region.contains_region(focused.region):
                    await it.pilot.pause(0.02)
        await it.press("pageup", "pageup")
        await it.until_shown(says[0].partition(":")[0])
