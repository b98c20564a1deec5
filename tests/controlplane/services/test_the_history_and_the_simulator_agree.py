"""A manager scales a fleet on a clock of the test and records it; the same policy, tried on what was
recorded, decides the same.

Everything between the nodes' reports and the files is the manager's own: rounds, scaling, the database, the
recording. The clock is the test's, and so are the nodes: each reports once a second, comes up so long after
its launch, and carries its share of the crowd.

What may differ, and by how much: nothing of what a policy wanted and did, and when, to the second. What held
a plan back is told by both once a minute, beginning from when it was told last; so only that it was is held
against the other.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.provision.memory import MemoryProvisioner
from controlplane.compose import Stage, compose
from controlplane.config import ManagerConfig
from controlplane.domain.nodes.states import LAUNCHING, REPORTING
from controlplane.http.context import Manager
from controlplane.services.rounds import Rounds
from controlplane.services.tokens import sha256
from controlplane.wire.fleet import Course, Policy, Span, WhatIf
from controlplane.wire.nodes import NodeReport, NodeState, Role
from tests.controlplane.stage import OPERATOR, fresh_database

BEGINS = 1_764_158_400.0
BOOT_S = 20
EDGE = "edge@local"
MOST_A_NODE = 800


class Clock:
    """The test's own; both hands go together."""

    def __init__(self) -> None:
        self.at = BEGINS

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - BEGINS


class Town:
    """One manager and its edges, second by second."""

    def __init__(self, stage: Stage, rounds: Rounds, clock: Clock) -> None:
        self.manager: Manager = stage.manager
        self._stage = stage
        self.clock = clock
        self._rounds = rounds
        self._told = 0

    async def second(self, crowd: int, unit: str, turned_away: int = 0) -> None:
        self.clock.at += 1
        for _ in range(turned_away):
            self.manager.scaling._waiting.refused(Role.EDGE, 5)
        edges = [node for node in self.manager.board.nodes.values() if node.role is Role.EDGE]
        for node in edges:
            if node.state in LAUNCHING and self.clock.at - node.created_at >= BOOT_S:
                await self._report(node.id, 0, unit)
        serving = [node.id for node in edges if self._state(node.id) is NodeState.IN_SERVICE]
        for number, name in enumerate(serving):
            share = crowd // len(serving) + (number < crowd % len(serving))
            # More is not believed (a node has 400 seats); the rest finds no place.
            await self._report(name, min(share, MOST_A_NODE), unit)
        for node in edges:
            if node.id not in serving and self._state(node.id) in REPORTING:
                await self._report(node.id, 0, unit)
        assert await self._stage.lease.look()
        with self._stage.lease.acting():
            await self._rounds.tick()
        background = self.manager.provisioning._background
        while tasks := set(background._tasks):  # launches, and what is left of a node
            await asyncio.gather(*tasks)

    def _state(self, name: str) -> NodeState | None:
        node = self.manager.board.nodes.get(name)
        return None if node is None else node.state

    async def _report(self, name: str, load: int, unit: str) -> None:
        self._told += 1
        in_mbps = unit == "mbps"
        report = NodeReport(
            at=self.clock.at,
            seq=self._told,
            connections=0 if in_mbps else load,
            egress_bps=load * 1e6 if in_mbps else 0,
            ingress_bps=0,
        )
        await self.manager.reports.report(self.manager.board.nodes[name], report)


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    database = folder / "showcaller.db"
    database.write_bytes(fresh_database())
    clock = Clock()
    stage = await compose(
        ManagerConfig(),
        database=database,
        api="http://127.0.0.1:1",
        nodes_url="http://127.0.0.1:1",
        run_dir=folder,
        log_dir=folder,
        operator_sha256=sha256(OPERATOR),
        provisioner=MemoryProvisioner(),
        clock=clock,
    )
    (rounds,) = [it for loop in stage._loops if isinstance(it := getattr(loop, "__self__", None), Rounds)]
    try:
        yield Town(stage, rounds, clock)
    finally:
        await stage.close()


def crowd(seed: int, seconds: int) -> Iterator[int]:
    """It trickles in, comes in rushes, wavers about the alarm, and goes."""
    dice = random.Random(seed)
    people, aim = 0.0, 0.0
    for second in range(seconds):
        if second % 80 == 0:
            aim = dice.choice([0, 59, 61, 180, 300, 450, 900])
        people += (aim - people) * dice.choice([0.01, 0.05, 0.2]) + dice.uniform(-4, 4)
        people = max(0.0, people)
        yield round(people)


def acted(decisions: list[tuple[float, str]]) -> list[tuple[float, str]]:
    return [(at, decision) for at, decision in decisions if not decision.startswith("held")]


def held(decisions: list[tuple[float, str]]) -> set[str]:
    return {decision for _, decision in decisions if decision.startswith("held")}


POLICIES: list[dict[str, Any]] = [
    {"down_periods": 10, "down_cooldown_s": 60.0},
    {"up_periods": 1, "down_periods": 1, "down_cooldown_s": 0.0, "increment": 2, "launches": 3, "max": 6},
    {"up_periods": 5, "up_cooldown_s": 45.0, "down_periods": 30, "min": 2, "spend_cap": 0.2},
]


@pytest.mark.parametrize(
    ("seed", "unit"), [(0, "connections"), (1, "connections"), (2, "connections"), (1, "mbps")]
)
async def test_the_same_policy_decides_the_same(tmp_path: Path, seed: int, unit: str) -> None:
    policy = Policy.model_validate({"unit": unit, "capacity": 100, "max": 12} | POLICIES[seed])
    lasting = 1000
    async with town(tmp_path) as it:
        await it.manager.scaling.set_policy(EDGE, policy, "the test")
        for second, people in enumerate(crowd(seed, lasting)):
            await it.second(people, unit, turned_away=3 if 600 < second < 620 else 0)
        done = await it.manager.scaling.decisions(EDGE, 1000)
        journalled = [(entry.at, entry.decision) for entry in reversed(done)]
        question = WhatIf(on=Span(start=BEGINS, end=it.clock.at), boot_s=BOOT_S)
        view = await it.manager.rehearsing.what_if(EDGE, question, it.clock.at)
    assert isinstance(view.today, Course)
    assert view.recorded is not None
    assert (view.recorded.known_s, view.recorded.gaps) == (lasting, [])
    began = view.recorded.first
    replayed = [(began + moment.at, moment.decision) for moment in view.today.decisions]
    assert acted(replayed) == acted(journalled)
    assert held(replayed) == held(journalled)
    assert len(acted(journalled)) > 4
    assert view.today.launches + 1 >= view.recorded.most_nodes > 3
    hours = view.recorded.node_hours  # a node that is drained is gone at once here, and there a second later
    assert view.today.node_hours == pytest.approx(hours, rel=0.02)
