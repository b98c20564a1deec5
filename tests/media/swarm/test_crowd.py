"""A crowd watches a WHEP server of another implementation; what it cannot do it says."""

import asyncio
import json
import signal
import socket
import sys

import psutil
import pytest

from media.swarm.load import Plan
from tests.media.swarm.conftest import run_swarm
from tests.media.swarm.server import WhepServer
from tests.support.wait import wait_for


async def crowd(*words: str) -> tuple[int, str, str]:
    return await run_swarm("crowd", *words)


async def test_every_viewer_sees_the_picture_and_leaves_again(server: WhepServer) -> None:
    words = ["--viewers", "3", "--ramp", "3", "--seconds", "4", "--processes", "2", "--json"]
    code, out, _ = await crowd("--whep", server.whep, *words)
    seen = json.loads(out)
    assert code == 0, seen
    assert (seen["viewers"], seen["playing"], seen["failed"], seen["reasons"]) == (3, 3, 0, {})
    assert seen["frames"] > 60
    assert seen["unauthentic"] == 0
    assert seen["loss"] < 0.02
    assert seen["bitrate_bps"] > 50_000
    assert seen["join_ms"]["max"] <= seen["first_frame_ms"]["max"]
    assert server.deleted == 3


async def test_viewers_come_and_go(server: WhepServer) -> None:
    words = ["--viewers", "2", "--ramp", "2", "--stay", "1.5", "--seconds", "4", "--json"]
    code, out, _ = await crowd("--whep", server.whep, *words)
    seen = json.loads(out)
    assert code == 0, seen
    assert (seen["viewers"], seen["failed"], seen["reasons"]) == (2, 0, {})
    assert seen["asked"] >= 6  # two at once for five seconds, 1.5 s each
    assert seen["asked"] - 2 <= seen["left"] <= seen["asked"]
    assert 0 < seen["playing"] + seen["left"] <= seen["joined"] <= seen["asked"]
    assert seen["first_frame_ms"]["max"] < 1500
    assert server.deleted == len(server.pcs) == seen["asked"]


async def test_it_speaks_to_people_too(server: WhepServer) -> None:
    code, out, err = await crowd("--whep", server.whep, "--viewers", "1", "--seconds", "1")
    assert code == 0
    for word in ("1 of 1 watching", "first picture", "latency"):
        assert word in out
    assert "1/1 watching" in err


async def test_what_the_server_refuses_is_told_with_its_reason(server: WhepServer) -> None:
    server.answer = (
        503,
        {"code": "no_room", "title": "No", "detail": "All seats are taken.", "status": 503},
        {},
    )
    code, out, _ = await crowd("--whep", server.whep, "--viewers", "3", "--seconds", "60", "--json")
    seen = json.loads(out)
    assert (code, seen["failed"], seen["playing"], seen["bitrate_bps"]) == (1, 3, 0, None)
    assert seen["reasons"] == {"no edge has room for a viewer (All seats are taken)": 3}


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/whep/main"
        code, out, _ = await crowd("--whep", address, "--viewers", "2", "--json")
    assert code == 1
    assert any("nobody answers" in reason for reason in json.loads(out)["reasons"])


async def test_an_interrupt_ends_it_cleanly_with_the_figures_so_far(server: WhepServer) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "media.swarm", "crowd", "--whep", server.whep, "--json"),
        *("--viewers", "2", "--seconds", "600"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await wait_for(lambda: len(server.pcs) == 2, 30, "both have come")
    parts = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert json.loads(out)["asked"] == 2
    assert server.deleted == 2
    assert not any(part.is_running() for part in parts)


@pytest.mark.parametrize(
    "words",
    [
        ["--viewers", "0"],
        ["--ramp", "0"],
        ["--seconds", "0"],
        ["--processes", "99"],
        ["--viewers", "many"],
        ["--late", "0"],
        ["--viewers", "100", "--ramp", "10", "--stay", "9"],  # the first would leave before the last come
    ],
)
async def test_words_that_make_no_sense(words: list[str]) -> None:
    code, _, err = await crowd("--whep", "http://127.0.0.1:9/whep/main", *words)
    assert code == 2
    assert err.startswith("error: ")


def test_a_plan_is_spread_evenly() -> None:
    parts = Plan("http://x", 10, 5.0, 1.0, 3).parts()
    assert [count for count, _ in parts] == [4, 3, 3]
    assert sum(ramp for _, ramp in parts) == pytest.approx(5.0)
