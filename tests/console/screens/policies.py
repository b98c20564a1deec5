"""A stream manager's answers about policies, for the form and what is tried in it."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from console.core.client import Client
from console.core.errors import ConsoleError, Rejected
from controlplane.wire.base import FaultView, Problem
from controlplane.wire.fleet import Course, MinuteView, Policy, PolicyView, WhatIf, WhatIfView
from controlplane.wire.history import Coverage
from tests.console.screens.stand import START


def course(policy: Policy, refused: int = 0, *, minutes: int = 24 * 60, lag: int = 0) -> Course:
    """An evening: a hill of people, and the nodes that follow it."""

    def people(minute: int) -> int:
        return max(0, int(3000 * math.sin(math.pi * minute / minutes) ** 3))

    def nodes(minute: int) -> int:
        wanted = -(-people(max(0, minute - lag)) // int(policy.capacity * policy.alarm))
        return min(policy.max, max(policy.min, wanted))

    told = [
        MinuteView(
            at=minute * 60,
            people=people(minute),
            waiting=0,
            in_service=nodes(minute),
            launching=0,
            draining=0,
            headroom=nodes(minute) * policy.capacity - people(minute),
            known=not 300 <= minute < 340,
        )
        for minute in range(minutes)
    ]
    hours = sum(it.in_service for it in told) / 60
    return Course(
        policy=policy,
        minutes=told,
        decisions=[],
        refused=refused,
        waited_s=refused * 12,
        node_hours=hours,
        cost=hours * 0.21,
        most_nodes=max(it.in_service for it in told),
        least_headroom=min(it.headroom or 0 for it in told),
        launches=9,
        drains=8,
    )


COVERAGE = Coverage(
    group="edge@local",
    start=int(START) - 86_400,
    end=int(START),
    first=int(START) - 86_400,
    last=int(START),
    known_s=84_000,
    gaps=[],
    gaps_in_all=0,
    twice_s=0,
    torn=0,
    damaged=[],
    damaged_in_all=0,
    most=3000,
    mean=1270.0,
    node_hours=130.0,
    most_nodes=11,
    refused=0,
)


@dataclass
class Manager:
    policy: Policy | None = field(default_factory=lambda: Policy(max=8))
    error: ConsoleError | None = None  # answered to what changes it
    recorded: bool = True
    held: asyncio.Event | None = None  # a simulation lasts until it is set
    saved: list[Policy] = field(default_factory=list)
    checked: list[Policy] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    tried: list[WhatIf] = field(default_factory=list)
    given_up: int = 0

    async def look(self, group: str, *, usual: bool = False) -> PolicyView:
        return PolicyView(group=group, policy=self.policy or Policy(), usual=self.policy is None)

    async def save(self, group: str, changes: Policy) -> PolicyView:
        self.saved.append(changes)
        if self.error is not None:
            raise self.error
        return PolicyView(group=group, policy=Policy())

    async def check(self, group: str, changes: Policy) -> PolicyView:
        self.checked.append(changes)
        if self.error is not None:
            raise self.error
        return PolicyView(group=group, policy=Policy())

    async def clear(self, group: str) -> None:
        self.cleared.append(group)
        if self.error is not None:
            raise self.error

    async def what_if(self, group: str, asked: WhatIf) -> WhatIfView:
        self.tried.append(asked)
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        if self.error is not None:
            raise self.error
        if asked.on is not None and not self.recorded:
            raise rejected("no_history", "There is no history", "Nothing is recorded")
        changed = None
        if asked.changes is not None:
            changed = course(asked.changes, 1204, lag=40)
        today = None if self.policy is None else course(self.policy)
        was = COVERAGE if asked.on is not None else None
        return WhatIfView(boot_s=40, price=0.21, today=today, changed=changed, recorded=was)


def rejected(code: str, title: str, detail: str = "", faults: dict[str, str] | None = None) -> Rejected:
    found = None if faults is None else [FaultView(place=at, text=text) for at, text in faults.items()]
    return Rejected(Problem(code=code, title=title, detail=detail, status=422, faults=found))


def answering(monkeypatch: pytest.MonkeyPatch, **more: Any) -> Manager:
    """From now on the console's calls about policies are answered so."""
    made = Manager(**more)
    answers = {
        "policy": made.look,
        "set_policy": made.save,
        "check_policy": made.check,
        "clear_policy": made.clear,
        "what_if": made.what_if,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(Client, name, staticmethod(answer))
    return made
