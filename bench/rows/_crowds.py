"""A crowd of real viewers in a process of its own, and what the process that serves them spends on them."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson
import psutil

from bench.figures import NotRun, percentile
from media.swarm.second import Second

CONNECT_S = 90.0
SETTLE_S = 4
LINE_BYTES = 4 << 20
SOUND_RATE = 50.0  # packets a second
SOUND_BYTES = 252  # Opus at 96 kbps, with its RTP header


def clip(folder: Path) -> Path:
    """Twenty seconds of 720p30 at 4.5 Mbps with sound, without B-frames."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise NotRun("no ffmpeg here: apt-get install ffmpeg")
    path = folder / "clip.mp4"
    rate = ["-b:v", "4.75M", "-minrate", "4.75M", "-maxrate", "4.75M", "-bufsize", "1M"]
    subprocess.run(
        [
            *(ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"),
            *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "20"),
            *("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "baseline"),
            *("-bf", "0", "-g", "60", *rate, "-x264-params", "force-cfr=1:sliced-threads=0"),
            *("-pix_fmt", "yuv420p", "-c:a", "aac", path),
        ],
        check=True,
    )
    return path


@dataclass(frozen=True)
class Cost:
    """What a server spent on a crowd. CPU is user and system; on loopback that includes the delivery."""

    us: float  # a packet and viewer, median of the rounds
    packets: int
    lost: int
    frames: int
    bytes: int
    sound: int  # packets of sound, of all packets
    late_p99_ms: float  # of each viewer's latest frame in each second, median of the rounds
    kb_per_viewer: float
    first_frame_ms: list[float]

    @property
    def packets_a_frame(self) -> int:
        return round((self.packets - self.sound) / self.frames)

    @property
    def packet_bytes(self) -> int:
        """Of a packet of video, as it is on the wire (SRTP)."""
        return round((self.bytes - self.sound * SOUND_BYTES) / (self.packets - self.sound))


def cpu(process: psutil.Process) -> float:
    """Seconds, user and system. Raises RuntimeError when it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        raise RuntimeError(f"process {process.pid} has ended while it was measured") from None
    return float(times.user + times.system)


def swarm(whep: str, viewers: int, ramp: float, *more: str) -> list[str]:
    """The command of a crowd of `media.swarm`."""
    words = [sys.executable, "-m", "media.swarm", "part", "--whep", whep]
    return [*words, "--viewers", str(viewers), "--ramp", f"{ramp:g}", *more]


class CrowdProcess:
    """A crowd that runs: a command that prints a Second a second until its stdin closes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.first_frame_ms: list[float] = []  # so far
        self._process = process
        self._said: asyncio.Queue[Second | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(cls, command: list[str]) -> "AsyncIterator[CrowdProcess]":
        """Everybody has left when the block is left."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        crowd = cls(process)
        try:
            yield crowd
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await crowd._reader
            await process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            second = Second(**orjson.loads(line))
            self.first_frame_ms += second.first_frame_ms
            self._said.put_nowait(second)
        self._said.put_nowait(None)

    async def second(self) -> Second:
        """The next one, or the oldest that nobody has asked for."""
        second = await self._said.get()
        if second is None:
            raise RuntimeError("the crowd has ended; see its words above")
        return second

    async def seconds(self, count: int) -> list[Second]:
        """The next ones from now on."""
        while not self._said.empty():
            await self.second()
        return [await self.second() for _ in range(count)]

    async def all_there(self, viewers: int) -> Second:
        """Returns when each of them has seen its first picture, or failed; how it is then."""
        async with asyncio.timeout(CONNECT_S):
            while True:
                second = await self.second()
                if second.playing + second.failed >= viewers:
                    return second

    async def all_play(self, viewers: int) -> None:
        """Returns some seconds after each of them has seen its first picture."""
        second = await self.all_there(viewers)
        if second.failed:
            raise RuntimeError(f"viewers failed: {second.reasons}")
        await self.seconds(SETTLE_S)


async def cost(
    server: psutil.Process, command: list[str], viewers: int, *, rounds: int, round_s: int
) -> Cost:
    """What `server` spends on a crowd that all stays."""
    empty = server.memory_info().rss
    async with CrowdProcess.start(command) as crowd:
        await crowd.all_play(viewers)
        full = server.memory_info().rss
        spent: list[float] = []
        late: list[float] = []
        seconds: list[Second] = []
        for _ in range(rounds):
            before = cpu(server)
            window = await crowd.seconds(round_s)
            spent.append(1e6 * (cpu(server) - before) / sum(second.packets for second in window))
            late.append(percentile([value for second in window for value in second.lateness_ms], 99))
            seconds += window
    return Cost(
        us=median(spent),
        packets=sum(second.packets for second in seconds),
        lost=sum(second.lost for second in seconds),
        frames=sum(second.frames for second in seconds),
        bytes=sum(second.bytes for second in seconds),
        sound=round(SOUND_RATE * viewers * len(seconds)),
        late_p99_ms=median(late),
        kb_per_viewer=(full - empty) / 1000 / viewers,
        first_frame_ms=crowd.first_frame_ms,
    )
