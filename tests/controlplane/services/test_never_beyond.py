"""Whatever becomes of policies, nodes, load and managers: nothing is launched beyond a policy's max or cap,
or beyond the budget, unless somebody says so by hand; and there are never fewer than min for long.

Real services on a real database, in virtual time; nodes are rows that come up, report and die.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as under
from hypothesis import strategies as st

from controlplane.adapters.store import sqlite
from controlplane.config import ManagerConfig
from controlplane.domain.money.model import Budget
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import COUNTED, REPORTING
from controlplane.errors import Conflict
from controlplane.services.board import Heard
from controlplane.services.books import Change, Changed
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeReport, NodeState, Role
from tests.controlplane.clock import VirtualClock
from tests.controlplane.services.cloud import Cloud, Fuse
from tests.controlplane.services.test_killed_while_launching import Life
from tests.controlplane.stage import fresh_database

PRICE = Decimal("0.031")  # of a node an hour: the usual one
QUICK = {"up_periods": 1, "down_periods": 2, "down_cooldown_s": 3.0, "drain_deadline_s": 5.0}

Step = tuple[Any, ...]


def settings(budget: int | None) -> ManagerConfig:
    """`budget`: so many nodes; None: none is set."""
    fleet = {"origins": 0, "edges": 1, "faults_stop": 1000}
    per_hour = {} if budget is None else {"per_hour": float(PRICE * budget) + 0.001}
    return ManagerConfig.model_validate({"fleet": fleet, "budget": per_hour})


class World:
    """One group of edges, the managers that lead it one after the other, and who watches what is launched."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "showcaller.db"
        self._database.write_bytes(fresh_database())
        self.clock = VirtualClock()
        self.cloud = Cloud(now=self.clock.monotonic)
        self.load = 0
        self.budget: int | None = None
        self.by_hand = False  # somebody is just adding one, and knows that it is beyond
        self._seen: set[str] = set()

    async def start(self, budget: int | None) -> None:
        self.budget = budget
        self.life = Life(self._database, self.clock, self.cloud, "a", Fuse(), settings(budget))
        await self.life.lead(at_start=True)
        self._seen = set(self.board.nodes)
        self.life.books.listen(self)

    @property
    def board(self) -> Any:
        return self.life.books.board

    @property
    def group(self) -> Group:
        group: Group = self.board.groups[Role.EDGE, "local"]
        return group

    def of(self, states: Iterable[NodeState]) -> list[Node]:
        return [node for node in self.board.nodes.values() if node.state in states]

    def changed(self, changed: Changed) -> None:
        """services.books.Listener: the board shows what was committed."""
        for node in changed.nodes.values():
            if node.id not in self._seen:
                self._seen.add(node.id)
                self.check_launch(node)

    def check_launch(self, node: Node) -> None:
        if self.by_hand:
            return
        policy, paid = self.group.policy, len(self.board.nodes)
        if policy is not None:
            assert len(self.of(COUNTED)) <= policy.max, f"{node.id} is beyond max: {node.state_reason}"
            cap = policy.spend_cap
            assert cap is None or paid * PRICE <= cap, f"{node.id} is beyond the cap: {node.state_reason}"
        assert self.budget is None or paid <= self.budget, f"{node.id} is beyond the budget"

    async def second(self) -> None:
        """Those that boot come into service, all report, and the fleet is looked at."""
        books = self.life.books
        for node in self.of([NodeState.BOOTING]):
            words = {"in_service_at": self.clock.now(), "enrolled_at": self.clock.now()}
            await books.change(
                Change.move_node, node, NodeState.IN_SERVICE, "it reports", control_fingerprint="AB", **words
            )
        now, serving = self.clock.monotonic(), self.of(REPORTING)
        for node in serving:
            share = 0 if node.state is NodeState.DRAINING else self.load // len(serving)
            said = NodeReport(at=self.clock.now(), seq=1, connections=share, egress_bps=0, ingress_bps=0)
            self.board.heard[node.id] = Heard(said, now, said_at=now)
        await self.life.look()
        self.clock.advance(1.0)

    async def step(self, what: str, *values: Any) -> None:
        await getattr(self, f"_{what}")(*values)

    async def _policy(self, least: int, more: int, cap: int | None) -> None:
        wanted = {"capacity": 10, "min": least, "max": least + more} | QUICK
        wanted["spend_cap"] = None if cap is None else PRICE * cap
        await self.life.scaling.set_policy("edge", Policy.model_validate(wanted), "the test")

    async def _no_policy(self) -> None:
        await self.life.scaling.clear_policy("edge", "the test")

    async def _watched(self, load: int) -> None:
        self.load = load

    async def _pass(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.second()

    async def _dies(self, number: int) -> None:
        nodes = self.of(REPORTING)
        if nodes:
            node = nodes[number % len(nodes)]
            self.vanish(node)
            await self.life.losses.lost(node.id, "it died", gone=number % 2 == 0)

    def vanish(self, node: Node) -> None:
        self.cloud.instances = [it for it in self.cloud.instances if it.node != node.id]
        self.life.provisioner._known.pop(node.id, None)

    async def _add(self, over: bool) -> None:
        """Within the limits, or it is refused; `over`: in any case."""
        before, self.by_hand = self.group.desired, over
        with contextlib.nullcontext() if over else contextlib.suppress(Conflict):
            await self.life.fleet.add(Role.EDGE, None, "the test", over_budget=over, over_policy=over)
        self.by_hand = False
        assert self.group.desired <= before + 1

    async def _drain(self, number: int) -> None:
        nodes = self.of(COUNTED)
        if nodes:
            await self.life.fleet.drain(nodes[number % len(nodes)].id, 3.0, "the test")

    async def _restart(self, budget: int | None, dead: int) -> None:
        """Killed; `dead` nodes die before there is another one."""
        await self.life.close()
        for node in list(self.of(REPORTING))[:dead]:
            self.vanish(node)
        self.clock.advance(2.0)
        await self.start(budget)

    async def settles(self) -> None:
        """Nothing happens any more: there are as many as there are to be, as far as they are paid for."""
        await self._pass(15)
        policy = self.group.policy
        assert not self.of([NodeState.REQUESTED, NodeState.CREATING, NodeState.BOOTING])
        if policy is not None:
            limits = [policy.min]
            if policy.spend_cap is not None:
                limits.append(int(policy.spend_cap / PRICE))
            if self.budget is not None:
                limits.append(self.budget)
            assert len(self.of([NodeState.IN_SERVICE])) >= min(limits)
            assert self.group.desired <= max(policy.max, len(self.of(COUNTED))), (
                "nobody wants more than may be"
            )


@asynccontextmanager
async def world(folder: Path, budget: int | None = None) -> AsyncIterator[World]:
    made = World(folder)
    await made.start(budget)
    try:
        yield made
    finally:
        await made.life.close()


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine loses its power here: what was committed need not wait for the disk."""
    monkeypatch.setattr(sqlite, "PRAGMAS", ("journal_mode=WAL", "synchronous=OFF"))


FEW = st.integers(0, 4)
SOME = st.one_of(st.none(), st.integers(0, 5))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("policy"), FEW, FEW, SOME),
        st.tuples(st.just("no_policy")),
        st.tuples(st.just("watched"), st.integers(0, 60)),
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("dies"), FEW),
        st.tuples(st.just("add"), st.booleans()),
        st.tuples(st.just("drain"), FEW),
        st.tuples(st.just("restart"), SOME, st.integers(0, 2)),
    ),
    max_size=25,
)


@given(STEPS)
@example([("watched", 30), ("policy", 1, 4, None), ("pass", 5), ("policy", 1, 0, None), ("restart", None, 2)])
@example([("policy", 3, 0, None), ("pass", 3), ("policy", 1, 0, 0), ("dies", 0), ("pass", 2)])
@example([("add", True), ("add", True), ("pass", 2), ("restart", 1, 1), ("pass", 2), ("restart", 2, 0)])
@under(
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_nothing_is_launched_beyond_max_cap_or_budget_unless_by_hand(
    tmp_path: Path, steps: list[Step]
) -> None:
    async def run() -> None:
        async with world(tmp_path) as stage:
            for what, *values in steps:
                await stage.step(what, *values)
            await stage.settles()

    asyncio.run(run())


async def test_where_max_was_lowered_the_dead_are_not_replaced_and_the_journal_says_what_is_given_up(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as stage:
        await stage.step("watched", 30)
        await stage.step("policy", 1, 5, None)
        await stage.step("pass", 4)
        assert len(stage.of([NodeState.IN_SERVICE])) == 5
        await stage.step("policy", 1, 1, None)
        await stage.step("restart", None, 1)
        await stage.step("pass", 3)
        assert len(stage.of(COUNTED)) == 4, "nobody is ended for it, and nobody replaced"
        given_up, *_ = await stage.life.scaling.decisions("edge", 100)
        while given_up.decision != "-1":
            given_up, *_ = _
        assert given_up.because == ("-1: 5 edges were wanted, of at most 2: 1 that is not there is given up.")
        assert stage.group.desired == 4


async def test_a_launch_looks_at_the_limits_once_more_as_its_row_is_written(tmp_path: Path) -> None:
    """Between the look and the row somebody else has lowered max, or spent what there was."""
    async with world(tmp_path, budget=2) as stage:
        await stage.step("add", True)
        await stage.step("pass", 2)
        await stage.step("dies", 0)
        request, books = stage.life.rounds._provisioning._request_missing, stage.life.books
        edges = (Role.EDGE, "local")
        await stage.step("policy", 1, 0, None)
        assert await books.change(request, edges) is None, "beyond max"
        await stage.step("policy", 1, 4, 1)
        assert await books.change(request, edges) is None, "beyond the cap"
        await stage.step("policy", 1, 4, None)
        stage.life.rounds._money.budget = Budget(per_hour=PRICE)
        assert await books.change(request, edges) is None, "beyond the budget"
        stage.life.rounds._money.budget = Budget()
        assert await books.change(request, edges) is not None


async def test_one_by_hand_beyond_the_policy_is_said_to_be_and_not_replaced(tmp_path: Path) -> None:
    async with world(tmp_path) as stage:
        await stage.step("policy", 1, 0, None)
        await stage.step("pass", 2)
        with pytest.raises(Conflict, match=r"1 of at most 1 is there.*--over-policy") as refused:
            await stage.life.fleet.add(Role.EDGE, None, "the test")
        assert refused.value.code == "over_policy"
        await stage.step("watched", 11)
        await stage.step("add", True)
        await stage.step("pass", 2)
        assert len(stage.of([NodeState.IN_SERVICE])) == 2
        entry = next(it for it in stage.board.journal if it.kind == "fleet.add")
        assert entry.message == (
            "the test asked for one more edge: 1 -> 2; +$0.031 an hour, beyond its policy: 1 of at most 1 is "
            "there."
        )
        await stage.step("dies", 1)
        await stage.step("pass", 3)
        assert (len(stage.of(COUNTED)), stage.group.desired) == (1, 1)


async def test_of_a_dead_node_that_the_cap_holds_back_the_plan_tells(tmp_path: Path) -> None:
    """The load alone does not ask for it: it was wanted, and has died."""
    async with world(tmp_path) as stage:
        await stage.step("watched", 20)
        await stage.step("policy", 1, 5, None)
        await stage.step("pass", 4)
        assert len(stage.of([NodeState.IN_SERVICE])) == 4
        await stage.step("policy", 1, 5, 2)
        await stage.step("dies", 0)
        await stage.step("pass", 3)
        newest, *_ = await stage.life.scaling.decisions("edge", 100)
        assert (newest.decision, newest.inputs["held_by"], newest.inputs["held"]) == ("held +1", "cap", 1)
        assert newest.because == (
            "Wants +1: 3 of 4 edges are there; held: 3 at $0.031 an hour and one more would be over the cap "
            "of $0.062."
        )
