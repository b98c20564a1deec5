"""A WHEP server of another implementation (aiortc), which sends the test pattern."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import av
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from media.publisher.peer import offer_loopback
from media.publisher.sources.pattern import TestPattern

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
        self.events: asyncio.Queue[str] | None = None  # of its sessions, as text/event-stream has them
        self.deleted = 0
        self.pcs: list[RTCPeerConnection] = []
        routes = [
            Route("/whep/main", self._watch, methods=["POST"]),
            Route("/whep/main/{resource}", self._leave, methods=["DELETE"]),
            Route("/whep/main/{resource}/events", self._tell, methods=["GET"]),
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

    async def _tell(self, request: Request) -> Response:
        if self.events is None:
            return Response(status_code=404)

        async def read(events: asyncio.Queue[str]) -> AsyncIterator[str]:
            while True:
                yield await events.get()

        return StreamingResponse(read(self.events), media_type="text/event-stream")
