"""The whole swarm: processes of a crowd each, their seconds added up, until the time is over or Ctrl-C.

A process's packets are counted by one core, so a large swarm is spread. The processes end when their stdin
closes: none outlives this one. One that ends before it is asked to takes its viewers along: they have failed.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from media.publisher.errors import Refused
from media.swarm.second import Second, add_up, in_turn
from media.swarm.tally import Tally
from media.swarm.viewer import LATE_S

LEAVE_S = 20.0
MAX_LINE = 4 << 20


@dataclass(frozen=True)
class Plan:
    whep: str
    viewers: int
    ramp: float  # viewers a second
    seconds: float  # after the last viewer came
    processes: int
    stay: float | None = None  # seconds after which each viewer leaves and another one comes
    late_after: float = LATE_S  # seconds
    follow_moves: bool = False
    party: int | None = None  # viewers who come together

    def parts(self) -> list[tuple[int, float]]:
        """Viewers and ramp of each process."""
        base, more = divmod(self.viewers, self.processes)
        counts = [base + (index < more) for index in range(self.processes)]
        return [(count, self.ramp * count / self.viewers) for count in counts if count]


class _Part:
    """A process of the swarm, and what it said since it was last asked."""

    def __init__(self, process: asyncio.subprocess.Process, viewers: int) -> None:
        self._process = process
        self._viewers = viewers
        self._asked_to_end = self._died = False
        self._waiting: list[Second] = []
        self._latest = Second()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, plan: Plan, viewers: int, ramp: float) -> "_Part":
        words = ["-m", "media.swarm", "part", "--whep", plan.whep, "--viewers", str(viewers)]
        words += ["--ramp", f"{ramp!r}", "--late", f"{plan.late_after * 1000:g}"]
        if plan.stay is not None:
            words += ["--stay", f"{plan.stay!r}"]
        if plan.follow_moves:
            words.append("--follow-moves")
        if plan.party is not None:
            words += ["--party", str(plan.party)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdin=pipe, stdout=pipe, limit=MAX_LINE, start_new_session=True
        )
        return cls(process, viewers)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if (second := read_second(line)) is not None:
                self._waiting.append(second)
        self._died = not self._asked_to_end

    def take(self) -> Second:
        """All it said since the last call as one; how many there are is as it said last."""
        said, self._waiting = self._waiting, []
        if said:
            self._latest = said[-1]
        total = in_turn(said) if said else self._latest.standing()
        if not self._died:
            return total
        lost = self._viewers
        return replace(
            total, viewers=lost, connected=0, playing=0, failed=lost, reasons={"their process ended": lost}
        )

    async def end(self) -> None:
        """Its stdin closes: it says good-bye for all its viewers."""
        assert self._process.stdin is not None
        self._asked_to_end = True
        self._process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader


def read_second(line: bytes) -> Second | None:
    """A line of a part's; None when it is no Second, such as half of one: it died while it said it."""
    try:
        return Second(**orjson.loads(line))
    except (ValueError, TypeError):
        return None


async def run(plan: Plan, show: Callable[[Tally], None]) -> Tally:
    """Calls `show` each second. Ends early when a signal comes or every viewer has failed.

    Raises Refused where the event loop is not one a crowd can live on (Windows).
    """
    tally = Tally(plan.whep, plan.viewers)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, over.set)
    except NotImplementedError:  # nor would it watch the sockets of a crowd
        raise Refused(
            "a swarm needs Linux or macOS", "Run it there, or watch as one viewer: showcaller probe"
        ) from None
    parts = [await _Part.start(plan, count, ramp) for count, ramp in plan.parts()]
    fed_at, ends_at = loop.time(), None

    def feed(now: float) -> None:
        nonlocal fed_at
        tally.feed(add_up(part.take() for part in parts), now - fed_at)
        fed_at = now
        show(tally)

    try:
        while not over.is_set() and (ends_at is None or loop.time() < ends_at):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await over.wait()
            feed(loop.time())
            everybody = tally.now.viewers >= plan.viewers
            if everybody and ends_at is None:
                ends_at = loop.time() + plan.seconds
            nobody = everybody and tally.now.failed >= tally.now.viewers
            if nobody or all(part.ended for part in parts):
                break
    finally:
        stopped = loop.time()
        await asyncio.gather(*(part.end() for part in parts))
    feed(stopped)  # each process's last words, from before its viewers left
    return tally
