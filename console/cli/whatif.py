"""`showcaller fleet whatif GROUP`: a policy, and a changed one, under a crowd: recorded, or invented."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from console.cli import chart, context, history, output, policy
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from controlplane.wire.fleet import Course, WhatIfView

MOMENTS = 8  # decisions that are shown of each


def whatif(
    group: str = policy.GROUP,
    on: str | None = typer.Option(
        None,
        "--on",
        metavar="TIME|FILE",
        help="The recorded load: last:24h, last:7d, FROM..TO, or a file of `fleet history --jsonl`.",
    ),
    crowd: str | None = typer.Option(
        None, "--crowd", metavar="CURVE", help="Or people at moments: '0=0 10m=2000 2h=2000 2h10m=0'."
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
    prestage_events: policy.PrestageEvents = None,
    schedule: policy.Scheduled = None,
    file: policy.File = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Try a policy on a crowd, recorded or invented, before it is set: nodes, refused joins, hours and cost,
    beside today's."""
    from console.core.errors import UsageError
    from console.core.history import parse_on, read_file
    from console.core.units import parse_duration
    from controlplane.wire.fleet import WhatIf

    changed = policy.asked(
        group, api, token_file,
        unit, capacity, alarm, in_fraction, least, most, increment, up_periods, down_periods, up_cooldown,
        down_cooldown, launches, drain_deadline, spend_cap, prestage, prestage_events, schedule, file,
    )  # fmt: skip
    more: dict[str, Any] = {}
    if changed is not None:
        more["changes"] = changed
    if boot is not None:
        more["boot_s"] = parse_duration(boot, most_s=7200, of="--boot")
    if (on is None) == (crowd is None):
        raise UsageError("a crowd is needed, and one alone", "Add --on last:24h, or --crowd CURVE")
    recorded = None
    if crowd is not None:
        more["crowd"] = _curve(crowd)
    elif isinstance(named := parse_on(on or ""), Path):
        recorded = read_file(named, group)
        more["recorded"] = recorded.lines
    else:
        more["on"] = named
    question = WhatIf(party=party, **more)
    view = context.call(api, token_file, lambda client: client.what_if(group, question))
    if recorded is not None and view.recorded is not None:  # what could not be read the manager was not sent
        left_out = {name: getattr(recorded, name) for name in ("torn", "damaged", "damaged_in_all")}
        view = view.model_copy(update={"recorded": view.recorded.model_copy(update=left_out)})
    if json:
        output.print_json(view.model_dump(mode="json"))
    else:
        _show(view)


def _curve(text: str) -> list[Any]:
    from console.core.errors import UsageError
    from console.core.policies import read_curve

    try:
        return list(read_curve(text))
    except UsageError as error:
        raise UsageError(f"--crowd: {error.what}", error.next_step) from error


def _show(view: "WhatIfView") -> None:
    from console.core.units import show_duration, show_number

    courses = [
        (name, it) for name, it in (("today", view.today), ("changed", view.changed)) if it is not None
    ]
    was = view.recorded
    began = None if was is None else float(was.first)
    print(_chart(courses, "the load" if was is not None else "the crowd", began))
    rows = [
        ("most nodes", [str(it.most_nodes) for _, it in courses]),
        ("node-hours", [f"{it.node_hours:,.1f}" for _, it in courses]),
        ("cost", [f"${it.cost:,.2f}" for _, it in courses]),
        ("refused joins", [f"{it.refused:,}" for _, it in courses]),
        ("least headroom", [show_number(it.least_headroom) for _, it in courses]),
        ("waited, together", [show_duration(it.waited_s) for _, it in courses]),
        ("launches", [str(it.launches) for _, it in courses]),
        ("drains", [str(it.drains) for _, it in courses]),
    ]
    names = [name for name, _ in courses]
    if was is not None:
        names.insert(0, "as it was")
        hours = was.node_hours
        real = (str(was.most_nodes), f"{hours:,.1f}", f"${hours * view.price:,.2f}", f"{was.refused:,}")
        for (_, values), value in zip(rows, [*real, "-", "-", "-", "-"], strict=True):
            values.insert(0, value)
    output.print_table(
        ("", *names), [(name, *values) for name, values in rows], numbers=range(1, len(names) + 1)
    )
    for name, course in courses:
        print(f"\n{output.bold(name, sys.stdout)}")
        if not course.decisions:
            print("  nothing was to be decided: the nodes stay as they are")
        for moment in course.decisions[:MOMENTS]:
            at = show_duration(moment.at) if began is None else _clock(began + moment.at)
            print(f"  {at:>8}  {moment.decision:<8}  {moment.because}")
        if len(course.decisions) > MOMENTS:
            print(f"  and {len(course.decisions) - MOMENTS} more (--json has them)")
    if was is not None:
        print()
        history.tell(was)
    context.note(
        f"a launch was taken to last {show_duration(view.boot_s)}; a node is ${view.price:g} an hour"
    )


def _clock(at: float) -> str:
    return time.strftime("%a %H:%M", time.localtime(at))


def _chart(courses: "list[tuple[str, Course]]", crowd: str, began: float | None) -> str:
    """Nodes that are there or coming, minute by minute, and below them as many as the crowd would fill to the
    brim, and as many as are free; what is not known of a recorded one stays empty."""
    inks = {"today": ("┈", "-", 244), "changed": ("braille", "*", 39)}
    longest = courses[-1][1]
    full = [it.people / longest.policy.capacity if it.known else None for it in longest.minutes]
    capacity = longest.policy.capacity
    free = [
        max(0, it.headroom) / capacity if it.known and it.headroom is not None else None
        for it in longest.minutes
    ]
    lines = [
        chart.Line(f"{crowd}, in full nodes", full, "·", ".", 178),
        chart.Line(f"headroom, {courses[-1][0]}", free, "░", ":", 71),
    ]
    for name, course in courses:
        nodes = [float(it.in_service + it.launching) if it.known else None for it in course.minutes]
        lines.append(chart.Line(f"nodes, {name}", nodes, *inks[name]))
    return chart.draw([it.at / 60 for it in longest.minutes], lines, began)
