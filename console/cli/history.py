"""`showcaller fleet history GROUP`: the load that was recorded of a group, and the nodes that carried it."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli import chart, context, output, policy
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from controlplane.wire.history import Coverage, HistoryLine, HistoryView

GAPS = 5  # that are named

On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="TIME",
        help="last:24h, last:7d, or FROM..TO (2026-11-26T18:00..2026-11-26T23:00).",
    ),
]


def history(
    group: str = policy.GROUP,
    on: On = "last:24h",
    jsonl: bool = typer.Option(
        False, "--jsonl", help="Print it as JSON Lines, a file that `fleet whatif --on FILE` takes."
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """The recorded load of a group, minute by minute, and the nodes that carried it."""
    from pathlib import Path

    from console.core.errors import UsageError
    from console.core.history import ACCEPTED, line_of, parse_on
    from controlplane.wire.history import header

    if jsonl and json:
        raise UsageError("--json and --jsonl are two ways to print it", "Choose one")
    span = parse_on(on)
    if isinstance(span, Path):
        raise UsageError("--on: a file is no time of the stage's history", ACCEPTED)
    view = context.call(api, token_file, lambda client: client.history(group, span))
    if json:
        output.print_json(view.model_dump(mode="json"))
    elif jsonl:
        print(header().decode(), end="")
        for line in view.lines:
            print(line_of(line))
        tell(view.coverage, to_data=False)
    else:
        _show(view)


def tell(coverage: "Coverage", *, to_data: bool = True) -> None:
    """How much of what was asked about is known; on stdout, or beside the data on stderr."""
    say = print if to_data else context.note
    for line in words(coverage):
        say(line)


def words(coverage: "Coverage") -> list[str]:
    from console.core.history import damages
    from console.core.units import count, show_duration

    asked = max(1, coverage.end - coverage.start)
    share = min(100, coverage.known_s * 100 // asked)
    said = [
        f"{coverage.group} is recorded from {_moment(coverage.first)} to {_moment(coverage.last + 1)}: "
        f"{share} % of the time that was asked about"
    ]
    longest = sorted(coverage.gaps, key=lambda gap: gap.start - gap.end)[:GAPS]
    for gap in sorted(longest, key=lambda gap: gap.start):
        said.append(
            f"the history has a gap of {show_duration(gap.end - gap.start)} from {_moment(gap.start)}: "
            "nothing is planned or counted there"
        )
    if coverage.gaps_in_all > len(longest):
        said.append(f"and {count(coverage.gaps_in_all - len(longest), 'shorter gap')}")
    if coverage.twice_s:
        lasting = show_duration(coverage.twice_s)
        said.append(f"the clock was set back: {lasting} were recorded twice, and the later counts")
    return said + damages(coverage.torn, coverage.damaged, coverage.damaged_in_all)


def _show(view: "HistoryView") -> None:
    from console.core.units import show_number

    coverage, lines = view.coverage, view.lines
    print(_chart(coverage, lines))
    unit = lines[-1].unit
    output.print_table(
        ("", ""),
        [
            (f"greatest load, {unit}", show_number(coverage.most)),
            (f"mean load, {unit}", show_number(coverage.mean, 1)),
            ("most nodes", str(coverage.most_nodes)),
            ("node-hours", f"{coverage.node_hours:,.1f}"),
            ("refused joins", show_number(coverage.refused)),
        ],
        numbers=(1,),
    )
    print()
    tell(coverage)


def _chart(coverage: "Coverage", lines: "list[HistoryLine]") -> str:
    """Nodes, and below them as many as the load filled to the brim; what is not known stays empty."""
    by_minute: dict[int, list[HistoryLine]] = {}
    for line in lines:
        by_minute.setdefault(line.at // 60, []).append(line)
    minutes = range(coverage.first // 60, coverage.last // 60 + 1)
    load: list[float | None] = []
    nodes: list[float | None] = []
    for minute in minutes:
        found = by_minute.get(minute, [])
        load.append(max((max(it.load(it.unit)) / max(1, it.capacity) for it in found), default=None))
        nodes.append(float(found[-1].nodes) if found else None)
    return chart.draw(
        [float(minute - minutes[0]) for minute in minutes],
        [
            chart.Line("the load, in full nodes", load, "·", ".", 178),
            chart.Line("nodes", nodes, "braille", "*", 39),
        ],
        began=float(minutes[0] * 60),
    )


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
