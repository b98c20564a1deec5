"""Accounting as pure functions: lives of nodes to hours, hours to money, and what there is left to spend.

    nodes' rows --life--> [launched, terminated) --by_hours--> milliseconds of each hour (UTC)

What was counted up to one moment is never counted again: the next count begins there. So it does not matter
how often, or by how many lives of a manager, it is counted; the sum is the integral.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal

from controlplane.domain.money.model import GB, HOUR_MS, Budget, Prices
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE
from controlplane.wire.money import money


def life(node: Node, now_ms: int) -> tuple[int, int] | None:
    """From when to when it costs money, in Unix milliseconds; None: it never began.

    A node of ours does from when it was asked for, one that somebody starts by hand from when it enrolled.
    """
    began = node.created_at if node.managed else node.enrolled_at
    if began is None:
        return None
    ended_ms = int(node.state_since * 1000) if node.state in GONE else now_ms
    return int(began * 1000), ended_ms


def by_hours(start_ms: int, end_ms: int) -> Counter[int]:
    """A time cut at the hours: start of each, in Unix seconds, to milliseconds in it."""
    parts: Counter[int] = Counter()
    while start_ms < end_ms:
        hour = hour_of(start_ms)
        cut = min(end_ms, hour * 1000 + HOUR_MS)
        parts[hour] += cut - start_ms
        start_ms = cut
    return parts


def hour_of(at_ms: int) -> int:
    """The start of the hour, Unix seconds."""
    return at_ms // HOUR_MS * 3600


def day(at: float) -> int:
    """The start of its day (UTC)."""
    return int(at) // 86_400 * 86_400


def month(at: float) -> tuple[int, int]:
    """The start of its calendar month (UTC), and of the next one."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())


def months(start: float, end: float) -> list[tuple[float, float]]:
    """A time cut at the months."""
    parts = []
    while start < end:
        cut = min(end, month(start)[1])
        parts.append((start, cut))
        start = cut
    return parts


def node_cost(node_ms: int, prices: Prices) -> Decimal:
    return prices.node_hour * node_ms / HOUR_MS


def egress_cost(before: int, sent: int, prices: Prices) -> Decimal:
    """Of `sent` bytes, when `before` were sent earlier in the same month: what is free is used up first."""
    beyond = max(0, before + sent - prices.egress_free) - max(0, before - prices.egress_free)
    return prices.egress_gb * beyond / GB


def free_left(sent: int, prices: Prices) -> int:
    return max(0, prices.egress_free - sent)


def ahead(
    now: float, until: float, *, nodes: int, egress_s: int, sent: int, prices: Prices
) -> tuple[Decimal, Decimal]:
    """What nodes and egress cost from now on, if both stay as they are.

    `egress_s` in bytes a second, `sent` what was sent this month; each month begins with what is free.
    """
    nodes_cost = egress = Decimal(0)
    for start, end in months(now, until):
        for_nodes, for_egress = _part(end - start, Running(nodes, egress_s), sent, prices)
        nodes_cost += for_nodes
        egress += for_egress
        sent = 0
    return nodes_cost, egress


@dataclass(frozen=True, slots=True)
class Running:
    """How much runs, and is sent."""

    nodes: int
    egress_s: int  # bytes a second


@dataclass(frozen=True, slots=True)
class Takes:
    """What an event costs, and what the months come to with it."""

    hour: Decimal  # the dearest of it, whole
    whole: Decimal  # from now, or from its start, to its end
    months: tuple[tuple[int, Decimal], ...]  # each that it touches: its start, and what is spent by then


def takes(
    now: float,
    starts: float,
    ends: float,
    *,
    before: Running,
    during: Running,
    spent: Decimal,
    sent: int,
    prices: Prices,
) -> Takes:
    """What an event that is not over takes, where until its start all stays as it is (`before`).

    `spent` and `sent` (bytes) are those of this month so far. Of a month that it touches for less than an
    hour a whole one counts: a budget has to pay for the next hour before anything is launched (see `room`).
    """
    this = month(now)[0]
    spents, sents = defaultdict(Decimal, {this: spent}), Counter({this: sent})
    for start, end in months(now, starts):
        name = month(start)[0]
        spents[name] += sum(_part(end - start, before, sents[name], prices), Decimal(0))
        sents[name] += int((end - start) * before.egress_s)
    dearest = whole = Decimal(0)
    by_month = []
    for start, end in months(max(now, starts), ends):
        name = month(start)[0]
        last = sents[name] + int(max(0.0, end - start - 3600) * during.egress_s)
        hour = sum(_part(3600, during, last, prices), Decimal(0))
        cost = sum(_part(end - start, during, sents[name], prices), Decimal(0))
        by_month.append((name, spents[name] + max(hour, cost)))
        dearest, whole = max(dearest, hour), whole + cost
    return Takes(dearest, whole, tuple(by_month))


def _part(seconds: float, running: Running, sent: int, prices: Prices) -> tuple[Decimal, Decimal]:
    """Nodes and egress, of a time within a month of which `sent` bytes went before."""
    nodes = node_cost(int(seconds * 1000) * running.nodes, prices)
    return nodes, egress_cost(sent, int(seconds * running.egress_s), prices)


def room(
    budget: Budget, prices: Prices, *, nodes: int, egress_hour: Decimal, spent: Decimal, coming: int = 0
) -> tuple[int | None, str]:
    """How many more nodes the budget is there for, which may be below 0, and why not one more; None: any.

    `coming`: nodes that do not cost anything yet, and will in a moment.

    The next hour has to be paid for: of as many nodes, and the egress at its present rate, within the budget
    an hour and within what the month has left.
    """
    limits: list[tuple[int | None, str]] = []
    nodes += coming
    costs = money(prices.node_hour * nodes + egress_hour, prices.sign)
    these = f"{nodes} {'node' if nodes == 1 else 'nodes'}"
    if coming:
        these += f", {coming} of them about to be launched,"
    running = f"{these} and the egress are {costs} an hour"
    if budget.per_hour is not None:
        words = f"{running}, and one more would be over the budget of {money(budget.per_hour, prices.sign)}"
        limits.append((_affordable(budget.per_hour - egress_hour, nodes, prices), words))
    if budget.per_month is not None:
        whole = money(budget.per_month, prices.sign)
        words = f"{money(spent, prices.sign)} of the {whole} of this month are spent, {running}"
        words += ", and an hour with one more would be over it"
        limits.append((_affordable(budget.per_month - spent - egress_hour, nodes, prices), words))
    bounds = [(number, words) for number, words in limits if number is not None]
    return min(bounds, key=lambda it: it[0]) if bounds else (None, "")


def _affordable(left: Decimal, nodes: int, prices: Prices) -> int | None:
    """Nodes that `left` pays for an hour, less those there are."""
    if prices.node_hour:
        return int((left / prices.node_hour).to_integral_value(ROUND_FLOOR)) - nodes
    return None if left >= 0 else 0


def total(parts: Iterable[Decimal]) -> Decimal:
    return sum(parts, Decimal(0))
