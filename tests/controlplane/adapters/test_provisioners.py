"""One contract for every provisioner: the local one runs real processes."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controlplane.adapters.provision.local import LocalProvisioner
from controlplane.adapters.provision.memory import MemoryProvisioner
from controlplane.ports.provisioner import LaunchSpec, Provisioner, ProvisionError
from controlplane.wire import processes
from controlplane.wire.nodes import Role
from tests.support.wait import wait_for, wait_until

FAKE = (sys.executable, "-m", "tests.controlplane.fake_node")
SPEC = LaunchSpec("edge-1", Role.EDGE, 400, "a-token")


def local(folder: Path, *more: str, kill_after_s: float = 3.0) -> LocalProvisioner:
    return LocalProvisioner(
        manager_url="http://127.0.0.1:9",
        run_dir=folder / "run",
        log_dir=folder / "logs",
        command=[*FAKE, *more],
        kill_after_s=kill_after_s,
    )


Make = Callable[[], Provisioner]


@pytest.fixture(params=["memory", "local"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes provisioners; what they launched is ended at the end."""
    made: list[Provisioner] = []
    memory = MemoryProvisioner()

    def new() -> Provisioner:
        # What a memory provisioner launched lives in it: a later "manager" gets the same one.
        provisioner = memory if request.param == "memory" else local(tmp_path)
        made.append(provisioner)
        return provisioner

    yield new
    for record in processes.read_alive(tmp_path / "run" / "processes"):
        os.kill(record.pid, signal.SIGKILL)
    for provisioner in made:
        await provisioner.close()


async def test_what_is_launched_runs_until_it_is_ended(make: Make) -> None:
    provisioner = make()
    ended: list[str] = []
    provisioner.watch(lambda node, reason: ended.append(node))
    instance = await provisioner.launch(SPEC)
    assert instance.node == "edge-1"
    assert await provisioner.running() == [instance]
    await provisioner.end("edge-1")
    await wait_for(lambda: ended == ["edge-1"], 5, "its end is told once")
    assert await provisioner.running() == []
    await provisioner.end("edge-1")  # again: nothing happens
    await provisioner.end("edge-7")
    assert ended == ["edge-1"]


async def test_what_is_killed_ends_at_once_and_is_told_of_as_any_death(make: Make) -> None:
    provisioner = make()
    ended: list[tuple[str, str]] = []
    provisioner.watch(lambda node, reason: ended.append((node, reason)))
    await provisioner.launch(SPEC)
    await provisioner.kill("edge-1")
    await wait_for(lambda: ended, 5, "its death is told")
    assert ended in ([("edge-1", "its process was ended by SIGKILL")], [("edge-1", "killed")])
    assert await provisioner.running() == []
    await provisioner.kill("edge-1")  # again: nothing happens
    await provisioner.kill("edge-7")
    assert len(ended) == 1


async def test_a_node_is_not_launched_twice(make: Make) -> None:
    provisioner = make()
    await provisioner.launch(SPEC)
    with pytest.raises(ProvisionError, match="already"):
        await provisioner.launch(SPEC)
    assert len(await provisioner.running()) == 1


async def test_what_an_earlier_manager_launched_is_adopted_and_watched(make: Make) -> None:
    first = make()
    instance = await first.launch(SPEC)
    await first.close()
    second = make()
    ended: list[str] = []
    second.watch(lambda node, reason: ended.append(node))
    assert await second.adopt("edge-1", instance.pid, instance.start_time) == instance
    assert await second.adopt("edge-1", None, None) == instance  # again, and from its own records
    assert await second.running() == [instance]
    await second.end("edge-1")
    await wait_for(lambda: ended == ["edge-1"], 5, "the end of an adopted one is told too")


async def test_a_stranger_or_nobody_is_not_adopted(make: Make) -> None:
    provisioner = make()
    assert await provisioner.adopt("edge-1", None, None) is None
    assert await provisioner.adopt("edge-1", os.getpid(), 1.0) is None  # our pid, another start time
    assert await provisioner.adopt("edge-1", 2**22 - 1, 1.0) is None
    assert await provisioner.running() == []


# the local one


async def test_a_local_node_has_a_record_a_log_and_a_session_of_its_own(tmp_path: Path) -> None:
    provisioner = local(tmp_path)
    ended: list[tuple[str, str]] = []
    provisioner.watch(lambda node, reason: ended.append((node, reason)))
    instance = await provisioner.launch(SPEC)
    assert instance.pid is not None
    assert os.getsid(instance.pid) == instance.pid
    records = tmp_path / "run" / "processes"
    record = processes.read_all(records)[0]
    assert (record.name, record.kind, record.pid) == ("edge-1", "node", instance.pid)
    assert (tmp_path / "logs" / "edge-1.log").exists()
    command = await asyncio.to_thread(_of_process, instance.pid, "cmdline")
    assert b"edge-1" in command
    assert b"a-token" not in command
    processes.record_self_or_child(records, "edge-1/worker-0", "worker", _dead())
    os.kill(instance.pid, signal.SIGKILL)
    await wait_for(lambda: ended, 5, "its death is noticed")
    assert ended == [("edge-1", "its process was ended by SIGKILL")]
    assert processes.read_all(records) == []
    await provisioner.close()


def _dead() -> int:
    """The pid of a process that has just ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


async def test_a_local_node_that_will_not_end_is_killed(tmp_path: Path) -> None:
    provisioner = local(tmp_path, "--stubborn", kill_after_s=0.3)
    ended: list[str] = []
    provisioner.watch(lambda node, reason: ended.append(reason))
    instance = await provisioner.launch(SPEC)
    assert instance.pid is not None
    await asyncio.to_thread(_until_ignores_term, instance.pid)
    await provisioner.end("edge-1")
    await wait_for(lambda: ended == ["its process was ended by SIGKILL"], 5, "it is killed")
    await provisioner.close()


def _of_process(pid: int | None, name: str) -> bytes:
    """What proc(5) says; empty for a moment while the new program is being loaded."""
    return wait_until(lambda: Path(f"/proc/{pid}/{name}").read_bytes(), 5, "the program is loaded")


def _until_ignores_term(pid: int) -> None:
    def installed() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & (1 << (signal.SIGTERM - 1)))

    wait_until(installed, 5, "the process has set its handler")


async def test_a_program_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    provisioner = LocalProvisioner(
        manager_url="http://x", run_dir=tmp_path, log_dir=tmp_path, command=["/no/such/program"]
    )
    with pytest.raises(ProvisionError, match="edge-1 could not be started"):
        await provisioner.launch(SPEC)


async def test_how_nodes_are_reached_is_handed_on(tmp_path: Path) -> None:
    provisioner = LocalProvisioner(
        manager_url="http://127.0.0.1:9",
        run_dir=tmp_path / "run",
        log_dir=tmp_path / "logs",
        announce=["203.0.113.5", "metadata"],
        tcp_port=443,
        workers=2,
        command=FAKE,
    )
    instance = await provisioner.launch(SPEC)
    words = (await asyncio.to_thread(_of_process, instance.pid, "cmdline")).split(b"\0")
    given = list(itertools.pairwise(words))
    announced = [(b"--announce", b"203.0.113.5"), (b"--announce", b"metadata")]
    for pair in (*announced, (b"--tcp-port", b"443"), (b"--workers", b"2")):
        assert pair in given
    ended: list[str] = []
    provisioner.watch(lambda node, reason: ended.append(node))
    await provisioner.end("edge-1")
    await wait_for(lambda: ended, 5, "it ends")
    await provisioner.close()


async def test_the_managers_own_secrets_are_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOWCALLER_OPERATOR_SHA256", "a-secret-of-ours")
    provisioner = local(tmp_path)
    instance = await provisioner.launch(SPEC)
    environment = await asyncio.to_thread(_of_process, instance.pid, "environ")
    assert b"a-secret-of-ours" not in environment
    assert b"SHOWCALLER_ENROL_TOKEN=a-token" in environment
    ended: list[str] = []
    provisioner.watch(lambda node, reason: ended.append(node))
    await provisioner.end("edge-1")
    await wait_for(lambda: ended, 5, "it ends")
    await provisioner.close()
