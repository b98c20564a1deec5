"""The viewer that comes back: by events, after a good-bye, and what it says of the time between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from media.swarm.watcher import Pictures, Seen, Watcher
from tests.media.swarm.conftest import run_swarm
from tests.media.swarm.server import WhepServer
from tests.support.wait import wait_for

PATIENCE_S = 20.0


@asynccontextmanager
async def watching(server: WhepServer) -> AsyncIterator[Watcher]:
    watcher = Watcher(server.whep)
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(watcher: Watcher, what: str, wanted: Callable[[Seen], bool]) -> Seen:
    await wait_for(lambda: wanted(watcher.seen()), PATIENCE_S, what)
    return watcher.seen()


def test_the_longest_gap_is_that_between_two_pictures_or_the_one_that_lasts() -> None:
    pictures = Pictures()
    assert pictures.gap(5.0) == pictures.longest(5.0) == 0.0  # nothing was seen yet, so nothing is missed
    pictures.came(1, 10.0, 0.0)
    pictures.came(30, 11.0, 0.04)
    assert pictures.longest(11.03) == 0.04
    assert pictures.longest(11.5) == pytest.approx(0.5)  # and goes on
    pictures.came(1, 12.0, 1.0)
    assert pictures.longest(12.0) == 1.0
    pictures.begin_anew()
    assert pictures.longest(12.01) == pytest.approx(0.01)
    assert pictures.number == 32


async def test_a_viewer_whose_session_was_closed_makes_another_one(server: WhepServer) -> None:
    async with watching(server) as watcher:
        await until(watcher, "pictures", lambda seen: seen.playing)
        watcher.mark()
        await server.pcs[0].close()
        seen = await until(watcher, "pictures again", lambda seen: seen.playing and seen.sessions == 2)
        assert 0.0 < seen.longest_s < 5.0
        assert seen.marks == 1
    await wait_for(lambda: server.deleted >= 2, PATIENCE_S, "both sessions are given back")


async def test_a_viewer_that_is_told_to_move_does_so_without_a_gap(server: WhepServer) -> None:
    server.events = asyncio.Queue()
    server.events.put_nowait('event: state\ndata: {"state": "live", "edge": "edge-1"}\n\n')
    async with watching(server) as watcher:
        await until(watcher, "pictures", lambda seen: seen.playing and seen.edge == "edge-1")
        watcher.mark()
        server.events.put_nowait("event: move\ndata: {}\n\n")
        seen = await until(watcher, "another session", lambda seen: seen.sessions == 2 and seen.edge is None)
        await wait_for(lambda: server.deleted == 1, PATIENCE_S, "the first session is given back")
        assert seen.longest_s < 1.0  # the old one played on until the new one had a picture


async def test_who_sees_nothing_asks_again_and_says_why(
    server: WhepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.swarm.watcher.FIRST_PICTURE_S", 0.3)
    server.mute = True
    async with watching(server) as watcher:
        seen = await until(watcher, "a second session", lambda seen: seen.sessions >= 2)
        assert (seen.playing, seen.frames, seen.longest_s) == (False, 0, 0.0)
        assert seen.why == "no picture within 0.3 s"
        server.answer = (503, {"code": "full", "title": "Full", "status": 503}, {"Retry-After": "1"})
        await until(watcher, "no room", lambda seen: "no edge has room" in seen.why)


async def test_the_command_says_what_it_sees_until_its_input_closes(server: WhepServer) -> None:
    code, out, err = await run_swarm("watch", "--whep", server.whep)
    assert (code, err) == (0, "")
    assert Seen(**json.loads(out.splitlines()[0])).frames == 0
