"""Two managers on one database: what runs is counted by the one that leads, and once, whoever leads when."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import BudgetConfig, FleetConfig, PricesConfig
from controlplane.domain.money.model import Used
from controlplane.domain.nodes.model import Group
from controlplane.services.board import Board, Heard
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.lease import Leading
from controlplane.services.money import FLUSH_S, Money
from controlplane.wire.nodes import NodeReport, NodeState, Role
from tests.controlplane.domain.test_rules import NODE
from tests.controlplane.services.test_money import Clock
from tests.controlplane.stage import AS_OPERATOR, fresh_database, running, settings

LENGTH_S = 6.0
BPS = 8e6
A_SECOND = int(BPS / 8)  # bytes


class Manager:
    """What of a manager counts money, with a board and a place in the lease of its own."""

    def __init__(self, database: Path, clock: Clock, name: str) -> None:
        self.clock = clock
        self.store = SqliteStore(database, clock=clock.now)
        self.board = Board()
        self.books = Books(self.store, self.board, clock, name)
        self.lease = Leading(self.store, clock, name, LENGTH_S)
        self.money = Money(self.books, FleetConfig(), PricesConfig(), BudgetConfig(), self.lease)

    async def take_over(self) -> None:
        await self.money.open()
        await self.money.adopted()

    async def second(self) -> None:
        """Every node has reported, and this manager knows it; then its round."""
        await self.books.load()
        now = self.clock.monotonic()
        for name in self.board.nodes:
            said = NodeReport(at=0, seq=1, connections=1, egress_bps=BPS, ingress_bps=0)
            self.board.heard[name] = Heard(said, now, said_at=now)
        if await self.lease.look() and not self.lease.acts:
            await self.lease.begin(self.take_over)
        if self.lease.acts:
            with self.lease.acting():
                await self.money.tick(now)
        else:
            await self.money.follow(now)


class Two:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        database = folder / "showcaller.db"
        database.write_bytes(fresh_database())
        self.a, self.b = Manager(database, self.clock, "a"), Manager(database, self.clock, "b")

    async def serve(self, name: str) -> None:
        now = self.clock.now()
        node = replace(
            NODE, id=name, state=NodeState.REQUESTED, created_at=now, state_since=now, enrol_hash=name
        )
        await self.a.books.change(Change.save_group, Group(role=Role.EDGE, region="local", desired=1))
        await self.a.books.change(Change.begin_node, node, actor="the test")
        for state in (NodeState.CREATING, NodeState.BOOTING, NodeState.IN_SERVICE):
            await self.a.books.change(Change.move_node, self.a.board.nodes[name], state, "the test")

    async def seconds(self, number: int, *running: Manager) -> None:
        for _ in range(number):
            self.clock.at += 1
            for manager in running:
                await manager.second()

    async def used(self) -> Used:
        (found,) = await self.a.store.read(lambda tx: tx.used(0, 2**40))
        return found


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    made = Two(tmp_path)
    await made.a.second()
    await made.b.second()
    yield made
    for manager in (made.a, made.b):
        await manager.store.close()


async def test_one_counts_and_the_other_tells_the_same(two: Two) -> None:
    await two.serve("edge-1")
    await two.seconds(100, two.a, two.b)
    assert (two.a.lease.acts, two.b.lease.acts) == (True, False)
    shown_a, shown_b = two.a.board.money, two.b.board.money
    assert shown_a is not None
    assert shown_a == shown_b, "also between two countings"
    cost_a, cost_b = await two.a.money.cost(), await two.b.money.cost()  # asked, A counts up to now
    assert cost_a == cost_b
    assert cost_a.month.node_hours == 100 / 3600
    used = await two.used()
    assert (used.node_ms, used.egress, used.measured_ms) == (100_000, 100 * A_SECOND, 100_000)
    await two.seconds(int(FLUSH_S) - 1, two.a, two.b)
    late, now = await two.b.money.cost(), two.clock.now()
    assert late.month.node_hours == 100 / 3600, "what the other has not counted yet is not counted here"
    assert late.now == (await two.a.money.cost()).now
    assert (await two.used()).node_ms == (100 + FLUSH_S - 1) * 1000
    assert now == two.clock.now()


async def test_a_follower_that_is_asked_counts_nothing(two: Two) -> None:
    await two.serve("edge-1")
    await two.seconds(20, two.a, two.b)
    before = await two.used()
    two.clock.at += 3
    await two.b.money.cost()
    assert await two.used() == before


@pytest.mark.parametrize("flushed", [0, 7])
async def test_over_a_change_of_leader_everything_is_counted_once(two: Two, flushed: int) -> None:
    """A is stopped, B leads; A wakes, B is stopped, A leads again. Node time is the whole of it. Of what was
    sent, that is not known which the one that was stopped had not written, and nothing is known twice."""
    await two.serve("edge-1")
    await two.seconds(30 + flushed, two.a, two.b)
    await two.seconds(40, two.b)
    assert (two.a.lease.held, two.b.lease.acts) == (False, True)
    await two.seconds(1, two.a, two.b)
    assert not two.a.lease.acts
    await two.seconds(20, two.a, two.b)
    assert await two.a.money.cost() is not None  # it reads
    await two.seconds(40, two.a)
    assert two.a.lease.acts
    await two.seconds(20, two.a, two.b)
    await two.a.money.cost()
    total = 30 + flushed + 40 + 21 + 40 + 20
    used = await two.used()
    assert used.node_ms == total * 1000
    assert used.egress == used.measured_ms * A_SECOND // 1000, "each second that is known is known once"
    lost = total - used.measured_ms / 1000
    assert 2 * (LENGTH_S - 1) <= lost <= 2 * (LENGTH_S + FLUSH_S + 1)
    assert (await two.b.money.cost()).month == (await two.a.money.cost()).month


async def test_who_has_lost_the_lease_writes_nothing_of_what_it_has_counted(two: Two) -> None:
    """Stopped within its round: the lease is another one's when it goes on."""
    await two.serve("edge-1")
    await two.seconds(30, two.a, two.b)
    two.a.money.sample(two.clock.monotonic())
    with two.a.lease.acting():
        await two.seconds(2 * int(LENGTH_S), two.b)
        assert two.b.lease.acts
        await two.b.money.cost()
        before = await two.used()
        two.clock.at += 1
        with pytest.raises(LeaseLost):
            await two.a.money.flush()
    assert await two.used() == before
    await two.b.money.cost()
    assert (await two.used()).node_ms == (30 + 2 * LENGTH_S + 1) * 1000


async def test_a_budget_for_one_more_node_is_one_more_node_whoever_adds_it_where(tmp_path: Path) -> None:
    """Six at once, at two managers: what each of them shows of the others' is a moment old."""
    config = settings(lease={"length_s": 1.0}, budget={"per_hour": 0.1})  # of three nodes, two of them there
    async with (
        running(tmp_path, config, manager="a") as a,
        running(tmp_path, config, manager="b", nodes=a.nodes, provisioner=a.provisioner) as b,
    ):
        for show in (a, b):
            await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        added = await asyncio.gather(
            *(
                show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
                for show in (a, b) * 3
            )
        )
        assert sorted(it.status_code for it in added) == [200] + 5 * [409]
        assert {it.json()["code"] for it in added if it.status_code == 409} == {"over_budget"}
        await b.until({"edge-2": "in_service"})
        assert len(await a.node_states()) == 3
