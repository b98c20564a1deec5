"""Fifty join a second beside two hundred who watch: are their frames late, and what does a join cost a node?

A stage, and a swarm of 200 viewers of a 4.5 Mbps stream in a process of its own. A second swarm brings 50
more a second, open loop: each stays 2 s, whatever becomes of it, and the next one comes when it was to.

    late frames    of the 200, in the 20 s of a storm on the stream they watch. A frame is late when its last
                   packet came (by the kernel's time stamp) more than 50 ms later than by the viewer's
                   quickest frame so far, each against its RTP timestamp. So whatever delays a frame counts,
                   wherever between the publisher's clock and the viewer's socket: a late publisher as well.
                   Those of as long a time before the storm are told beside them
    first frame    of the joiners, from the moment they came to a whole key frame; who saw none in its 2 s
                   counts as 2 s
    a join's cost  in a second storm, on another channel of the same edge which carries next to nothing (a
                   slow picture of 100 kbps, and sound), so that what is sent to the joiners costs next to
                   nothing either: CPU of the edge's worker, and of its agent, while they come, less that of
                   the same time just before, over the joins. It includes STUN, the DTLS handshake, keys, the
                   burst of the first pictures, reports, and the good-bye
"""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.figures import Figure, percentile
from bench.rows._crowds import CrowdProcess, clip, cpu, swarm
from media.swarm.second import Second
from tests.support.stage import Stage, running_stage

TITLE = "50 joins a second beside 200 viewers: late frames, first pictures, CPU of a join"

WATCHING, RAMP = 200, 40
JOINS_A_SECOND, STAY_S = 50, 2
STORM_S = 20
LATE_MS = 50
ROUNDS, ROUND_S = 5, 2


def storm(stage: Stage, channel: str) -> list[str]:
    whep = f"{stage.api}/whep/{channel}"
    return swarm(whep, JOINS_A_SECOND * STAY_S, JOINS_A_SECOND, "--stay", str(STAY_S))


@dataclass
class Round:
    """CPU seconds of an edge's worker and of its agent, and how many joined meanwhile."""

    worker: float
    agent: float
    joins: int = 0

    def a_join(self, calm: "Round") -> "Round":
        """Milliseconds a join, beyond what a calm round takes. Raises RuntimeError when nobody joined."""
        if not self.joins:
            raise RuntimeError("nobody could join any more: is something else running on this machine?")
        return Round(
            1000 * (self.worker - calm.worker) / self.joins, 1000 * (self.agent - calm.agent) / self.joins
        )


class Edge:
    def __init__(self, stage: Stage) -> None:
        self._worker = psutil.Process(stage.process("edge-1/worker-0").pid)
        self._agent = psutil.Process(stage.process("edge-1").pid)

    async def round(self, watchers: CrowdProcess, joiners: CrowdProcess | None = None) -> Round:
        worker, agent = cpu(self._worker), cpu(self._agent)
        if joiners is None:
            await watchers.seconds(ROUND_S)
            joined: list[Second] = []
        else:
            _, joined = await both(watchers, joiners, ROUND_S)
        joins = sum(len(second.join_ms) for second in joined)
        return Round(cpu(self._worker) - worker, cpu(self._agent) - agent, joins)


async def both(one: CrowdProcess, other: CrowdProcess, seconds: int) -> tuple[list[Second], list[Second]]:
    """The same seconds of two crowds."""
    ones, others = await asyncio.gather(one.seconds(seconds), other.seconds(seconds))
    return ones, others


def late(seconds: list[Second]) -> int:
    return sum(second.late_frames for second in seconds)


async def run(rounds: int = ROUNDS) -> list[Figure]:
    storm_s = round(STORM_S * rounds / ROUNDS)
    with tempfile.TemporaryDirectory() as folder, running_stage() as stage:
        source = clip(Path(folder))
        stage.json("publish", str(source), "--channel", "main", "--copy", "--loop", "--detach")
        stage.publish_test("quiet", "--size", "640x360", "--fps", "5", "--bitrate", "100k")
        edge = Edge(stage)
        watching = swarm(f"{stage.api}/whep/main", WATCHING, RAMP, "--late", str(LATE_MS))
        async with CrowdProcess.start(watching) as watchers:
            await watchers.all_play(WATCHING)
            calm = await watchers.seconds(storm_s)
            async with CrowdProcess.start(storm(stage, "main")) as joiners:
                stormy, joined = await both(watchers, joiners, storm_s)
            await watchers.seconds(STAY_S)
            before = [await edge.round(watchers) for _ in range(rounds)]
            async with CrowdProcess.start(storm(stage, "quiet")) as others:
                await both(watchers, others, STAY_S + 1)  # as many leave as come from here on
                costs = [(await edge.round(watchers, others)).a_join(it) for it in before]
    came, failed = joined[-1].viewers, joined[-1].failed
    first = joiners.first_frame_ms + [1000.0 * STAY_S] * failed
    lateness = [value for second in stormy for value in second.lateness_ms]
    return [
        Figure("storm_late_frames", late(stormy), "frames", "count", at_most=0),
        Figure("calm_late_frames", late(calm), "frames", "count"),
        Figure("storm_frames", sum(second.frames for second in stormy), "frames", "count"),
        Figure("storm_lateness_p99_ms", percentile(lateness, 99), "ms", "percentile"),
        Figure("storm_joins_per_s", came / storm_s, "/s", "count"),
        Figure("storm_failed", failed, "joins", "count", at_most=0),
        Figure("storm_first_frame_p95_ms", percentile(first, 95), "ms", "percentile", at_most=700),
        Figure("handshake_ms", median(it.worker + it.agent for it in costs), "ms", "cost", at_most=2),
        Figure("handshake_worker_ms", median(it.worker for it in costs), "ms", "cost"),
        Figure("handshake_agent_ms", median(it.agent for it in costs), "ms", "cost"),
    ]
