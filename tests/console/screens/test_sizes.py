"""Terminals of every size: nothing overlaps, the next keys are in sight, and a small one is told so."""

import pytest

from console.screens.shared.chart import Chart
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import snapshot

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
