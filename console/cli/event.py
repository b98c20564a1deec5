"""`showcaller event add|list|show|edit|cancel|preflight`: what is shown when, and for how many."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli import context, output
from console.cli.context import Api, DryRun, Json, TokenFile, Yes

if TYPE_CHECKING:
    from controlplane.wire.events import CheckView, EventView, PreflightView

app = typer.Typer(help="What is shown when, and for how many.")

EVENT = typer.Argument(help="Its name (ev-7), its title, or how that begins.", metavar="EVENT")
WHEN = "2026-11-28T20:00, with an offset or in --zone; 20:00; or +30m."
Title = Annotated[str | None, typer.Option("--title", metavar="TEXT", help="What is shown.")]
Start = Annotated[str | None, typer.Option("--start", metavar="WHEN", help=f"When it begins: {WHEN}")]
End = Annotated[str | None, typer.Option("--end", metavar="WHEN", help="When it ends, written like that.")]
Lasts = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long it lasts: 2h, 90m.")]
Zone = Annotated[
    str | None,
    typer.Option("--zone", metavar="ZONE", help="Its time zone: Europe/Berlin. Default: this machine's."),
]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="NAME", help="The channel it is on. Default: main.")
]
Expected = Annotated[
    int | None, typer.Option("--expected", metavar="N", help="How many people will watch. Default: 0.")
]


@app.command()
def add(
    title: str = typer.Argument(help="What is shown.", metavar="TITLE"),
    start: str = typer.Option(..., "--start", metavar="WHEN", help=f"When it begins: {WHEN}"),
    end: End = None,
    lasts: Lasts = None,
    channel: Channel = None,
    expected: Expected = None,
    zone: Zone = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Plan an event. Say when it ends, or how long it lasts."""
    from controlplane.wire.events import EventRequest

    said = _said(channel=channel, expected=expected, end=end, lasts_s=_seconds(lasts))
    asked = EventRequest(title=title, start=start, zone=zone or _local_zone(), **said)
    _tell(context.call(api, token_file, lambda client: client.add_event(asked)), as_json=json)


@app.command("list")
def list_(
    past: bool = typer.Option(False, "--past", help="Also what was over longer than a day ago."),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """What is on, what is to come, and what was over in the last day."""
    from console.core.when import show_span

    events = context.call(api, token_file, lambda client: client.events(past=past))
    if json:
        output.print_json([event.model_dump(mode="json") for event in events])
        return
    if not events:
        context.note(
            'no event is planned; plan one with `showcaller event add "TITLE" --start 20:00 --for 2h`'
        )
        return
    now = time.time()
    output.print_table(
        ("event", "title", "state", "", "when", "channel", "expected"),
        [
            (
                event.id,
                event.title if len(event.title) <= 40 else f"{event.title[:37]}...",
                event.state,
                countdown(event, now),
                show_span(event.starts_at, event.ends_at, event.zone, now),
                event.channel,
                f"{event.expected:,}",
            )
            for event in events
        ],
        numbers=(6,),
    )


@app.command()
def show(event: str = EVENT, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """One event."""
    _tell(context.call(api, token_file, lambda client: client.event(event)), as_json=json)


@app.command()
def edit(
    event: str = EVENT,
    title: Title = None,
    start: Start = None,
    end: End = None,
    lasts: Lasts = None,
    channel: Channel = None,
    expected: Expected = None,
    zone: Annotated[str | None, typer.Option("--zone", metavar="ZONE", help="Its time zone.")] = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Change what is named, and leave the rest. Where the start alone is moved, the end moves along."""
    from console.core.errors import UsageError
    from controlplane.wire.events import EventChanges

    said = _said(
        title=title,
        start=start,
        end=end,
        lasts_s=_seconds(lasts),
        channel=channel,
        expected=expected,
        zone=zone,
    )
    if not said:
        raise UsageError(
            "nothing is to be changed",
            "Name what is: --title, --start, --end, --for, --channel, --expected or --zone",
        )
    changes = EventChanges(**said)
    _tell(context.call(api, token_file, lambda client: client.edit_event(event, changes)), as_json=json)


@app.command()
def cancel(
    event: str = EVENT,
    because: str = typer.Option("", "--because", metavar="TEXT", help="Why, for the journal."),
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """It will not be: nothing is prestaged for it any more. Asks first; a broadcast on air goes on."""
    from console.core.effects import effect_of_cancel
    from console.core.errors import UsageError

    if len(because) > 200:
        raise UsageError(f"--because: {len(because)} characters are more than 200", "Say it shorter")
    found = context.call(api, token_file, lambda client: client.event(event))
    effect = effect_of_cancel(found, time.time())
    if dry_run:
        if json:
            output.print_json({**found.model_dump(mode="json"), "effect": effect})
        else:
            print(f"{effect} (not done)")
        return 0
    if not output.confirm(effect, f"Cancel {found.id}?", yes=yes):
        context.note("nothing was done")
        return 1
    _tell(context.call(api, token_file, lambda client: client.cancel_event(found.id, because)), as_json=json)
    return 0


@app.command()
def preflight(
    event: str = EVENT,
    no_viewer: bool = typer.Option(False, "--no-viewer", help="Send no viewer; ask the manager alone."),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Go or no-go: nodes, publisher, a real viewer's first picture, database, budget, what is not set up.

    Ends with 0 for go and 1 for no-go: a line is red.
    """
    from console.core.preflight import preflight as ask
    from console.core.preflight import synthetic_viewer

    viewer = None if no_viewer else synthetic_viewer
    view = context.call(api, token_file, lambda client: ask(client, event, viewer))
    if json:
        output.print_json(view.model_dump(mode="json"))
    else:
        _show_preflight(view)
    return 0 if view.go else 1


def _show_preflight(view: "PreflightView") -> None:
    event = view.event
    print(output.bold(f"{event.id}  {event.title}", sys.stdout))
    width = max(len(_what(it)) for it in view.checks)
    for it in view.checks:
        print(f"  {_ink(it.verdict, f'{it.verdict:<5}')}  {_what(it):<{width}}  {it.says}")
        if it.next:
            print(f"  {'':<5}  {'':<{width}}  next: {it.next}")
    print(f"{verdict_words(view)} ({event.state}, {countdown(event, view.at)})")


def _what(check: "CheckView") -> str:
    return f"{check.check} {check.subject}".rstrip()


def _ink(verdict: str, text: str) -> str:
    code = {"green": 32, "amber": 33, "red": 31}[verdict]
    return f"\x1b[{code}m{text}\x1b[0m" if output.colour(sys.stdout) else text


def verdict_words(view: "PreflightView") -> str:
    """As in: NO-GO: 2 lines are red; GO: nothing is red, 1 line is amber."""
    red, amber = (sum(1 for it in view.checks if it.verdict == colour) for colour in ("red", "amber"))

    def lines(number: int) -> str:
        return "1 line is" if number == 1 else f"{number} lines are"

    if red:
        return f"NO-GO: {lines(red)} red"
    return f"GO: nothing is red, {lines(amber)} amber" if amber else "GO: all is green"


def _said(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _seconds(lasts: str | None) -> float | None:
    from console.core.units import parse_duration

    return None if lasts is None else parse_duration(lasts, least_s=1.0, most_s=14 * 86_400, of="--for")


def _local_zone() -> str:
    from console.core.errors import UsageError
    from console.core.when import local_zone

    zone = local_zone()
    if zone is None:
        raise UsageError("the time zone of this machine has no name", "Name one: --zone Europe/Berlin")
    return zone


def countdown(event: "EventView", now: float) -> str:
    """As in: in 2 days; ends in 40 min; 5 min ago."""
    from console.core.when import until

    if event.state == "coming":
        return until(event.starts_at, now)
    if event.state == "on":
        return f"ends {until(event.ends_at, now)}"
    at = event.cancelled_at if event.state == "cancelled" and event.cancelled_at else event.ends_at
    return until(at, now)


def _tell(event: "EventView", *, as_json: bool) -> None:
    from console.core.when import show_span

    if as_json:
        output.print_json(event.model_dump(mode="json"))
        return
    now = time.time()
    print(output.bold(f"{event.id}  {event.title}", sys.stdout))
    span = show_span(event.starts_at, event.ends_at, event.zone, now)
    rows = [
        ("state", f"{event.state}, {countdown(event, now)}"),
        ("when", span),
        ("channel", event.channel),
        ("expected", f"{event.expected:,}"),
    ]
    if event.state == "cancelled" and event.cancel_reason:
        rows.append(("because", event.cancel_reason))
    for name, words in rows:
        print(f"  {name:<9} {words}")
