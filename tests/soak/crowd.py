"""Who comes and goes during a soak: viewers of the swarm, and those who listen to a channel's events."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import httpx
import orjson

from media.swarm.second import Second

CAME_S = 60.0
LEAVE_S = 20.0
LINE_BYTES = 4 << 20


class Crowd:
    """A process of the swarm; its viewers come at `ramp` a second, and leave when `leave` is called."""

    def __init__(self, process: asyncio.subprocess.Process, viewers: int) -> None:
        self._process = process
        self._wanted = viewers
        self.now = Second()
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def come(cls, whep: str, viewers: int, ramp: float) -> "Crowd":
        words = ("part", "--whep", whep, "--viewers", str(viewers), "--ramp", f"{ramp:g}")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "media.swarm", *words),
            stdin=pipe,
            stdout=pipe,
            limit=LINE_BYTES,
            start_new_session=True,  # a Ctrl-C is for us alone: who leaves, says good-bye
        )
        return cls(process, viewers)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.now = Second(**orjson.loads(line))
            self._changed.set()
        self._changed.set()

    @property
    def all_play(self) -> bool:
        return self.now.playing == self._wanted

    async def play(self) -> str:
        """Wait until all of them do; what is wrong, or nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CAME_S):
                while not self.all_play and not self.now.failed and not self._reading.done():
                    self._changed.clear()
                    await self._changed.wait()
        return self.complaint()

    def complaint(self) -> str:
        """What is wrong with it now; nothing, when all play."""
        if self._reading.done():
            return f"a crowd of {self._wanted} has ended by itself"
        if self.now.failed:
            return f"{self.now.failed} of {self._wanted} viewers failed: {self.now.reasons}"
        return "" if self.all_play else f"only {self.now.playing} of {self._wanted} viewers play"

    async def leave(self) -> None:
        """Each says good-bye; whoever has not within LEAVE_S is ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), LEAVE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        finally:
            await self._reading


@contextlib.asynccontextmanager
async def crowd(whep: str, viewers: int, ramp: float) -> AsyncIterator[Crowd]:
    """Here until the end of the block, whatever ends it."""
    come = await Crowd.come(whep, viewers, ramp)
    try:
        yield come
    finally:
        await come.leave()


@contextlib.asynccontextmanager
async def listeners(events: str, count: int) -> AsyncIterator[None]:
    """So many who listen to a channel's events until the end of the block."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http, contextlib.AsyncExitStack() as open_:
        for _ in range(count):
            answer = await open_.enter_async_context(http.stream("GET", events))
            answer.raise_for_status()
        yield
