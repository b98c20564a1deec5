"""`python -m controlplane` as a process: its ready line, its errors, its end, a kill -9."""

import fcntl
import hashlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.adapters.store import migrate
from controlplane.wire import processes
from tests.support.mariadb import PASSWORD, Mariadb
from tests.support.wait import wait_until

TOKEN = "the-operator"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Manager:
    """The process, and the last thing a test does with it: ending it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str, port: int = 0) -> dict[str, Any]:
        """Starts it; what its ready line says."""
        self.process = self.popen(*more, port=port)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return dict(json.loads(line))

    def popen(self, *more: str, port: int = 0) -> subprocess.Popen[str]:
        arguments = ["--data-dir", str(self.home / "data"), "--run-dir", str(self.home / "run")]
        arguments += ["--log-dir", str(self.home / "logs"), "--port", str(port), *more]
        environment = os.environ | {"SHOWCALLER_OPERATOR_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest()}
        return subprocess.Popen(
            [sys.executable, "-m", "controlplane", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fails(self, *more: str, port: int = 0) -> str:
        """Starts it, expecting exit code 1 (or 2) and one error; what stderr says."""
        process = self.popen(*more, port=port)
        out, err = process.communicate(timeout=20)
        assert process.returncode in (1, 2), err
        assert out == ""
        assert "Traceback" not in err
        return err

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        code, self.process = self.process.returncode, None
        return code


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)
    for record in processes.read_alive(tmp_path / "run" / "processes"):
        os.kill(record.pid, signal.SIGKILL)


def test_it_says_when_it_is_ready_and_ends_on_sigterm(manager: Manager) -> None:
    ready = manager.start("--no-nodes")
    assert ready["ready"] is True
    assert ready["watch"] == ready["api"] + "/watch"
    health = httpx.get(f"{ready['api']}/api/v1/health", trust_env=False).json()
    assert health["status"] == "ok"
    assert health["stage"] == "local"
    assert "/stage" not in httpx.get(f"{ready['api']}/docs", trust_env=False).text.partition("<h1>")[0]
    # An open event stream and an open connection do not hold it up.
    with httpx.stream("GET", f"{ready['api']}/watch/main/events", timeout=10, trust_env=False) as stream:
        assert next(stream.iter_lines()) == "retry: 1000"
        assert manager.end() == 0


def _records(home: Path) -> dict[str, int]:
    return {record.name: record.pid for record in processes.read_all(home / "run" / "processes")}


def test_it_is_on_record_before_it_holds_anything_and_off_it_when_it_ends(manager: Manager) -> None:
    """Nobody recorded it: as when its supervisor is killed just after it launched one."""
    (manager.home / "data").mkdir()
    with (manager.home / "data" / "showcaller.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = manager.process = manager.popen("--no-nodes")
        wait_until(lambda: _records(manager.home) == {"manager": process.pid}, 10, "it is on record")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["ready"]
    assert manager.end() == 0
    assert _records(manager.home) == {}


def test_one_that_cannot_start_leaves_no_record_and_takes_nobody_elses(manager: Manager) -> None:
    assert "cannot be read" in manager.fails("--config", "/no/such.toml")
    assert _records(manager.home) == {}
    manager.start("--no-nodes")
    first = _records(manager.home)
    manager.fails("--no-nodes")
    assert _records(manager.home) == first != {}


def test_without_a_place_for_records_it_does_not_start(manager: Manager) -> None:
    (manager.home / "run").mkdir()
    (manager.home / "run" / "processes").write_text("a file")
    assert "run/processes cannot be written to" in manager.fails("--no-nodes")


def test_a_port_in_use_says_so_and_names_a_way_out(manager: Manager) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        error = manager.fails("--no-nodes", port=port)
    assert f"port {port}" in error
    assert "in use by another program" in error
    assert f"--port {port + 1}" in error


def test_a_stage_on_that_port_is_called_by_its_name(manager: Manager, tmp_path: Path) -> None:
    ready = manager.start("--no-nodes")
    port = int(ready["api"].rpartition(":")[2])
    error = Manager(tmp_path / "another").fails("--no-nodes", port=port)
    assert "a Showcaller stage (local) already answers" in error
    assert "--port" in error


def test_a_second_manager_on_the_same_data_is_refused(manager: Manager, monkeypatch: Any) -> None:
    manager.start("--no-nodes")
    assert manager.process is not None
    error = Manager(manager.home).fails("--no-nodes")
    assert f"another stream manager (process {manager.process.pid}) already uses" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "no.such.host.invalid"], "there is no such address"),
        (["--listen", "192.0.2.1"], "this machine does not have that address"),
        (
            ["--tls-cert", "/no/such.pem", "--tls-key", "/no/such.pem"],
            "--tls-cert /no/such.pem cannot be read",
        ),
        (["--tls-cert", "/no/such.pem"], "belong together"),
        (["--config", "/no/such.toml"], "cannot be read"),
        (["--public-url", "ftp://x"], "must begin with http"),
    ],
)
def test_wrong_arguments_are_named(manager: Manager, arguments: list[str], says: str) -> None:
    assert says in manager.fails("--no-nodes", *arguments)


def test_a_database_that_is_locked_newer_or_damaged_stops_the_start(manager: Manager) -> None:
    data = manager.home / "data"
    data.mkdir()
    database = data / "showcaller.db"
    migrate.prepare(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = manager.fails("--no-nodes")
        assert "locked by another program" in error
        assert "start again" in error
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer Showcaller" in manager.fails("--no-nodes")
    database.write_text("nothing of the kind" * 500)
    assert "damaged" in manager.fails("--no-nodes")


def _nodes(api: str) -> dict[str, dict[str, Any]]:
    found = httpx.get(f"{api}/api/v1/nodes", headers=HEADERS, trust_env=False, timeout=5).json()
    return {node["id"]: node for node in found}


def _in_service(api: str) -> dict[str, dict[str, Any]]:
    """All nodes, once an origin and an edge serve; else none."""
    nodes = _nodes(api)
    serving = {name for name, node in nodes.items() if node["state"] == "in_service" and node["age_s"]}
    return nodes if {"origin", "edge"} == {name.partition("-")[0] for name in serving} else {}


def _alive(home: Path, kind: str) -> set[int]:
    return {r.pid for r in processes.read_alive(home / "run" / "processes") if r.kind == kind}


def test_its_nodes_outlive_a_kill_9_and_are_adopted(manager: Manager) -> None:
    api = manager.start()["api"]
    before = wait_until(lambda: _in_service(api), 20, "real nodes in service")
    port = int(api.rpartition(":")[2])
    manager.end(signal.SIGKILL)
    pids = {node["pid"] for node in before.values()}
    assert _alive(manager.home, "node") == pids

    manager.start(port=port)
    after = wait_until(lambda: _in_service(api), 10, "the same nodes in service")
    assert {name: node["pid"] for name, node in after.items()} == {
        name: node["pid"] for name, node in before.items()
    }
    victim = before["edge-1"]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: _nodes(api).get("edge-2", {}).get("state") == "in_service", 15, "it is replaced")
    assert manager.end(signal.SIGINT) == 0  # from the foreground: its nodes end as well
    wait_until(lambda: not _alive(manager.home, "node"), 5, "no node is left")
    wait_until(lambda: not _alive(manager.home, "worker"), 5, "no worker is left")


def test_https_serves_the_public_and_a_loopback_port_the_nodes(manager: Manager, tmp_path: Path) -> None:
    cert, key = _self_signed(tmp_path)
    ready = manager.start("--no-nodes", "--tls-cert", str(cert), "--tls-key", str(key))
    assert ready["api"].startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(cert))
    health = httpx.get(f"{ready['api']}/api/v1/health", verify=context, trust_env=False)
    assert health.status_code == 200
    internal = int((tmp_path / "run" / "manager-internal.port").read_text())
    with closing(http.client.HTTPConnection("127.0.0.1", internal, timeout=5)) as connection:
        connection.request("GET", "/api/v1/health")
        assert connection.getresponse().status == 200
    assert manager.end() == 0
    manager.start("--no-nodes", "--tls-cert", str(cert), "--tls-key", str(key))
    assert int((tmp_path / "run" / "manager-internal.port").read_text()) == internal
    second = Manager(tmp_path).fails("--no-nodes", "--tls-cert", str(cert), "--tls-key", str(key))
    assert "another stream manager" in second
    assert int((tmp_path / "run" / "manager-internal.port").read_text()) == internal  # what its nodes know
    error = Manager(tmp_path / "another").fails("--tls-cert", str(key), "--tls-key", str(cert))
    assert "cannot be used" in error


def _self_signed(folder: Path) -> tuple[Path, Path]:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


# on a database server


def test_a_manager_keeps_its_rows_on_a_server_and_several_may_share_it(
    manager: Manager, mariadb: Mariadb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = mariadb.empty()
    monkeypatch.setenv("SHOWCALLER_DATABASE_PASSWORD", PASSWORD)
    ready = manager.start("--no-nodes", "--database", mariadb.url(name))
    other = Manager(tmp_path / "another")
    try:
        other.start("--no-nodes", "--database", mariadb.url(name))
        answer = httpx.post(
            f"{ready['api']}/api/v1/tokens", headers=HEADERS, json={"channel": "main"}, trust_env=False
        )
        assert answer.status_code == 200
        assert other.end() == 0
    finally:
        if other.process is not None:
            other.end(signal.SIGKILL)
    assert manager.end() == 0
    assert mariadb.sql(f"SELECT subject FROM {name}.journal WHERE kind LIKE 'token%'") == [("main",)]
    assert len(mariadb.sql(f"SELECT id FROM {name}.writers")) == 2
    assert not (manager.home / "data" / "showcaller.db").exists()
    mariadb.drop(name)


def test_what_is_wrong_with_a_database_server_stops_the_start(
    manager: Manager, mariadb: Mariadb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOWCALLER_DATABASE_PASSWORD", "not-the-password")
    error = manager.fails("--no-nodes", "--database", mariadb.url("show_none"))
    assert "refuses the user showcaller: Access denied" in error
    assert "not-the-password" not in error
    settings = tmp_path / "manager.toml"
    settings.write_text('[database]\nurl = "mysql://u:the-secret@"\n')
    error = manager.fails("--no-nodes", "--config", str(settings))
    assert "the address of the database is not of the form mysql://USER@HOST:3306/DATABASE" in error
    assert "the-secret" not in error
