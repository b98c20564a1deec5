"""The probe watches a WHEP server of another implementation, and says so when there is nothing to watch."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import av
import pytest
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from media.publisher.peer import offer_loopback
from media.publisher.sources.pattern import TestPattern

PATIENCE_S = 60.0
FPS = 20


class PatternTrack(VideoStreamTrack):
    """The test pattern, coded by aiortc itself."""

    def __init__(self) -> None:
        super().__init__()
        self._pattern = TestPattern(640, 360, FPS)
        self._start: float | None = None
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        if self._start is None:
            self._start = time.monotonic()
        self._number += 1
        await asyncio.sleep(max(0.0, self._start + self._number / FPS - time.monotonic()))
        drawn = self._pattern.picture(0).make(time.time())
        assert isinstance(drawn, av.VideoFrame)
        frame = av.VideoFrame.from_ndarray(drawn.to_ndarray(), format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, FPS)
        return frame


class WhepServer:
    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, Any], dict[str, str]] | None = None
        self.mute = False  # make sessions, send no media
        self.deleted = 0
        self.pcs: list[RTCPeerConnection] = []
        routes = [
            Route("/whep/main", self._watch, methods=["POST"]),
            Route("/whep/main/{resource}", self._leave, methods=["DELETE"]),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off")
        )

    async def __aenter__(self) -> "WhepServer":
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.whep = f"http://127.0.0.1:{self._socket.getsockname()[1]}/whep/main"
        self._task = asyncio.create_task(self._server._serve(sockets=[self._socket]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for pc in self.pcs:
            await pc.close()
        self._server.should_exit = True
        await self._task
        self._socket.close()

    async def _watch(self, request: Request) -> Response:
        if self.answer is not None:
            status, body, headers = self.answer
            return JSONResponse(body, status, headers, media_type="application/problem+json")
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pcs.append(pc)
        await pc.setRemoteDescription(
            RTCSessionDescription(sdp=(await request.body()).decode(), type="offer")
        )
        for transceiver in pc.getTransceivers():
            transceiver.direction = "sendonly"
            if not self.mute:
                transceiver.sender.replaceTrack(
                    PatternTrack() if transceiver.kind == "video" else AudioStreamTrack()
                )
        offer_loopback(pc)
        await pc.setLocalDescription(await pc.createAnswer())
        return Response(
            pc.localDescription.sdp, 201, {"Location": "/whep/main/one"}, media_type="application/sdp"
        )

    async def _leave(self, request: Request) -> Response:
        self.deleted += 1
        return Response(status_code=200)


@pytest.fixture
async def server() -> AsyncIterator[WhepServer]:
    async with WhepServer() as it:
        yield it


async def probe(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "media.swarm", "probe", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


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
