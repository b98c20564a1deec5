"""Nodes as processes on this machine.

Each node is a detached process in a session of its own, so it outlives the manager; its log is appended to
LOGS/NAME.log and a ProcessRecord in RUN/processes tells everybody of it. A process is known by pid and start
time. Its end is noticed through a pidfd, which works for processes an earlier manager launched just as for
our own children: readable means ended. Ending is SIGTERM, then SIGKILL after `kill_after_s`, and killing is
SIGKILL alone, all through the pidfd, so no signal ever reaches a stranger that was given the pid later.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from controlplane.ports.provisioner import Instance, LaunchSpec, Listing, ProvisionError
from controlplane.wire import processes

log = structlog.get_logger(__name__)

NODE_COMMAND = (sys.executable, "-m", "media.node")
TOKEN_VARIABLE = "SHOWCALLER_ENROL_TOKEN"
OWN_SECRETS = (
    *("SHOWCALLER_OPERATOR_SHA256", "SHOWCALLER_OPERATOR_TOKEN", "SHOWCALLER_TOKEN"),
    "SHOWCALLER_DATABASE_PASSWORD",
)


@dataclass(slots=True)
class _Watched:
    instance: Instance
    pidfd: int
    child: subprocess.Popen[bytes] | None = None
    killing: asyncio.TimerHandle | None = None


class LocalProvisioner:
    """ports.provisioner.Provisioner. Its managers are all on this machine, and have one run folder."""

    settles_s = 5.0  # a process writes its own record as it begins, should its launcher die before it does

    def __init__(
        self,
        *,
        manager_url: str,
        run_dir: Path,
        log_dir: Path,
        announce: Sequence[str] = (),
        tcp_port: int | None = None,
        workers: int | None = 1,
        command: Sequence[str] = NODE_COMMAND,
        kill_after_s: float = 3.0,
    ) -> None:
        """`workers` of each node; None: as many as the node finds right."""
        self._manager_url = manager_url
        self._run_dir = run_dir
        self._records = run_dir / "processes"
        self._log_dir = log_dir
        self._announce = list(announce)
        self._tcp_port = tcp_port
        self._workers = workers
        self._command = list(command)
        self._kill_after_s = kill_after_s
        self._watched: dict[str, _Watched] = {}
        self._on_ended: Callable[[str, str], None] = lambda node, reason: None

    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        self._on_ended = on_ended

    async def launch(self, spec: LaunchSpec) -> Instance:
        if spec.node in self._watched:
            raise ProvisionError(f"{spec.node} is already running")
        environment = {k: v for k, v in os.environ.items() if k not in OWN_SECRETS}
        environment[TOKEN_VARIABLE] = spec.token
        try:
            child = self._spawn(self._arguments(spec), environment, self._log_dir / f"{spec.node}.log")
        except OSError as error:
            raise ProvisionError(f"the process of {spec.node} could not be started: {error}") from error
        pidfd = os.pidfd_open(child.pid)
        record = processes.record_self_or_child(self._records, spec.node, "node", child.pid)
        if record is None:
            os.close(pidfd)
            code = child.wait()
            raise ProvisionError(
                f"the process of {spec.node} ended at once (exit code {code}); "
                f"its log says why: showcaller logs {spec.node}"
            )
        instance = Instance(spec.node, child.pid, record.start_time)
        self._watch(_Watched(instance, pidfd, child))
        return instance

    def _arguments(self, spec: LaunchSpec) -> list[str]:
        arguments = [*self._command, "--role", spec.role.value, "--name", spec.node]
        arguments += ["--manager", self._manager_url, "--capacity", str(spec.capacity)]
        arguments += ["--run-dir", str(self._run_dir), "--log-dir", str(self._log_dir)]
        for address in self._announce:
            arguments += ["--announce", address]
        if self._tcp_port is not None:
            arguments += ["--tcp-port", str(self._tcp_port)]
        if self._workers is not None:
            arguments += ["--workers", str(self._workers)]
        return arguments

    @staticmethod
    def _spawn(arguments: list[str], environment: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
        log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log_file.open("ab") as sink:
            return subprocess.Popen(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                close_fds=True,
            )

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        if (watched := self._watched.get(node)) is not None:
            return watched.instance
        if pid is None or start_time is None:
            record = next((r for r in processes.read_all(self._records) if r.name == node), None)
            if record is None or record.kind != "node":
                return None
            pid, start_time = record.pid, record.start_time
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            self._forget(node)
            return None
        # The pidfd holds this very process; only now is its start time worth comparing.
        if processes.start_time(pid) != start_time:
            os.close(pidfd)
            self._forget(node)
            return None
        instance = Instance(node, pid, start_time)
        processes.record_self_or_child(self._records, node, "node", pid)
        self._watch(_Watched(instance, pidfd))
        return instance

    def _watch(self, watched: _Watched) -> None:
        self._watched[watched.instance.node] = watched
        asyncio.get_running_loop().add_reader(watched.pidfd, self._ended, watched)

    def _ended(self, watched: _Watched) -> None:
        node = watched.instance.node
        asyncio.get_running_loop().remove_reader(watched.pidfd)
        os.close(watched.pidfd)
        if watched.killing is not None:
            watched.killing.cancel()
        self._watched.pop(node, None)
        self._forget(node)
        reason = "its process has ended"
        if watched.child is not None:
            code = watched.child.wait()  # it has ended: this only reaps it
            reason = _why(code)
        self._on_ended(node, reason)

    def _forget(self, node: str) -> None:
        """Remove the records of a node that has ended, and those its workers left."""
        processes.remove(self._records, node)
        for record in processes.read_all(self._records):
            if record.name.startswith(f"{node}/") and not processes.alive(record):
                processes.remove(self._records, record.name)

    async def end(self, node: str) -> None:
        watched = self._watched.get(node)
        if watched is None or watched.killing is not None:
            return
        self._signal(watched, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        watched.killing = loop.call_later(self._kill_after_s, self._signal, watched, signal.SIGKILL)

    async def kill(self, node: str) -> None:
        watched = self._watched.get(node)
        if watched is not None:
            self._send(watched, signal.SIGKILL)
            log.warning("node was killed on purpose", node=node)

    def _signal(self, watched: _Watched, number: signal.Signals) -> None:
        self._send(watched, number)
        if number == signal.SIGKILL:
            log.warning("node did not end when asked and was killed", node=watched.instance.node)

    @staticmethod
    def _send(watched: _Watched, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched.pidfd, number)

    async def listing(self) -> Listing:
        alive = (record for record in processes.read_alive(self._records) if record.kind == "node")
        return Listing(tuple(Instance(record.name, record.pid, record.start_time) for record in alive))

    async def end_orphan(self, instance: Instance) -> None:
        if await self.adopt(instance.node, instance.pid, instance.start_time) == instance:
            await self.end(instance.node)

    async def running(self) -> list[Instance]:
        return sorted((w.instance for w in self._watched.values()), key=lambda instance: instance.node)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for watched in self._watched.values():
            loop.remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            if watched.killing is not None:
                watched.killing.cancel()
            if watched.child is not None:
                watched.child.returncode = 0  # let go: it outlives us, and Popen must not complain
        self._watched.clear()


def _why(code: int) -> str:
    if code == 0:
        return "its process ended by itself"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"
