"""How many viewers at 4.5 Mbps one worker carries on one core, without loss and in time.

A stage whose edge worker has the first core to itself; all else (publisher, origin, stream manager, swarm) is
on the others. Real viewers of a swarm come in, a few more at a time; at each number they watch for a while. A
number is carried when

    no packet was lost for good, and fewer than one in 10,000 had to be sent again, and
    in 99 of 100 seconds of a viewer its latest frame was no more than 50 ms later than its quickest ever (a
    frame comes every 33 ms), and
    the other cores were not the limit: the swarm had a tenth of its time to spare

Each number gets a second chance: something else may have run on the machine. The figure is the last that was
carried.
"""

import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.figures import Figure, percentile
from bench.rows._cores import off_the_first
from bench.rows._crowds import SETTLE_S, CrowdProcess, clip, cpu, swarm
from media.swarm.second import Second
from tests.support.stage import running_stage

TITLE = "viewers at 4.5 Mbps that one worker carries on one core, without loss and in time"

NUMBERS = (400, 500, 600, 650, 700, 750, 800, 850, 900, 950, 1000)
RAMP = 40
ROUNDS, ROUND_S = 5, 2
SENT_AGAIN = 1e-4  # of all packets
LATE_MS = 50.0  # p99 of each viewer's latest frame in a second
SWARM_SHARE = 0.9  # of the cores it may use
CHANCES = 2


@dataclass
class Watched:
    """What a number of viewers saw in some seconds, and what it took."""

    viewers: int
    seconds: list[Second]  # of each process of the swarm
    worker_share: float  # of its core
    swarm_share: float  # of all cores that it may use

    @property
    def p99_ms(self) -> float:
        return percentile([value for second in self.seconds for value in second.lateness_ms], 99)

    @property
    def carried(self) -> bool:
        packets, lost, again, failed = (
            sum(getattr(second, name) for second in self.seconds)
            for name in ("packets", "lost", "recovered", "failed")
        )
        whole = lost == failed == 0 and again < SENT_AGAIN * packets
        return whole and self.p99_ms <= LATE_MS and self.swarm_share < SWARM_SHARE

    def __str__(self) -> str:
        lost, again, failed = (
            sum(getattr(second, name) for second in self.seconds) for name in ("lost", "recovered", "failed")
        )
        return (
            f"{self.viewers} viewers: lost {lost}, sent again {again}, failed {failed}, "
            f"late by {self.p99_ms:.1f} ms (p99), worker {self.worker_share:.0%} of its core, "
            f"swarm {self.swarm_share:.0%} of the others"
        )


class House:
    """Crowds at one edge, more and more of them."""

    def __init__(self, whep: str, worker: psutil.Process, stack: AsyncExitStack, others: int) -> None:
        """`others`: how many cores there are beside the worker's. The crowds leave with the `stack`."""
        self._whep = whep
        self._stack = stack
        self._others = others
        self._crowds: list[CrowdProcess] = []
        self._processes = [worker]
        self.viewers = 0

    async def fill(self, viewers: int) -> None:
        """Returns some seconds after so many have come."""
        more = swarm(self._whep, viewers - self.viewers, RAMP)
        crowd = await self._stack.enter_async_context(CrowdProcess.start(more))
        await crowd.all_there(viewers - self.viewers)
        await crowd.seconds(SETTLE_S)
        self._crowds.append(crowd)
        self._processes.append(psutil.Process(crowd.pid))
        self.viewers = viewers

    async def watch(self, seconds: int) -> Watched:
        clock = asyncio.get_running_loop().time
        began, before = clock(), [cpu(process) for process in self._processes]
        lists = await asyncio.gather(*(crowd.seconds(seconds) for crowd in self._crowds))
        took = clock() - began
        shares = [(cpu(process) - then) / took for process, then in zip(self._processes, before, strict=True)]
        seen = [second for one in lists for second in one]
        return Watched(self.viewers, seen, shares[0], sum(shares[1:]) / self._others)


async def most(house: House, seconds: int) -> list[Watched]:
    """The numbers that were carried, and the first that was not."""
    carried: list[Watched] = []
    for number in NUMBERS:
        await house.fill(number)
        for _ in range(CHANCES):
            watched = await house.watch(seconds)
            print(f"  {watched}", file=sys.stderr, flush=True)
            if watched.carried:
                break
        carried.append(watched)
        if not watched.carried:
            break
    return carried


async def run(rounds: int = ROUNDS) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name, off_the_first() as first:
        source = clip(Path(name))
        with running_stage(settings=f"[fleet]\nedge_capacity = {2 * NUMBERS[-1]}\n") as stage:
            stage.json("publish", str(source), "--channel", "main", "--copy", "--loop", "--detach")
            worker = psutil.Process(stage.process("edge-1/worker-0").pid)
            os.sched_setaffinity(worker.pid, {first})
            others = len(os.sched_getaffinity(0))
            async with AsyncExitStack() as stack:
                house = House(f"{stage.api}/whep/main", worker, stack, others)
                tried = await most(house, rounds * ROUND_S)
    carried = [watched for watched in tried if watched.carried]
    last = carried[-1] if carried else tried[-1]
    limit = "" if len(carried) == len(NUMBERS) else str(tried[-1])
    return [
        Figure(
            "viewers_per_core", last.viewers if carried else 0, "viewers", "count", at_least=600, note=limit
        ),
        Figure("viewers_per_core_p99_ms", last.p99_ms, "ms", "percentile"),
        Figure("viewers_per_core_worker_share", last.worker_share, "x", "ratio"),
        Figure("viewers_per_core_swarm_share", last.swarm_share, "x", "ratio"),
    ]
