"""A drill from beginning to end against a whole manager with nodes that are quick to come: what is refused
before anything dies, what is written down whatever comes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from console.core.drills import Rehearsal
from console.core.errors import Rejected, StageError
from console.core.paths import Home
from console.core.target import Target
from controlplane.wire.drills import DrillKind, DrillRequest, Milestone
from tests.controlplane.stage import OPERATOR, Show, running
from tests.support.wait import wait_for

PATIENCE_S = 10.0


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[Show]:
    async with running(folder) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        yield show


class Drilling:
    """A rehearsal against that manager, and what it reported."""

    def __init__(self, show: Show, folder: Path, kind: DrillKind, *, timeout_s: float = 10.0) -> None:
        self.said: list[str] = []
        self.waited_for: list[str] = []
        self.target = Target(show.url, OPERATOR, None, remote=False)
        self.rehearsal = Rehearsal(
            self.target,
            Home(folder / "home"),
            DrillRequest(kind=kind),
            timeout_s=timeout_s,
            report=self._report,
            progress=lambda words, at_s: self.waited_for.append(words),
        )

    def _report(self, milestone: Milestone) -> None:
        self.said.append(milestone.words)


async def last(show: Show, kind: str) -> str:
    found = [entry["message"] for entry in await show.get("/journal?limit=1000") if entry["kind"] == kind]
    assert len(found) == 1, found
    return str(found[0])


async def test_a_drill_on_a_stage_with_nothing_on_air_says_that_no_picture_was_watched(
    tmp_path: Path,
) -> None:
    async with up(tmp_path) as show:
        it = Drilling(show, tmp_path, DrillKind.KILL_EDGE)
        result = await it.rehearsal.run()
        assert result.recovered
        assert it.said == ["noticed", "edge-2 asked for", "edge-2 in service"]
        assert result.outcome.watched is None
        assert result.message == await last(show, "drill.ended")
        assert result.message.endswith("no picture was watched: nothing is on air.")


async def test_what_does_not_recover_in_time_is_named_here_and_in_the_journal(tmp_path: Path) -> None:
    async with up(tmp_path) as show:
        show.provisioner.refuse = "no more of them today"
        it = Drilling(show, tmp_path, DrillKind.KILL_ORIGIN, timeout_s=1.0)
        result = await it.rehearsal.run()
        assert not result.recovered
        # The launch that is refused is seen to be asked for, or is over before anybody looks.
        assert result.outcome.missing[-1] == "another origin in service"
        assert set(result.outcome.missing) <= {"a launch of another origin", "another origin in service"}
        assert "and this is missing after 1." in await last(show, "drill.ended")
        assert it.waited_for[-1].endswith("another origin")


async def test_a_drill_that_is_stopped_in_the_middle_is_written_down(tmp_path: Path) -> None:
    async with up(tmp_path) as show:
        show.provisioner.refuse = "no more of them today"
        it = Drilling(show, tmp_path, DrillKind.KILL_EDGE)
        task = asyncio.create_task(it.rehearsal.run())
        await wait_for(lambda: it.said, PATIENCE_S, "its death is noticed")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        result = it.rehearsal.result
        assert result is not None
        assert not result.recovered
        assert (result.outcome.stopped, result.message) == (True, await last(show, "drill.ended"))
        assert "edge-1 was killed on purpose, and the drill was stopped after" in result.message


async def test_a_drill_that_is_stopped_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    async with up(tmp_path) as show:
        it = Drilling(show, tmp_path, DrillKind.KILL_EDGE)
        task = asyncio.create_task(it.rehearsal.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert it.rehearsal.result is None
        assert not [kind for kind in await show.journal() if kind.startswith("drill.")]
        assert show.provisioner.killed == []


async def test_a_refusal_comes_before_anything_is_begun(tmp_path: Path) -> None:
    async with up(tmp_path) as show:
        await show.http.post("/api/v1/nodes/edge-1/drain", headers={"Authorization": f"Bearer {OPERATOR}"})
        it = Drilling(show, tmp_path, DrillKind.KILL_EDGE)
        for call in (it.rehearsal.look, it.rehearsal.run):
            with pytest.raises(Rejected) as refused:
                await call()
            assert refused.value.code == "no_node_in_service"


async def test_a_manager_is_not_killed_from_elsewhere_nor_where_nobody_would_start_it_again(
    tmp_path: Path,
) -> None:
    async with up(tmp_path) as show:
        it = Drilling(show, tmp_path, DrillKind.KILL_MANAGER)
        with pytest.raises(StageError, match="no supervisor runs that would start the stream manager again"):
            await it.rehearsal.run()
        far = Rehearsal(
            Target(show.url, OPERATOR, None, remote=True),
            Home(tmp_path / "home"),
            DrillRequest(kind=DrillKind.KILL_MANAGER),
            timeout_s=1.0,
            report=lambda milestone: None,
            progress=lambda words, at_s: None,
        )
        with pytest.raises(StageError, match="without --api"):
            await far.look()
        assert not [kind for kind in await show.journal() if kind.startswith("drill.")]
