"""Our edge and Janus 1.1.2 (Debian's packages, its best tuning), one after the other.

The same stream, the same viewers, the same accounting.
"""

import sys
import tempfile
from pathlib import Path

from bench.figures import Figure
from bench.rows._crowds import clip, cost
from bench.rows._janus import janus
from bench.rows.edge_worker import edge_cost

TITLE = "a whole edge worker against Janus, CPU a packet and viewer, memory a viewer, 150 viewers"

VIEWERS = 150  # as many as Janus carries on one core without loss
RAMP = 10  # what Janus takes
ROUNDS, ROUND_S = 5, 4


async def run(rounds: int = ROUNDS) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = clip(folder)
        with janus(folder, source) as (process, url):
            crowd = [sys.executable, "-m", "bench.rows._janus", url, str(VIEWERS), str(RAMP)]
            theirs = await cost(process, crowd, VIEWERS, rounds=rounds, round_s=ROUND_S)
        ours = await edge_cost(VIEWERS, rounds, ROUND_S, source)
    return [
        Figure("janus_us", theirs.us, "us", "cost"),
        Figure("our_us", ours.us, "us", "cost"),
        Figure("janus_ratio", ours.us / theirs.us, "x", "ratio", at_most=0.25),
        Figure("janus_kb_per_viewer", theirs.kb_per_viewer, "kB", "cost"),
        Figure("our_kb_per_viewer", ours.kb_per_viewer, "kB", "cost"),
        Figure(
            "memory_ratio", ours.kb_per_viewer / theirs.kb_per_viewer, "x", "ratio",
            at_most=0.6,
        ),
        # What loses is not compared: it spares itself the sending.
        Figure("janus_lost_share", theirs.lost / theirs.packets, "x", "ratio", at_most=0.01),
        Figure("our_last_viewer_p99_ms", ours.late_p99_ms, "ms", "percentile"),
    ]  # fmt: skip
