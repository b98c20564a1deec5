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
    a join's cost  in a second storm, on another channel of the same edge which carries little (a slow picture
                   of 100 kbps, and sound), beside the same 200: CPU of the edge's worker, and of its agent,
                   while they come, less that of as long a time in which nobody came, over the joins.
                   `join_and_watch_ms` is that. A hundred joiners are there at any moment, and a good part of
                   it is the sound, the picture and the reports they get. What these cost is measured in
                   between, by as many viewers of that channel who stay, and is told as `watch_quiet_us` a
                   packet; `handshake_ms` is without it, packet by packet. What is left in it: the request
                   and its answer, STUN, DTLS, keys, the reports about the session, the good-bye
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


@dataclass(frozen=True)
class Cpu:
    """Seconds of an edge's worker and of its agent; also of one join, or of one packet."""

    worker: float
    agent: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.worker - other.worker, self.agent - other.agent)

    def __mul__(self, factor: float) -> "Cpu":
        return Cpu(self.worker * factor, self.agent * factor)

    @property
    def both(self) -> float:
        return self.worker + self.agent


@dataclass(frozen=True)
class Round:
    """What an edge spent, and what became of the viewers of the quiet channel meanwhile."""

    spent: Cpu
    packets: int  # that they got
    joins: int


@dataclass(frozen=True)
class Join:
    """What one join costs."""

    with_media: Cpu
    alone: Cpu


def a_join(storm: Round, calm: Round, packet: Cpu) -> Join:
    """Of a round in which viewers came; `packet` is what one costs that goes to a viewer who is there.

    Raises RuntimeError when nobody joined.
    """
    if not storm.joins:
        raise RuntimeError("nobody could join any more: is something else running on this machine?")
    more = storm.spent - calm.spent
    return Join(more * (1 / storm.joins), (more - packet * storm.packets) * (1 / storm.joins))


def a_packet(stay: list[Round], calm: list[Round]) -> Cpu:
    """What a packet costs that goes to a viewer who stays, with all that is done for such a viewer.

    Of all rounds together: a round of 2 s has some hundredths of a second in it, as the kernel counts them.
    """
    spent = [one.spent - other.spent for one, other in zip(stay, calm, strict=True)]
    packets = sum(one.packets for one in stay)
    return Cpu(sum(it.worker for it in spent) / packets, sum(it.agent for it in spent) / packets)


class Edge:
    def __init__(self, stage: Stage) -> None:
        self._worker = psutil.Process(stage.process("edge-1/worker-0").pid)
        self._agent = psutil.Process(stage.process("edge-1").pid)

    def _spent(self) -> Cpu:
        return Cpu(cpu(self._worker), cpu(self._agent))

    async def round(self, watchers: CrowdProcess, others: CrowdProcess | None = None) -> Round:
        """`others` are on the quiet channel."""
        before = self._spent()
        if others is None:
            await watchers.seconds(ROUND_S)
            seen: list[Second] = []
        else:
            _, seen = await both(watchers, others, ROUND_S)
        spent = self._spent() - before
        packets = sum(second.packets for second in seen)
        return Round(spent, packets, joins=sum(len(second.join_ms) for second in seen))


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
            calm_before = await watchers.seconds(storm_s)
            async with CrowdProcess.start(storm(stage, "main")) as joiners:
                stormy, joined = await both(watchers, joiners, storm_s)
            await watchers.seconds(STAY_S)
            before = [await edge.round(watchers) for _ in range(rounds)]
            quiet = f"{stage.api}/whep/quiet"
            async with CrowdProcess.start(swarm(quiet, JOINS_A_SECOND * STAY_S, RAMP)) as stayers:
                await stayers.all_play(JOINS_A_SECOND * STAY_S)
                stay = [await edge.round(watchers, stayers) for _ in range(rounds)]
            packet = a_packet(stay, before)
            async with CrowdProcess.start(storm(stage, "quiet")) as others:
                await both(watchers, others, STAY_S + 1)  # as many leave as come from here on
                joins = [a_join(await edge.round(watchers, others), calm, packet) for calm in before]
    came, failed = joined[-1].viewers, joined[-1].failed
    first = joiners.first_frame_ms + [1000.0 * STAY_S] * failed
    lateness = [value for second in stormy for value in second.lateness_ms]
    return [
        Figure("storm_late_frames", late(stormy), "frames", "count", at_most=0),
        Figure("calm_late_frames", late(calm_before), "frames", "count"),
        Figure("storm_frames", sum(second.frames for second in stormy), "frames", "count"),
        Figure("storm_lateness_p99_ms", percentile(lateness, 99), "ms", "percentile"),
        Figure("storm_joins_per_s", came / storm_s, "/s", "count"),
        Figure("storm_failed", failed, "joins", "count", at_most=0),
        Figure("storm_first_frame_p95_ms", percentile(first, 95), "ms", "percentile", at_most=700),
        Figure("handshake_ms", 1e3 * median(it.alone.both for it in joins), "ms", "cost", at_most=2),
        Figure("handshake_worker_ms", 1e3 * median(it.alone.worker for it in joins), "ms", "cost"),
        Figure("handshake_agent_ms", 1e3 * median(it.alone.agent for it in joins), "ms", "cost"),
        Figure("join_and_watch_ms", 1e3 * median(it.with_media.both for it in joins), "ms", "cost"),
        Figure("watch_quiet_us", 1e6 * packet.both, "us", "cost"),
    ]
