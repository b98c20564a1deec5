"""Nodes that are wanted before the crowd is there: a number, a schedule, or what is expected of events.

An event's nodes are asked for as long before it begins as their launches take, so many at once, and a margin;
they are wanted until it ends. Events that are on or about to be at the same time bring their crowds together,
and where several begin one after the other, the launches of all of them are counted.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from controlplane.domain.fleet.schedule import wanted, zone
from controlplane.wire.fleet import Expected, Policy

MARGIN_S = 60.0  # nodes are there so long before they are needed
TITLES = 3  # are named


def nodes_for(load: Decimal | int, policy: Policy) -> int:
    """As many as keep so much, in the policy's unit, below the alarm."""
    return int((Decimal(load) / (policy.alarm * policy.capacity)).to_integral_value(ROUND_CEILING))


def lead_s(nodes: int, policy: Policy, launch_s: float) -> float:
    """How long before an event its nodes are asked for: a launch takes `launch_s`, and not all of them are
    launched at once."""
    return -(-nodes // policy.launches) * launch_s + MARGIN_S


def floor(policy: Policy, now: float, expected: Iterable[Expected], launch_s: float) -> tuple[int, str]:
    """How many nodes are wanted at `now` (Unix time), and why in words. Of a policy without faults.

    Of a number, a window and events the largest counts.
    """
    prestage = policy.prestage
    number, why = prestage.nodes, f"{prestage.nodes} are prestaged"
    scheduled, window = wanted(prestage.schedule, now, lambda nodes: lead_s(nodes, policy, launch_s))
    if scheduled > number:
        number, why = scheduled, f"{scheduled} are prestaged from {window}"
    if prestage.events:
        due = due_at(policy, now, expected, launch_s)
        nodes = nodes_for(sum((it.weight for it in due), Decimal(0)), policy)
        if nodes > number:
            number, why = nodes, _words(due, nodes, now)
    return number, why


@dataclass(frozen=True, slots=True)
class Asked:
    """When the nodes of an event are asked for: for it alone, and for those that are on as it begins."""

    event: Expected
    nodes: int  # for all of them
    at: float  # Unix time


def asked_for(policy: Policy, expected: Iterable[Expected], now: float, launch_s: float) -> list[Asked]:
    """Of each event that is not over, the first to begin first."""
    found = []
    ends: list[tuple[float, Decimal]] = []  # a heap, of those that began before
    load = Decimal(0)
    for event in sorted((it for it in expected if now < it.ends), key=lambda it: (it.starts, it.ends)):
        while ends and ends[0][0] <= event.starts:
            load -= heapq.heappop(ends)[1]
        heapq.heappush(ends, (event.ends, event.weight))
        load += event.weight
        nodes = nodes_for(load, policy)
        found.append(Asked(event, nodes, event.starts - lead_s(nodes, policy, launch_s)))
    return found


def due_at(policy: Policy, now: float, expected: Iterable[Expected], launch_s: float) -> list[Expected]:
    """Those whose nodes are wanted at `now`: up to the last one that has to be asked for by then."""
    asked = asked_for(policy, expected, now, launch_s)
    last = max((number for number, it in enumerate(asked) if it.at <= now), default=-1)
    return [it.event for it in asked[: last + 1]]


def _words(due: Sequence[Expected], nodes: int, now: float) -> str:
    """As in: prestage for 'Cup final', 8,000 expected: 34 nodes by 19:59 Europe/Berlin"""
    titles = [f"'{it.title}'" for it in due[:TITLES]]
    if len(due) > TITLES:
        titles.append(f"{len(due) - TITLES} more")
    named = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
    people = sum(it.crowd for it in due)
    coming = [it for it in due if it.starts > now]
    if coming:
        limit = f"by {_clock(max(now, coming[-1].starts - MARGIN_S), coming[-1].zone)}"
    else:
        last = max(due, key=lambda it: it.ends)
        limit = f"until {_clock(last.ends, last.zone)}"
    return f"prestage for {named}, {people:,} expected: {nodes} node{'' if nodes == 1 else 's'} {limit}"


def _clock(at: float, name: str) -> str:
    there = zone(name)
    return f"{datetime.fromtimestamp(at, there or UTC):%H:%M} {name if there else 'UTC'}"
