"""The probe watches a WHEP server of another implementation, and says so when there is nothing to watch."""

import json
import socket

import pytest

from tests.media.swarm.conftest import run_swarm
from tests.media.swarm.server import WhepServer


async def probe(*words: str) -> tuple[int, str, str]:
    return await run_swarm("probe", *words)


async def test_it_says_what_it_saw(server: WhepServer) -> None:
    code, out, err = await probe("--whep", server.whep, "--seconds", "4", "--json")
    assert (code, err) == (0, "")
    seen = json.loads(out)
    assert seen["seconds"] == pytest.approx(4, abs=0.5)
    assert (seen["width"], seen["height"]) == (640, 360)
    assert seen["frames"] > 20
    assert seen["timecodes"] >= 0.9 * seen["frames"]
    assert 0 < seen["latency_ms"]["p50"] <= seen["latency_ms"]["p95"] <= seen["latency_ms"]["max"] < 10_000
    assert seen["bitrate_bps"] > seen["video_bps"] > 50_000
    assert seen["first_frame_ms"] > 0
    assert seen["sound_frames"] > 50
    assert seen["ended"] is None
    assert server.deleted == 1


async def test_it_speaks_to_people_too(server: WhepServer) -> None:
    code, out, _ = await probe("--whep", server.whep, "--seconds", "1")
    assert code == 0
    for word in ("640x360", "Mbps", "first frame", "latency", "freezes"):
        assert word in out


@pytest.mark.parametrize(
    ("status", "words"), [(404, "nothing is on air"), (503, "no edge has room"), (500, "answered 500")]
)
async def test_a_server_that_refuses(server: WhepServer, status: int, words: str) -> None:
    problem = {"code": "some_code", "title": "No", "detail": "Not now.", "status": status}
    server.answer = (status, problem, {"Retry-After": "3"})
    code, out, err = await probe("--whep", server.whep, "--json")
    error = json.loads(err)["error"]
    assert (code, out) == (1, "")
    assert words in error["what"]
    assert "Not now" in error["what"]
    assert error["code"] == "some_code"
    assert status == 500 or "3 s" in error["next"]


async def test_a_session_without_media(server: WhepServer) -> None:
    server.mute = True
    code, _, err = await probe("--whep", server.whep)
    assert code == 4
    assert err.startswith("error: the session was made, but nothing could be watched")
    assert server.deleted == 1


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, _, err = await probe("--whep", f"http://127.0.0.1:{taken.getsockname()[1]}/whep/main")
    assert code == 3
    assert "nobody answers" in err


@pytest.mark.parametrize(
    "words", [["--whep", "nowhere"], ["--whep", "http://h/whep/main", "--seconds", "0"], []]
)
async def test_words_that_make_no_sense(words: list[str]) -> None:
    code, _, err = await probe(*words)
    assert code == 2
    assert err.startswith("error: ")
