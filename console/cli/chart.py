"""Lines over time, drawn with characters on a terminal."""

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from console.cli import output

ROWS, LEAST_COLUMNS, MOST_COLUMNS = 14, 50, 110
HOURS_FROM = 300  # minutes: a longer time is told in hours
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    values: Sequence[float | None]  # None: nobody knows, and nothing is drawn
    mark: str  # "braille", or a character
    plain: str  # where there is no UTF-8
    colour: int  # of the 256


def draw(minutes: Sequence[float], lines: Sequence[Line]) -> str:
    """Lines with a value for each of `minutes`, and which is which."""
    import plotext

    if not minutes:
        return "less than a minute: nothing to draw"
    hours = minutes[-1] - minutes[0] > HOURS_FROM
    times = [minute / 60 for minute in minutes] if hours else list(minutes)
    utf8 = "utf" in (sys.stdout.encoding or "").lower()
    plotext.terminal.limit(False, False)
    figure: Any = plotext.figure
    figure.clear()
    width = min(MOST_COLUMNS, max(LEAST_COLUMNS, shutil.get_terminal_size((100, 30)).columns))
    figure.plot_size(width, ROWS)
    figure.axes(False)
    figure.axes(True, axis="y", side="left")
    figure.axes(True, axis="x", side="lower")
    words = []
    for line in lines:
        mark = line.mark if utf8 else line.plain
        words.append(f"{'⠉' if mark == 'braille' else mark} {line.name}")
        marker = plotext.marker(mark, plotext.pixel(foreground=line.colour))
        for known, run in groupby(zip(times, line.values, strict=True), lambda it: it[1] is not None):
            if known:
                x, y = zip(*run, strict=True)
                figure.draw(figure.signal(list(x), list(y), marker=marker).lines())
    most = max([0.0, *(value for line in lines for value in line.values if value is not None)])
    step = max(1, round(most / 4))
    ticks = list(range(0, int(most) + step + 1, step))
    ruler = figure.ruler("y", "left")
    ruler.lim(0, ticks[-1])
    ruler.ticks(ticks, [f"{tick:,}" for tick in ticks])
    figure.ruler("x", "lower").lim(times[0] if len(times) > 1 else 0, times[-1])
    drawn = str(figure.build().string())
    drawn = drawn if output.colour(sys.stdout) else ANSI.sub("", drawn)
    return f"{drawn}\n{'hours' if hours else 'minutes'}; {'   '.join(words)}\n"
