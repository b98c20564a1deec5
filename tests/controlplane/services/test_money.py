"""What runs is counted once and for all, whatever restarts; what it costs is told; the budget holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as under
from hypothesis import strategies as st

from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import BudgetConfig, FleetConfig, PricesConfig
from controlplane.domain.money.model import GB, TB, HourUsed, Used
from controlplane.domain.nodes.model import Group
from controlplane.services.board import Board, Heard
from controlplane.services.books import Books, Change
from controlplane.services.lease import Leading
from controlplane.services.money import FLUSH_S, Money, Planned
from controlplane.wire.nodes import NodeReport, NodeState, Role
from tests.controlplane.domain.test_rules import NODE
from tests.controlplane.services.test_scaling import TEN, evaluate, set_policy
from tests.controlplane.stage import AS_OPERATOR, Show, fresh_database, running, settings
from tests.support.wait import wait_for

BEGINS = datetime(2026, 11, 30, 22, 30, tzinfo=UTC).timestamp()  # 90 minutes before December
DECEMBER = BEGINS + 5400


class Clock:
    """The test's own; both hands go together."""

    def __init__(self) -> None:
        self.at = BEGINS

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - BEGINS


class Ledger:
    """The accounting of one stage, over the lives of its managers: a real database, and no nodes but rows."""

    def __init__(self, folder: Path, budget: BudgetConfig | None = None) -> None:
        self.clock = Clock()
        self._database = folder / "showcaller.db"
        self._database.write_bytes(fresh_database())
        self._budget = budget or BudgetConfig()
        self._launched = 0

    async def start(self, *, cold: bool = False) -> None:
        self.store = SqliteStore(self._database)
        self.board = Board()
        self.books = Books(self.store, self.board, self.clock)
        lease = Leading(self.store, self.clock, "manager-1", length_s=1e9)
        assert await lease.look()
        self.money = Money(self.books, FleetConfig(), PricesConfig(), self._budget, lease)
        await self.books.load()
        await self.money.open()
        await self.books.change(self._fleet_starts, cold)
        await self.money.adopted()

    @staticmethod
    async def _fleet_starts(change: Change, cold: bool) -> None:
        await change.save_group(Group(role=Role.EDGE, region="local", desired=0))
        if cold:
            for node in await change.tx.nodes():
                await change.move_node(node, NodeState.TERMINATED, "it was not running")
            await change.tx.forget_terminated()

    async def restart(self, down_s: float = 0.0, *, cold: bool = False) -> None:
        await self.store.close()  # as after kill -9: nothing is flushed
        self.clock.at += down_s
        await self.start(cold=cold)

    async def launch(self) -> str:
        self._launched += 1
        name, now = f"edge-{self._launched}", self.clock.now()
        node = replace(
            NODE,
            id=name,
            state=NodeState.REQUESTED,
            created_at=now,
            state_since=now,
            enrol_hash=name,
            credential_hash=name,
        )
        await self.books.change(Change.begin_node, node, actor="the test")
        return name

    async def end(self, name: str) -> None:
        await self.books.change(Change.move_node, self.board.nodes[name], NodeState.TERMINATED, "the test")

    async def serve(self, name: str) -> None:
        for state in (NodeState.CREATING, NodeState.BOOTING, NodeState.IN_SERVICE):
            await self.books.change(Change.move_node, self.board.nodes[name], state, "the test")

    def report(self, name: str, bps: float) -> None:
        now = self.clock.monotonic()
        said = NodeReport(at=0, seq=1, connections=1, egress_bps=bps, ingress_bps=0)
        self.board.heard[name] = Heard(said, now, said_at=now)

    async def second(self, **bps: float) -> None:
        """One round; the nodes that are named report before it."""
        self.clock.at += 1
        for name, rate in bps.items():
            self.report(name.replace("_", "-"), rate)
        await self.money.tick(self.clock.monotonic())

    async def used(self, start: float = 0, end: float = 2**40) -> Used:
        found = await self.store.read(lambda tx: tx.used(int(start), int(end)))
        return found[0] if found else Used(role=Role.EDGE, region="local")


@asynccontextmanager
async def ledger(folder: Path, budget: BudgetConfig | None = None) -> AsyncIterator[Ledger]:
    made = Ledger(folder, budget)
    await made.start()
    try:
        yield made
    finally:
        await made.store.close()


STEPS = st.lists(
    st.one_of(
        st.just(("launch", 0)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["pass", "restart"]), st.integers(0, 20_000)),
        st.just(("flush", 0)),
    ),
    max_size=25,
)


@given(STEPS)
@under(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_node_time_is_the_integral_whatever_lives_and_restarts(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        lives: dict[str, list[float]] = {}
        async with ledger(tmp_path) as stage:
            for what, number in steps:
                if what == "launch":
                    lives[await stage.launch()] = [stage.clock.now()]
                elif what == "end":
                    running = [name for name, life in lives.items() if len(life) == 1]
                    if running:
                        name = running[number % len(running)]
                        await stage.end(name)
                        lives[name].append(stage.clock.now())
                elif what == "pass":
                    stage.clock.at += number / 4
                elif what == "restart":
                    await stage.restart(number / 4)
                else:
                    await stage.money.flush()
            await stage.money.flush()
            spans = [(life[0], [*life, stage.clock.now()][1]) for life in lives.values()]
            hour = BEGINS // 3600 * 3600
            while hour < stage.clock.now():
                overlaps = (min(end, hour + 3600) - max(start, hour) for start, end in spans)
                assert (await stage.used(hour, hour + 1)).node_ms == sum(
                    round(max(0.0, it) * 1000) for it in overlaps
                )
                hour += 3600
            await stage.restart()
            again = (await stage.used()).node_ms
            assert again == sum(round((end - start) * 1000) for start, end in spans), "nothing counts twice"

    asyncio.run(run())


async def test_what_ran_while_no_manager_did_is_counted_and_its_egress_is_not_known(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.serve(await stage.launch())
        await stage.second(edge_1=8e6)
        for _ in range(20):
            await stage.second(edge_1=8e6)
        await stage.money.flush()
        before = await stage.used()
        assert (before.node_ms, before.egress, before.measured_ms) == (21_000, 20_000_000, 20_000)
        await stage.restart(600)
        after = await stage.used()
        assert after.node_ms == 621_000
        assert (after.egress, after.unmeasured_ms) == (20_000_000, 601_000)
        cost = await stage.money.cost()
        assert cost.month.unmeasured_s == 601


async def test_an_edge_that_does_not_report_sends_nobody_knows_what(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.serve(await stage.launch())
        await stage.second(edge_1=8e6)
        for _ in range(12):  # it counts as fresh for ten seconds
            await stage.second()
        await stage.money.flush()
        used = await stage.used()
        assert (used.egress, used.measured_ms) == (10_000_000, 10_000)
        assert not stage.money.now().egress_known
        assert stage.money.now().egress_bps == 0


async def test_after_a_cold_start_it_is_said_that_nobody_saw_the_end(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.launch()
        stage.clock.at += 60
        await stage.end(await stage.launch())
        stage.clock.at += 60
        await stage.money.flush()
        stage.clock.at += 30
        await stage.restart(50_000, cold=True)
        used = await stage.used()
        assert (used.node_ms, used.unknown_ms) == (120_000, 50_030_000)
        assert (await stage.money.cost()).month.unknown_s == 44_750, "the rest was in November"


async def test_a_clock_that_is_set_back_counts_nothing_twice(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.launch()
        stage.clock.at += 100
        await stage.money.flush()
        stage.clock.at -= 50
        await stage.money.flush()
        assert (await stage.used()).node_ms == 100_000
        stage.clock.at += 60
        await stage.money.flush()
        assert (await stage.used()).node_ms == 110_000


async def test_a_round_writes_every_quarter_of_a_minute(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.launch()
        until = []
        for _ in range(46):
            await stage.second()
            until.append(await stage.store.read(lambda tx: tx.counted_until()))
        assert len(set(until)) == 46 // FLUSH_S + 1


async def test_the_months_free_egress_is_used_up_within_it_and_begins_anew_with_the_next(
    tmp_path: Path,
) -> None:
    async with ledger(tmp_path) as stage:
        november = HourUsed(
            hour=int(BEGINS) // 3600 * 3600 - 7200,
            used=Used(role=Role.EDGE, region="local", egress=10 * TB - GB),
            until_ms=1,
        )
        await stage.store.write(lambda tx: tx.add_used(november, 0))
        await stage.serve(await stage.launch())
        await stage.second(edge_1=8e9)  # a GB a second
        cost = await stage.money.cost()
        assert (cost.now.free_left_gb, cost.now.egress_hour) == (1, Decimal("0.0085") * 3599)
        for _ in range(3):
            await stage.second(edge_1=8e9)
        cost = await stage.money.cost((BEGINS, stage.clock.now()))
        assert cost.asked is not None
        assert (cost.asked.egress_gb, cost.asked.egress) == (3, Decimal("0.017")), "one is free"
        assert cost.month.egress == Decimal("0.017")
        assert cost.now.free_left_gb == 0
        left_s = DECEMBER - stage.clock.now()
        to_come = Decimal("0.0085") * int(left_s) + Decimal("0.031") * int(left_s) / 3600
        assert cost.forecast.until == DECEMBER
        assert float(cost.forecast.cost) == pytest.approx(float(cost.month.cost + to_come))
        stage.clock.at = DECEMBER + 1
        stage.report("edge-1", 8e9)
        cost = await stage.money.cost()
        assert cost.now.free_left_gb > 9_990
        assert (cost.now.egress_hour, cost.month.egress) == (0, 0)


async def test_an_event_costs_what_ran_and_will_cost_what_runs(tmp_path: Path) -> None:
    async with ledger(tmp_path) as stage:
        await stage.launch()
        coming = Planned(
            name="ev-7",
            starts=BEGINS + 1800,
            ends=BEGINS + 1800 + 7200,  # half in November, half in December
            nodes=10,
            people=8000,
            mbps=Decimal("4.5"),
        )
        cost = await stage.money.cost(event=coming)
        assert cost.asked is None
        assert cost.event == "ev-7"
        assert cost.forecast.cost == Decimal("0.62") + Decimal("0.0085") * 2 * 6200, "16.2 TB an hour"
        assert cost.forecast.because == (
            "If all 8,000 who are expected watch from start to end at 4.5 Mbps, on 10 nodes: $0.62 for nodes "
            "and $105.40 for egress."
        )
        stage.clock.at += 1800 + 3600
        cost = await stage.money.cost(event=coming)
        assert cost.asked is not None
        assert cost.asked.node_hours == 1, "from 23:00 to midnight"
        assert cost.forecast.cost == Decimal("0.062")
        stage.clock.at += 3600
        cost = await stage.money.cost(event=coming)
        assert cost.forecast.cost == Decimal("0.062")
        assert cost.forecast.because == "It is over: all that ran then counts."
        cost = await stage.money.cost(event=replace(coming, ends=BEGINS))
        assert (cost.asked, cost.forecast.cost) == (None, 0)
        assert cost.forecast.because == "It was called off before it began: nothing is spent on it."


async def test_the_months_budget_is_there_for_fewer_nodes_each_hour(tmp_path: Path) -> None:
    async with ledger(tmp_path, BudgetConfig(per_month=0.124)) as stage:  # four node-hours
        assert stage.money.room()[0] == 4
        await stage.launch()
        assert stage.money.room()[0] == 3
        stage.clock.at += 3600
        assert stage.money.room()[0] == 2, "also between two flushes"
        await stage.money.flush()
        assert stage.money.room(coming=1)[0] == 1
        stage.clock.at = DECEMBER + 1
        await stage.money.flush()
        assert stage.money.room()[0] == 2
        assert stage.money.budget_view().warning == ""


# the stage


@pytest.fixture
async def poor(tmp_path: Path) -> AsyncIterator[Show]:
    """A stage whose budget is there for the three nodes it has, and not for one more."""
    config = settings(budget={"per_hour": 0.1}, fleet={"edges": 2})
    async with running(tmp_path, config) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service", "edge-2": "in_service"})
        yield show


async def entries(show: Show, kind: str) -> list[str]:
    return [it["message"] for it in await show.get("/journal?limit=1000") if it["kind"] == kind]


async def test_a_spent_budget_launches_nothing_and_says_so_wherever_it_is_asked(tmp_path: Path) -> None:
    """No node runs, so none is counted as money, as launching or as supply; one that is added over the budget
    is the one that is held back, and no other comes when there is money again."""
    config = settings(budget={"per_hour": 0.01})
    why = "0 nodes and the egress are $0.00 an hour, and one more would be over the budget of $0.01"

    async def held(show: Show) -> Any:
        return await show.get("/decisions?group=edge@local")

    async with running(tmp_path, config) as show:
        (decision,) = await wait_for(lambda: held(show), 10, "what is held back is told")
        assert decision["decision"] == "held +1"
        assert decision["because"].startswith(f"1 edge that edge@local lacks is held back: {why}. Raise")
        assert decision["inputs"] == {
            "desired": 1, "there": 0, "wanted": 1, "held_by": "budget", "price": 0.031
        }  # fmt: skip
        assert (await show.get("/cost"))["now"]["nodes"] == 0
        event = {"title": "Cup", "start": "+1h", "lasts_s": 3600, "expected": 100}
        planned = await show.http.post("/api/v1/events", headers=AS_OPERATOR, json=event)
        assert planned.status_code == 201
        looked = await show.http.post("/api/v1/events/ev-1/preflight", headers=AS_OPERATOR)
        checks = looked.json()["checks"]
        (nodes,) = [it for it in checks if (it["check"], it["subject"]) == ("nodes", "edge@local")]
        assert nodes["verdict"] == "red"
        assert nodes["says"] == f"0 edges in service, 1 needed: 1 is lacking, and held back: {why}"
        refused = await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
        assert refused.json()["detail"].startswith(f"No edge was added: {why}. Raise")
        body = {"role": "edge", "over_budget": True}
        assert (await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json=body)).status_code == 200
        await show.until({"edge-1": "in_service"})
        assert await entries(show, "fleet.add") == [
            "operator asked for one more edge: 1, as before, of which one was held back; +$0.031 an hour, "
            "over the budget."
        ]
        groups = {it["id"]: it["desired"] for it in await show.get("/groups")}
        assert groups["edge@local"] == 1


OVER = "3 nodes and the egress are $0.093 an hour, and one more would be over the budget of $0.10"


async def test_a_policy_is_held_back_by_the_budget_and_says_so_once(poor: Show) -> None:
    await poor.on_air()
    await set_policy(poor, **TEN, min=3)

    async def held() -> Any:
        return await poor.get("/decisions")

    (decision,) = await wait_for(held, 10, "the decision is journalled")
    assert decision["because"] == (
        f"Wants +1: 2 of 3 edges are there (the least there may be); held: {OVER}."
    )
    assert decision["inputs"]["held_by"] == "budget"
    assert (await evaluate(poor))["actions"] == []
    scaling = poor.stage.manager.scaling
    for number in range(1, 4):
        await scaling.tick(poor.stage.manager.books.clock.monotonic() + 2.0 * number)
    assert len(await poor.get("/decisions")) == 1
    cost = await poor.get("/cost")
    assert cost["budget"]["room"] == 0
    assert cost["budget"]["warning"].startswith(f"Nothing more is launched: {OVER}. Raise [budget]")
    shown = (await poor.get("/snapshot"))["money"]
    assert shown["warning"] == cost["budget"]["warning"]
    assert (shown["hour"], shown["per_hour"], shown["per_month"]) == (0.093, 0.1, None)


async def test_by_hand_it_is_refused_unless_the_budget_may_be_exceeded(poor: Show) -> None:
    body: dict[str, Any] = {"role": "edge"}
    refused = await poor.http.post("/api/v1/fleet", headers=AS_OPERATOR, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "over_budget")
    assert refused.json()["detail"].startswith(f"No edge was added: {OVER}. Raise")
    assert "--over-budget" in refused.json()["detail"]
    added = await poor.http.post("/api/v1/fleet", headers=AS_OPERATOR, json=body | {"over_budget": True})
    assert added.status_code == 200
    await poor.until({"edge-3": "in_service"})
    (said,) = await entries(poor, "fleet.add")
    assert said == "operator asked for one more edge: 2 -> 3; +$0.031 an hour, over the budget."


async def test_over_the_budget_nobody_is_ended_and_what_died_is_not_replaced(poor: Show) -> None:
    await poor.on_air()
    assert (await poor.whep()).status_code == 201
    added = await poor.http.post(
        "/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge", "over_budget": True}
    )
    assert added.status_code == 200
    await poor.until({"edge-3": "in_service"})
    await poor.crash("edge-3")
    await poor.until_gone("edge-3")

    async def said() -> Any:
        return await entries(poor, "scale.held")

    (text,) = await wait_for(said, 10, "the journal says what is held back")
    assert text.startswith(f"1 edge that edge@local lacks is held back: {OVER}. Raise [budget]")
    for _ in range(3):
        await poor.stage.manager.provisioning.replace_missing()
    assert len(await said()) == 1
    states = await poor.node_states()
    assert {name: states[name] for name in ("edge-1", "edge-2", "origin-1")} == {
        "edge-1": "in_service",
        "edge-2": "in_service",
        "origin-1": "in_service",
    }
    await poor.crash("edge-2")  # within the budget it is replaced
    await poor.until({"edge-4": "in_service"})


async def test_a_drain_says_what_it_saves(show: Show) -> None:
    response = await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR, json={})
    assert response.status_code == 200
    (said,) = await entries(show, "node.draining")
    assert said.endswith("at most 60 s; -$0.031 an hour.")


async def test_the_cost_is_asked_for_by_time_and_by_event(show: Show) -> None:
    cost = await show.get("/cost?last_s=86400")
    assert cost["now"]["nodes"] == 2
    assert cost["now"]["nodes_hour"] == 0.062
    assert cost["now"]["hour"] == 0.062
    assert {it["group"] for it in cost["asked"]["groups"]} == {"edge@local", "origin@local"}
    assert cost["asked"]["node_hours"] == pytest.approx(cost["month"]["node_hours"], abs=0.01)
    assert cost["budget"] == {"per_hour": None, "per_month": None, "room": None, "warning": ""}
    event = {"title": "Cup final", "start": "+1h", "lasts_s": 3600, "expected": 800}
    added = await show.http.post("/api/v1/events", headers=AS_OPERATOR, json=event)
    assert added.status_code == 201, added.text
    cost = await show.get("/cost?event=Cup")
    assert cost["event"] == added.json()["id"]
    assert "on 5 nodes" in cost["forecast"]["because"], "an origin, and four edges below 60 %"
    for wrong in ("start=5", "start=5&end=4", "last_s=0", "start=1&end=99999999999"):
        response = await show.http.get(f"/api/v1/cost?{wrong}", headers=AS_OPERATOR)
        assert response.status_code == 422, wrong
    assert (await show.http.get("/api/v1/cost?event=no", headers=AS_OPERATOR)).status_code == 404
    assert (await show.http.get("/api/v1/cost")).status_code == 401
