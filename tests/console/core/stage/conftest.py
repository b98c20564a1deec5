"""Stages of real processes for the tests of this folder, driven through the Python interface."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from console.core import stage
from console.core.paths import Home
from controlplane.wire.processes import ProcessRecord, alive, read_alive
from tests.support.wait import wait_for


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
        assert self.left() == []

    def records(self) -> dict[str, ProcessRecord]:
        records = {record.name: record for record in read_alive(self.home.processes)}
        self.seen.update(records.values())
        return records

    def pids(self) -> dict[str, int]:
        return {name: record.pid for name, record in self.records().items()}

    def left(self) -> list[str]:
        return [record.name for record in self.seen if alive(record)]

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
        left = [record for record in under_test.seen if alive(record)]
        for record in left:
            os.kill(record.pid, signal.SIGKILL)
    assert left == []
