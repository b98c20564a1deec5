"""The supervisor's hold on the stream manager: start it or adopt it, notice its end, start it again.

The manager prints one JSON line when it listens; it goes to a file, not a pipe, because the manager outlives
the supervisor that started it. A manager that never got as far as listening and said why is not started
again until a person asks (`stage up`): it would fail the same way.
"""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from console.core import logs
from console.core.config import manager_config_file
from console.core.errors import StageError
from console.core.paths import Home, unusable
from console.core.stage.launch import launch_detached, manager_secrets, module_command
from console.core.stage.model import ManagerStatus, Place
from console.core.stage.processes import end_processes, forget, wait_end
from console.core.stage.restarts import Restarts
from console.core.version import program_folder, version
from controlplane.wire.base import Message
from controlplane.wire.processes import ProcessRecord, start_time

READY_S = 30.0
POLL_S = 0.05
LOG_LINES = 12
INTERNAL_PORT = "manager-internal.port"  # in run/, written by a manager that serves HTTPS


class Logger(Protocol):
    def info(self, event: str, **figures: Any) -> Any: ...
    def warning(self, event: str, **figures: Any) -> Any: ...
    def error(self, event: str, **figures: Any) -> Any: ...


class ManagerSettings(Message):
    """What a manager is started with, the same each time, so that pages and nodes find it again."""

    port: int
    listen: str = "127.0.0.1"
    announce: list[str] = []
    tls_cert: str | None = None
    tls_key: str | None = None
    port_fixed: bool = False

    @classmethod
    def of(cls, place: Place) -> "ManagerSettings":
        return cls.model_validate(place.model_dump())


def local_api(home: Home, settings: ManagerSettings) -> str:
    """How this machine reaches its manager: on loopback where it listens there.

    A manager that serves HTTPS keeps a plain port on loopback for its own machine, and writes down which:
    its certificate names the address that others use.
    """
    if settings.tls_cert:
        return f"http://127.0.0.1:{(home.run / INTERNAL_PORT).read_text().strip()}"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.listen)
    if host is None:
        host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    return f"http://{host}:{settings.port}"


class ManagerKeeper:
    """One stream manager, kept alive while `run()` runs."""

    def __init__(self, home: Home, settings: ManagerSettings, operator_sha256: str, log: Logger) -> None:
        self._home = home
        self._settings = settings
        self._sha256 = operator_sha256
        self._log = log
        self._out = home.run / "manager.out"
        self._restarts = Restarts()
        self._again = asyncio.Event()
        self._stopping = False
        self._process: Popen[bytes] | None = None
        self._log_start = 0
        self._state: Literal["starting", "ready", "waiting", "failed"] = "starting"
        self._error = ""
        self._log_tail: list[str] = []
        self._record: ProcessRecord | None = None
        self.place: Place | None = None

    def status(self) -> ManagerStatus:
        return ManagerStatus(
            state=self._state,
            pid=self._record.pid if self._record else None,
            restarts=self._restarts.total,
            error=self._error,
            log=self._log_tail,
        )

    def adopt(self, record: ProcessRecord, place: Place | None) -> None:
        """Take over a manager that a former supervisor started."""
        self._record = record
        self.place = place
        self._log.info("adopted the stream manager", pid=record.pid)

    def stop(self) -> None:
        """The next end is wanted."""
        self._stopping = True
        self._again.set()

    def _is_stopping(self) -> bool:
        return self._stopping

    def retry(self) -> None:
        """A person asked for another try now."""
        self._restarts.reset()
        self._again.set()

    async def run(self) -> None:
        while not self._stopping:
            started = time.monotonic()
            try:
                was_ready = await self._one_life()
                words = self._why_it_ended()
            except StageError as error:  # it could not even be launched
                was_ready, words = False, str(error)
            if self._is_stopping():
                return
            ever_ready = was_ready or self.place is not None
            wait = self._restarts.ended(time.monotonic(), time.monotonic() - started)
            self._error = words
            if not ever_ready and self._exit_is_final():
                self._state = "failed"
                self._log.error("the stream manager cannot start", reason=words)
                await self._wait_for_retry(None)
            elif self._restarts.tripped:
                self._state = "failed"
                self._error = f"the stream manager keeps ending; next try in {wait:.0f} s. {words}".strip()
                self._log.error("the stream manager keeps ending, resting", wait_s=wait, reason=words)
                await self._wait_for_retry(wait)
            else:
                self._state = "waiting"
                self._log.warning("the stream manager ended, starting it again", wait_s=wait, reason=words)
                await self._wait_for_retry(wait)

    async def _wait_for_retry(self, wait: float | None) -> None:
        self._again.clear()
        if self._stopping:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._again.wait(), wait)

    async def _one_life(self) -> bool:
        """From launch or adoption to the end; whether it came to listen."""
        if self._record is None:
            self._launch()
        record = self._record
        if record is None:
            await self._reap()
            return False
        ended = asyncio.ensure_future(wait_end(record))
        try:
            ready = await self._wait_ready(ended)
            if ready is None and not ended.done():
                self._log.error("the stream manager does not come to listen", waited_s=READY_S)
                await asyncio.to_thread(end_processes, self._home.processes, [record])
            elif ready is not None:
                self._came_up(ready, record)
            await ended
        finally:
            ended.cancel()
        await self._reap()
        forget(self._home.processes, record)
        self._record = None
        return ready is not None

    def _launch(self) -> None:
        settings = self._settings
        command = module_command(
            "controlplane",
            *("--data-dir", str(self._home.data), "--run-dir", str(self._home.run)),
            *("--log-dir", str(self._home.logs)),
            *("--listen", settings.listen, "--port", str(settings.port)),
        )
        for address in settings.announce:
            command += ["--announce", address]
        if settings.tls_cert and settings.tls_key:
            command += ["--tls-cert", settings.tls_cert, "--tls-key", settings.tls_key]
        if (config := manager_config_file(self._home)).exists():
            command += ["--config", str(config)]
        self._state = "starting"
        launched = launch_detached(
            self._home,
            "manager",
            "manager",
            command,
            secrets=manager_secrets(self._sha256),
            stdout=self._out,
        )
        self._process, self._record = launched.process, launched.record
        self._log_start = launched.log_start
        self._log.info("started the stream manager", pid=launched.process.pid)

    async def _wait_ready(self, ended: "asyncio.Future[None]") -> dict[str, Any] | None:
        """The line that says it listens; None when it ended, or said nothing in time."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            line = read_ready(self._out)
            if line is not None or ended.done():
                return line
            await asyncio.wait([ended], timeout=POLL_S)
        return None

    def _came_up(self, ready: dict[str, Any], record: ProcessRecord) -> None:
        api, watch = str(ready["api"]), str(ready["watch"])
        self._settings = self._settings.model_copy(update={"port": urlsplit(api).port or self._settings.port})
        self.place = Place(
            version=version(),
            program=program_folder(),
            home=str(self._home.root),
            api=api,
            watch=watch,
            local_api=local_api(self._home, self._settings),
            **self._settings.model_dump(),
        )
        write_place(self._home, self.place)
        self._state, self._error, self._log_tail = "ready", "", []
        self._log.info("the stream manager listens", pid=record.pid, api=api)

    async def _reap(self) -> None:
        if self._process is not None:
            self._code = await asyncio.to_thread(self._process.wait)
            self._process = None
        else:
            self._code = None

    _code: int | None = None

    def _exit_is_final(self) -> bool:
        """It ended by its own decision (or never could be launched), not by a signal."""
        return self._code is None or self._code > 0

    def _why_it_ended(self) -> str:
        self._log_tail = logs.last_lines(self._home.log("manager"), LOG_LINES, since=self._log_start)
        words = logs.error_words(self._log_tail)
        if words:
            return words
        if self._code is None:
            return "it ended"
        if self._code < 0:
            return f"it was ended by signal {-self._code}"
        return f"it ended with exit code {self._code}"


def read_ready(path: Path) -> dict[str, Any] | None:
    """The manager's ready line, once it is whole."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("ready") and "api" in message and "watch" in message:
            return message
    return None


def write_place(home: Home, place: Place) -> None:
    """Atomic: a reader sees the old place or the new one."""
    temporary = home.run / f".stage-{os.getpid()}.json"
    try:
        temporary.write_text(place.model_dump_json(indent=2) + "\n")
        os.replace(temporary, home.stage_file)
    except OSError as error:
        raise unusable(home.stage_file, error) from error


def read_place(home: Home) -> Place | None:
    """Like model.locate, for the supervisor: a damaged file is as good as none."""
    try:
        return Place.model_validate_json(home.stage_file.read_text())
    except (OSError, ValidationError):
        return None


def record_self(home: Home) -> ProcessRecord:
    """The supervisor's own record."""
    from controlplane.wire.processes import write

    started = start_time(os.getpid())
    record = ProcessRecord(name="supervisor", kind="supervisor", pid=os.getpid(), start_time=started or 0.0)
    write(home.processes, record)
    return record
