"""Decisions about nodes, as pure functions of what is known and the time.

Nothing in here acts. Silence is judged by ages handed in (measured on a monotonic clock), so a suspended
laptop or a stalled manager is the caller's to forgive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from controlplane.domain.money.model import Prices
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import COUNTED, GONE, REPORTING
from controlplane.wire.fleet import Policy
from controlplane.wire.money import money
from controlplane.wire.nodes import NodeReport, NodeState

MOST_BPS = 400e9  # what a node can send or receive: no network card of today is faster
CLOCK_OFF_S = 60.0  # from so much on, a node's clock is said to be wrong


@dataclass(frozen=True, slots=True)
class Room:
    """A node that takes new sessions, and how full it is."""

    node: str
    capacity: int
    reserved: int
    region: str = "local"

    @property
    def free(self) -> int:
        return self.capacity - self.reserved


def roomiest_first(rooms: Iterable[Room]) -> list[Room]:
    """Nodes with room, most free seats first; names settle ties so that the choice is repeatable."""
    return sorted((room for room in rooms if room.free > 0), key=lambda room: (-room.free, room.node))


def after_silence(
    state: NodeState, age_s: float, *, suspect_after_s: float, faulty_after_s: float
) -> NodeState:
    """The state a reporting node should be in, `age_s` after it was last heard.

    A draining node stays draining until it is faulty: it gets no new sessions anyway.
    """
    if state not in REPORTING:
        return state
    if age_s >= faulty_after_s:
        return NodeState.FAULTY
    if state is NodeState.DRAINING:
        return state
    return NodeState.SUSPECT if age_s >= suspect_after_s else NodeState.IN_SERVICE


def missing(group: Group, nodes: Iterable[Node]) -> int:
    """How many nodes the group lacks; never negative: nobody is ended because there are too many."""
    counted = sum(
        1
        for node in nodes
        if node.managed and node.role == group.role and node.region == group.region and node.state in COUNTED
    )
    return max(0, group.desired - counted)


def within_cap(policy: Policy, price: Decimal, paid: int) -> int | None:
    """How many more nodes its spend cap pays for, which may be below 0; None: any number.

    `price`: of a node an hour; `paid`: nodes of the group that cost money.
    """
    if policy.spend_cap is None or not price:
        return None
    return int(policy.spend_cap // price) - paid


def policy_room(
    group: Group, nodes: Iterable[Node], prices: Prices, *, coming: int = 0
) -> tuple[int | None, str]:
    """How many more nodes its policy allows, which may be below 0, and why not one more; None: it has none.

    Those that were started by hand count from when they have come; what drains, or is on its way out, costs
    money and stands against the cap, though not against max. `coming`: wanted, and without a row yet.
    """
    policy = group.policy
    if policy is None:
        return None, ""
    mine = [
        node
        for node in nodes
        if (node.role, node.region) == (group.role, group.region)
        and (node.managed or node.enrolled_at is not None)
        and node.state not in GONE
    ]
    counted = sum(1 for node in mine if node.state in COUNTED) + coming
    paid = len(mine) + coming
    verb = "is" if counted == 1 else "are"
    limits = [(policy.max - counted, f"{counted} of at most {policy.max} {verb} there")]
    cap = within_cap(policy, prices.node_hour, paid)
    if cap is not None and policy.spend_cap is not None:
        price, most = money(prices.node_hour, prices.sign), money(policy.spend_cap, prices.sign)
        limits.append(
            (cap, f"{paid} at {price} an hour, and one more would be over the policy's cap of {most}")
        )
    return min(limits, key=lambda it: it[0])


def stopped_by_faults(
    group: Group, faults: Sequence[float], now: float, *, count: int, window_s: float
) -> bool:
    """Whether so many nodes of the group failed lately that launching more would only repeat it."""
    since = max(now - window_s, group.faults_from)
    return sum(1 for at in faults if at > since) >= count


def drain_is_over(node: Node, connections: int, now: float) -> bool:
    """Whether a draining node can end: nobody is on it, or its deadline has passed."""
    return connections == 0 or (node.drain_deadline is not None and now >= node.drain_deadline)


def implausible(report: NodeReport, capacity: int) -> list[str]:
    """What a report says that cannot be, each in a few words; empty where all of it can.

    `capacity` is the node's. A connection may outlive its seat for a moment, so twice of it is the limit.
    """
    most = 2 * capacity
    counts = [("connections", report.connections)]
    counts += [(f"viewers of {it.channel[:64]}", it.viewers) for it in report.streams]
    found = [f"{name} is {_number(value)}" for name, value in counts if value < 0]
    found += [f"{name} is {_number(value)}, of at most {most}" for name, value in counts if value > most]
    rates = [("egress_bps", report.egress_bps), ("ingress_bps", report.ingress_bps)]
    found += [f"{name} is {_number(value)}" for name, value in rates if not 0 <= value <= MOST_BPS]
    shares = [("cpu", report.cpu), ("loss", report.loss), ("rtt_ms", report.rtt_ms)]
    found += [f"{name} is {_number(value)}" for name, value in shares if value is not None and value < 0]
    return found


def _number(value: float) -> str:
    """Whatever was said, in a few characters."""
    return f"{value:.6g}" if abs(value) < 1e300 else "beyond any number"


def clock_off(report: NodeReport, now: float) -> float | None:
    """Seconds by which a node's clock is ahead of ours (below zero: behind), where that is worth a word."""
    off = report.at - now
    return off if abs(off) >= CLOCK_OFF_S else None
