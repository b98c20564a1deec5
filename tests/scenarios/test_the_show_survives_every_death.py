"""kill -9 of each process in turn: the show goes on, or comes back, and the browser never reloads.

One stage, one broadcast, one watch page; each process of the stage is killed in turn. The page's connection
is with its edge: it makes another one when that dies, and when nobody else does. The suite is patient (15 s)
but where a worker dies; `make bench` measures how long it really takes.
"""

import time

import pytest
from playwright.async_api import Request

from controlplane.wire.processes import alive
from tests.support.chromium import OpenPage
from tests.support.figures import Figure
from tests.support.show import FRAMES_AGAIN, PATIENCE_S, in_service, kill, mark, never_reloaded, plays_on
from tests.support.stage import Stage
from tests.support.wait import wait_for

# A worker is the one process of its node that has the packets; its agent starts another.
VICTIMS = [
    "edge-1/worker-0",
    "origin-1/worker-0",
    "edge-1",
    "encoder-main",
    "origin-1",
    "publisher-main",
    "manager",
    "supervisor",
]
FPS = 30  # of the test broadcast
WORKER_BACK_S = 5.0


def is_offer(request: Request) -> bool:
    """Whether the page asks for a session."""
    return request.method == "POST" and request.url.endswith("/whep/main")


@pytest.mark.browser
@pytest.mark.stage
async def test_the_show_survives_every_death(stage: Stage, watch_page: OpenPage, figure: Figure) -> None:
    stage.publish_test("main")
    watch = await watch_page(f"{stage.watch}/main")
    offers: list[str] = []
    watch.page.on("request", lambda request: offers.append(request.url) if is_offer(request) else None)
    await plays_on(watch, "opening the page")
    await mark(watch)

    async def keeps_its_connection(whose: str) -> None:
        assert not offers, f"the page makes another session over the death of {whose}"
        assert (await watch.facts())["sessions"] == sessions

    for name in VICTIMS:
        sessions = (await watch.facts())["sessions"]
        offers.clear()
        victim, died = stage.process(name), time.monotonic()
        kill(victim)
        await plays_on(watch, f"the death of {name}")
        if not name.startswith("edge"):
            await keeps_its_connection(name)
        if victim.kind == "worker":
            back = time.monotonic() - died - FRAMES_AGAIN / FPS
            figure(f"{name}: the page shows new frames {back:.1f} s after its death")
            assert back < WORKER_BACK_S
        if name == "supervisor":  # nobody needs it to watch; the next `stage up` starts one that adopts all
            status = stage.json("stage", "status")
            assert "manager" in {process["name"] for process in status["processes"]}
            assert stage.json("stage", "up", timeout=60)["state"] == "up"

        await wait_for(
            lambda: in_service(stage) == ["edge", "origin"],
            PATIENCE_S,
            f"one origin and one edge in service after the death of {name}",
        )
        (stream,) = stage.get("streams")
        assert stream["channel"] == "main"

    # With two origins nobody waits for another to come up: publisher and edge go to the one that is there.
    stage.json("fleet", "add", "origin")
    await wait_for(lambda: in_service(stage) == ["edge", "origin", "origin"], PATIENCE_S, "two origins")
    (stream,) = stage.get("streams")
    before, offers[:] = stream["origin"], []
    kill(stage.process(before))
    await plays_on(watch, "the death of one of two origins")
    (stream,) = stage.get("streams")
    assert stream["origin"] not in (None, before)
    await keeps_its_connection(before)

    assert await never_reloaded(watch)
    # Each of the dead came back as another process, with the same name or, for nodes, under a new one.
    names = {record.name for record in stage.processes() if alive(record)}
    assert {"manager", "supervisor", "publisher-main", "encoder-main"} <= names

    stage.stop("main")

    async def waiting() -> bool:
        return await watch.state() in ("waiting", "ended")

    await wait_for(waiting, PATIENCE_S, "the page says that the broadcast has ended")
