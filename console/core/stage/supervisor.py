"""The supervisor of an embedded stage: `python -m console.core.stage.supervisor --home H ...`.

One detached process a stage, in a session of its own, holding the lock of its home (lock.py). It starts
the stream manager and the detached publishers, notices their end (pidfd) and starts them again; the manager
sees to the nodes. Killed and started anew, it adopts what lives: pid and start time in the process records
say who is who. It is spoken to through its control socket (control.py). SIGTERM ends the whole stage, in
order.

It says how its own start went in one line on stdout: {"ready": true, "notes": [...]}, {"busy": true} when
another supervisor holds the lock, or {"error": {...}}.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from console.core.errors import ConsoleError, StageError, UsageError
from console.core.paths import Home
from console.core.stage.control import PublishOrder, SupervisorStatus, serve
from console.core.stage.ending import clear, end_stage, living
from console.core.stage.lock import is_lock, take_lock
from console.core.stage.manager import Logger, ManagerKeeper, ManagerSettings, read_place, record_self
from console.core.stage.model import Report
from console.core.stage.ports import pick_port
from console.core.stage.publishers import Publishers
from console.core.version import program_folder, version
from controlplane.wire.processes import remove

HOUSEKEEPING_S = 10.0


class Supervisor:
    """Everything one life of a supervisor holds."""

    def __init__(self, home: Home, manager: ManagerKeeper, notes: list[str], log: Logger) -> None:
        self._home = home
        self._manager = manager
        self._notes = notes
        self._log = log
        self._publishers = Publishers(home, log)
        self._finished = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._listeners: list[Report] = []

    async def run(self, say: "ReadyLine", *, resume: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_ending)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it has no terminal that could be closed
        server = await serve(self._home.control_socket, self._answer)
        if resume:
            self._publishers.resume()
        keeping = asyncio.create_task(self._manager.run(), name="manager")
        keeping.add_done_callback(self._check)
        tidying = asyncio.create_task(self._housekeeping())
        say({"ready": True, "notes": self._notes})
        await self._finished.wait()
        server.close()
        for task in (keeping, tidying):
            task.cancel()
        await asyncio.gather(keeping, tidying, return_exceptions=True)
        await self._publishers.close()

    def _check(self, task: "asyncio.Task[None]") -> None:
        """A bug in the keeper must not leave a stage that nobody keeps: say it and end orderly."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("the supervisor failed", exc_info=error)
            self._begin_ending()

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._publishers.trim()

    def _status(self) -> SupervisorStatus:
        return SupervisorStatus(
            pid=os.getpid(),
            version=version(),
            program=program_folder(),
            manager=self._manager.status(),
            publishers=self._publishers.statuses(),
            place=self._manager.place,
            notes=self._notes,
            stopping=self._ending is not None,
        )

    async def _answer(self, request: dict[str, Any], report: Report) -> Any:
        match request.get("do"):
            case "status":
                return self._status()
            case "retry":
                self._manager.retry()
                return self._status()
            case "publish":
                self._refuse_when_ending()
                try:
                    order = PublishOrder.model_validate(request.get("order"))
                except ValidationError as error:
                    raise UsageError(
                        f"a broadcast that cannot be read: {error.errors()[0]['msg']}"
                    ) from error
                return await self._publishers.start(order, ending=bool(request.get("ending")))
            case "stop_publish":
                return await self._publishers.stop(str(request.get("channel")))
            case "down":
                self._listeners.append(report)
                await asyncio.shield(self._begin_ending())
                return {}
            case other:
                raise UsageError(f"the supervisor does not know {other!r}")

    def _refuse_when_ending(self) -> None:
        if self._ending is not None:
            raise UsageError("this stage is ending", "Bring it up again with `showcaller stage up`")

    def _begin_ending(self) -> "asyncio.Task[None]":
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="ending")
        return self._ending

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            self._log.info(line)
            for listener in self._listeners:
                listener(line)

        self._manager.stop()
        self._publishers.expect_end()

        def report(line: str) -> None:  # called in the thread that ends the stage
            loop.call_soon_threadsafe(tell, line)

        left = await asyncio.to_thread(end_stage, self._home, report)
        if left:
            self._log.error("processes would not end", names=[record.name for record in left])
        loop.call_later(0.2, self._finished.set)  # after the answer to whoever asked


class ReadyLine:
    """Says one JSON line on stdout, then lets go of it, so that whoever started us can go on."""

    def __call__(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever started us did not wait
            print(json.dumps(message), flush=True)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def hold_lock(home: Home, inherited: int | None) -> bool:
    """Hold the lock until this process ends: the one whoever started us took for us, or one of our own.

    False when another one holds it.
    """
    if inherited is not None and is_lock(home, inherited):
        os.set_inheritable(inherited, False)  # nothing that we start is to hold it after us
        return True
    return take_lock(home) is not None


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m console.core.stage.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--lock", type=int, metavar="FD", help="the home's lock, already taken for us")
    parser.add_argument("--port", type=int)
    parser.add_argument("--listen")
    parser.add_argument("--announce", nargs="*", default=[])
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    return parser.parse_args(arguments)


def configure_log() -> Logger:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log: Logger = structlog.get_logger().bind(process="supervisor")
    return log


def settle(home: Home, arguments: argparse.Namespace, *, resume: bool) -> tuple[ManagerSettings, list[str]]:
    """What the manager is started with: as before where something still lives, else as asked for."""
    place = read_place(home) if resume else None
    if place is not None:
        return ManagerSettings.of(place), []
    listen = arguments.listen or "127.0.0.1"
    picked = pick_port(listen, arguments.port)
    settings = ManagerSettings(
        port=picked.port,
        listen=listen,
        announce=arguments.announce,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        port_fixed=bool(arguments.port),
    )
    return settings, [picked.note] if picked.note else []


async def supervise(home: Home, arguments: argparse.Namespace, say: ReadyLine, log: Logger) -> None:
    others = [record for record in living(home) if record.kind != "supervisor"]
    resume = bool(others)
    if not resume:
        clear(home)  # what a machine that lost power left behind
        home.prepare()
    record_self(home)
    try:
        running = next((record for record in others if record.kind == "manager"), None)
        if running is not None and read_place(home) is None and not (home.run / "manager.out").exists():
            raise StageError(
                f"a stream manager of this home runs (pid {running.pid}), but nothing says where it listens",
                "End it with `showcaller stage down`, then start again",
            )
        settings, notes = settle(home, arguments, resume=resume)
        manager = ManagerKeeper(home, settings, os.environ.get("SHOWCALLER_OPERATOR_SHA256", ""), log)
        if running is not None:
            manager.adopt(running, read_place(home))
        log.info("the supervisor runs", pid=os.getpid(), version=version(), adopting=len(others))
        await Supervisor(home, manager, notes, log).run(say, resume=resume)
        log.info("the supervisor is done")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(home.control_socket)
        remove(home.processes, "supervisor")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    home = Home(options.home.absolute())
    say = ReadyLine()
    log = configure_log()
    try:
        home.prepare()
        if not hold_lock(home, options.lock):
            say({"busy": True})
            return 0
        asyncio.run(supervise(home, options, say, log))
    except ConsoleError as error:
        log.error(str(error))
        say({"error": {"what": error.what, "next_step": error.next_step, "exit_code": error.exit_code}})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
