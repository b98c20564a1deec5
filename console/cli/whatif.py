"""`showcaller fleet whatif GROUP`: a policy, and a changed one, under an invented crowd."""

import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import typer

from console.cli import context, output, policy
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from controlplane.wire.fleet import Course, WhatIfView

ROWS, LEAST_COLUMNS, MOST_COLUMNS = 14, 50, 110
MOMENTS = 8  # decisions that are shown of each
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def whatif(
    group: str = policy.GROUP,
    crowd: str = typer.Option(
        ..., "--crowd", metavar="CURVE", help="People at moments: '0=0 10m=2000 2h=2000 2h10m=0'."
    ),
    party: int = typer.Option(1, "--party", metavar="N", min=1, max=1000, help="So many come together."),
    boot: str | None = typer.Option(
        None, "--boot", metavar="TIME", help="How long a launch takes. Default: as measured."
    ),
    unit: policy.Unit = None,
    capacity: policy.Capacity = None,
    alarm: policy.Alarm = None,
    in_fraction: policy.InFraction = None,
    least: policy.Least = None,
    most: policy.Most = None,
    increment: policy.Increment = None,
    up_periods: policy.UpPeriods = None,
    down_periods: policy.DownPeriods = None,
    up_cooldown: policy.UpCooldown = None,
    down_cooldown: policy.DownCooldown = None,
    launches: policy.Launches = None,
    drain_deadline: policy.DrainDeadline = None,
    spend_cap: policy.SpendCap = None,
    prestage: policy.Prestaged = None,
    file: policy.File = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Try a policy on a crowd before it is set: nodes, refused joins, hours and cost, beside today's."""
    from console.core.units import parse_duration
    from controlplane.wire.fleet import WhatIf

    changed = policy.changes(
        unit, capacity, alarm, in_fraction, least, most, increment, up_periods, down_periods, up_cooldown,
        down_cooldown, launches, drain_deadline, spend_cap, prestage, file,
    )  # fmt: skip
    more: dict[str, Any] = {}
    if changed is not None:
        more["changes"] = changed
    if boot is not None:
        more["boot_s"] = parse_duration(boot, most_s=7200)
    question = WhatIf(crowd=_curve(crowd), party=party, **more)
    view = context.call(api, token_file, lambda client: client.what_if(group, question))
    if json:
        output.print_json(view.model_dump(mode="json"))
    else:
        _show(view)


def _curve(text: str) -> list[Any]:
    from console.core.errors import UsageError
    from console.core.units import parse_duration
    from controlplane.wire.fleet import Point

    example = "Write it like '0=0 10m=2000 2h=2000 2h10m=0': times from the start, each later than before"
    points = []
    for word in re.split(r"[\s,]+", text.strip()):
        at, equals, people = word.partition("=")
        if not equals or not people.isdecimal() or len(people) > 6:
            raise UsageError(f"--crowd: {word!r} is not TIME=PEOPLE", example)
        points.append(Point(at_s=parse_duration(at, most_s=7 * 86_400), people=int(people)))
    if len(points) < 2:
        raise UsageError("--crowd: one moment is no crowd", example)
    return points


def _show(view: "WhatIfView") -> None:
    from console.core.units import show_duration

    courses = [
        (name, it) for name, it in (("today", view.today), ("changed", view.changed)) if it is not None
    ]
    print(_chart(courses))
    rows = [
        ("most nodes", [str(it.most_nodes) for _, it in courses]),
        ("node-hours", [f"{it.node_hours:,.1f}" for _, it in courses]),
        ("cost", [f"${it.cost:,.2f}" for _, it in courses]),
        ("refused joins", [f"{it.refused:,}" for _, it in courses]),
        ("waited, together", [show_duration(it.waited_s) for _, it in courses]),
        ("launches", [str(it.launches) for _, it in courses]),
        ("drains", [str(it.drains) for _, it in courses]),
    ]
    output.print_table(
        ("", *(name for name, _ in courses)),
        [(name, *values) for name, values in rows],
        numbers=range(1, len(courses) + 1),
    )
    for name, course in courses:
        print(f"\n{output.bold(name, sys.stdout)}")
        for moment in course.decisions[:MOMENTS]:
            print(f"  {show_duration(moment.at):>8}  {moment.decision:<8}  {moment.because}")
        if len(course.decisions) > MOMENTS:
            print(f"  and {len(course.decisions) - MOMENTS} more (--json has them)")
    context.note(
        f"a launch was taken to last {show_duration(view.boot_s)}; a node is ${view.price:g} an hour"
    )


def _chart(courses: "list[tuple[str, Course]]") -> str:
    """Nodes that are there or coming, minute by minute, and below them as many as the crowd would fill to the
    brim."""
    import plotext

    utf8 = "utf" in (sys.stdout.encoding or "").lower()
    inks = {"today": ("┈" if utf8 else "-", 244), "changed": ("braille" if utf8 else "*", 39)}
    plotext.terminal.limit(False, False)
    figure: Any = plotext.figure
    figure.clear()
    width = min(MOST_COLUMNS, max(LEAST_COLUMNS, shutil.get_terminal_size((100, 30)).columns))
    figure.plot_size(width, ROWS)
    figure.axes(False)
    figure.axes(True, axis="y", side="left")
    figure.axes(True, axis="x", side="lower")
    longest = courses[-1][1]
    minutes = [it.at / 60 for it in longest.minutes]
    if not minutes:
        return "less than a minute: nothing to draw"
    crowd = [it.people / longest.policy.capacity for it in longest.minutes]
    lines = [("the crowd, in full nodes", crowd, ("." if not utf8 else "·", 178))]
    for name, course in courses:
        nodes = [float(it.in_service + it.launching) for it in course.minutes]
        lines.append((f"nodes, {name}", nodes, inks[name]))
    for _, values, (mark, colour) in lines:
        marker = plotext.marker(mark, plotext.pixel(foreground=colour))
        figure.draw(figure.signal(minutes, values, marker=marker).lines())
    most = max(max(values) for _, values, _ in lines)
    step = max(1, round(most / 4))
    ticks = list(range(0, int(most) + step + 1, step))
    y = figure.ruler("y", "left")
    y.lim(0, ticks[-1])
    y.ticks(ticks, [f"{tick:,}" for tick in ticks])
    figure.ruler("x", "lower").lim(0, minutes[-1])
    drawn = str(figure.build().string())
    words = "   ".join(f"{mark if mark != 'braille' else '⠉'} {name}" for name, _, (mark, _) in lines)
    return f"{drawn if output.colour(sys.stdout) else ANSI.sub('', drawn)}\nminutes; {words}\n"
