"""Lines over time, drawn with characters on a terminal."""

import math
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from console.cli import output

# Of the rows 13 are for the lines, so that two, three, four or five figures beside them are evenly apart.
ROWS, LEAST_COLUMNS, MOST_COLUMNS = 15, 50, 110
HOURS_FROM = 300  # minutes: a longer time is told in hours
DAYS_FROM = 24 * 60  # minutes: beside the time of day the day is said
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    values: Sequence[float | None]  # None: nobody knows, and nothing is drawn
    mark: str  # "braille", or a character
    plain: str  # where there is no UTF-8
    colour: int  # of the 256


def draw(minutes: Sequence[float], lines: Sequence[Line], began: float | None = None) -> str:
    """Lines with a value for each of `minutes`, and which is which. `began`: Unix time of minute 0, where it
    was at a time: then the times of day are told, by the clock of this machine."""
    import plotext

    if not minutes:
        return "less than a minute: nothing to draw"
    times = list(minutes)
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
    step = max(1, -(-math.ceil(most) // 4))
    ticks = list(range(0, step * max(1, math.ceil(most / step)) + 1, step))
    ruler = figure.ruler("y", "left")
    ruler.lim(0, ticks[-1])
    ruler.ticks(ticks, [f"{tick:,}" for tick in ticks])
    first, last = times[0] if len(times) > 1 else 0.0, times[-1]
    below = figure.ruler("x", "lower")
    below.lim(first, last)
    marked, unit = time_ticks(first, last, began)
    below.ticks(list(marked), list(marked.values()))
    drawn = str(figure.build().string())
    drawn = drawn if output.colour(sys.stdout) else ANSI.sub("", drawn)
    return f"{drawn}\n{unit}; {'   '.join(words)}\n"


def time_ticks(first: float, last: float, began: float | None) -> tuple[dict[float, str], str]:
    """What stands below, at which minute, and what that is."""
    span = last - first
    quarters = [first + span * part / 4 for part in range(5)]
    if began is None and span > HOURS_FROM:
        return {at: f"{at / 60:.1f}".removesuffix(".0") for at in quarters}, "hours"
    whole = [at for it in dict.fromkeys(map(round, quarters)) if first <= (at := float(it)) <= last]
    if began is None:
        return {at: f"{at:.0f}" for at in whole}, "minutes"
    form = "%a %H:%M" if span > DAYS_FROM else "%H:%M"
    told = {at: time.strftime(form, time.localtime(began + at * 60)) for at in whole}
    return told, "by the clock of this machine"
