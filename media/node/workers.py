"""A node's worker processes, from the agent's side: launched, spoken with, replaced when they die.

Only the standard library is imported here: workers are launched before the agent loads its own packages, so
that both start at the same time.
"""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from media.node.ipc import Channel

TOKEN = "SHOWCALLER_ENROL_TOKEN"  # for the agent alone; see __main__.py
START_TIMEOUT = 10.0  # seconds from launch to "ready"
CALL_TIMEOUT = 5.0
END_TIMEOUT = 1.2

Message = dict[str, Any]


class WorkerGone(Exception):
    """The worker died or did not answer in time."""


class WorkerFailed(Exception):
    """The worker said why it cannot start; the message is for people."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How to launch one worker; the same again after its death."""

    index: int
    name: str
    role: str
    addresses: tuple[str, ...]
    udp_port: int | None
    tcp_port: int | None = None  # another one for TCP, shared by all workers of the machine

    def command(self, fd: int) -> list[str]:
        command = [sys.executable, "-m", "media.node.worker", "--fd", str(fd), "--name", self.name]
        command += ["--role", self.role]
        for address in self.addresses:
            command += ["--address", address]
        if self.udp_port is not None:
            command += ["--udp-port", str(self.udp_port)]
        if self.tcp_port is not None:
            command += ["--tcp-port", str(self.tcp_port)]
        return command


@dataclass(slots=True)
class Launched:
    """A process that has been started and our end of the pair."""

    plan: WorkerPlan
    process: subprocess.Popen[bytes]
    socket: socket.socket


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A worker's, from the agent's own: without the token, which is for the agent alone."""
    return {name: value for name, value in ours.items() if name != TOKEN}


def launch(plan: WorkerPlan) -> Launched:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            plan.command(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            process_group=0,  # a Ctrl-C in the terminal reaches the agent alone, which tells its workers
            env=environment(os.environ),
        )
    ours.setblocking(False)
    return Launched(plan, process, ours)


class Worker:
    """One running worker. `ready` is set once it has bound its port."""

    def __init__(
        self,
        launched: Launched,
        on_event: Callable[["Worker", Message], None],
        on_gone: Callable[["Worker"], None],
    ) -> None:
        """`on_event` gets what answers no question of ours; `on_gone` is called once, after its death."""
        self.plan = launched.plan
        self.process = launched.process
        self.port = 0
        self.fingerprint = ""
        self.alive = True
        self.heard_at = asyncio.get_running_loop().time()  # of whatever it said last
        self._socket = launched.socket
        self._on_event = on_event
        self.on_gone = on_gone
        self._refs = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Message]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel: Channel | None = None
        self._task = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self) -> None:
        """Raises WorkerFailed with its reason, or WorkerGone."""
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT)
        except TimeoutError:
            raise WorkerGone(f"{self.plan.name} was not ready within {START_TIMEOUT:.0f} s") from None

    async def _listen(self) -> None:
        from media.node.ipc import Channel

        self._channel = await Channel.open(self._socket, self._take)
        await self._channel.ended()
        await self._channel.close()
        self.alive = False
        # The pipe is closed: it is dead, or about to be.
        try:
            await asyncio.to_thread(self.process.wait, END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        if not self._ready.done():
            self._ready.set_exception(WorkerGone(f"{self.plan.name} ended with {self.process.returncode}"))
        for call in self._calls.values():
            if not call.done():
                call.set_exception(WorkerGone(f"{self.plan.name} died"))
        self._calls.clear()
        self.on_gone(self)

    def _take(self, message: Message) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        call = self._calls.pop(message.get("ref", 0), None)
        if call is not None:
            if not call.done():
                call.set_result(message)
        elif "ref" in message:
            return  # an answer that nobody waits for any more
        elif message["ev"] == "ready":
            self.port, self.fingerprint = message["port"], message["fingerprint"]
            if not self._ready.done():
                self._ready.set_result(None)
        elif message["ev"] == "failed":
            if not self._ready.done():
                self._ready.set_exception(WorkerFailed(message["message"]))
        else:
            self._on_event(self, message)

    def tell(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    async def ask(self, message: Message, timeout: float = CALL_TIMEOUT) -> Message:
        """Send a request and wait for its answer; raises WorkerGone."""
        if self._channel is None or not self.alive:
            raise WorkerGone(f"{self.plan.name} is not running")
        ref = next(self._refs)
        call = self._calls[ref] = asyncio.get_running_loop().create_future()
        self._channel.send(message | {"ref": ref})
        try:
            return await asyncio.wait_for(call, timeout)
        except TimeoutError:
            raise WorkerGone(f"{self.plan.name} did not answer within {timeout:.1f} s") from None
        finally:
            self._calls.pop(ref, None)

    async def end(self) -> None:
        """Ask it to close its sessions and end; kill it when it does not."""
        self.tell({"op": "shutdown"})
        try:
            await asyncio.wait_for(asyncio.shield(self._task), END_TIMEOUT)
        except TimeoutError:
            self.process.kill()
            await self._task
