"""Connections against capacity over the last 30 minutes: a big plotext chart, or a line of sparks.

plotext is a compiled library that is loaded when the first chart is drawn. Where it is missing, where the
place is too small for axes, or where drawing turns out slow on this machine (`SLOW_S`, measured at each
redraw), the same figures are drawn as sparklines. A redraw is made at most once a second.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.text import Text
from textual.app import App, RenderResult
from textual.content import Content
from textual.widget import Widget

from console.screens.shared import figures
from console.screens.shared.ink import paragraphs
from console.screens.shared.words import Line

SPAN_S = 30 * 60.0
SLOW_S = 0.06  # a redraw that takes longer than this, three times running, is given up for sparks
POINTS = 240  # a chart 200 cells wide has 400 braille columns; more points than this are not seen
SPANS_S = (3 * 60.0, 6 * 60.0, 15 * 60.0, SPAN_S)
LEAST_WIDTH, LEAST_HEIGHT = 40, 4
BACKGROUND = re.compile(r"\x1b\[48;[0-9;]*m")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    ago_s: float  # 0 is now
    connections: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours for plotext, (r, g, b), and whether only ASCII may be drawn."""

    main: tuple[int, int, int]
    second: tuple[int, int, int]
    axis: tuple[int, int, int]
    ascii: bool = False


def ink_of(app: "App[Any]") -> Ink:
    """The palette in use, for plotext."""
    variables = app.theme_variables

    def rgb(name: str) -> tuple[int, int, int]:
        value = variables[name]
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)

    return Ink(rgb("accent-line"), rgb("second"), rgb("muted"), getattr(app, "ascii_only", False))


def thin(samples: Sequence[Sample], points: int = POINTS) -> list[Sample]:
    """At most `points` samples that keep every peak: the busiest of each slice."""
    if len(samples) <= points:
        return list(samples)
    edges = [round(i * len(samples) / points) for i in range(points + 1)]
    return [max(samples[a:b], key=lambda s: s.connections) for a, b in pairwise(edges) if b > a]


def steps(xs: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The same with a corner before each change: a node comes at a moment, not bit by bit."""
    out_x, out_y = list(xs[:1]), list(values[:1])
    for x, (before, value) in zip(xs[1:], pairwise(values), strict=True):
        if value != before:
            out_x.append(x)
            out_y.append(before)
        out_x.append(x)
        out_y.append(value)
    return out_x, out_y


def nice_top(value: float) -> int:
    """A round number a little above, in four whole steps: the top of the scale."""
    for small in (4, 8, 12, 16, 20, 40, 60, 80):
        if value <= small:
            return small
    magnitude = int(10 ** (len(str(int(value))) - 1))
    steps = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10, 12)
    tops = (round(step * magnitude) for step in steps)
    return next(top for top in tops if top >= value * 1.04)


def span_of(samples: Sequence[Sample]) -> float:
    """How far back the chart goes, in seconds: 30 minutes, less while a stage is younger."""
    oldest = max((sample.ago_s for sample in samples), default=0.0)
    return next((span for span in SPANS_S if span >= oldest), SPAN_S)


def capacity_off_scale(samples: Sequence[Sample]) -> bool:
    """Whether the room is so much larger than the crowd that the crowd's line would lie flat on the floor."""
    peak = max((sample.connections for sample in samples), default=0)
    room = max((sample.capacity for sample in samples), default=0)
    return peak > 0 and peak * 12 < room


def title_of(samples: Sequence[Sample]) -> str:
    """What the chart shows, with the present figures."""
    if not samples:
        return "Edge connections against capacity"
    now = samples[-1]
    figure = f"{figures.count(now.connections)} of {figures.count(now.capacity)}"
    lines = "capacity far above" if capacity_off_scale(samples) else "capacity dotted"
    return f"Edge connections, {round(span_of(samples) / 60)} min: {figure} ({lines})"


def empty_figure(width: int, height: int, ink: Ink) -> Any:
    """plotext's one figure, with nothing in it but axes on the left and below. ImportError or OSError where
    plotext does not work."""
    import plotext  # compiled: about 30 ms to load, and only needed for charts

    plotext.terminal.limit(False, False)  # the size is the widget's, not the terminal's
    figure: Any = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(False)
    axis = plotext.pixel(foreground=ink.axis)
    figure.axes(True, pixel=axis, axis="y", side="left")
    figure.axes(True, pixel=axis, axis="x", side="lower")
    return figure


def draw_plot(samples: Sequence[Sample], width: int, height: int, ink: Ink) -> str:
    """The chart as lines with ANSI colours. ImportError or OSError where plotext does not work."""
    import plotext

    figure = empty_figure(width, height, ink)
    axis = plotext.pixel(foreground=ink.axis)
    shown, span = thin(samples), span_of(samples)
    xs = [-sample.ago_s / 60 for sample in shown]
    peak = max([s.connections for s in shown] + [1])
    top = nice_top(peak if capacity_off_scale(samples) else max([s.capacity for s in shown] + [peak]))
    second, main = plotext.pixel(foreground=ink.second), plotext.pixel(foreground=ink.main)
    marker = plotext.marker("-" if ink.ascii else "┈", second)
    capacity = figure.signal(*steps(xs, [s.capacity for s in shown]), marker=marker)
    marker = plotext.marker("*" if ink.ascii else "braille", main)
    line = figure.signal(xs, [s.connections for s in shown], marker=marker)
    if not capacity_off_scale(samples):
        figure.draw(capacity.lines())
    figure.draw(line.lines())
    y, x = figure.ruler("y", "left"), figure.ruler("x", "lower")
    y.lim(0, top)
    ticks = [0, top // 2, top] if height < 9 else [0, top // 4, top // 2, 3 * top // 4, top]
    y.ticks(ticks, [figures.count(tick) for tick in ticks])
    y.pixel(axis)
    minutes = round(span / 60)
    x.lim(-minutes, 0)
    third = minutes / 3
    x.ticks([-minutes, -2 * third, -third, 0], [f"-{minutes} min", f"-{2 * third:g}", f"-{third:g}", "now"])
    x.pixel(axis)
    return BACKGROUND.sub("", figure.build().string())  # the widget's own shows through


def draw_sparks(samples: Sequence[Sample], width: int) -> list[Line]:
    """The same in one or two lines."""
    if not samples:
        return [[("no figures yet", "$muted")]]
    now = samples[-1]
    peak = max(sample.connections for sample in samples)
    head = f"{figures.count(now.connections)} of {figures.count(now.capacity)}, peak {figures.count(peak)} "
    room = max(8, width - len(head) - 1)
    top = 0.0 if capacity_off_scale(samples) else float(max(sample.capacity for sample in samples))
    cells = spread(samples, room)
    return [[(head, ""), (figures.spark(cells, room, top), "$accent")]]


def spread(samples: Sequence[Sample], cells: int) -> list[float]:
    """The samples laid out over the span, one value a cell, 0 where nothing was known yet."""
    values, span = [0.0] * cells, span_of(samples)
    for sample in samples:
        index = min(cells - 1, max(0, int((span - sample.ago_s) / span * cells)))
        values[index] = max(values[index], float(sample.connections))
    known = 0.0
    started = min((int((span - s.ago_s) / span * cells) for s in samples), default=0)
    for index in range(max(0, started), cells):
        known = values[index] = values[index] or known  # a cell between two samples keeps the last one
    return values


class Chart(Widget):
    """`show(samples)` at any pace; it draws at most once a second."""

    DEFAULT_CSS = "Chart { height: 1fr; }"

    def __init__(self, *, id: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._samples: list[Sample] = []
        self._drawn_at = float("-inf")
        self._slow = 0
        self.drawn: RenderResult = Content("")
        self.cost_s = 0.0  # of the last redraw
        self.kind = ""  # "plot" or "sparks"

    def show(self, samples: list[Sample]) -> None:
        self._samples = samples
        if self._clock() - self._drawn_at >= 0.95:
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted:
            self._draw()

    def render(self) -> RenderResult:
        return self.drawn

    def _draw(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        started = time.perf_counter()
        self._drawn_at = self._clock()
        large = width >= LEAST_WIDTH and height >= LEAST_HEIGHT and len(self._samples) > 1
        if large and self._slow < 3:
            try:
                self.drawn = Text.from_ansi(
                    draw_plot(self._samples, width, height, ink_of(self.app)), no_wrap=True
                )
                self.kind = "plot"
            except (ImportError, OSError, AttributeError) as error:
                log.warning("charts are drawn as sparklines: plotext does not work here (%s)", error)
                self._slow = 3
        if not large or self._slow >= 3:
            self.drawn, self.kind = paragraphs(draw_sparks(self._samples, width)), "sparks"
        self.cost_s = time.perf_counter() - started
        if self.kind == "plot":
            self._slow = self._slow + 1 if self.cost_s > SLOW_S else 0
            if self._slow == 3:
                log.warning("charts are drawn as sparklines: a redraw took %.0f ms", self.cost_s * 1000)
        self.refresh()
