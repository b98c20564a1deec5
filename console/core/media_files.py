"""What stands behind a path that a person typed, before a publisher is started with it.

Only a regular file is opened: opening a pipe or a terminal waits for whoever is at its other end. Even asking
may wait, on a network disk that is gone; whoever must not wait asks through `aside`.
"""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from console.core.errors import ConsoleError

T = TypeVar("T")

NEXT = "Give a media file, or `test` for the test pattern"


@dataclass(frozen=True, slots=True)
class MediaFile:
    path: Path  # absolute
    size: int  # bytes, at least 1


class NoMediaFile(ConsoleError):
    """Nothing there that could be published; `short` says so of the bare name, for a narrow place."""

    code = "source"

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(what, NEXT)
        self.short = what.replace(str(path), path.name, 1) if path.name else what


class IsFolder(NoMediaFile):
    """A folder: where a path is being typed, it may go on."""


def expand(text: str) -> str:
    """A leading ~ or ~user replaced as a shell does it; a user nobody knows is left as it stands."""
    return os.path.expanduser(text)


def media_file(text: str) -> MediaFile:
    """The file that is meant, readable and not empty. Raises NoMediaFile; may wait for a slow disk."""
    written = Path(expand(text))
    try:
        found = written.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsFolder(f"{written} is a folder", written)
        if not stat.S_ISREG(found.st_mode):
            raise NoMediaFile(f"{written} is not a regular file", written)
        # Not blocking: what was a file a moment ago may be a pipe now.
        handle = os.open(written, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            os.read(handle, 1)
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise NoMediaFile(f"no file {written}", written) from error
    except OSError as error:
        raise NoMediaFile(
            f"cannot read {written}: {(error.strerror or str(error)).lower()}", written
        ) from error
    except ValueError as error:  # a zero byte in the name
        raise NoMediaFile(f"{text!r} cannot name a file", written) from error
    if found.st_size == 0:
        raise NoMediaFile(f"{written} is empty", written)
    return MediaFile(written.absolute(), found.st_size)


async def aside(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a call that may wait for ever, made in a thread of its own.

    The thread is a daemon: one that never comes back keeps neither this process alive (as the executor's own
    threads would) nor a place that others need. Cancelled, it is left to itself.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: Exception | None) -> None:
        if result.done():  # nobody waits any more
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value: T | None = None
        error: Exception | None = None
        try:
            value = call(*arguments)
        except Exception as raised:  # whatever it is belongs to whoever waits for the result
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, value, error)

    threading.Thread(target=run, name=f"aside {call.__name__}", daemon=True).start()
    return await result
