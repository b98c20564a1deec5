"""What runs and is sent is counted hour by hour, and what it costs is told; the budget holds launches back.

    nodes' rows -----------------> node time, exactly: also of what ran while no manager did
    reports, once a second ------> egress, as far as it was measured
                                   both --flush, every 15 s--> one row an hour and group (UTC)

Each flush counts from where the last one ended, and says how far it came in the same transaction; a restart
goes on there. What was still running when a manager died, and is gone when all of the stage is gone (a cold
start), is counted up to the last flush: when it ended nobody knows, and the time from there is told as that.
Egress that no manager heard of is not known either, and never counts as none.

Where several managers share a database, the one that leads counts; the others read what it has written.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import structlog

from controlplane.config import BudgetConfig, FleetConfig, PricesConfig
from controlplane.domain.money.model import GB, HOUR_MS, TB, Budget, HourUsed, Prices, Used
from controlplane.domain.money.rules import (
    Running,
    Takes,
    ahead,
    by_hours,
    day,
    egress_cost,
    free_left,
    hour_of,
    life,
    month,
    months,
    node_cost,
    room,
    takes,
    total,
)
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE, LAUNCHING
from controlplane.ports.store import StoreBusy, Taken, Transaction
from controlplane.services.board import PAUSE_S, Board
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.lease import Leading
from controlplane.wire.money import (
    BudgetView,
    CostNow,
    CostSpan,
    CostView,
    Forecast,
    GroupCost,
    MoneyNow,
    PricesView,
    exact,
    hourly,
    money,
)
from controlplane.wire.nodes import Role

log = structlog.get_logger(__name__)

FLUSH_S = 15.0

Key = tuple[int, Role, str]  # hour, role, region


@dataclass(slots=True)
class _Tally:
    """Of an hour of a group, not written yet."""

    egress: int = 0  # bytes
    measured_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Start:
    """The rows as an earlier manager left them: those that are deleted in a cold start count as well."""

    nodes: dict[tuple[str, float], Node] = field(default_factory=dict)
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Month:
    """What was spent in a month, as it was at a flush."""

    start: int
    at: float
    spent: Decimal
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An event, and what it will take. Times are Unix seconds."""

    name: str
    starts: float
    ends: float
    nodes: int  # that its crowd needs, of all groups
    people: int
    mbps: Decimal  # that each of them takes


class Money:
    def __init__(
        self, books: Books, fleet: FleetConfig, prices: PricesConfig, budget: BudgetConfig, lease: Leading
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._lease = lease
        self._fresh_s = fleet.suspect_after_s
        self.prices = Prices(
            node_hour=Decimal(str(prices.node_hour)),
            egress_gb=Decimal(str(prices.egress_gb)),
            egress_free=int(Decimal(str(prices.egress_free_tb)) * TB),
            sign=prices.currency,
        )
        self.budget = Budget(
            per_hour=Decimal(str(budget.per_hour)) if budget.per_hour else None,
            per_month=Decimal(str(budget.per_month)) if budget.per_month else None,
        )
        self._found = _Start()
        self._tallies: dict[Key, _Tally] = {}
        self._sampled_ms: int | None = None
        self._flushed_at = -math.inf
        self._month = _Month(0, 0.0, Decimal(0), 0)

    # counting

    async def open(self) -> None:
        """First thing of a manager that leads, before it sees to the fleet: remembers what an earlier one
        left running, or ended uncounted."""
        self._tallies.clear()  # of an earlier time of ours: it was counted by whoever led meanwhile
        self._sampled_ms = None

        async def read(tx: Transaction) -> _Start:
            until = await tx.counted_until() or 0
            return _Start({_key(node): node for node in await tx.nodes_since(until / 1000)}, until)

        self._found = await self._books.store.read(read)

    async def adopted(self) -> None:
        """After the fleet was seen to, and before the first round: what was found is counted."""
        await self.flush()

    async def tick(self, now: float) -> None:
        """Once a round of the manager that leads; `now` is monotonic."""
        self.sample(now)
        if now - self._flushed_at >= FLUSH_S:
            try:
                await self.flush()
            except StoreBusy as error:
                log.warning("the database is busy; what was used is counted later", error=str(error))
        self._board.money = self._shown()

    async def follow(self, now: float) -> None:
        """Once a round of any other manager. Raises StoreBusy."""
        if now - self._flushed_at >= FLUSH_S:
            await self._read()
        self._board.money = self._shown()

    async def _read(self) -> None:
        self._flushed_at = self._clock.monotonic()
        now = self._clock.now()
        self._month = await self._books.store.read(lambda tx: self._month_so_far(tx, now))

    def sample(self, now: float) -> None:
        """Adds up what was sent since the last sample. After a pause of our own that is not known."""
        now_ms = int(now * 1000)
        last_ms, self._sampled_ms = self._sampled_ms, now_ms
        if last_ms is None or not 0 < now_ms - last_ms <= PAUSE_S * 1000:
            return
        wall_ms = int(self._clock.now() * 1000)
        for node in self._paid_for():
            bps = self._sends(node)
            began_ms = (life(node, wall_ms) or (wall_ms, wall_ms))[0]
            lasted_ms = min(now_ms - last_ms, max(0, wall_ms - began_ms))
            if bps is not None and lasted_ms:
                tally = self._tallies.setdefault((hour_of(wall_ms), node.role, node.region), _Tally())
                tally.egress += round(bps * lasted_ms / 8000)
                tally.measured_ms += lasted_ms

    def _sends(self, node: Node) -> float | None:
        """Bits a second to viewers; None: not known.

        What an origin sends goes to our own edges, which no cloud charges for, and a node that is coming up
        sends nothing yet.
        """
        if node.role is not Role.EDGE or node.state in LAUNCHING:
            return 0.0
        heard = self._board.heard.get(node.id)
        if heard is None or heard.report is None:
            return None
        fresh = self._clock.monotonic() - heard.said_at <= self._fresh_s
        return heard.report.egress_bps if fresh else None

    async def flush(self) -> None:
        """Counts up to now, and writes it: of the manager that leads. Raises StoreBusy."""
        found, tallies = self._found, {key: (it.egress, it.measured_ms) for key, it in self._tallies.items()}
        self._flushed_at = self._clock.monotonic()

        async def work(change: Change) -> _Month | None:
            tx, now_ms = change.tx, int(change.now * 1000)
            since_ms = await tx.counted_until() or 0
            counted = now_ms > since_ms  # a clock that was set back is waited for: nothing counts twice
            if counted:
                rows = {_key(node): node for node in await tx.nodes_since(since_ms / 1000)}
                for part in self._parts(rows, found, tallies, since_ms, now_ms):
                    await tx.add_used(part, since_ms)
            month_now = await self._month_so_far(tx, change.now)
            return month_now if counted else None

        try:
            month_now = await self._books.change(work)
        except Taken as error:
            log.warning("what was used is counted by another stream manager", what=str(error))
            self._found, self._tallies = _Start(), {}
            return
        if month_now is None:
            return
        self._month, self._found = month_now, _Start()
        for key, (egress, measured_ms) in tallies.items():  # meanwhile there may have been a sample
            tally = self._tallies[key]
            tally.egress -= egress
            tally.measured_ms -= measured_ms
            if not (tally.egress or tally.measured_ms):
                del self._tallies[key]

    def _parts(
        self,
        rows: dict[tuple[str, float], Node],
        found: _Start,
        tallies: dict[Key, tuple[int, int]],
        since_ms: int,
        now_ms: int,
    ) -> list[HourUsed]:
        """What is added to each hour and group; each group has a part of this hour, which says `until`."""
        node_ms: Counter[Key] = Counter()
        unknown_ms: Counter[Key] = Counter()
        for key, node in (found.nodes | rows).items():
            if (lived := life(node, now_ms)) is None:
                continue
            began_ms = max(since_ms, lived[0])
            forgotten = key not in rows and node.state not in GONE
            into = unknown_ms if forgotten else node_ms
            for hour, ms in by_hours(began_ms, min(now_ms, lived[1])).items():
                into[hour, node.role, node.region] += ms
        this = hour_of(now_ms)
        groups = {(this, role, region) for role, region in self._board.groups}
        return [
            HourUsed(
                hour=key[0],
                used=Used(
                    role=key[1],
                    region=key[2],
                    node_ms=node_ms[key],
                    egress=tallies.get(key, (0, 0))[0],
                    measured_ms=tallies.get(key, (0, 0))[1],
                    unknown_ms=unknown_ms[key],
                ),
                until_ms=now_ms,
            )
            for key in sorted({*groups, *node_ms, *unknown_ms, *tallies})
        ]

    async def _month_so_far(self, tx: Transaction, now: float) -> _Month:
        start, end = month(now)
        used = await tx.used(start, end)
        sent = sum(it.egress for it in used)
        spent = self._nodes_cost(used) + egress_cost(0, sent, self.prices)
        until_ms = await tx.counted_until()
        return _Month(start, now if until_ms is None else min(now, until_ms / 1000), spent, sent)

    # what there is left to spend

    def _paid_for(self) -> list[Node]:
        return [node for node in self._board.nodes.values() if life(node, 0) is not None]

    def room(self, coming: int = 0, *, unseen: int = 0) -> tuple[int | None, str]:
        """How many more nodes the budget is there for, and why not one more; None: any number.

        `coming`: nodes that are launched in a moment and have no row yet; `unseen`: that run, and are not on
        the board yet.
        """
        if not self.budget.is_set:
            return None, ""
        spent, sent = self._spent()
        nodes = len(self._paid_for()) + unseen
        egress = self._egress_hour(sent)
        return room(self.budget, self.prices, nodes=nodes, coming=coming, egress_hour=egress, spent=spent)

    def add_words(self, nodes: int) -> str:
        """What so many more, or less, cost: +$0.31 an hour."""
        return hourly(self.prices.node_hour * nodes, self.prices.sign)

    def _spent(self) -> tuple[Decimal, int]:
        """This month, and the bytes that were sent; since the last flush as at the present rates."""
        now = self._clock.now()
        if month(now)[0] != self._month.start:
            return Decimal(0), 0
        since = max(0.0, now - self._month.at)
        sent = int(since * self._egress_s())
        more = node_cost(int(since * 1000) * len(self._paid_for()), self.prices)
        more += egress_cost(self._month.sent, sent, self.prices)
        return self._month.spent + more, self._month.sent + sent

    def _egress_s(self) -> int:
        """Bytes a second, as far as known."""
        return int(sum(self._sends(node) or 0.0 for node in self._paid_for()) / 8)

    def _egress_hour(self, sent: int) -> Decimal:
        return egress_cost(sent, self._egress_s() * 3600, self.prices)

    # telling

    async def cost(
        self, asked: tuple[float, float] | None = None, *, event: Planned | None = None
    ) -> CostView:
        """What it costs now, and cost; `asked` is a time that is wanted beside, or `event` one that is.
        Raises StoreBusy."""
        try:
            with self._lease.acting():
                await self.flush()
        except LeaseLost:
            await self._read()
        now = self._clock.now()
        if event is not None and event.starts < min(now, event.ends):
            asked = (event.starts, min(now, event.ends))
        spans = [(day(now), now), (month(now)[0], now), *([asked] if asked else [])]

        async def read(tx: Transaction) -> list[CostSpan]:
            return [await self._span(tx, start, end) for start, end in spans]

        today, so_far, *rest = await self._books.store.read(read)
        return CostView(
            at=now,
            prices=PricesView(
                currency=self.prices.sign,
                node_hour=self.prices.node_hour,
                egress_gb=self.prices.egress_gb,
                egress_free_gb=self.prices.egress_free / GB,
            ),
            now=self.now(),
            today=today,
            month=so_far,
            asked=rest[0] if rest else None,
            event=None if event is None else event.name,
            forecast=self.forecast(so_far.cost, month(now)[1], "the month ends")
            if event is None
            else self._event_forecast(event, rest[0].cost if rest else Decimal(0), now),
            budget=self.budget_view(),
        )

    def _shown(self) -> MoneyNow:
        now, (spent, _) = self.now(), self._spent()
        return MoneyNow(
            currency=self.prices.sign,
            node_hour=self.prices.node_hour,
            hour=now.hour,
            known=now.egress_known,
            month=exact(spent),
            per_hour=self.budget.per_hour,
            per_month=self.budget.per_month,
            warning=self.budget_view().warning,
        )

    def now(self) -> CostNow:
        _, sent = self._spent()
        nodes = self._paid_for()
        known = [self._sends(node) for node in nodes]
        nodes_hour, egress_hour = self.prices.node_hour * len(nodes), self._egress_hour(sent)
        return CostNow(
            nodes=len(nodes),
            nodes_hour=exact(nodes_hour),
            egress_bps=float(sum(it for it in known if it is not None)),
            egress_known=None not in known,
            egress_hour=exact(egress_hour),
            hour=exact(nodes_hour + egress_hour),
            free_left_gb=free_left(sent, self.prices) / GB,
        )

    def forecast(self, so_far: Decimal, until: float, what: str) -> Forecast:
        """Of something that has cost `so_far` and goes on until then. `what` happens then: the month ends."""
        _, sent = self._spent()
        now, nodes = self._clock.now(), len(self._paid_for())
        nodes_cost, egress = ahead(
            now, until, nodes=nodes, egress_s=self._egress_s(), sent=sent, prices=self.prices
        )
        beyond = money(egress, self.prices.sign)
        return Forecast(
            until=until,
            cost=exact(so_far + nodes_cost + egress),
            because=(
                f"If as many nodes run ({nodes}) and as much is sent as now until {what}: "
                f"{money(nodes_cost, self.prices.sign)} for nodes and {beyond} for egress are to come."
            ),
        )

    def takes(self, starts: float, ends: float, *, nodes: int, egress_s: int) -> Takes:
        """What an event costs that is not over: so many nodes run while it is on, and so many bytes a second
        are sent; until then all stays as it is now."""
        spent, sent = self._spent()
        return takes(
            self._clock.now(),
            starts,
            ends,
            before=Running(len(self._paid_for()), self._egress_s()),
            during=Running(nodes, egress_s),
            spent=spent,
            sent=sent,
            prices=self.prices,
        )

    def _event_forecast(self, event: Planned, so_far: Decimal, now: float) -> Forecast:
        """All that runs while it is on counts as its own."""
        if event.ends <= event.starts:
            because = "It was called off before it began: nothing is spent on it."
            return Forecast(until=event.ends, cost=so_far, because=because)
        if now >= event.ends:
            return Forecast(until=event.ends, cost=so_far, because="It is over: all that ran then counts.")
        if now >= event.starts:
            return self.forecast(so_far, event.ends, "it ends")
        _, sent = self._spent()
        if month(event.starts)[0] != month(now)[0]:
            sent = 0
        nodes_cost, egress = ahead(
            event.starts,
            event.ends,
            nodes=event.nodes,
            egress_s=int(event.mbps * event.people * 125_000),
            sent=sent,
            prices=self.prices,
        )
        return Forecast(
            until=event.ends,
            cost=exact(nodes_cost + egress),
            because=(
                f"If all {event.people:,} who are expected watch from start to end at {event.mbps:f} Mbps, "
                f"on {event.nodes} nodes: {money(nodes_cost, self.prices.sign)} for nodes and "
                f"{money(egress, self.prices.sign)} for egress."
            ),
        )

    def budget_view(self) -> BudgetView:
        left, why = self.room()
        held = left is not None and left <= 0
        return BudgetView(
            per_hour=self.budget.per_hour,
            per_month=self.budget.per_month,
            room=left,
            warning=f"Nothing more is launched: {why}. {REMEDY}" if held else "",
        )

    async def _span(self, tx: Transaction, start: float, end: float) -> CostSpan:
        """In whole hours: from the hour in which it begins to the one in which it ends."""
        first, last = int(start) // 3600 * 3600, -(-int(end) // 3600) * 3600
        used: dict[str, Used] = {}
        egress = Decimal(0)
        for begins, ends in months(first, last):
            before = sum(it.egress for it in await tx.used(month(begins)[0], int(begins)))
            part = await tx.used(int(begins), int(ends))
            egress += egress_cost(before, sum(it.egress for it in part), self.prices)
            for it in part:
                used[it.group] = _added(used.get(it.group), it)
        groups = [used[name] for name in sorted(used)]
        nodes = self._nodes_cost(groups)
        return CostSpan(
            start=first,
            end=min(last, end),
            node_hours=sum(it.node_ms for it in groups) / HOUR_MS,
            nodes=exact(nodes),
            egress_gb=sum(it.egress for it in groups) / GB,
            egress=exact(egress),
            cost=exact(nodes + egress),
            unmeasured_s=sum(it.unmeasured_ms for it in groups) / 1000,
            unknown_s=sum(it.unknown_ms for it in groups) / 1000,
            groups=[
                GroupCost(
                    group=it.group,
                    node_hours=it.node_ms / HOUR_MS,
                    nodes=exact(node_cost(it.node_ms, self.prices)),
                    egress_gb=it.egress / GB,
                )
                for it in groups
            ],
        )

    def _nodes_cost(self, used: Iterable[Used]) -> Decimal:
        return total(node_cost(it.node_ms, self.prices) for it in used)


REMEDY = (
    "Raise [budget] in the manager's settings, drain what is not needed (showcaller fleet drain NODE), "
    "or add one all the same: showcaller fleet add ROLE --over-budget"
)


def _key(node: Node) -> tuple[str, float]:
    """Names are given again after a cold start."""
    return node.id, node.created_at


def _added(one: Used | None, more: Used) -> Used:
    if one is None:
        return more
    return Used(
        role=more.role,
        region=more.region,
        node_ms=one.node_ms + more.node_ms,
        egress=one.egress + more.egress,
        measured_ms=one.measured_ms + more.measured_ms,
        unknown_ms=one.unknown_ms + more.unknown_ms,
    )
