"""Stages of real processes for the tests of this folder, driven through the Python interface."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from console.core import stage
from console.core.paths import Home
from controlplane.wire.processes import ProcessRecord, alive, read_alive
from tests.support.leftovers import Left, who_uses
from tests.support.stage import GONE_S
from tests.support.wait import NotInTime, wait_for


class StageUnderTest:
    """One home. Remembers every process it saw, so that the end can be checked."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.said: list[str] = []
        self.seen: set[ProcessRecord] = set()

    def options(self, **more: object) -> stage.StageOptions:
        return stage.StageOptions(home=self.home, **{"port": 0, **more})  # type: ignore[arg-type]

    async def up(self, **more: object) -> dict[str, int]:
        view = await stage.up(self.options(**more), report=self.said.append)
        assert view.state == "up"
        return self.pids()

    async def down(self) -> None:
        self.pids()
        view = await stage.down(self.home, report=self.said.append)
        assert view.model_dump(exclude_none=True) == {"state": "down", "processes": []}
        await self.leaves_nothing()

    def records(self) -> dict[str, ProcessRecord]:
        records = {record.name: record for record in read_alive(self.home.processes)}
        self.seen.update(records.values())
        return records

    def pids(self) -> dict[str, int]:
        return {name: record.pid for name, record in self.records().items()}

    def left(self) -> list[Left]:
        """Who lives: all that ever had a record, and whoever else has to do with the home."""
        recorded = [Left.recorded(record) for record in self.seen if alive(record)]
        known = {left.pid for left in recorded}
        return recorded + [left for left in who_uses(self.home.root) if left.pid not in known]

    async def leaves_nothing(self) -> None:
        """The stage has ended: all of it is gone, or is within seconds. Names who is not."""
        with contextlib.suppress(NotInTime):
            await wait_for(lambda: not self.left(), GONE_S)
        left = self.left()
        assert not left, f"left of the stage: {', '.join(map(str, left))}"

    def kill(self, name: str) -> None:
        os.kill(self.records()[name].pid, signal.SIGKILL)

    async def until(self, condition: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
        await wait_for(condition, within_s, what)

    def log(self, name: str) -> str:
        path = self.home.log(name)
        return path.read_text() if path.exists() else ""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[StageUnderTest]:
    """A stage to bring up. Whatever the test left of it is ended, and nothing may outlive that."""
    under_test = StageUnderTest(tmp_path / "home")
    try:
        yield under_test
    finally:
        under_test.records()
        await stage.down(under_test.home)
        try:
            await under_test.leaves_nothing()
        finally:
            for left in under_test.left():
                os.kill(left.pid, signal.SIGKILL)
