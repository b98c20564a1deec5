"""`showcaller fleet policy set|show|clear GROUP`: when a node group grows and shrinks."""

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile
from console.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from console.core.client import Client
    from controlplane.wire.fleet import Policy, PolicyView

app = typer.Typer(help="When a node group grows and shrinks.")

GROUP = typer.Argument(help="The group, e.g. edge@local; its role where there is only one.", metavar="GROUP")


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=text)


Unit = Annotated[str | None, _option("unit", "UNIT", "connections, publishers or mbps: what is counted.")]
Capacity = Annotated[
    int | None,
    _option(
        "capacity",
        "N",
        "Of one node, in the unit: what the policy plans with. A node's own limit bounds placement.",
    ),
]
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
Scheduled = Annotated[
    list[str] | None,
    _option(
        "schedule",
        "WINDOWS",
        "Nodes that are there at times: '12 fri,sat 19:30-23:30; 20 2026-12-31 18:00-02:00 Europe/Berlin'. "
        "It replaces the one before; without a zone that stays as it is; none for none.",
    ),
]
File = Annotated[
    Path | None,
    _option("file", "FILE", "A policy as JSON, as `policy show --json` prints it; options go above it."),
]


class WrongOptions(UsageError):
    """Some options, or fields of a file, cannot be read: why, by place. `rest` is what can."""

    def __init__(self, faults: "Mapping[str, UsageError | str]", rest: "Policy") -> None:
        self.faults, self.rest = dict(faults), rest
        said = [f"{place}: {why}" if isinstance(why, str) else why.what for place, why in faults.items()]
        steps = [why.next_step for why in faults.values() if not isinstance(why, str)]
        super().__init__("; ".join(said), ". ".join(dict.fromkeys([*steps, "Nothing was changed"])))


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
    schedule: list[str] | None = None,
    file: Path | None = None,
) -> "Policy | None":
    """What the options say of a policy; None when they say nothing. Raises UsageError: WrongOptions where
    it is of some of them, and names all of these."""
    wrong: dict[str, UsageError | str] = {}

    def read(place: str, option: str, reader: "Callable[[str, str], Any]", text: str | None) -> Any:
        try:
            return None if text is None else reader(f"--{option}", text)
        except UsageError as error:
            wrong[place] = error
            return None

    options: dict[str, Any] = {
        "unit": unit,
        "capacity": capacity,
        "alarm": read("alarm", "alarm", _share, alarm),
        "in_fraction": read("in_fraction", "in-fraction", _share, in_fraction),
        "min": least,
        "max": most,
        "increment": increment,
        "up_periods": up_periods,
        "down_periods": down_periods,
        "up_cooldown_s": read("up_cooldown_s", "up-cooldown", _seconds, up_cooldown),
        "down_cooldown_s": read("down_cooldown_s", "down-cooldown", _seconds, down_cooldown),
        "launches": launches,
        "drain_deadline_s": read("drain_deadline_s", "drain-deadline", _seconds, drain_deadline),
    }
    said = {name: value for name, value in options.items() if value is not None}
    if spend_cap == "none":
        said["spend_cap"] = None
    elif (cap := read("spend_cap", "spend-cap", _number, spend_cap)) is not None:
        said["spend_cap"] = cap
    stage = {"nodes": prestage, "events": prestage_events}
    stage["schedule"] = read(
        "prestage.schedule", "schedule", _schedule, None if schedule is None else "; ".join(schedule)
    )
    prestaged = {name: value for name, value in stage.items() if value is not None}
    if file is not None:
        said = _read(file, said, prestaged)
    elif prestaged:
        said["prestage"] = prestaged
    return _policy(said, wrong) if said or wrong else None


def asked(group: str, api: context.Apis, token_file: Path | None, *options: Any) -> "Policy | None":
    """What `changes` reads of the options. Where some cannot be read the manager is asked of the rest, so
    that all that is wrong is named at once. Raises UsageError."""
    from console.core.errors import ConsoleError, Rejected
    from console.core.policies import sound

    try:
        return changes(*options)
    except WrongOptions as error:
        rest = error.rest
        if not rest.model_fields_set:
            raise
        try:
            context.call(api, token_file, lambda client: client.check_policy(group, rest))
        except Rejected as rejected:
            found = sound(rejected.problem.faults or [], error.faults)
            more = {fault.place: fault.text for fault in found}
            raise WrongOptions(error.faults | more, rest) from None
        except ConsoleError:  # nobody can be asked: then what is known here
            pass
        raise


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
    schedule: Scheduled = None,
    file: File = None,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Set or change a policy. What is not named stays as it is; the first time it is as usual."""
    from controlplane.wire.fleet import Policy

    wanted = asked(
        group, api, token_file,
        unit, capacity, alarm, in_fraction, least, most, increment, up_periods, down_periods, up_cooldown,
        down_cooldown, launches, drain_deadline, spend_cap, prestage, prestage_events, schedule, file,
    ) or Policy()  # fmt: skip
    view = context.call(api, token_file, lambda client: client.set_policy(group, wanted))
    _print(view, as_json=json)
    if words := _other_limit(view):
        context.note(words)


@app.command()
def show(group: str = GROUP, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """The policy of a group."""
    _print(context.call(api, token_file, lambda client: client.policy(group)), as_json=json)


@app.command()
def clear(group: str = GROUP, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """Take the policy away: from then on nodes are added and ended by hand."""

    async def main(client: "Client") -> "PolicyView":
        view = await client.policy(group, usual=True)
        if not view.usual:
            await client.clear_policy(view.group)
        return view

    view = context.call(api, token_file, main)
    if json:
        output.print_json({"group": view.group, "policy": None})
    else:
        print(
            f"{view.group} {'has no policy: nothing was changed' if view.usual else 'has no policy any more'}"
        )


def _seconds(option: str, text: str) -> float:
    """As in the console's form, none is no time at all."""
    from console.core.units import parse_duration

    return 0.0 if text.strip().lower() == "none" else parse_duration(text, most_s=86_400, of=option)


def _schedule(option: str, text: str) -> dict[str, Any]:
    from console.core.policies import read_schedule

    try:
        return read_schedule(text).model_dump(exclude_unset=True)
    except UsageError as error:
        raise UsageError(f"{option}: {error.what}", error.next_step) from error


def _share(option: str, text: str) -> Decimal:
    """0.6, or 60%"""
    if text.endswith("%"):
        return _number(option, text[:-1]) / 100
    return _number(option, text)


def _number(option: str, text: str) -> Decimal:
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


def _policy(said: dict[str, Any], wrong: "Mapping[str, UsageError | str]") -> "Policy":
    """What the manager is sent: it looks at the values; here at the shape, each fault with its place."""
    from pydantic import ValidationError

    from controlplane.wire.faults import faults_of
    from controlplane.wire.fleet import Policy

    try:
        policy = Policy.model_validate(said)
    except ValidationError as error:
        found = faults_of(error)
        bad = {place.partition(".")[0] for place in found}
        rest = Policy.model_validate({name: value for name, value in said.items() if name not in bad})
        raise WrongOptions({**wrong, **found}, rest) from None
    if wrong:
        raise WrongOptions(wrong, policy)
    return policy


def _other_limit(view: "PolicyView") -> str:
    """What a node takes, where the policy plans with something else; empty where it does not."""
    policy, takes = view.policy, view.node_takes
    if takes is None or policy.unit == "mbps" or policy.capacity == takes:
        return ""
    return f"one node takes {takes:,}; the policy plans with {policy.capacity:,}"


def _print(view: "PolicyView", *, as_json: bool) -> None:
    from console.core.units import show_duration

    policy = view.policy
    if as_json:
        output.print_json(policy.model_dump(mode="json"))
        return

    def lasting(seconds: float) -> str:
        return show_duration(seconds) if seconds else "none"

    rows = [
        ("load", f"in {policy.unit}; {_other_limit(view) or f'{policy.capacity:,} a node'}"),
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
    from console.core.units import count

    stage = policy.prestage
    words = [f"{count(stage.nodes, 'node')} always"] if stage.nodes else []
    words += [
        f"{count(window.nodes, 'node')} {window.date or ' '.join(window.days) or 'each day'} "
        f"{window.start} to {window.end} ({stage.schedule.zone})"
        for window in stage.schedule.windows
    ]
    words += ["what events expect"] if stage.events else []
    return "; ".join(words) or "none"


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f} %"
