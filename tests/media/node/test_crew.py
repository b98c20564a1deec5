"""The crew of a node's workers: who is replaced because it says nothing any more, and who is not."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.wire.nodes import Role
from media.node.crew import STUCK_AFTER, Crew
from media.node.ipc import Message
from media.node.workers import Worker, WorkerGone


class Slow:
    """Stands for a worker that has never answered in time; the process is only asked to end."""

    def __init__(self, silent_for: float) -> None:
        self.plan = SimpleNamespace(index=0, name="edge-1/worker-0")
        self.alive = True
        self.pid = 4711
        self.killed = False
        self.process = SimpleNamespace(kill=self._kill)
        self.heard_at = asyncio.get_running_loop().time() - silent_for

    def _kill(self) -> None:
        self.killed = True

    async def ask(self, message: Message, timeout: float) -> Message:
        raise WorkerGone("it did not answer in time")


async def crew_of(worker: Any, tmp_path: Path) -> Crew:
    async def subscribe(worker: Worker, message: Message) -> None: ...

    crew = Crew(Role.EDGE, tmp_path, None, None, subscribe)
    crew._take(worker)
    return crew


@pytest.mark.parametrize(
    ("silent_for", "killed"), [(0.0, False), (STUCK_AFTER - 1, False), (STUCK_AFTER + 1, True)]
)
async def test_a_worker_is_stuck_when_it_says_nothing_and_not_when_its_reports_are_late(
    silent_for: float, killed: bool, tmp_path: Path
) -> None:
    worker = Slow(silent_for)
    crew = await crew_of(worker, tmp_path)
    for _ in range(50):
        assert await crew.reports(sessions=False) == []
    assert worker.killed is killed


async def test_an_answer_that_comes_too_late_is_a_word_and_no_event() -> None:
    events: list[Message] = []
    worker = Worker.__new__(Worker)
    worker._calls = {}
    worker.heard_at = 0.0
    worker._on_event = lambda _, message: events.append(message)
    worker._take({"ev": "report", "ref": 7})
    assert events == []
    assert worker.heard_at == pytest.approx(asyncio.get_running_loop().time(), abs=1)
    worker._take({"ev": "dropped", "channel": "main"})
    assert events == [{"ev": "dropped", "channel": "main"}]
