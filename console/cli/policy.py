"""`showcaller fleet policy set|show|clear GROUP`: when a node group grows and shrinks."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from controlplane.wire.fleet import Policy, PolicyView

app = typer.Typer(help="When a node group grows and shrinks.")

GROUP = typer.Argument(help="The group, e.g. edge@local; its role where there is only one.", metavar="GROUP")


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(None, f"--{name}", metavar=metavar, help=text)


@app.command("set")
def set_(
    group: str = GROUP,
    unit: str | None = _option("unit", "UNIT", "connections, publishers or mbps: what is counted."),
    capacity: int | None = _option("capacity", "N", "What one node carries, in the unit."),
    alarm: str | None = _option("alarm", "SHARE", "Of the capacity: nodes are added above it. 0.6, or 60%."),
    in_fraction: str | None = _option(
        "in-fraction", "SHARE", "One is drained when the others are filled to no more than this."
    ),
    least: int | None = _option("min", "N", "So many nodes at least."),
    most: int | None = _option("max", "N", "So many at most."),
    increment: int | None = _option("increment", "N", "How many are added at once."),
    up_periods: int | None = _option("up-periods", "N", "Seconds in a row that must want more."),
    down_periods: int | None = _option("down-periods", "N", "Seconds in a row that must want less."),
    up_cooldown: str | None = _option("up-cooldown", "TIME", "From one launch to the next."),
    down_cooldown: str | None = _option("down-cooldown", "TIME", "From a launch or a drain to a drain."),
    launches: int | None = _option("launches", "N", "Launches under way at once."),
    drain_deadline: str | None = _option("drain-deadline", "TIME", "When a drained node ends at the latest."),
    spend_cap: str | None = _option(
        "spend-cap", "DOLLARS", "An hour, for the group's nodes; none for no cap."
    ),
    prestage: int | None = _option("prestage", "N", "Nodes that are there whatever the load."),
    prestage_events: bool | None = typer.Option(
        None, "--prestage-events/--no-prestage-events", help="As many as the events' expected crowds need."
    ),
    file: Path | None = typer.Option(
        None,
        "--file",
        metavar="FILE",
        help="A policy as JSON, as `show --json` prints it; options go above it.",
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Set or change a policy. What is not named stays as it is."""
    from console.core.units import parse_duration

    said: dict[str, Any] = {
        "unit": unit,
        "capacity": capacity,
        "alarm": None if alarm is None else _share("--alarm", alarm),
        "in_fraction": None if in_fraction is None else _share("--in-fraction", in_fraction),
        "min": least,
        "max": most,
        "increment": increment,
        "up_periods": up_periods,
        "down_periods": down_periods,
        "up_cooldown_s": None if up_cooldown is None else parse_duration(up_cooldown, most_s=86_400),
        "down_cooldown_s": None if down_cooldown is None else parse_duration(down_cooldown, most_s=86_400),
        "launches": launches,
        "drain_deadline_s": None if drain_deadline is None else parse_duration(drain_deadline, most_s=86_400),
    }
    changes = {name: value for name, value in said.items() if value is not None}
    if spend_cap is not None:
        changes["spend_cap"] = None if spend_cap == "none" else _number("--spend-cap", spend_cap)
    prestaged = {"nodes": prestage, "events": prestage_events}
    prestaged = {name: value for name, value in prestaged.items() if value is not None}
    if file is not None:
        changes = _read(file, changes, prestaged)
    elif prestaged:
        changes["prestage"] = prestaged
    policy = _policy(changes)
    _print(context.call(api, token_file, lambda client: client.set_policy(group, policy)), as_json=json)


@app.command()
def show(group: str = GROUP, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """The policy of a group."""
    _print(context.call(api, token_file, lambda client: client.policy(group)), as_json=json)


@app.command()
def clear(group: str = GROUP, api: Api = None, token_file: TokenFile = None) -> None:
    """Take the policy away: from then on nodes are added and ended by hand."""
    context.call(api, token_file, lambda client: client.clear_policy(group))
    context.note(f"{group} has no policy any more")


def _share(option: str, text: str) -> Decimal:
    """0.6, or 60%"""
    if text.endswith("%"):
        return _number(option, text[:-1]) / 100
    return _number(option, text)


def _number(option: str, text: str) -> Decimal:
    from console.core.errors import UsageError

    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise UsageError(f"{option}: {text!r} is not a number", "Write it like 0.6")
    return value


def _read(file: Path, changes: dict[str, Any], prestaged: dict[str, Any]) -> dict[str, Any]:
    """A policy's JSON with what the options say above it."""
    from json import JSONDecodeError, loads

    from console.core.errors import UsageError

    try:
        found = loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "Name a file of JSON") from error
    except (JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {error}", "`policy show --json` prints one") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} is not a policy", "`policy show --json` prints one")
    found |= changes
    if prestaged:
        found["prestage"] = dict(found.get("prestage") or {}) | prestaged
    return found


def _policy(changes: dict[str, Any]) -> "Policy":
    """What the manager is sent: it looks at the values; here at the shape, each fault with its place."""
    from pydantic import ValidationError

    from console.core.errors import UsageError
    from controlplane.wire.fleet import Policy

    try:
        return Policy.model_validate(changes)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
            for fault in error.errors(include_url=False)
        ]
        raise UsageError(f"no policy: {'; '.join(wrong)}", "`policy show --json` prints one") from error


def _print(view: "PolicyView", *, as_json: bool) -> None:
    from console.core.units import show_duration

    policy = view.policy
    if as_json:
        output.print_json(policy.model_dump(mode="json"))
        return

    def lasting(seconds: float) -> str:
        return show_duration(seconds) if seconds else "none"

    rows = [
        ("load", f"in {policy.unit}; {policy.capacity:,} a node"),
        ("grows", f"above {_percent(policy.alarm)}, by {policy.increment}, in {policy.up_periods} periods"),
        ("", f"cooldown {lasting(policy.up_cooldown_s)}, at most {policy.launches} launches at once"),
        ("shrinks", f"at {_percent(policy.in_fraction)} of one less, in {policy.down_periods} periods"),
        (
            "",
            f"cooldown {lasting(policy.down_cooldown_s)}, drained within {lasting(policy.drain_deadline_s)}",
        ),
        ("nodes", f"{policy.min} to {policy.max}"),
        ("spend cap", "none" if policy.spend_cap is None else f"${policy.spend_cap:.2f} an hour"),
        ("prestage", _prestage_words(policy)),
    ]
    print(output.bold(view.group, sys.stdout))
    for name, words in rows:
        print(f"  {name:<10} {words}")


def _prestage_words(policy: "Policy") -> str:
    stage = policy.prestage
    words = [f"{stage.nodes} nodes always"] if stage.nodes else []
    words += [
        f"{window.nodes} nodes {window.date or ' '.join(window.days) or 'each day'} "
        f"{window.start} to {window.end} ({stage.schedule.zone})"
        for window in stage.schedule.windows
    ]
    words += ["what events expect"] if stage.events else []
    return "; ".join(words) or "none"


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f} %"
