"""A crowd comes to an edge with a policy: from the evaluation that asks for another one to that in service.

Both moments are the stream manager's own: that of the decision in its journal, and that of the node's state.
Of the time between, `launch_s` is the node's, from its row on; what is before it is the manager's.
"""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from bench.figures import Figure
from tests.support.stage import Stage, command_line, environment, running_stage
from tests.support.wait import wait_for

TITLE = "from the alarm to a new edge in service"

ROUNDS = 5
PATIENCE_S = 30.0
VIEWERS = 7  # of ten seats: the seventh is above 60 %
POLICY = (
    *("--capacity", "10", "--alarm", "60%", "--in-fraction", "0.4", "--min", "1", "--max", "2"),
    *("--up-periods", "1", "--up-cooldown", "0s"),
    *("--down-periods", "2", "--down-cooldown", "1s", "--drain-deadline", "2s"),
)


@contextmanager
def crowd(stage: Stage) -> Iterator[None]:
    words = ("swarm", f"{stage.api}/whep/main", "--viewers", str(VIEWERS), "--seconds", "120", "--json")
    running = subprocess.Popen(
        command_line(*words),
        env=environment(stage.home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait(PATIENCE_S)


def edges(stage: Stage) -> dict[str, dict[str, Any]]:
    return {it["id"]: it for it in stage.get("nodes") if it["role"] == "edge"}


async def grown(stage: Stage) -> tuple[float, float]:
    """Seconds from the decision to the new edge in service, and from its row on."""
    before = set(edges(stage))

    def new() -> dict[str, Any] | None:
        there = edges(stage)
        return next(
            (it for name, it in there.items() if name not in before and it["state"] == "in_service"), None
        )

    def alone() -> bool:
        there = edges(stage)
        return [it["state"] for it in there.values()] == ["in_service"]

    with crowd(stage):
        edge = await wait_for(lambda: asyncio.to_thread(new), PATIENCE_S, "a new edge is in service")
        decision = stage.json("fleet", "why", "edge")[0]
        if decision["decision"] != "+1":
            raise RuntimeError(f"the last decision is another one: {decision['because']}")
    await wait_for(lambda: asyncio.to_thread(alone), PATIENCE_S, "the fleet has shrunk again", interval=0.2)
    return edge["state_since"] - decision["at"], edge["launch_s"]


async def run(rounds: int = ROUNDS) -> list[Figure]:
    with running_stage() as stage:
        stage.publish_test("main", "--bitrate", "500k", "--size", "640x360")
        stage.json("fleet", "policy", "set", "edge", *POLICY)
        took = [await grown(stage) for _ in range(rounds)]
    return [
        Figure("alarm_to_edge_s", median(whole for whole, _ in took), "s", "percentile", at_most=3),
        Figure("alarm_to_edge_worst_s", max(whole for whole, _ in took), "s", "percentile"),
        Figure("edge_launch_s", median(launch for _, launch in took), "s", "percentile"),
    ]
