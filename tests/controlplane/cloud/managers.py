"""Stream managers as processes on one MariaDB: started, killed, stopped, and asked what there is.

with managers(mariadb, cloud, tmp_path, edges=20) as show:
    show.start("a"); show.start("b")
    show.kill(show.leader())
"""

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from controlplane.services.tokens import load_manager_id, load_signing_key
from tests.controlplane.cloud import manager as cloud_manager
from tests.support.mariadb import PASSWORD, Mariadb
from tests.support.wait import wait_until

OPERATOR = "the-operator"
HEADERS = {"Authorization": f"Bearer {OPERATOR}"}
START_S = 30.0
PATIENCE_S = 30.0


@dataclass
class Process:
    """One manager process."""

    name: str  # of its data folder: who is started again under it goes by the same id
    popen: subprocess.Popen[str]
    api: str = ""
    id: str = ""  # what it goes by in the database


@dataclass
class Managers:
    server: Mariadb
    database: str
    home: Path
    settings: str
    cloud: str | None  # its URL; None: managers that launch no nodes
    running: dict[str, Process] = field(default_factory=dict)

    def begin(self, name: str, port: int = 0) -> None:
        """Start it; `started` waits until it answers."""
        home = self.home / name
        (home / "data").mkdir(parents=True, exist_ok=True)
        load_signing_key(self.home / "signing.key")
        shutil.copyfile(self.home / "signing.key", home / "data" / "signing.key")  # all have the same
        (home / "settings.toml").write_text(self.settings)
        words = ["--data-dir", home / "data", "--run-dir", home / "run", "--log-dir", home / "logs"]
        words += ["--port", port, "--config", home / "settings.toml"]
        words += ["--database", self.server.url(self.database)]
        module = "tests.controlplane.cloud.manager" if self.cloud else "controlplane"
        environment = os.environ | {
            "SHOWCALLER_OPERATOR_SHA256": hashlib.sha256(OPERATOR.encode()).hexdigest(),
            "SHOWCALLER_DATABASE_PASSWORD": PASSWORD,
        }
        if self.cloud is None:
            words += ["--no-nodes"]
        else:
            environment[cloud_manager.VARIABLE] = self.cloud
        with (home / "stderr").open("ab") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, words)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.running[name] = Process(name, popen)

    def started(self, name: str) -> Process:
        process = self.running[name]
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline()
        assert line, self.log(name)
        process.api = json.loads(line)["api"]
        process.id = load_manager_id(self.home / name / "data" / "manager.id", platform.node())
        return process

    def start(self, *names: str) -> None:
        for name in names:
            self.begin(name)
        for name in names:
            self.started(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.running[name].popen.pid, number)

    def apis(self) -> list[str]:
        """Where those that run answer."""
        return [it.api for it in self.running.values() if it.api]

    def kill(self, name: str) -> None:
        """kill -9, and it is gone."""
        process = self.running.pop(name)
        process.popen.kill()
        process.popen.communicate()

    def log(self, name: str) -> str:
        return (self.home / name / "stderr").read_text(errors="replace")[-6000:]

    def get(self, name: str, path: str) -> Any:
        url = f"{self.running[name].api}/api/v1{path}"
        answer = httpx.get(url, headers=HEADERS, trust_env=False, timeout=10.0)
        answer.raise_for_status()
        return answer.json()

    def post(self, name: str, path: str, body: Any) -> Any:
        url = f"{self.running[name].api}/api/v1{path}"
        answer = httpx.post(url, headers=HEADERS, json=body, trust_env=False, timeout=10.0)
        answer.raise_for_status()
        return answer.json()

    # what the database says

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.sql(statement, database=self.database)

    def leader(self) -> str | None:
        """The name of the one that holds the lease and runs."""
        row = self.sql("SELECT holder FROM lease WHERE expires > UNIX_TIMESTAMP(SYSDATE(6))")
        return next((it.name for it in self.running.values() if row and it.id == row[0][0]), None)

    def until_it_leads(self, name: str) -> None:
        wait_until(lambda: self.leader() == name, PATIENCE_S, f"{name} leads")

    def rows(self) -> list[tuple[str, str, int | None]]:
        """Of the nodes that have not terminated: name, state, instance."""
        found = self.sql("SELECT id, state, pid FROM nodes WHERE state <> 'terminated' ORDER BY id")
        return [(str(name), str(state), pid) for name, state, pid in found]

    def open_acts(self) -> int:
        ((number,),) = self.sql("SELECT COUNT(*) FROM acts WHERE outcome IS NULL")
        return int(number)


@contextmanager
def managers(
    server: Mariadb, home: Path, settings: str, cloud: str | None = None, *, empty: bool = False
) -> Iterator[Managers]:
    """None runs yet; those that do are killed at the end. `empty`: the database has no tables."""
    name = server.empty() if empty else server.fresh()
    made = Managers(server, name, home, settings, cloud)
    try:
        yield made
    finally:
        for running in list(made.running):
            made.kill(running)
