"""An edge is drained under its viewers: a page in Chromium and a hundred cheap viewers, who are all moved.

What the page shows is read picture by picture, with the time code that is drawn into it: the longest time
between two pictures, and between the moments at which two in a row were captured, while it is moved.
"""

import asyncio
import json
import subprocess
import time

from bench.figures import Figure
from bench.rows._browser import chromium, playing
from tests.support.pictures import record, seen
from tests.support.show import node_state
from tests.support.stage import Stage, command_line, environment, running_stage
from tests.support.wait import wait_for

TITLE = "an edge with 100 viewers and a page is drained"

VIEWERS = 100
ROUNDS = 3
SETTLE_S = 3.0
PATIENCE_S = 30.0


async def drained(stage: Stage, node: str) -> float:
    """Seconds from the order to the end of the node."""
    began = time.monotonic()
    await asyncio.to_thread(stage.json, "fleet", "drain", node, "--deadline", "120s", "--yes")
    await wait_for(lambda: gone(stage, node), PATIENCE_S, f"{node} is drained", interval=0.1)
    return time.monotonic() - began


async def gone(stage: Stage, node: str) -> bool:
    return await asyncio.to_thread(node_state, stage, node) == "gone"


def start_crowd(stage: Stage) -> "subprocess.Popen[bytes]":
    words = ("swarm", f"{stage.api}/whep/main", "--viewers", str(VIEWERS), "--ramp", "50")
    return subprocess.Popen(
        command_line(*words, "--seconds", "600", "--json"),
        env=environment(stage.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def run(rounds: int = ROUNDS) -> list[Figure]:
    pages, codes, took, back = [], [], [], []
    with running_stage() as stage:
        stage.publish_test("main", "--bitrate", "2.5M")
        crowd = start_crowd(stage)
        try:
            async with chromium() as browser, playing(browser, f"{stage.watch}/main") as page:

                def all_there() -> bool:
                    return bool(stage.json("streams")[0]["viewers"] == VIEWERS + 1)

                await wait_for(lambda: asyncio.to_thread(all_there), PATIENCE_S, "the crowd is there")
                for _ in range(rounds):
                    await asyncio.to_thread(stage.json, "fleet", "add", "edge", "--wait", timeout=60)
                    edge = await page.evaluate("window.showcaller.edge")
                    await asyncio.sleep(SETTLE_S)
                    await record(page)
                    took.append(await drained(stage, edge))
                    await asyncio.sleep(SETTLE_S)
                    saw = await seen(page)
                    if await page.evaluate("window.showcaller.edge") == edge:
                        raise RuntimeError("the page was not moved")
                    pages.append(saw.longest_ms)
                    codes.append(saw.longest_code_ms)
                    back.append(saw.back_ms)
        finally:
            crowd.terminate()
            out, _ = crowd.communicate(timeout=PATIENCE_S)
    figures = json.loads(out)
    if figures["failed"] or figures["moved"] < rounds * VIEWERS:
        raise RuntimeError(f"viewers were lost: {figures['reasons']}, {figures['moved']} moved")
    return [
        Figure("drain_longest_gap_ms", max(pages + codes), "ms", "percentile", at_most=250),
        Figure("drain_step_back_ms", max(back), "ms", "percentile"),
        Figure("drain_crowd_gap_p99_ms", figures["move_gap_ms"]["p99"], "ms", "percentile", at_most=250),
        Figure("drain_s", max(took), "s", "percentile", at_most=30),
    ]
