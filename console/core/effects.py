"""What a step would do, in words, before anyone does it: for dialogs, confirmations and --dry-run. Pure."""

from collections.abc import Iterable

from console.core.units import count, show_duration
from console.core.when import until
from controlplane.wire.api import DrainProgress, GroupView, NodeView, StreamView
from controlplane.wire.events import EventView
from controlplane.wire.money import PricesView, hourly
from controlplane.wire.nodes import NodeState, Role

SERVING = (NodeState.IN_SERVICE, NodeState.SUSPECT)
COMING = (NodeState.REQUESTED, NodeState.CREATING, NodeState.BOOTING)


def on_node(role: Role) -> str:
    """Whoever is connected to a node: an edge has viewers, an origin publishers and the edges it feeds."""
    return "viewer" if role is Role.EDGE else "connection"


def effect_of_drain(nodes: Iterable[NodeView], node_id: str, prices: PricesView | None = None) -> str:
    """ "edge-2: 3 viewers; 2 -> 1 edges; -$0.031 an hour; they go to edge-1, room there: 400"."""
    nodes = list(nodes)
    node = next(node for node in nodes if node.id == node_id)
    serving = [other for other in nodes if other.role == node.role and other.state in SERVING]
    left = [other for other in serving if other.id != node_id]
    on_it = node.connections or 0
    people = count(on_it, on_node(node.role))
    words = f"{node_id}: {people}; {len(serving)} -> {len(left)} {node.role}s{_costs(prices, -1)}"
    if not left:
        return f"{words}: nobody serves as {node.role} until another one is added"
    there = [it for it in left if it.state is NodeState.IN_SERVICE]  # a suspect one takes nobody
    room = sum(max(0, it.capacity - (it.connections or 0)) for it in there)
    if not on_it:
        return f"{words}; room elsewhere: {room:,}"
    named = [it.id for it in there[:3]] + ([f"{len(there) - 3} more"] if there[3:] else [])
    names = " and ".join(part for part in (", ".join(named[:-1]), *named[-1:]) if part)
    if room < on_it:
        where = f"room for {room:,} of them on {names}" if room else "room for them nowhere else"
        return f"{words}; {where}: add one first (showcaller fleet add {node.role})"
    return f"{words}; {'it goes' if on_it == 1 else 'they go'} to {names}, room there: {room:,}"


def ends_by(deadline_s: float) -> str:
    """ "it ends when it is empty, in 5 min at the latest"."""
    return f"it ends when it is empty, in {show_duration(deadline_s)} at the latest"


def channels_without(nodes: Iterable[NodeView], streams: Iterable[StreamView], node_id: str) -> list[str]:
    """What is on air and would have no edge left when this node is drained, or is published to it and would
    have no origin left: whoever drains it names them."""
    nodes = list(nodes)
    node = next(node for node in nodes if node.id == node_id)
    if node.state not in SERVING:
        return []
    others = [it for it in nodes if it.role is node.role and it.id != node_id]
    if any(it.state in (*SERVING, *COMING) for it in others):
        return []
    return sorted(it.channel for it in streams if node.role is Role.EDGE or it.origin == node_id)


def drain_words(drain: DrainProgress) -> str:
    """ "241 of 400 moved, 20 moving, 139 left, about 12 s", or what it waits for."""
    words = f"{drain.moved:,} of {drain.viewers:,} moved"
    if drain.moving:
        words += f", {drain.moving:,} moving"
    words += f", {drain.left:,} left"
    if drain.failed:
        words += f", {count(drain.failed, 'move')} failed"
    if drain.waits:
        return f"{words}; it {drain.waits}"
    return words if drain.eta_s is None or not drain.left else f"{words}, about {show_duration(drain.eta_s)}"


def beyond_max(groups: Iterable[GroupView], role: Role, region: str | None = None) -> str:
    """That its policy allows no more of a role; empty where it does, or there is none."""
    for group in groups:
        meant = group.role is role and region in (None, group.region)
        if meant and group.most is not None and group.desired >= group.most:
            return f"the policy of {group.id} has {group.most:,} at most"
    return ""


def effect_of_add(nodes: Iterable[NodeView], role: Role, prices: PricesView | None = None) -> str:
    """ "one more edge: 1 -> 2 edges, room for 400 -> 800; +$0.031 an hour"."""
    group = [node for node in nodes if node.role == role and node.state in (*SERVING, *COMING)]
    now, after = len(group), len(group) + 1
    words = f"one more {role}: {now} -> {after} {role}s"
    if not group:
        return words + _costs(prices, 1)
    room = sum(node.capacity for node in group)
    return f"{words}, room for {room:,} -> {room + group[-1].capacity:,}{_costs(prices, 1)}"


def _costs(prices: PricesView | None, nodes: int) -> str:
    return "" if prices is None else f"; {hourly(prices.node_hour * nodes, prices.currency)}"


def as_left(groups: Iterable[GroupView], oldest_at: float | None, started_at: float) -> str:
    """ "3 edges, as you left it": a stage that comes up with more nodes than one of a role, as it was ended.

    Empty for a stage that has just been made: the oldest entry of its journal is of this life of its manager.
    """
    if oldest_at is None or oldest_at >= started_at:
        return ""
    words = [count(group.desired, group.role) for group in groups if group.desired > 1]
    return f"{' and '.join(words)}, as you left it" if words else ""


def effect_of_stop(streams: Iterable[StreamView], channel: str) -> str:
    """ "ends main for 3 viewers"."""
    viewers = next((stream.viewers for stream in streams if stream.channel == channel), 0)
    return f"ends {channel} for {count(viewers, 'viewer')}"


def effect_of_cancel(event: EventView, now: float) -> str:
    """ "cancels ev-7 Cup final (begins in 2 days, 8,000 expected): nothing is prestaged for it any more"."""
    when = f"begins {until(event.starts_at, now)}" if event.starts_at > now else "it is on"
    return (
        f"cancels {event.id} {event.title} ({when}, {event.crowd:,} expected): "
        "nothing is prestaged for it any more"
    )


def effect_of_down(streams: Iterable[StreamView]) -> str:
    """ "ends main (3 viewers) and side (1 viewer)", or "nothing is on air"."""
    words = [f"{stream.channel} ({count(stream.viewers, 'viewer')})" for stream in streams]
    if not words:
        return "nothing is on air"
    return "ends " + (words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}")
