"""The supervisor's control socket: a Unix socket in a private folder, one JSON object a line.

    -> {"do": "status"}                                  <- {"ok": SupervisorStatus}
    -> {"do": "publish", "order": PublishOrder}          <- {"ok": PublisherStatus}
    -> {"do": "stop_publish", "channel": "main"}         <- {"ok": PublisherStatus}
    -> {"do": "retry"}                                   <- {"ok": SupervisorStatus}
    -> {"do": "down"}                                    <- {"progress": "..."} ... {"ok": {}}

A request that fails is answered {"error": {"what", "next_step", "exit_code"}}. Whoever can open the socket is
this user: the folder's mode is the authentication. A line that cannot be read is answered so too; an answer
that cannot be read means that the supervisor is gone: killed in the middle of a line, or something else.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

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
    """Nobody answers at the control socket, or nobody who makes sense."""


Answer = TypeVar("Answer", bound=Message)


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
    return understood(SupervisorStatus, await ask(home, {"do": "status"}, timeout_s=timeout_s))


def understood(kind: type[Answer], answer: Any) -> Answer:
    """An answer as the message it is meant to be. SupervisorGone when it is none."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise _nonsense() from error


def _nonsense() -> SupervisorGone:
    return SupervisorGone("what the supervisor answers makes no sense", "Try again")


def read_line(line: bytes) -> dict[str, Any]:
    """The object on one line. ValueError when there is none, or only half of one."""
    try:
        message = json.loads(line)
    except RecursionError as error:  # the parser's depth is bounded; the line's is not
        raise ValueError("nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


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
            yield read_line(line)
    except ConnectionError as error:
        raise SupervisorGone("the supervisor went away", "Try again") from error
    except ValueError as error:  # of read_line, or a line longer than the limit
        raise _nonsense() from error
    finally:
        writer.close()


def _as_error(error: Any) -> StageError:
    if not isinstance(error, dict):
        return _nonsense()
    made = StageError(str(error.get("what", "the supervisor failed")), str(error.get("next_step", "")))
    code = error.get("exit_code")
    made.exit_code = code if isinstance(code, int) and 0 < code < 256 else 1
    return made


Handler = Callable[[dict[str, Any], Report], Awaitable[Any]]


async def serve(path: Path, handler: Handler) -> asyncio.Server:
    """Answer requests until the server is closed. `handler` returns the "ok" value or raises ConsoleError."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(message: dict[str, Any]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")

        def refuse(what: str, next_step: str, exit_code: int) -> None:
            send({"error": {"what": what, "next_step": next_step, "exit_code": exit_code}})

        try:
            while line := await reader.readline():
                try:
                    result = await handler(read_line(line), lambda text: send({"progress": text}))
                    send({"ok": result.model_dump(mode="json") if isinstance(result, Message) else result})
                except ConsoleError as error:
                    refuse(error.what, error.next_step, error.exit_code)
                except ValueError as error:
                    refuse(f"a request that cannot be read: {error}", "", 2)
                await writer.drain()
        except ConnectionError:
            pass  # whoever asked has left; what was asked for is done all the same
        except ValueError:
            refuse(f"a request longer than {LINE_LIMIT} bytes", "", 2)
        finally:
            writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a supervisor that was killed
    server = await asyncio.start_unix_server(answer, str(path), limit=LINE_LIMIT)
    os.chmod(path, 0o600)
    return server
