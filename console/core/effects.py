"""What a step would do, in words, before anyone does it: for dialogs, confirmations and --dry-run. Pure."""

from collections.abc import Iterable

from console.core.units import count
from controlplane.wire.api import NodeView, StreamView
from controlplane.wire.nodes import NodeState, Role

SERVING = (NodeState.IN_SERVICE, NodeState.SUSPECT)
COMING = (NodeState.REQUESTED, NodeState.CREATING, NodeState.BOOTING)


def effect_of_drain(nodes: Iterable[NodeView], node_id: str) -> str:
    """ "edge-2: 3 viewers; 2 -> 1 edges"."""
    nodes = list(nodes)
    node = next(node for node in nodes if node.id == node_id)
    serving = [other for other in nodes if other.role == node.role and other.state in SERVING]
    left = [other for other in serving if other.id != node_id]
    people = count(node.connections or 0, "viewer" if node.role is Role.EDGE else "connection")
    words = f"{node_id}: {people}; {len(serving)} -> {len(left)} {node.role}s"
    return words if left else f"{words}: nobody serves as {node.role} until another one is added"


def effect_of_add(nodes: Iterable[NodeView], role: Role) -> str:
    """ "one more edge: 1 -> 2 edges, room for 400 -> 800"."""
    group = [node for node in nodes if node.role == role and node.state in (*SERVING, *COMING)]
    now, after = len(group), len(group) + 1
    words = f"one more {role}: {now} -> {after} {role}s"
    if not group:
        return words
    room = sum(node.capacity for node in group)
    return f"{words}, room for {room:,} -> {room + group[-1].capacity:,}"


def effect_of_stop(streams: Iterable[StreamView], channel: str) -> str:
    """ "ends main for 3 viewers"."""
    viewers = next((stream.viewers for stream in streams if stream.channel == channel), 0)
    return f"ends {channel} for {count(viewers, 'viewer')}"


def effect_of_down(streams: Iterable[StreamView]) -> str:
    """ "ends main (3 viewers) and side (1 viewer)", or "nothing is on air"."""
    words = [f"{stream.channel} ({count(stream.viewers, 'viewer')})" for stream in streams]
    if not words:
        return "nothing is on air"
    return "ends " + (words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}")
