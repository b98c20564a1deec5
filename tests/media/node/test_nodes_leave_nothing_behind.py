"""Agents and workers that are told to end, or killed: what remains, and what comes back."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from controlplane.wire.processes import read_alive, read_all, start_time
from tests.media.node.stand import ROOT, Publisher, Stand, Watcher, log_lines, until


async def test_sigterm_ends_a_node_within_three_seconds_and_peers_are_told(nodes: Stand) -> None:
    node = await nodes.node("origin", "origin-1")
    workers = node.worker_pids()
    assert len(workers) == 1
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "origin-1", "main")
        await viewer.sees(3)
        started = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(node.process.wait(), 3) == 0
        assert time.monotonic() - started < 3
        await until(lambda: viewer.connection.connectionState == "closed", "the viewer got a close_notify", 3)
        assert start_time(workers[0]) is None
        assert read_all(nodes.folder / "run" / "processes") == []
        last = nodes.manager.nodes["origin-1"]
        assert {publisher.session, viewer.session} <= set(last.ended)
    finally:
        await publisher.close()
        await viewer.close()


async def test_a_node_is_on_record_by_itself_under_the_name_its_manager_gives_it(nodes: Stand) -> None:
    """Nobody else recorded it: as when the manager is killed just after it launched one."""
    folder = nodes.folder / "run" / "processes"
    port = nodes.manager.port
    await nodes.manager.stop()
    node = await nodes.node("edge", "edge-7", "--name", "mine", enrol=False)
    await until(lambda: on_record(folder).get("mine") == node.pid, "it is on record before it enrols")
    await nodes.manager.start(port)
    await until(lambda: on_record(folder).get("edge-7") == node.pid, "it has the manager's name")
    assert on_record(folder) == {"edge-7": node.pid, "edge-7/worker-0": node.worker_pids()[0]}
    node.process.send_signal(signal.SIGTERM)
    await node.process.wait()
    assert read_all(folder) == []


def on_record(folder: Path) -> dict[str, int]:
    return {record.name: record.pid for record in read_all(folder)}


async def test_workers_end_when_their_agent_is_killed(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1", "--workers", "2")
    workers = node.worker_pids()
    assert len(workers) == 2
    node.process.kill()
    await node.process.wait()
    await until(lambda: all(start_time(pid) is None for pid in workers), "both workers end", 3)
    assert read_alive(nodes.folder / "run" / "processes") == []


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_ctrl_c_in_the_first_moments_of_a_node_is_quiet(nodes: Stand) -> None:
    """To the whole process group, as a terminal sends it: agent and workers are still loading."""
    await nodes.manager.stop()
    for tenths in range(8):
        log = nodes.folder / f"interrupted-{tenths}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "media.node", "--role", "edge", "--manager", nodes.manager.url),
                *("--run-dir", str(nodes.folder / "run"), "--workers", "2"),
                cwd=ROOT,
                env=os.environ | {"SHOWCALLER_ENROL_TOKEN": "of no use"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        await until(lambda: len(children_of(process.pid)) == 2, "its workers have been launched")  # noqa: B023
        workers = children_of(process.pid)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                process.wait(), tenths / 10
            )  # a sample of moments, not a wait for something
        os.killpg(process.pid, signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 5) in (0, 130)  # 0: the agent ran already
        await until(lambda: all(start_time(pid) is None for pid in workers), "its workers end", 5)  # noqa: B023
        assert "Traceback" not in log.read_text(), f"after {tenths / 10} s"


async def test_a_stopped_manager_does_not_stop_the_media(nodes: Stand) -> None:
    node = await nodes.node("origin", "origin-1")
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "origin-1", "main")
        await viewer.sees(3)
        port = nodes.manager.port
        await nodes.manager.stop()
        await until(
            lambda: sum(line["event"] == "report_not_delivered" for line in log_lines(node.log)) >= 2,
            "reports are tried in vain",
        )
        await viewer.sees(10)
        reports = len(nodes.manager.nodes["origin-1"].reports)
        await nodes.manager.start(port)
        await until(lambda: len(nodes.manager.nodes["origin-1"].reports) > reports, "reports come again")
    finally:
        await publisher.close()
        await viewer.close()


async def test_a_node_waits_for_its_manager_to_enrol(nodes: Stand) -> None:
    port = nodes.manager.port
    await nodes.manager.stop()
    node = await nodes.node("edge", "edge-1", enrol=False)
    await until(
        lambda: any(line["event"] == "enrol_waits" for line in log_lines(node.log)), "the node tries in vain"
    )
    await nodes.manager.start(port)
    await until(lambda: "edge-1" in nodes.manager.nodes, "it enrols")


async def test_a_used_token_is_a_clear_error(nodes: Stand) -> None:
    nodes.manager.new_token = lambda node: "used-already"  # type: ignore[method-assign]
    node = await nodes.node("edge", "edge-1", enrol=False)
    assert await asyncio.wait_for(node.process.wait(), 10) == 1
    (failure,) = [line for line in log_lines(node.log) if line["event"] == "node_failed"]
    assert "token" in failure["reason"]
    assert read_all(nodes.folder / "run" / "processes") == []


async def test_a_port_in_use_is_a_clear_error(nodes: Stand) -> None:
    await nodes.node("edge", "edge-1")
    taken = nodes.manager.nodes["edge-1"].enrol.workers[0].udp_port
    node = await nodes.node("edge", "edge-2", "--udp-port", str(taken), enrol=False)
    assert await asyncio.wait_for(node.process.wait(), 10) == 1
    (failure,) = [line for line in log_lines(node.log) if line["event"] == "node_failed"]
    assert f"UDP port {taken}" in failure["reason"]
    assert "--udp-port" in failure["reason"]


async def test_the_manager_may_terminate_a_node(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1")
    response = await nodes.manager.call("edge-1", "POST", "/v1/terminate")
    assert response.status_code == 202
    assert await asyncio.wait_for(node.process.wait(), 3) == 0
    other = await nodes.node("edge", "edge-2")
    nodes.manager.nodes["edge-2"].orders.append({"kind": "terminate"})
    assert await asyncio.wait_for(other.process.wait(), 3) == 0


async def test_a_killed_worker_is_replaced_and_reported(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1")
    (old,) = node.worker_pids()
    os.kill(old, signal.SIGKILL)
    await until(lambda: node.worker_pids() not in ([], [old]), "another worker runs")
    edge = nodes.manager.nodes["edge-1"]
    await until(
        lambda: edge.last and [w.pid for w in edge.last.workers] == node.worker_pids(), "it is reported"
    )


async def test_a_workers_death_is_told_at_once(nodes: Stand) -> None:
    nodes.manager.report_interval = 600.0
    node = await nodes.node("edge", "edge-1")
    viewer = Watcher()
    try:
        await viewer.offer_only(nodes.manager, "edge-1", "main")
        (worker,) = node.worker_pids()
        os.kill(worker, signal.SIGKILL)
        edge = nodes.manager.nodes["edge-1"]
        await until(lambda: viewer.session in edge.ended, "its session is reported as ended")
    finally:
        await viewer.close()
