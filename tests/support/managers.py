"""Stream managers as processes of their own on one database, without nodes: what a simulated fleet joins."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controlplane.services.tokens import sha256
from tests.support.stage import environment

OPERATOR = "the-operator-of-these-managers"
END_S = 20.0  # its last word to a database that is busy may take half of it


@dataclass(frozen=True)
class Managers:
    apis: list[str]
    pids: list[int]
    token: str = OPERATOR

    @property
    def words(self) -> list[str]:
        """For a command that is told of them."""
        return [word for api in self.apis for word in ("--api", api)]


@contextlib.contextmanager
def running_managers(
    folder: Path, number: int, database: str | None = None, password: str = "", settings: str = ""
) -> Iterator[Managers]:
    """So many of them, on the server at `database` or else on SQLite (then one). `settings` is TOML."""
    config = folder / "manager.toml"
    config.write_text(settings)
    secrets = {"SHOWCALLER_OPERATOR_SHA256": sha256(OPERATOR), "SHOWCALLER_DATABASE_PASSWORD": password}
    started: list[subprocess.Popen[str]] = []
    apis: list[str] = []
    try:
        for index in range(number):  # the first makes the keys that all have
            words = ["--data-dir", folder / "data", "--run-dir", folder / f"run-{index}", "--no-nodes"]
            words += ["--log-dir", folder / "logs", "--port", "0", "--config", config]
            words += [] if database is None else ["--database", database]
            log = (folder / f"manager-{index}.log").open("w")
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "controlplane", *map(str, words)],
                    cwd=Path(__file__).parents[2],
                    env=environment(folder) | secrets,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
            log.close()
            stdout = started[-1].stdout
            assert stdout is not None
            line = stdout.readline()
            assert line, (folder / f"manager-{index}.log").read_text()[-4000:]
            apis.append(json.loads(line)["api"])
        yield Managers(apis, [process.pid for process in started])
    finally:
        for process in started:
            process.terminate()
        codes = [_ended(process) for process in started]
        logs = "\n".join(log.read_text()[-4000:] for log in sorted(folder.glob("manager-*.log")))
        assert not {*codes} - {0, -signal.SIGKILL}, f"stream managers ended with {codes}:\n{logs}"


def _ended(process: "subprocess.Popen[str]") -> int | None:
    """The exit code, -SIGKILL where a test has killed it; None where it had to be killed here."""
    with process:
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return None


def swarm_environment(managers: Managers) -> dict[str, str]:
    """For `python -m media.swarm signalling`."""
    return {**os.environ, "SHOWCALLER_TOKEN": managers.token}
