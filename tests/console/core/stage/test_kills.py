"""kill -9 of the supervisor and of the stream manager: the stage comes back, and `down` still finds all."""

import asyncio
import contextlib

import pytest

from console.core import stage
from console.core.stage.launch import launch_detached, module_command
from console.core.stage.manager import read_ready
from console.core.stage.restarts import LIMIT
from tests.console.core.stage.conftest import StageUnderTest
from tests.support.wait import wait_for

pytestmark = pytest.mark.stage


async def is_up(running: StageUnderTest) -> bool:
    return (await stage.status(running.home)).view.state == "up"


async def wait_up(running: StageUnderTest) -> None:
    await wait_for(lambda: is_up(running), 15, "the stage is up")


def nodes_of(pids: dict[str, int]) -> dict[str, int]:
    return {name: pid for name, pid in pids.items() if name.startswith(("edge-", "origin-"))}


async def test_a_killed_manager_is_started_again_where_it_was_and_its_nodes_outlive_it(
    running: StageUnderTest,
) -> None:
    before = await running.up()
    api = (await stage.status(running.home)).view.api
    running.kill("manager")
    await running.until(
        lambda: running.pids().get("manager", before["manager"]) != before["manager"], "another manager runs"
    )
    await wait_up(running)
    assert nodes_of(running.pids()) == nodes_of(before)
    status = await stage.status(running.home)
    assert status.view.api == api
    assert status.manager is not None
    assert status.manager.restarts == 1
    await running.down()


async def test_a_killed_supervisor_is_missed_but_the_stage_serves_and_a_new_one_adopts_it(
    running: StageUnderTest,
) -> None:
    before = await running.up()
    running.kill("supervisor")
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")
    status = await stage.status(running.home)
    assert status.view.state == "up"
    assert not status.supervised
    assert any("stage up" in problem for problem in status.problems)
    after = await running.up()
    assert {name: pid for name, pid in after.items() if name != "supervisor"} == {
        name: pid for name, pid in before.items() if name != "supervisor"
    }
    assert after["supervisor"] != before["supervisor"]
    running.kill("manager")  # the new one keeps what it adopted
    await running.until(
        lambda: running.pids().get("manager", before["manager"]) != before["manager"], "another manager runs"
    )
    await wait_up(running)
    assert nodes_of(running.pids()) == nodes_of(before)
    await running.down()


async def test_down_finds_everything_without_supervisor_and_manager(running: StageUnderTest) -> None:
    await running.up()
    running.kill("supervisor")
    running.kill("manager")
    await running.until(lambda: not {"supervisor", "manager"} & set(running.pids()), "both are dead")
    status = await stage.status(running.home)
    assert status.view.state == "partial"
    assert {process.name for process in status.view.processes} >= {"origin-1", "edge-1"}
    await running.down()


async def test_down_finds_a_manager_whose_supervisor_died_before_it_could_record_it(
    running: StageUnderTest,
) -> None:
    home = running.home
    home.prepare()
    folders = ("--data-dir", str(home.data), "--run-dir", str(home.run), "--log-dir", str(home.logs))
    launched = launch_detached(
        home,
        "manager",
        None,
        module_command("controlplane", *folders, "--port", "0"),
        secrets={},
        stdout=home.run / "manager.out",
    )
    await running.until(lambda: read_ready(home.run / "manager.out") is not None, "the manager listens")
    await running.down()
    assert launched.process.wait(timeout=5) == 0, "it was found, and ended in order"


async def test_down_ends_a_stage_whose_supervisor_dies_in_the_middle_of_its_answer(
    running: StageUnderTest,
) -> None:
    await running.up()
    running.kill("supervisor")
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")

    async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": {"pid": 1, "ver')
        writer.close()

    async with await asyncio.start_unix_server(half_an_answer, str(running.home.control_socket)):
        await running.down()


async def test_with_supervisor_and_manager_dead_up_brings_both_back_around_the_living_nodes(
    running: StageUnderTest,
) -> None:
    before = await running.up()
    api = (await stage.status(running.home)).view.api
    running.kill("supervisor")
    running.kill("manager")
    await running.until(lambda: not {"supervisor", "manager"} & set(running.pids()), "both are dead")
    after = await running.up(port=None)
    assert nodes_of(after) == nodes_of(before)
    assert (await stage.status(running.home)).view.api == api
    await running.down()


async def test_an_open_console_brings_a_dead_supervisor_back(running: StageUnderTest) -> None:
    before = await running.up()
    watch = asyncio.create_task(stage.keep_supervised(running.home))
    try:
        running.kill("supervisor")
        await running.until(
            lambda: running.pids().get("supervisor", before["supervisor"]) != before["supervisor"],
            "another supervisor runs",
        )
        await wait_up(running)
        await running.down()
        await asyncio.wait_for(watch, 10)  # it sees that the stage has ended, and lets it rest
        assert running.pids() == {}
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def test_a_manager_that_keeps_dying_is_given_a_rest_and_it_is_said(running: StageUnderTest) -> None:
    await running.up()

    killed: list[int | None] = []

    async def settled() -> str | None:
        """How the manager is, once it is neither ended nor starting."""
        manager = (await stage.status(running.home)).manager
        if manager is None or manager.pid in killed or manager.state not in ("ready", "failed"):
            return None
        return manager.state

    while await wait_for(settled, 15, "the manager is ready, or rests") == "ready":
        killed.append(running.pids()["manager"])
        running.kill("manager")
    status = await stage.status(running.home)
    assert status.manager is not None
    assert status.manager.restarts == LIMIT
    assert any("keeps ending" in problem for problem in status.problems)
    pids = await running.up()  # a person asks: it gets another try at once
    assert "manager" in pids
    await running.down()
