"""What a whole edge costs a packet and viewer: real viewers, everything on, against the least a C loop needs.

A stage, a 720p stream of 4.5 Mbps sent as it is, and a swarm of real WebRTC viewers (ICE with consent, DTLS,
AES-128-GCM, receiver reports each second, NACK) in a process of its own. CPU is that of the edge's worker.
The limit is a C loop over the same libsrtp that sends frames and sound of the same sizes to as many sockets,
in the same run.
"""

import asyncio
import tempfile
from pathlib import Path
from statistics import median

import psutil

from bench.figures import Figure, percentile
from bench.rows._crowds import SOUND_BYTES, Cost, clip, cost, swarm
from bench.rows._limit import limit
from media.core.srtp import AEAD_AES_128_GCM
from tests.support.stage import running_stage

TITLE = "a whole edge worker with 400 real viewers, CPU a packet and viewer, against a bare C loop"

VIEWERS = 400
RAMP = 40
ROUNDS, ROUND_S = 5, 5


async def edge_cost(viewers: int, rounds: int, round_s: int, source: Path) -> Cost:
    """Of the edge's worker on a stage of its own."""
    with running_stage() as stage:
        stage.json("publish", str(source), "--channel", "main", "--copy", "--loop", "--detach")
        worker = psutil.Process(stage.process("edge-1/worker-0").pid)
        crowd = swarm(f"{stage.api}/whep/main", viewers, RAMP)
        return await cost(worker, crowd, viewers, rounds=rounds, round_s=round_s)


async def run(rounds: int = ROUNDS) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        edge = await edge_cost(VIEWERS, rounds, ROUND_S, clip(Path(folder)))
    tag = AEAD_AES_128_GCM.tag_length
    with limit(VIEWERS, edge.packets_a_frame, edge.packet_bytes - tag, SOUND_BYTES - tag) as least:
        await asyncio.to_thread(least.microseconds, 1.0)
        floor = [await asyncio.to_thread(least.microseconds, float(ROUND_S)) for _ in range(rounds)]
    return [
        Figure("edge_us", edge.us, "us", "cost"),
        Figure("limit_us", median(floor), "us", "cost"),
        Figure("limit_ratio", edge.us / median(floor), "x", "ratio", at_most=1.6),
        Figure("last_viewer_p99_ms", edge.late_p99_ms, "ms", "percentile", at_most=30),
        Figure("lost_share", edge.lost / edge.packets, "x", "ratio", at_most=0.0001),
        Figure("kb_per_viewer", edge.kb_per_viewer, "kB", "cost", at_most=100),
        Figure("first_frame_p95_ms", percentile(edge.first_frame_ms, 95), "ms", "percentile", at_most=300),
    ]
