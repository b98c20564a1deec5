"""What today's policy and a changed one would make of a crowd: nodes over time, and the figures. Pure but for
plotext, which is loaded when the first chart is drawn."""

import time
from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby, pairwise

from console.core.units import show_duration
from console.screens.shared import figures
from console.screens.shared.chart import BACKGROUND, Ink, empty_figure
from console.screens.shared.words import Line
from controlplane.wire.fleet import Course, WhatIfView
from controlplane.wire.money import MoneyNow, money

TODAY, CHANGED = "in force", "as typed"
HOURS_FROM = 300  # minutes: a longer time is told in hours
NAME, FIGURE = 17, 12  # cells of the columns
POINTS = 240  # more are not seen


def courses(view: WhatIfView) -> list[tuple[str, Course]]:
    named = ((TODAY, view.today), (CHANGED, view.changed))
    return [(name, course) for name, course in named if course is not None]


def rows(view: WhatIfView, now: MoneyNow | None) -> list[Line]:
    """The figures, a column for each policy, and one for what was where the load is a recorded one."""
    found = courses(view)
    sign = "$" if now is None else now.currency

    def dollars(amount: float) -> str:
        return money(Decimal(str(round(amount, 6))), sign)

    table: list[tuple[str, list[str]]] = [
        ("most nodes", [figures.count(it.most_nodes) for _, it in found]),
        ("node-hours", [f"{it.node_hours:,.1f}" for _, it in found]),
        ("cost", [dollars(it.cost) for _, it in found]),
        ("refused joins", [figures.count(it.refused) for _, it in found]),
        ("least headroom", [figures.count(it.least_headroom) for _, it in found]),
        ("waited, together", [show_duration(it.waited_s) for _, it in found]),
    ]
    names = [name for name, _ in found]
    was = view.recorded
    if was is not None:
        names.insert(0, "as it was")
        hours = was.node_hours
        real = (
            figures.count(was.most_nodes),
            f"{hours:,.1f}",
            dollars(hours * view.price),
            figures.count(was.refused),
            "-",
            "-",
        )
        for (_, values), value in zip(table, real, strict=True):
            values.insert(0, value)
    lines: list[Line] = [[(" " * NAME + "".join(f"{name:>{FIGURE}}" for name in names), "$muted")]]
    for name, values in table:
        refused = name == "refused joins"
        line: Line = [(f"{name:<{NAME}}", "$muted")]
        for value in values:
            bad = refused and value not in ("0", "-")
            text = f"▲ {value}" if bad else value
            line.append((f"{text:>{FIGURE}}", "bold $warn" if bad else ""))
        lines.append(line)
    return lines


def legend(view: WhatIfView, ink: Ink) -> Line:
    """Which line is which."""
    marks = {TODAY: "-" if ink.ascii else "┈", CHANGED: "*" if ink.ascii else "⠒"}
    styles = {TODAY: "$second", CHANGED: "$accent"}
    line: Line = [("nodes:  ", "$muted")]
    for name, _ in courses(view):
        line += [(f"{marks[name] * 2} ", f"bold {styles[name]}"), (f"{name}   ", "")]
    dot = "." if ink.ascii else "·"
    return [*line, (f"{dot * 2} ", "$muted"), ("the crowd, in full nodes", "")]


def draw(view: WhatIfView, width: int, height: int, ink: Ink) -> str:
    """Nodes that are there or coming, and as many as the crowd would fill to the brim; what is not known of
    a recorded one stays empty. ImportError or OSError where plotext does not work."""
    import plotext

    found = courses(view)
    longest = found[-1][1]
    minutes = [it.at / 60 for it in longest.minutes]
    full = [it.people / longest.policy.capacity if it.known else None for it in longest.minutes]
    drawn: list[tuple[Sequence[float | None], str, tuple[int, int, int]]] = [
        (full, "." if ink.ascii else "·", ink.axis)
    ]
    marks = {
        TODAY: ("-" if ink.ascii else "┈", ink.second),
        CHANGED: ("*" if ink.ascii else "braille", ink.main),
    }
    for name, course in found:
        drawn.append((nodes(course), *marks[name]))
    figure = empty_figure(width, height, ink)
    axis = plotext.pixel(foreground=ink.axis)
    hours = minutes[-1] - minutes[0] > HOURS_FROM
    times = [minute / 60 for minute in minutes] if hours else minutes
    for values, mark, colour in drawn:
        marker = plotext.marker(mark, plotext.pixel(foreground=colour))
        shown = thin(list(zip(times, values, strict=True)))
        for known, run in groupby(shown, lambda it: it[1] is not None):
            if known:
                x, y = zip(*run, strict=True)
                figure.draw(figure.signal(list(x), list(y), marker=marker).lines())
    most = max([1.0, *(value for values, _, _ in drawn for value in values if value is not None)])
    step = max(1, -(-int(most + 0.999) // 4))
    top = step * -(-int(most + 0.999) // step)
    y_ruler, x_ruler = figure.ruler("y", "left"), figure.ruler("x", "lower")
    y_ruler.lim(0, top)
    ticks = list(range(0, top + 1, step)) if height >= 8 else [0, top]
    y_ruler.ticks(ticks, [figures.count(tick) for tick in ticks])
    y_ruler.pixel(axis)
    last = times[-1] if len(times) > 1 else times[0] + 1
    x_ruler.lim(times[0], last)
    quarters = [times[0] + (last - times[0]) * part / 4 for part in range(5)]
    x_ruler.ticks(quarters, times_of(view, quarters, hours=hours))
    x_ruler.pixel(axis)
    return BACKGROUND.sub("", figure.build().string())


def times_of(view: WhatIfView, at: Sequence[float], *, hours: bool) -> list[str]:
    """What stands below: of a recorded load the time of day, of an invented crowd how long it has lasted."""
    was = view.recorded
    if was is not None:
        long = at[-1] - at[0] > 24
        form = "%a %H:%M" if hours and long else "%H:%M"
        size = 3600 if hours else 60
        return [time.strftime(form, time.localtime(was.first + it * size)) for it in at]
    unit = "h" if hours else "min"
    return [f"{it:.0f} {unit}" if it == at[-1] else f"{it:.0f}" for it in at]


def nodes(course: Course) -> list[float | None]:
    return [float(it.in_service + it.launching) if it.known else None for it in course.minutes]


def thin(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most POINTS of them: the highest of each slice, and nothing where nothing is known of it."""
    if len(points) <= POINTS:
        return points
    edges = [round(number * len(points) / POINTS) for number in range(POINTS + 1)]
    slices = [points[a:b] for a, b in pairwise(edges) if b > a]
    return [max(part, key=lambda it: -1.0 if it[1] is None else it[1]) for part in slices]


def sparks(view: WhatIfView, width: int) -> list[Line]:
    """The same without axes: a line for each policy."""
    found = courses(view)
    top = max((value for _, it in found for value in nodes(it) if value is not None), default=1.0)
    return [
        [
            (f"{name:<9} ", "$muted"),
            (figures.spark([value or 0.0 for value in nodes(it)], max(8, width - 10), top), "$accent"),
        ]
        for name, it in found
    ]
