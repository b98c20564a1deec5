"""The chart: at most one redraw a second, its cost measured, sparks where it is dear."""

import re
from pathlib import Path

import pytest
from textual.app import App, ComposeResult

from console.app import theme_of
from console.screens.shared import chart
from console.screens.shared.chart import (
    Chart,
    Ink,
    Sample,
    draw_plot,
    draw_sparks,
    nice_top,
    spread,
    steps,
    thin,
    title_of,
)
from console.screens.shared.words import plain
from tests.console.screens.stand import Clock
from themes import PALETTES

INK = Ink((90, 200, 245), (199, 146, 234), (148, 160, 174))


def ramp(number: int = 1800) -> list[Sample]:
    return [Sample(float(number - i), i % 400, 400) for i in range(number)]


class Alone(App[None]):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.register_theme(theme_of(PALETTES[0]))
        self.theme = PALETTES[0].name

    def compose(self) -> ComposeResult:
        yield Chart(clock=self.clock)


def test_capacity_changes_at_a_moment() -> None:
    assert steps([-3, -2, -1, 0], [400, 400, 800, 800]) == (
        [-3, -2, -1, -1, 0],
        [400, 400, 400, 800, 800],
    )
    assert steps([], []) == ([], [])


def test_a_step_of_capacity_is_drawn_upright() -> None:
    samples = [Sample(1800.0, 300, 400), Sample(900.0, 300, 800), Sample(0.0, 300, 800)]
    rows = re.sub(r"\x1b\[[0-9;]*m", "", draw_plot(samples, 80, 14, INK)).splitlines()
    columns = [{i for i, glyph in enumerate(row) if glyph == "┈"} for row in rows]
    corner = [next(iter(column)) for column in columns if len(column) == 1]  # the rows between the two levels
    assert len(corner) >= 3
    assert len(set(corner)) == 1


async def test_it_is_drawn_at_most_once_a_second() -> None:
    clock = Clock()
    app = Alone(clock)
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        it = app.query_one(Chart)
        clock.now += 5
        it.show(ramp())
        first = it.drawn
        clock.now += 0.5
        it.show(ramp(100))
        assert it.drawn is first
        clock.now += 0.5
        it.show(ramp(100))
        assert it.drawn is not first
        assert it.kind == "plot"
        assert 0 < it.cost_s < 1


async def test_where_drawing_is_slow_sparks_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "SLOW_S", 0.0)
    clock = Clock()
    app = Alone(clock)
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        it = app.query_one(Chart)
        for _ in range(4):
            clock.now += 1
            it.show(ramp())
        assert it.kind == "sparks"


def test_the_plot_has_its_size_and_leaves_the_background_alone() -> None:
    text = draw_plot(ramp(), 100, 12, INK)
    assert len(text.splitlines()) == 12
    assert "\x1b[48;" not in text
    assert "-30 min" in text
    assert "now" in text


def test_the_ascii_plot_draws_its_points_in_ascii() -> None:
    text = draw_plot(ramp(), 100, 12, Ink(INK.main, INK.second, INK.axis, ascii=True))
    assert not any("⠀" <= character <= "⣿" for character in text)
    assert "*" in text


def test_peaks_survive_thinning() -> None:
    samples = [Sample(1800.0 - i, 399 if i == 777 else 1, 400) for i in range(1800)]
    assert len(thin(samples)) <= chart.POINTS
    assert max(sample.connections for sample in thin(samples)) == 399


@pytest.mark.parametrize(
    ("value", "top"), [(0, 4), (9, 12), (400, 500), (952, 1000), (1200, 1600), (1600, 2000)]
)
def test_scales_are_round(value: float, top: int) -> None:
    assert nice_top(value) == top


def test_every_scale_has_whole_quarters_above_its_value() -> None:
    for value in range(100_000):
        top = nice_top(value)
        assert top >= value
        assert top % 4 == 0


def test_sparks_say_now_capacity_and_peak() -> None:
    assert plain(draw_sparks([Sample(60.0, 9, 20), Sample(0.0, 4, 20)], 70)[0]).startswith("4 of 20, peak 9")
    assert plain(draw_sparks([], 70)[0]) == "no figures yet"
    far = [Sample(1799.0, 3, 400), Sample(0.0, 3, 400)]
    assert title_of(far) == "Edge connections, 30 min: 3 of 400 (capacity far above)"
    assert title_of([Sample(40.0, 90, 400)]) == "Edge connections, 3 min: 90 of 400 (capacity dotted)"
    assert spread([Sample(1799.0, 5, 9), Sample(0.0, 1, 9)], 4) == [5.0, 5.0, 5.0, 1.0]


def test_plotext_is_loaded_only_for_a_chart() -> None:
    source = Path(chart.__file__).read_text()
    assert "\nimport plotext" not in source
