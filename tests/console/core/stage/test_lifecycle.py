"""Up, status and down, of a stage of real processes."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from console.core import stage
from console.core.errors import StageError
from console.core.stage import start
from console.core.target import ConsoleOptions, find_target
from controlplane.wire.nodes import NodeState, Role
from controlplane.wire.processes import ProcessRecord, write
from tests.console.core.stage.conftest import StageUnderTest

pytestmark = pytest.mark.stage


async def test_a_stage_comes_up_with_a_manager_an_origin_and_an_edge_and_leaves_nothing(
    running: StageUnderTest,
) -> None:
    before = await stage.status(running.home)
    assert before.view.model_dump(exclude_none=True) == {"state": "down", "processes": []}
    pids = await running.up()
    assert {"supervisor", "manager", "origin-1", "edge-1"} <= set(pids)
    status = await stage.status(running.home)
    assert status.view.state == "up"
    assert status.supervised
    assert status.problems == []
    assert {process.name: process.pid for process in status.view.processes} == pids
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        assert {node.state for node in await client.nodes()} == {NodeState.IN_SERVICE}
    again = await running.up()
    assert again == pids
    await running.down()
    await running.down()


async def test_a_stage_that_was_left_with_more_edges_comes_up_with_them_and_says_so(
    running: StageUnderTest,
) -> None:
    await running.up()
    assert not any("as you left it" in line for line in running.said)
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        await client.fleet_add(Role.EDGE)
    await running.down()
    await running.up()
    assert "2 edges, as you left it" in running.said
    await running.down()


async def test_two_that_bring_it_up_at_once_share_one_stage(running: StageUnderTest) -> None:
    views = await asyncio.gather(*(stage.up(running.options()) for _ in range(3)))
    assert len({view.api for view in views}) == 1
    assert (
        len({process.pid for view in views for process in view.processes if process.name == "supervisor"})
        == 1
    )
    await running.down()


async def test_sigterm_to_the_supervisor_ends_the_stage_in_order(running: StageUnderTest) -> None:
    pids = await running.up()
    os.kill(pids["supervisor"], signal.SIGTERM)
    await running.until(lambda: not running.left(), "everything has ended")
    lines = [line for line in running.log("supervisor").splitlines() if '"ending ' in line]
    assert ["the stream manager" in lines[0], "nodes" in lines[1]] == [True, True]


async def test_a_supervisor_that_hangs_is_ended_by_its_record(running: StageUnderTest) -> None:
    pids = await running.up()
    os.kill(pids["supervisor"], signal.SIGSTOP)
    await running.down()
    assert any("ending it without" in line for line in running.said)


async def test_a_long_home_uses_a_short_folder_for_sockets_and_removes_it(tmp_path: Path) -> None:
    long = StageUnderTest(tmp_path / ("long" * 15) / ("longer" * 8))
    try:
        await long.up()
        assert long.home.sockets() != long.home.run
        assert long.home.control_socket.is_socket()
    finally:
        await long.down()
    assert not long.home.sockets().exists()


async def test_a_stranger_with_a_recorded_pid_is_never_touched(running: StageUnderTest) -> None:
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    try:
        running.home.prepare()
        for name, kind in (("edge-9", "node"), ("manager", "manager"), ("supervisor", "supervisor")):
            record = ProcessRecord(name=name, kind=kind, pid=stranger.pid, start_time=1.0)  # type: ignore[arg-type]
            write(running.home.processes, record)
        assert (await stage.status(running.home)).view.state == "down"
        await running.up()
        await running.down()
        assert stranger.returncode is None
        assert list(running.home.processes.glob("*.json")) == []
    finally:
        await stranger.communicate(b"\n")


async def test_a_stage_of_another_version_is_not_touched_and_says_how_to_go_on(
    running: StageUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = await running.up()
    monkeypatch.setattr(start, "version", lambda: "99.0")
    with pytest.raises(StageError, match="stage down") as refused:
        await stage.up(running.options())
    assert "99.0" in str(refused.value)
    running.kill("supervisor")
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")
    with pytest.raises(StageError, match="stage down"):
        await stage.up(running.options())
    assert running.pids().items() <= pids.items()


async def test_a_running_stage_is_not_moved_in_silence(running: StageUnderTest) -> None:
    await running.up()
    with pytest.raises(StageError, match="--port"):
        await stage.up(running.options(port=1))
    with pytest.raises(StageError, match="--listen"):
        await stage.up(running.options(listen="0.0.0.0"))


async def test_a_damaged_place_file_is_said_and_does_not_stop_down(running: StageUnderTest) -> None:
    await running.up()
    running.kill("supervisor")
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")
    running.home.stage_file.write_text('{"half": ')
    status = await stage.status(running.home)
    assert any("damaged" in problem for problem in status.problems)
    assert {process.name for process in status.view.processes} >= {"manager", "origin-1", "edge-1"}
    with pytest.raises(StageError, match="damaged"):
        await stage.up(running.options())
    await running.down()


async def test_a_manager_that_cannot_start_is_said_with_its_own_words_and_leaves_nothing(
    running: StageUnderTest,
) -> None:
    running.home.prepare()
    (running.home.data / "showcaller.db").write_text("this is no database\n" * 100)
    with pytest.raises(StageError, match="does not start") as failed:
        await stage.up(running.options())
    assert failed.value.next_step
    assert running.pids() == {}
    assert (running.home.data / "showcaller.db").read_text().startswith("this is no database")


async def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="SHOWCALLER_HOME"):
        await stage.up(stage.StageOptions(home=StageUnderTest(tmp_path / "file" / "home").home, port=0))


async def test_https_is_served_to_others_and_local_commands_still_work(
    running: StageUnderTest, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key)
    await running.up(tls_cert=cert, tls_key=key, listen="0.0.0.0")
    view = (await stage.status(running.home)).view
    assert view.api is not None
    assert view.api.startswith("https://")
    assert "0.0.0.0" not in view.api
    target = find_target(ConsoleOptions(stage=running.options()))
    async with target.client() as client:
        assert len(await client.nodes()) == 2
    await running.down()


async def test_a_stage_with_tls_is_up_already_however_its_files_are_named(
    running: StageUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    monkeypatch.chdir(tmp_path)
    cert, key = Path("cert.pem"), Path("key.pem")
    pids = await running.up(tls_cert=cert, tls_key=key)
    assert await running.up(tls_cert=cert, tls_key=key) == pids
    assert await running.up(tls_cert=tmp_path / cert, tls_key=tmp_path / key) == pids
    shutil.copy(key, "other.pem")
    with pytest.raises(StageError, match="--tls-key as asked for now"):
        await stage.up(running.options(tls_cert=cert, tls_key=Path("other.pem")))


def make_certificate(cert: Path, key: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stage.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
