"""A show and its deaths: what whole-stage tests do to processes, and how they see that it goes on."""

import os
import signal
from typing import Any

import httpx

from controlplane.wire.processes import ProcessRecord, alive
from tests.support.chromium import WatchPage
from tests.support.stage import Stage
from tests.support.wait import wait_for, wait_until

PATIENCE_S = 15.0
FRAMES_AGAIN = 45  # a second and a half of video: not the tail of what was buffered


def kill(record: ProcessRecord) -> None:
    """kill -9, and wait until it is gone."""
    assert alive(record)
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: not alive(record), PATIENCE_S, f"{record.name} is gone")


async def plays_on(watch: WatchPage, what: str) -> None:
    """New frames are shown: a second and a half of them, counted from now."""
    before = (await watch.facts())["frames"]

    async def more() -> bool:
        facts = await watch.facts()
        return bool(facts["state"] == "playing" and facts["frames"] >= before + FRAMES_AGAIN)

    await wait_for(more, PATIENCE_S, f"the page plays on after {what}")


# These ask the API, and not a command: a command takes a second to begin, and they are asked again and again.


def nodes(stage: Stage) -> dict[str, dict[str, Any]]:
    """By name; none while the stream manager does not answer."""
    try:
        return {str(node["id"]): node for node in stage.get("nodes")}
    except httpx.TransportError:
        return {}


def in_service(stage: Stage) -> list[str]:
    """The roles of the nodes in service, sorted."""
    return sorted(node["role"] for node in nodes(stage).values() if node["state"] == "in_service")


def node_state(stage: Stage, node: str) -> str:
    """The state of a node; "gone" when it is not listed any more."""
    found = {str(it["id"]): str(it["state"]) for it in stage.get("nodes")}
    return found.get(node, "gone")


def viewers(stage: Stage) -> list[int]:
    """Of each stream that is on air."""
    return [stream["viewers"] for stream in stage.get("streams")]


async def mark(watch: WatchPage) -> None:
    """So that a reload would be seen."""
    await watch.page.evaluate("window.neverReloaded = true")


async def never_reloaded(watch: WatchPage) -> bool:
    return bool(await watch.page.evaluate("window.neverReloaded === true"))
