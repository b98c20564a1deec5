"""kill -9 of each process: how long until a watch page shows new frames again.

The longest time without a new frame between the kill and a second and a half of steady play; a process whose
death nobody notices costs one frame interval. The death of a console, besides, ends and starts no process.
"""

import asyncio
import os
import signal
import time

from playwright.async_api import Page

from bench.figures import Figure
from bench.rows._browser import chromium, playing
from bench.rows._console import console
from controlplane.wire.processes import ProcessRecord, alive
from tests.support.stage import Stage, running_stage

TITLE = "seconds without a picture after kill -9, by process"

VICTIMS = (
    "edge",
    "edge-worker",
    "origin",
    "origin-worker",
    "publisher-main",
    "encoder-main",
    "manager",
    "supervisor",
)
ROUNDS = 3
STEADY_FRAMES = 45
GIVE_UP_S = 30.0
LIMIT_S = 5.0


async def longest_gap(page: Page, killed: float) -> float:
    """Seconds, from `killed` until steady play, with no new frame."""
    frames = int(await page.evaluate("window.showcaller.frames"))
    last_new, longest, steady = killed, 0.0, 0
    while steady < STEADY_FRAMES or time.monotonic() - killed < 3.0:
        await asyncio.sleep(0.02)
        now = time.monotonic()
        seen = int(await page.evaluate("window.showcaller.frames"))
        if seen > frames:
            if now - last_new > 0.5:
                steady = 0
            longest = max(longest, now - last_new)
            steady += seen - frames
            frames, last_new = seen, now
        elif now - last_new > GIVE_UP_S:
            return now - last_new
    return longest


async def whole(stage: Stage) -> None:
    """One origin and one edge in service, all processes there: ready for the next death."""
    stage.json("stage", "up", timeout=60)
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        roles = sorted(node["role"] for node in stage.json("nodes") if node["state"] == "in_service")
        streams = stage.json("streams")
        if roles == ["edge", "origin"] and [stream["state"] for stream in streams] == ["live"]:
            return
        await asyncio.sleep(0.2)
    raise RuntimeError("the stage did not become whole again")


def living(stage: Stage) -> list[ProcessRecord]:
    return [record for record in stage.processes() if alive(record)]


def is_called(record: ProcessRecord, name: str) -> bool:
    """`name` is a process's own, or a node's without its number; `-worker`: the worker of such a node."""
    if name.endswith("-worker"):
        return record.kind == "worker" and record.name.startswith(name.removesuffix("worker"))
    return record.kind != "worker" and (record.name == name or record.name.startswith(f"{name}-"))


def short(name: str) -> str:
    return name.removesuffix("-main").replace("-", "_")


async def gap_after(page: Page, pid: int) -> float:
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return await longest_gap(page, killed)


async def gap_after_console(stage: Stage, page: Page) -> float:
    before = living(stage)
    async with console(stage) as pid:
        gap = await gap_after(page, pid)
    if living(stage) != before:
        raise RuntimeError("the death of a console ended something else")
    return gap


async def run() -> list[Figure]:
    gaps: dict[str, list[float]] = {name: [] for name in (*VICTIMS, "console")}
    with running_stage() as stage:
        stage.publish_test("main")
        async with chromium() as browser, playing(browser, f"{stage.watch}/main") as page:
            for _ in range(ROUNDS):
                for name in VICTIMS:
                    victim = next(record for record in living(stage) if is_called(record, name))
                    gaps[name].append(await gap_after(page, victim.pid))
                    await whole(stage)
                gaps["console"].append(await gap_after_console(stage, page))
    return [
        Figure(f"without_picture_{short(name)}_s", max(each), "s", "percentile", at_most=LIMIT_S)
        for name, each in gaps.items()
    ]
