"""A whole embedded stage of real processes, started and ended through the real command line.

    def test_something(stage: Stage) -> None:
        stage.publish_test("main")
        nodes = stage.json("nodes")

Each stage has a home of its own in a temporary folder and a port that the system picked. When the test is
over the stage is taken down, and every process that ever had a record in it must be gone, and any other that
has to do with its home; if the test failed, the ends of the stage's logs are printed.
"""

import functools
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.wire.processes import ProcessRecord, alive, read_all
from tests.support.commands import command_line as command_line
from tests.support.commands import run
from tests.support.leftovers import Left, who_uses
from tests.support.wait import NotInTime, wait_until

KEYRING = "PYTHON_KEYRING_BACKEND"  # see tests/conftest.py
COMMAND_S = 30.0
UP_S = 60.0
GONE_S = 5.0
LOG_TAIL = 25


def environment(home: Path) -> dict[str, str]:
    """This process's own, without what would point the command at another stage."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SHOWCALLER_")}
    return env | {"SHOWCALLER_HOME": str(home)}


def terminal_environment(home: Path) -> dict[str, str]:
    """What a program in a terminal of its own gets: little of ours, but no keyring of the person's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER", KEYRING) if name in os.environ}
    return kept | {"SHOWCALLER_HOME": str(home), "TERM": "screen-256color", "LANG": "C.UTF-8"}


@functools.cache
def _believed() -> ssl.SSLContext:
    """Whose signatures are believed, read once: to read them takes longer than to ask a stage."""
    return ssl.create_default_context()


def keyring_of(pid: int) -> str | None:
    """The keyring that a process was told to use; None when it was told nothing."""
    words = (line.partition(b"=") for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return next((value.decode() for name, _, value in words if name == KEYRING.encode()), None)


@dataclass
class Stage:
    home: Path
    under: tuple[str, ...] = ()  # a command that runs the others, as in ("env", "-u", "LANG")
    options: tuple[str, ...] = ()  # of `stage up`
    api: str = ""
    watch: str = ""
    seen: dict[tuple[int, float], ProcessRecord] = field(default_factory=dict)

    def run(
        self, *words: str, timeout: float = COMMAND_S, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One command against this stage. Its words on stderr are part of the failure."""
        done = run(words, environment(self.home), timeout, under=self.under)
        if check and done.returncode != 0:
            raise AssertionError(
                f"showcaller {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        self.look()
        return done

    def json(self, *words: str, timeout: float = COMMAND_S) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*words, "--json", timeout=timeout).stdout)

    def up(self) -> None:
        view = self.json("stage", "up", "--port", "0", *self.options, timeout=UP_S)
        assert view["state"] == "up", view
        self.api, self.watch = view["api"], view["watch"]

    def get(self, path: str, api: str = "") -> Any:
        """What the operator's API says at a path below /api/v1."""
        token = (self.home / "config" / "operator.token").read_text().strip()
        answer = httpx.get(
            f"{api or self.api}/api/v1/{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=COMMAND_S,
            trust_env=False,
            verify=_believed(),
        )
        answer.raise_for_status()
        self.look()
        return answer.json()

    def down(self) -> None:
        self.look()
        self.run("stage", "down", "--json")

    def publish_test(self, channel: str, *options: str) -> Any:
        """Puts the test pattern on air and returns when it is live."""
        return self.json("publish", "test", "--channel", channel, "--detach", *options, timeout=UP_S)

    def stop(self, channel: str) -> Any:
        return self.json("streams", "stop", channel, "--yes")

    def processes(self) -> list[ProcessRecord]:
        """Every process of the stage that has a record: the living and the dead."""
        return read_all(self.home / "run" / "processes")

    def process(self, name: str) -> ProcessRecord:
        """The living process of this name."""
        return next(record for record in self.processes() if record.name == name and alive(record))

    def look(self) -> None:
        """Remember who runs, so that the end can be checked although records go away with processes."""
        for record in self.processes():
            self.seen[record.pid, record.start_time] = record

    def left_over(self) -> list[Left]:
        """Who lives: all that ever had a record, and whoever else has to do with the home."""
        self.look()
        recorded = [Left.recorded(record) for record in self.seen.values() if alive(record)]
        known = {left.pid for left in recorded}
        return recorded + [left for left in who_uses(self.home) if left.pid not in known]

    def leaves_nothing(self) -> None:
        """The stage has ended: all of it is gone, or is within seconds. Names who is not."""
        with suppress(NotInTime):
            wait_until(lambda: not self.left_over(), GONE_S)
        left = self.left_over()
        assert not left, f"left of the stage: {', '.join(map(str, left))}"

    def log_tails(self) -> str:
        parts = []
        for path in sorted((self.home / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            parts.append(f"--- {path.name}, last lines\n" + "\n".join(lines))
        return "\n".join(parts)


@contextmanager
def running_stage(*under: str, options: tuple[str, ...] = (), settings: str = "") -> Iterator[Stage]:
    """A stage that is up; taken down at the end, whatever happened, and checked to have left nothing.

    `settings` are its manager's (TOML).
    """
    folder = Path(tempfile.mkdtemp(prefix="showcaller-test-"))
    stage = Stage(folder / "home", under, options)
    try:
        if settings:
            stage.home.joinpath("config").mkdir(parents=True, mode=0o700)
            stage.home.joinpath("config", "manager.toml").write_text(settings)
        stage.up()
        yield stage
        stage.down()
        stage.leaves_nothing()
    finally:
        _end_by_force(stage)
        shutil.rmtree(folder, ignore_errors=True)


def _end_by_force(stage: Stage) -> None:
    """After a failure nothing of the stage may outlive the test: each by its own pid, parents first."""
    if not stage.left_over():
        return
    stage.run("stage", "down", "--json", check=False)
    order = ("supervisor", "manager", "node", "publisher", "worker", "encoder", "")
    for left in sorted(stage.left_over(), key=lambda left: order.index(left.kind)):
        if left.alive:
            os.kill(left.pid, signal.SIGKILL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed on a stage shows the ends of the stage's logs."""
    report = yield
    running = getattr(item, "funcargs", {}).get("stage")
    if report.failed and isinstance(running, Stage) and running.home.exists():
        report.sections.append(("the stage's logs", running.log_tails()))
    return report


@pytest.fixture
def stage() -> Iterator[Stage]:
    with running_stage() as running:
        yield running
