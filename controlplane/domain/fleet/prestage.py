"""Nodes that are wanted before the crowd is there: a number, a schedule, or what is expected of events."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from controlplane.domain.fleet.schedule import wanted
from controlplane.wire.fleet import Policy

MARGIN_S = 60.0  # nodes are there so long before they are needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A crowd that will come. Times are Unix seconds."""

    title: str
    starts: float
    ends: float
    crowd: int  # people who will watch


def nodes_for(crowd: int, policy: Policy) -> int:
    """As many as keep so many people below the alarm."""
    return int((Decimal(crowd) / (policy.alarm * policy.capacity)).to_integral_value(ROUND_CEILING))


def lead_s(nodes: int, policy: Policy, launch_s: float) -> float:
    """How long before an event its nodes are asked for: a launch takes `launch_s`, and not all of them are
    launched at once."""
    return -(-nodes // policy.launches) * launch_s + MARGIN_S


def floor(policy: Policy, now: float, expected: Iterable[Expected], launch_s: float) -> tuple[int, str]:
    """How many nodes are wanted at `now` (Unix time), and why in words. Of a policy without faults.

    Of a number, a window and events the largest counts; events that overlap bring their crowds together.
    """
    prestage = policy.prestage
    number, why = prestage.nodes, f"{prestage.nodes} are prestaged"
    scheduled, window = wanted(prestage.schedule, now, lambda nodes: lead_s(nodes, policy, launch_s))
    if scheduled > number:
        number, why = scheduled, f"{scheduled} are prestaged from {window}"
    if prestage.events:
        on = [event for event in expected if _is_due(event, policy, now, launch_s)]
        nodes = nodes_for(sum(event.crowd for event in on), policy)
        if nodes > number:
            titles = " and ".join(event.title for event in sorted(on, key=lambda event: event.starts)[:3])
            number, why = nodes, f"{nodes} are prestaged for {titles}"
    return number, why


def _is_due(event: Expected, policy: Policy, now: float, launch_s: float) -> bool:
    lead = lead_s(nodes_for(event.crowd, policy), policy, launch_s)
    return event.starts - lead <= now < event.ends
