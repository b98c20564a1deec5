"""The viewer of a drill: `python -m media.swarm watch`, a process of its own, and what it says.

It ends when its stdin closes, so it never outlives whoever started it.
"""

import asyncio
import contextlib
from collections.abc import Callable

from pydantic import ValidationError

from console.core.errors import StageError
from console.core.stage.launch import child_environment, module_command
from controlplane.wire.base import Message

FIRST_PICTURE_S = 10.0
END_S = 5.0


class Seen(Message):
    """A line of it: see media.swarm.watcher."""

    playing: bool = False
    edge: str | None = None
    sessions: int = 0
    gap_s: float = 0.0
    longest_s: float = 0.0
    marks: int = 0
    why: str = ""


class Watching:
    def __init__(self, process: asyncio.subprocess.Process, channel: str) -> None:
        self.channel = channel
        self.seen = Seen()
        self.news = asyncio.Event()  # set with each line
        self._process = process
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, api: str, token: str, channel: str, edge: str | None) -> "Watching":
        """Returns when it shows pictures. StageError says why it does not."""
        words = ["watch", "--whep", f"{api}/whep/{channel}"]
        if edge is not None:
            words += ["--edge", edge]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *module_command("media.swarm", *words),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment({"SHOWCALLER_TOKEN": token}),
            start_new_session=True,  # a Ctrl-C is for us: the viewer goes on watching until it is told
        )
        watching = cls(process, channel)
        try:
            async with asyncio.timeout(FIRST_PICTURE_S):
                await watching.until(lambda seen: seen.playing and seen.edge is not None)
        except (TimeoutError, EOFError) as error:
            why = watching.seen.why or (
                "it ended" if isinstance(error, EOFError) else f"no picture within {FIRST_PICTURE_S:.0f} s"
            )
            await watching.end()
            raise StageError(why) from None
        except BaseException:
            await watching.end()
            raise
        return watching

    async def until(self, wanted: Callable[[Seen], bool]) -> None:
        """EOFError when it has ended before."""
        while not wanted(self.seen):
            if self._reader.done():
                raise EOFError
            self.news.clear()
            await self.news.wait()

    async def mark(self) -> None:
        """Count the longest gap from now on."""
        assert self._process.stdin is not None
        marks = self.seen.marks
        with contextlib.suppress(ConnectionError, EOFError):
            self._process.stdin.write(b"now\n")
            await self._process.stdin.drain()
            await self.until(lambda seen: seen.marks > marks)

    async def end(self) -> None:
        """Its session is given back."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValidationError):  # half a line: it was killed in the middle of it
                self.seen = Seen.model_validate_json(line)
            self.news.set()
        self.news.set()
