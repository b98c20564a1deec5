"""`showcaller fleet policy set|show|clear GROUP`: when a node group grows and shrinks."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from controlplane.wire.fleet import Policy, PolicyView

app = typer.Typer(help="When a node group grows and shrinks.")

GROUP = typer.Argument(help="The group, e.g. edge@local; its role where there is only one.", metavar="GROUP")


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=text)


Unit = Annotated[str | None, _option("unit", "UNIT", "connections, publishers or mbps: what is counted.")]
Capacity = Annotated[int | None, _option("capacity", "N", "What one node carries, in the unit.")]
Alarm = Annotated[
    str | None, _option("alarm", "SHARE", "Of the capacity: nodes are added above it. 0.6, or 60%.")
]
InFraction = Annotated[
    str | None,
    _option("in-fraction", "SHARE", "One is drained when the others are filled to no more than this."),
]
Least = Annotated[int | None, _option("min", "N", "So many nodes at least.")]
Most = Annotated[int | None, _option("max", "N", "So many at most.")]
Increment = Annotated[int | None, _option("increment", "N", "How many are added at once.")]
UpPeriods = Annotated[int | None, _option("up-periods", "N", "Seconds in a row that must want more.")]
DownPeriods = Annotated[int | None, _option("down-periods", "N", "Seconds in a row that must want less.")]
UpCooldown = Annotated[str | None, _option("up-cooldown", "TIME", "From one launch to the next.")]
DownCooldown = Annotated[str | None, _option("down-cooldown", "TIME", "From a launch or a drain to a drain.")]
Launches = Annotated[int | None, _option("launches", "N", "Launches under way at once.")]
DrainDeadline = Annotated[
    str | None, _option("drain-deadline", "TIME", "When a drained node ends at the latest.")
]
SpendCap = Annotated[
    str | None, _option("spend-cap", "DOLLARS", "An hour, for the group's nodes; none for no cap.")
]
Prestaged = Annotated[int | None, _option("prestage", "N", "Nodes that are there whatever the load.")]
PrestageEvents = Annotated[
    bool | None,
    typer.Option(
        "--prestage-events/--no-prestage-events", help="As many as the crowds of events need, in time."
    ),
]
File = Annotated[
    Path | None,
    _option("file", "FILE", "A policy as JSON, as `policy show --json` prints it; options go above it."),
]


def changes(
    unit: str | None = None,
    capacity: int | None = None,
    alarm: str | None = None,
    in_fraction: str | None = None,
    least: int | None = None,
    most: int | None = None,
    increment: int | None = None,
    up_periods: int | None = None,
    down_periods: int | None = None,
    up_cooldown: str | None = None,
    down_cooldown: str | None = None,
    launches: int | None = None,
    drain_deadline: str | None = None,
    spend_cap: str | None = None,
    prestage: int | None = None,
    prestage_events: bool | None = None,
    file: Path | None = None,
) -> "Policy | None":
    """What the options say of a policy; None when they say nothing. Raises UsageError."""
    from console.core.units import parse_duration

    def seconds(text: str | None) -> float | None:
        return None if text is None else parse_duration(text, most_s=86_400)

    options: dict[str, Any] = {
        "unit": unit,
        "capacity": capacity,
        "alarm": None if alarm is None else _share("--alarm", alarm),
        "in_fraction": None if in_fraction is None else _share("--in-fraction", in_fraction),
        "min": least,
        "max": most,
        "increment": increment,
        "up_periods": up_periods,
        "down_periods": down_periods,
        "up_cooldown_s": seconds(up_cooldown),
        "down_cooldown_s": seconds(down_cooldown),
        "launches": launches,
        "drain_deadline_s": seconds(drain_deadline),
    }
    said = {name: value for name, value in options.items() if value is not None}
    if spend_cap is not None:
        said["spend_cap"] = None if spend_cap == "none" else _number("--spend-cap", spend_cap)
    prestaged = {
        name: value for name, value in (("nodes", prestage), ("events", prestage_events)) if value is not None
    }
    if file is not None:
        said = _read(file, said, prestaged)
    elif prestaged:
        said["prestage"] = prestaged
    return _policy(said) if said else None


@app.command("set")
def set_(
    group: str = GROUP,
    unit: Unit = None,
    capacity: Capacity = None,
    alarm: Alarm = None,
    in_fraction: InFraction = None,
    least: Least = None,
    most: Most = None,
    increment: Increment = None,
    up_periods: UpPeriods = None,
    down_periods: DownPeriods = None,
    up_cooldown: UpCooldown = None,
    down_cooldown: DownCooldown = None,
    launches: Launches = None,
    drain_deadline: DrainDeadline = None,
    spend_cap: SpendCap = None,
    prestage: Prestaged = None,
    prestage_events: PrestageEvents = None,
    file: File = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Set or change a policy. What is not named stays as it is; the first time it is as usual."""
    wanted = changes(
        unit, capacity, alarm, in_fraction, least, most, increment, up_periods, down_periods, up_cooldown,
        down_cooldown, launches, drain_deadline, spend_cap, prestage, prestage_events, file,
    ) or _policy({})  # fmt: skip
    _print(context.call(api, token_file, lambda client: client.set_policy(group, wanted)), as_json=json)


@app.command()
def show(group: str = GROUP, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """The policy of a group."""
    _print(context.call(api, token_file, lambda client: client.policy(group)), as_json=json)


@app.command()
def clear(group: str = GROUP, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """Take the policy away: from then on nodes are added and ended by hand."""
    context.call(api, token_file, lambda client: client.clear_policy(group))
    if json:
        output.print_json({"group": group, "policy": None})
    else:
        print(f"{group} has no policy any more")


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


def _read(file: Path, said: dict[str, Any], prestaged: dict[str, Any]) -> dict[str, Any]:
    """A policy's JSON with what the options say above it."""
    from json import loads

    from console.core.errors import UsageError

    try:
        found = loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "Name a file of JSON") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError is one, and a number without end
        raise UsageError(f"{file} is not JSON: {error}", "`policy show --json` prints one") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} is not a policy", "`policy show --json` prints one")
    found |= said
    if prestaged:
        stage = found.get("prestage") or {}
        found["prestage"] = stage | prestaged if isinstance(stage, dict) else stage
    return found


def _policy(said: dict[str, Any]) -> "Policy":
    """What the manager is sent: it looks at the values; here at the shape, each fault with its place."""
    from pydantic import ValidationError

    from console.core.errors import UsageError
    from controlplane.wire.fleet import Policy

    try:
        return Policy.model_validate(said)
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
