"""`showcaller fleet cost`: what nodes and egress cost, now, today, this month, by group, and to its end."""

import time
from typing import TYPE_CHECKING

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from console.core.client import Client
    from controlplane.wire.fleet import Span
    from controlplane.wire.money import CostSpan, CostView, PricesView

ACCEPTED = "Write it like this-month, last:24h, 2026-11-26T18:00..2026-11-26T23:00, or event:ev-7"
TOLD_S = 1.0  # of node time: from then on it is said that something is not known


def cost(
    on: str = typer.Option(
        "this-month",
        "--on",
        metavar="TIME",
        help="this-month, last:24h, FROM..TO (2026-11-26T18:00..2026-11-26T23:00), or event:EVENT.",
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """What the stage costs: now, today, this month, by group, and by the end of the month or of an event."""
    span, event = _asked(on)
    view = context.call(api, token_file, lambda client: client.cost(span, event=event))
    if json:
        output.print_json(view.model_dump(mode="json"))
    else:
        _show(view)


async def prices(client: "Client") -> "PricesView | None":
    """None: the stream manager is of a version that knows none."""
    from console.core.errors import Rejected

    try:
        return (await client.cost()).prices
    except Rejected as error:
        if error.status == 404:
            return None
        raise


def _asked(on: str) -> "tuple[Span | None, str | None]":
    from console.core.errors import UsageError
    from console.core.history import parse_span

    if on == "this-month":
        return None, None
    kind, _, name = on.partition(":")
    if kind == "event" and name:
        return None, name
    try:
        return parse_span(on), None
    except UsageError as error:
        raise UsageError(error.what, ACCEPTED) from error


def _show(view: "CostView") -> None:
    from console.core.units import count, show_bitrate
    from controlplane.wire.money import money

    sign, now = view.prices.currency, view.now
    more = "" if now.egress_known else " at least"
    free = f"{now.free_left_gb:,.0f} GB of this month are still free"
    nodes = f"{count(now.nodes, 'node')} {money(now.nodes_hour, sign)}"
    print(
        f"now      {money(now.hour, sign)} an hour: {nodes}, "
        f"egress {show_bitrate(now.egress_bps)}{more} {money(now.egress_hour, sign)} ({free})"
    )
    spans = [("today", view.today), ("this month", view.month)]
    if view.asked is not None:
        spans.append((view.event or "asked", view.asked))
    elif view.event is not None and view.forecast.until > time.time():
        output.say(f"{view.event} has not begun: nothing was spent on it yet")
    print()
    output.print_table(
        ("", "from", "to", "node-hours", "nodes", "egress", "costs", "in all"),
        [
            (
                name,
                _moment(it.start),
                _moment(it.end),
                f"{it.node_hours:,.2f}",
                money(it.nodes, sign),
                f"{it.egress_gb:,.1f} GB",
                money(it.egress, sign),
                money(it.cost, sign),
            )
            for name, it in spans
        ],
        numbers=(3, 4, 5, 6, 7),
    )
    last = spans[-1][1]
    print()
    output.print_table(
        (f"{spans[-1][0]}, by group", "node-hours", "nodes", "egress"),
        [
            (it.group, f"{it.node_hours:,.2f}", money(it.nodes, sign), f"{it.egress_gb:,.1f} GB")
            for it in last.groups
        ],
        numbers=(1, 2, 3),
    )
    print()
    for line in unknown(last):
        print(line)
    print(f"by {_moment(view.forecast.until)}: {money(view.forecast.cost, sign)}. {view.forecast.because}")
    bounds = [
        f"{money(amount, sign)} {each}"
        for amount, each in ((view.budget.per_hour, "an hour"), (view.budget.per_month, "a month"))
        if amount is not None
    ]
    print(f"budget   {' and '.join(bounds) if bounds else 'none ([budget] in the settings of the manager)'}")
    if view.budget.warning:
        print(f"▲ {view.budget.warning}")


def unknown(span: "CostSpan") -> list[str]:
    """What is not in the figures, for nobody knows it."""
    from console.core.units import show_duration

    said = []
    if span.unmeasured_s >= TOLD_S:
        lasting = show_duration(span.unmeasured_s)
        said.append(f"not in it: the egress of {lasting} of node time, in which no report came")
    if span.unknown_s >= TOLD_S:
        lasting = show_duration(span.unknown_s)
        said.append(f"not in it: up to {lasting} of node time; when those nodes ended nobody saw")
    return said


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
