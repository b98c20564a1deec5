"""The supervisor's control socket: a Unix socket in a private folder, one JSON object a line.

    -> {"do": "status"}                                  <- {"ok": SupervisorStatus}
    -> {"do": "publish", "order": PublishOrder}          <- {"ok": PublisherStatus}
    -> {"do": "stop_publish", "channel": "main"}         <- {"ok": PublisherStatus}
    -> {"do": "retry"}                                   <- {"ok": SupervisorStatus}
    -> {"do": "down"}                                    <- {"progress": "..."} ... {"ok": {}}

A request that fails is answered {"error": {"what", "next_step", "exit_code"}}. Whoever can open the socket is
this user: the folder's mode is the authentication.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from console.core.errors import ConsoleError, StageError, TimedOut
from console.core.paths import Home
from console.core.stage.model import ManagerStatus, Place, PublisherSpec, PublisherStatus, Report
from controlplane.wire.base import Message

LINE_LIMIT = 1024 * 1024


class SupervisorStatus(Message):
    pid: int
    version: str
    program: str
    manager: ManagerStatus
    publishers: list[PublisherStatus] = []
    place: Place | None = None  # once the manager has listened
    notes: list[str] = []  # said once at the start: another port than expected ...
    stopping: bool = False


class PublishOrder(Message):
    """A broadcast and what it needs to get on air. Kept in a 0600 file while it is wanted."""

    spec: PublisherSpec
    whip: str
    report: str
    token: str


class SupervisorGone(StageError):
    """Nobody answers at the control socket."""


async def ask(
    home: Home, request: dict[str, Any], *, timeout_s: float = 5.0, report: Report | None = None
) -> Any:
    """One request, one answer. SupervisorGone, TimedOut, or StageError with the supervisor's own words."""
    try:
        async with asyncio.timeout(timeout_s):
            async for answer in _exchange(home.control_socket, request):
                if "progress" in answer:
                    if report is not None:
                        report(str(answer["progress"]))
                elif "error" in answer:
                    raise _as_error(answer["error"])
                elif "ok" in answer:
                    return answer["ok"]
    except TimeoutError as error:
        raise TimedOut(
            f"the supervisor did not answer within {timeout_s:.0f} s", "Look at `showcaller logs supervisor`"
        ) from error
    raise SupervisorGone("the supervisor went away in the middle of an answer", "Try again")


async def ask_status(home: Home, *, timeout_s: float = 5.0) -> SupervisorStatus:
    return SupervisorStatus.model_validate(await ask(home, {"do": "status"}, timeout_s=timeout_s))


async def _exchange(path: Path, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    if not hasattr(asyncio, "open_unix_connection"):  # Windows, where no stage runs
        raise SupervisorGone("no stage runs on this system", "Operate one elsewhere with --api")
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT)
    except OSError as error:
        raise SupervisorGone("no supervisor runs", "Start one with `showcaller stage up`") from error
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        while line := await reader.readline():
            yield json.loads(line)
    except ConnectionError as error:
        raise SupervisorGone("the supervisor went away", "Try again") from error
    finally:
        writer.close()


def _as_error(error: dict[str, Any]) -> StageError:
    made = StageError(str(error.get("what", "the supervisor failed")), str(error.get("next_step", "")))
    made.exit_code = int(error.get("exit_code", 1))
    return made


Handler = Callable[[dict[str, Any], Report], Awaitable[Any]]


async def serve(path: Path, handler: Handler) -> asyncio.Server:
    """Answer requests until the server is closed. `handler` returns the "ok" value or raises ConsoleError."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(message: dict[str, Any]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")

        try:
            while line := await reader.readline():
                try:
                    request = json.loads(line)
                    if not isinstance(request, dict):
                        raise ValueError("not an object")
                    result = await handler(request, lambda text: send({"progress": text}))
                    send({"ok": result.model_dump(mode="json") if isinstance(result, Message) else result})
                except ConsoleError as error:
                    words = {"what": error.what, "next_step": error.next_step, "exit_code": error.exit_code}
                    send({"error": words})
                except ValueError as error:
                    send({"error": {"what": f"a request that cannot be read: {error}", "exit_code": 2}})
                await writer.drain()
        except ConnectionError:
            pass  # whoever asked has left; what was asked for is done all the same
        finally:
            writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a supervisor that was killed
    server = await asyncio.start_unix_server(answer, str(path), limit=LINE_LIMIT)
    os.chmod(path, 0o600)
    return server
