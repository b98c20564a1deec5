"""`showcaller fleet add ROLE | drain NODE | undo NODE`: more nodes, fewer nodes; and why: `groups`, `why`,
`evaluate`, `policy`."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import typer

from console.cli import context, cost, history, output, policy, whatif
from console.cli.context import Api, DryRun, Json, TokenFile, Yes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from console.core.client import Client
    from controlplane.wire.api import DrainView, NodeDetail
    from controlplane.wire.events import EventView
    from controlplane.wire.fleet import Question
    from controlplane.wire.nodes import NodeState, Role

app = typer.Typer(help="More nodes, fewer nodes, and why.")
app.add_typer(policy.app, name="policy")

Wait = typer.Option(False, "--wait", help="Return only when it is done.")
ADD_WAIT_S = 120.0  # for a node to come into service
DRAIN_MARGIN_S = 60.0  # after the deadline, for the node to be gone
POLL_S = 0.25


@app.command()
def add(
    role: str = typer.Argument(help="origin or edge.", metavar="ROLE"),
    region: str | None = typer.Option(
        None, "--region", metavar="REGION", help="Where. Default: the stage's own."
    ),
    over_budget: bool = typer.Option(
        False, "--over-budget", help="Also where the stage's budget is not there for it."
    ),
    over_policy: bool = typer.Option(
        False,
        "--over-policy",
        help="Also beyond the max or the spend cap of the group's policy. It is not replaced when it dies, "
        "and ended like any other when the load is small.",
    ),
    wait: bool = Wait,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """One more node of a role. Returns when it has been asked for; with --wait when it is in service."""
    from console.core.effects import beyond_max, effect_of_add

    wanted = _role(role)

    async def main(client: "Client") -> None:
        beyond = beyond_max(await client.groups(), wanted, region)
        if dry_run:
            effect = effect_of_add(await client.nodes(), wanted, await cost.prices(client))
            effect += f"; {beyond}" if beyond else ""
            effect += ": it is refused without --over-policy" if beyond and not over_policy else ""
            if json:
                output.print_json(
                    {"node": None, "state": None, "viewers": 0, "deadline_s": None, "effect": effect}
                )
            else:
                print(f"{effect} (not done)")
            return
        view = await client.fleet_add(wanted, region, over_budget=over_budget, over_policy=over_policy)
        if wait:
            with _told_if_interrupted(f"{view.node} is still launched; `showcaller nodes` shows how it is"):
                view = await _wait_in_service(client, view)
        _show(view, wanted, as_json=json)

    context.call(api, token_file, main)


@app.command()
def drain(
    node: str = typer.Argument(help="The node, e.g. edge-2.", metavar="NODE"),
    channels: list[str] | None = typer.Argument(
        None,
        help="With --yes, where it is the last edge, or the last origin: the event that is on and will have "
        "none, or the channel, as in --yes ev-7 or --yes main.",
        metavar="[EVENT or CHANNEL]...",
    ),
    deadline: str | None = typer.Option(
        None,
        "--deadline",
        metavar="TIME",
        help="When it ends although not empty. Default: the policy's, 60s without one; a drain that runs "
        "keeps its own.",
    ),
    wait: bool = Wait,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """No new viewers on a node, and those it has are moved; it ends when it is empty or the deadline passes.

    Asks first. The last edge of what is on air, and its last origin, is drained only when that is named.
    """
    from console.core.effects import channels_without, effect_of_drain, ends_by
    from console.core.errors import UsageError
    from console.core.units import parse_duration
    from controlplane.wire.api import DrainView

    deadline_s = None if deadline is None else parse_duration(deadline, most_s=86_400, of="--deadline")

    async def main(client: "Client") -> int:
        nodes = await client.nodes()
        found = _find(nodes, node)
        until = await _drain_s(client, found) if deadline_s is None else deadline_s
        effect = f"{effect_of_drain(nodes, node, await cost.prices(client))}; {ends_by(until)}"
        streams = await client.streams()
        to_name = channels_without(nodes, streams, node)
        events = await _events_on(client) if to_name or channels else {}
        of_event = {it.id: it.channel for it in events.values()}
        named = [of_event.get(word, word) for word in channels or []]
        strange = set(named) - {it.channel for it in streams}
        if strange:
            raise UsageError(
                f"{' and '.join(sorted(strange))} is not on air",
                "One node is drained at a time; behind it stand the channels that will have none",
            )
        if to_name:
            shown = [f"{it} ({events[it].title})" if it in events else it for it in to_name]
            effect += f"; {' and '.join(shown)} will have no {found.role}"
        if dry_run:
            view = DrainView(node=node, state=found.state, viewers=found.connections or 0, deadline_s=until)
            if json:
                output.print_json({**view.model_dump(mode="json"), "effect": effect, "to_name": to_name})
            else:
                words = " ".join(_name(it, events) for it in to_name)
                asked = f"; that is to be named: --yes {words}" if to_name else ""
                print(f"{effect}{asked} (not done)")
            return 0
        unnamed = [it for it in to_name if it not in named]
        if unnamed:
            sure = output.confirm_by_name(effect, [_name(it, events) for it in unnamed])
            named += unnamed
        else:
            sure = output.confirm(effect, f"Drain {node}?", yes=yes)
        if not sure:
            context.note("nothing was done")
            return 1
        view = await client.drain(node, deadline_s, named)
        if wait:
            with _told_if_interrupted(f"the drain goes on; showcaller fleet undo {node} takes it back"):
                view = await _wait_gone(client, view)
        _show(view, found.role, as_json=json)
        return 0

    return context.call(api, token_file, main)


async def _events_on(client: "Client") -> "dict[str, EventView]":
    """Those that are on now, by channel."""
    from controlplane.wire.events import EventState

    return {it.channel: it for it in await client.events() if it.state is EventState.ON}


def _name(channel: str, events: "Mapping[str, EventView]") -> str:
    """What is typed for a channel: the event that is on there, if there is one."""
    return events[channel].id if channel in events else channel


@app.command()
def undo(
    node: str = typer.Argument(help="A node that is draining.", metavar="NODE"),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Take a draining node back into service."""

    async def main(client: "Client") -> None:
        role = _find(await client.nodes(), node).role  # its refusal names the nodes there are
        _show(await client.undrain(node), role, as_json=json)

    context.call(api, token_file, main)


@app.command()
def groups(json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """The node groups: what is wanted, what is there, and by which policy."""
    from console.core.units import show_number

    found = context.call(api, token_file, lambda client: client.groups())
    if json:
        shown = ("id", "role", "region", "desired", "in_service", "connections", "capacity")
        output.print_json([group.model_dump(mode="json", include=set(shown)) for group in found])
        return
    output.print_table(
        ("group", "desired", "in service", "connections", "capacity", "policy"),
        [
            (
                group.id,
                str(group.desired),
                str(group.in_service),
                show_number(group.connections),
                show_number(group.capacity),
                group.policy or "none: by hand",
            )
            for group in found
        ],
        numbers=(1, 2, 3, 4),
    )


@app.command()
def why(
    group: str | None = typer.Argument(None, help="One group, e.g. edge@local.", metavar="[GROUP]"),
    limit: int = typer.Option(
        20, "--limit", "-n", metavar="N", min=1, max=1000, help="So many, newest first."
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Why the fleet grew or shrank, or did not: each decision with its numbers, newest first."""
    found = context.call(api, token_file, lambda client: client.decisions(group, limit))
    if json:
        output.print_json([decision.model_dump(mode="json") for decision in found])
        return
    if not found:
        context.note("no policy has wanted anything yet; `showcaller fleet groups` shows which there are")
        return
    output.print_table(
        ("at", "group", "decision", "because"),
        [
            (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(it.at)), it.group, it.decision, it.because)
            for it in found
        ],
    )


@app.command()
def evaluate(
    group: str = policy.GROUP,
    figures: str | None = typer.Option(
        None,
        "--with",
        metavar="JSON",
        help="Other figures than the real ones, one a node: '[{\"connections\": 240}]'. Its fields: "
        "connections, reserved (seats), relays (streams x edges that an origin feeds), mbps, state "
        "(in_service), node (its name). What the unit is counted from has to be said: connections or "
        "reserved, for publishers relays too; for mbps mbps.",
    ),
    waiting: int | None = typer.Option(
        None, "--waiting", metavar="N", min=0, max=10_000_000, help="People without a seat."
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """What a group's policy would do now, or with other figures. Changes nothing."""
    question = _question(figures, waiting)
    answer = context.call(api, token_file, lambda client: client.evaluate(group, question))
    if json:
        output.print_json(answer.model_dump(mode="json", exclude_none=True))
        return
    print(answer.because)
    if not answer.actions:
        context.note("nothing is due")


app.command()(whatif.whatif)
app.command()(history.history)
app.command()(cost.cost)


def _question(figures: str | None, waiting: int | None) -> "Question":
    from json import loads

    from pydantic import ValidationError

    from console.core.errors import UsageError
    from controlplane.wire.faults import words_of
    from controlplane.wire.fleet import Question

    example = """Write it like '[{"connections": 240}, {"connections": 12, "state": "draining"}]'"""
    nodes = None
    if figures is not None:
        try:
            nodes = loads(figures)
        except (ValueError, RecursionError) as error:  # JSONDecodeError is one, and a number without end
            raise UsageError(f"--with is not JSON: {error}", example) from error
        if not isinstance(nodes, list):
            raise UsageError("--with is no list of nodes", example)
    try:
        return Question.model_validate({"nodes": nodes, "waiting": waiting})
    except ValidationError as error:
        raise UsageError(f"--with: {words_of(error)}", example) from error


def _role(text: str) -> "Role":
    from console.core.errors import UsageError
    from controlplane.wire.nodes import Role

    if text not in (Role.ORIGIN, Role.EDGE):
        raise UsageError(f"there are no nodes of role {text!r}", "Accepted: origin, edge")
    return Role(text)


def _find(nodes: "list[NodeDetail]", node: str) -> "NodeDetail":
    from console.core.errors import Rejected
    from controlplane.wire.base import Problem

    for found in nodes:
        if found.id == node:
            return found
    known = ", ".join(other.id for other in nodes) or "none"
    raise Rejected(
        Problem(
            code="no_such_node",
            title=f"there is no node {node if node.strip() else repr(node)}",
            detail=f"Nodes: {known}",
            status=404,
        )
    )


async def _drain_s(client: "Client", node: "NodeDetail") -> float:
    """How long a drain lasts at most where nobody says so: one that runs keeps its own."""
    from controlplane.wire.api import DRAIN_S

    if node.drain_deadline is not None:
        return max(0.0, round(node.drain_deadline - time.time(), 3))
    groups = await client.groups()
    own = (it.drain_s for it in groups if (it.role, it.region) == (node.role, node.region))
    return next(own, DRAIN_S)


@contextlib.contextmanager
def _told_if_interrupted(words: str) -> "Iterator[None]":
    """Who does not wait any longer is told what goes on without him."""
    try:
        yield
    except asyncio.CancelledError:
        context.note(words)
        raise


async def _wait_in_service(client: "Client", view: "DrainView") -> "DrainView":
    from console.core.errors import StageError, TimedOut
    from console.core.units import show_state
    from controlplane.wire.nodes import NodeState

    deadline = time.monotonic() + ADD_WAIT_S
    state: NodeState = view.state
    while state is not NodeState.IN_SERVICE:
        if state in (NodeState.FAULTY, NodeState.TERMINATING, NodeState.TERMINATED):
            raise StageError(
                f"{view.node} did not come into service: it is {show_state(state)}",
                f"See `showcaller logs {view.node}`",
            )
        if time.monotonic() > deadline:
            raise TimedOut(
                f"{view.node} is still {show_state(state)} after {ADD_WAIT_S:.0f} s",
                f"See `showcaller logs {view.node}`",
            )
        await asyncio.sleep(POLL_S)
        state = await _state_of(client, view.node)
    return view.model_copy(update={"state": state})


async def _wait_gone(client: "Client", view: "DrainView") -> "DrainView":
    """Returns when the node is gone; says how it goes meanwhile."""
    from console.core.effects import drain_words
    from console.core.errors import StageError, TimedOut
    from console.core.units import show_state
    from controlplane.wire.nodes import NodeState

    limit = (view.deadline_s or 0.0) + DRAIN_MARGIN_S
    until = time.monotonic() + limit
    said = ""
    while (found := await _if_there(client, view.node)) is not None:
        state = found.state
        if found.drain is not None and found.drain.viewers and (words := drain_words(found.drain)) != said:
            context.note(f"{view.node}: {words}")
            said = words
        if state is NodeState.TERMINATED:
            break
        if state is NodeState.IN_SERVICE:
            raise StageError(f"the drain of {view.node} was taken back", "It is in service")
        if time.monotonic() > until:
            raise TimedOut(
                f"{view.node} is still {show_state(state)} after {limit:.0f} s",
                f"See `showcaller logs {view.node}`",
            )
        await asyncio.sleep(POLL_S)
    return view.model_copy(update={"state": NodeState.TERMINATED, "viewers": 0})


async def _if_there(client: "Client", node: str) -> "NodeDetail | None":
    return next((found for found in await client.nodes() if found.id == node), None)


async def _state_of(client: "Client", node: str) -> "NodeState":
    """A node that is no longer listed is terminated."""
    from controlplane.wire.nodes import NodeState

    found = await _if_there(client, node)
    return NodeState.TERMINATED if found is None else found.state


def _show(view: "DrainView", role: "Role", *, as_json: bool) -> None:
    from console.core.effects import on_node
    from console.core.units import count, show_duration, show_state

    if as_json:
        output.print_json(view.model_dump(mode="json"))
        return
    words = f"{view.node}  {show_state(view.state)}"
    if view.viewers:
        words += f"  {count(view.viewers, on_node(role))}"
    if view.deadline_s is not None and view.state == "draining":
        words += f"  ends in {show_duration(view.deadline_s)} at the latest"
    print(words)
