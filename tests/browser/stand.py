"""A small real server for the watch page: its HTTP side in FastAPI, its media end in aiortc, over loopback.

It serves the project's own pages, answers WHEP with H.264 that carries a time code drawn into the picture,
and sends the same events a stream manager sends. What a whole stage does only once in a while, or never on
purpose, a test does here at will: move a viewer, lose the publisher, let an edge die without a word, refuse,
take the HTTP side away and bring it back while the media goes on.
"""

import asyncio
import contextlib
import fractions
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aioice.ice
import numpy as np
import pytest
import uvicorn
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from controlplane.web import pages
from controlplane.wire.api import LatencyView, StreamView, ViewerLatency
from media import timecode

WIDTH, HEIGHT, FPS = 640, 360, 30
CLOCK = 90_000

Event: TypeAlias = "tuple[str, dict[str, Any]] | None"  # None: the feed ends


class Pattern(VideoStreamTrack):
    """A moving grey picture with the time code of the moment it is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.running = asyncio.Event()
        self.running.set()
        self._began: float | None = None
        self._last = 0.0

    async def recv(self) -> VideoFrame:
        now = time.monotonic()
        await asyncio.sleep(max(0.0, self._last + 1 / FPS - now))
        await self.running.wait()
        if self.readyState != "live":
            raise MediaStreamError
        now = self._last = time.monotonic()
        self._began = self._began or now
        luma = np.full((HEIGHT, WIDTH), 70, np.uint8)
        x = int(now * 200) % (WIDTH - 40)
        luma[HEIGHT // 2 : HEIGHT // 2 + 80, x : x + 40] = 180
        timecode.draw(luma, time.time())
        frame = VideoFrame.from_ndarray(
            np.vstack([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)]), format="yuv420p"
        )
        frame.pts = int((now - self._began) * CLOCK)
        frame.time_base = fractions.Fraction(1, CLOCK)
        return frame


@dataclass
class Viewer:
    id: str
    peer: RTCPeerConnection
    pattern: Pattern
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    reports: list[ViewerLatency] = field(default_factory=list)
    reported_at: list[float] = field(default_factory=list)  # monotonic, as each report came


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to pytest


class Stand:
    """What a test turns: see the methods; `refusal` makes every POST fail with (status, code, headers)."""

    def __init__(self) -> None:
        self.on_air = True
        self.signal = True  # whether the publisher's pictures come
        self.codec: str | None = "H264"  # that the channel's events tell of
        self.refused = 0
        self.refusal: tuple[int, str, dict[str, str]] | None = None
        self.viewers: dict[str, Viewer] = {}
        self.made: list[str] = []
        self.deleted: list[str] = []
        self.offers: list[str] = []
        self.asked: list[str] = []  # the query of each POST
        self.moves: list[str] = []  # tokens that were come with
        self.over: set[str] = set()  # of moves that are refused
        self.cut_answers = 0  # so many answers break off in the middle
        self.restless = False  # every session is told to move at once
        self.interval_s = 1.0  # how often pages are told to post their latency
        self.port = 0
        self._listeners: set[asyncio.Queue[Event]] = set()
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def listening(self) -> int:
        """Pages that hear the channel's events."""
        return len(self._listeners)

    @property
    def watch(self) -> str:
        return f"{self.url}/watch/main"

    # -- what a test turns -------------------------------------------------------------------------------

    def begin(self) -> None:
        self.on_air = self.signal = True
        self._tell_channel()

    def recode(self, codec: str) -> None:
        """The publisher came back with another codec."""
        self.codec = codec
        self._tell_channel()

    def end_channel_feeds(self) -> None:
        """The channel's events break off; pages come back for them."""
        for queue in list(self._listeners):
            queue.put_nowait(None)

    async def end(self, tell: bool = True) -> None:
        """The broadcast ends: viewers are told, and their sessions end."""
        self.on_air = False
        for viewer in list(self.viewers.values()):
            if tell:
                viewer.events.put_nowait(("ended", {}))
            await self._close(viewer)
        self._tell_channel()

    def lose_publisher(self, tell: bool = True) -> None:
        self.signal = False
        for viewer in self.viewers.values():
            viewer.pattern.running.clear()
            if tell:
                viewer.events.put_nowait(("state", {"state": "waiting"}))

    def regain_publisher(self, picture_after: float = 0.0) -> None:
        """It is back, and told to be; its first picture comes so many seconds later."""
        self.signal = True
        loop = asyncio.get_running_loop()
        for viewer in self.viewers.values():
            loop.call_later(picture_after, viewer.pattern.running.set)
            viewer.events.put_nowait(("state", {"state": "live"}))

    def move(self) -> None:
        for viewer in self.viewers.values():
            viewer.events.put_nowait(("move", {"reason": "edge-1 is drained"}))

    def invite(self, token: str) -> None:
        """A seat is kept elsewhere for every viewer, as a drain does it."""
        for viewer in self.viewers.values():
            said = {"reason": "edge-1 is being drained", "url": f"/whep/main?move={token}"}
            viewer.events.put_nowait(("move", said))

    def silence(self) -> None:
        """The edge of every viewer stops without a word; new sessions are fine."""
        for viewer in self.viewers.values():
            viewer.pattern.running.clear()

    # -- HTTP --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._closing.clear()
        config = uvicorn.Config(
            self._app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """The HTTP side goes away; the media of those who watch goes on."""
        assert self._server is not None
        assert self._serving is not None
        self._closing.set()
        self._server.should_exit = True
        await self._serving

    async def close(self) -> None:
        await self.stop()
        for viewer in list(self.viewers.values()):
            await self._close(viewer)

    def _streams(self) -> list[StreamView]:
        if not self.on_air:
            return []
        return [
            StreamView(
                channel="main",
                state="live",
                origin="origin-1",
                publisher=None,
                bitrate_bps=None,
                fps=None,
                viewers=len(self.viewers),
                watch=self.watch,
                latency_ms=LatencyView(),
            )
        ]

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/watch/{channel}/events")
        async def channel_events(channel: str) -> Response:
            queue: asyncio.Queue[Event] = asyncio.Queue()
            queue.put_nowait(("state", self._channel_state()))
            self._listeners.add(queue)
            return self._feed(queue)

        @app.post("/whep/{channel}")
        async def whep(channel: str, request: Request) -> Response:
            self.asked.append(request.url.query)
            move = request.query_params.get("move")
            if move is not None:
                self.moves.append(move)
            if move is not None and move in self.over:
                return _problem(404, "move_over", {})
            if self.refusal:
                self.refused += 1
                status, code, headers = self.refusal
                return _problem(status, code, headers)
            if not self.on_air:
                return _problem(409, "nothing_on_air", {"Retry-After": "5"})
            offer = (await request.body()).decode()
            self.offers.append(offer)
            viewer = await self._answer(offer)
            if self.cut_answers > 0:
                self.cut_answers -= 1
                where = {"Location": f"/whep/{channel}/{viewer.id}", "Content-Length": "100000"}
                return StreamingResponse(_half(), 201, where, media_type="application/sdp")
            return Response(
                viewer.peer.localDescription.sdp,
                status_code=201,
                media_type="application/sdp",
                headers={"Location": f"/whep/{channel}/{viewer.id}"},
            )

        @app.get("/whep/{channel}/{id}/events")
        async def events(channel: str, id: str) -> Response:
            viewer = self.viewers.get(id)
            if viewer is None:
                return _problem(404, "no_session", {})
            viewer.events.put_nowait(
                ("state", {"state": "live" if self.signal else "waiting", "edge": "edge-1"})
            )
            if self.restless:
                viewer.events.put_nowait(("move", {"reason": "its worker ends again and again"}))
            return self._feed(viewer.events)

        @app.post("/whep/{channel}/{id}/latency")
        async def latency(channel: str, id: str, report: ViewerLatency) -> Response:
            if id not in self.viewers:
                return _problem(404, "no_session", {})
            self.viewers[id].reports.append(report)
            self.viewers[id].reported_at.append(time.monotonic())
            return JSONResponse({"interval_s": self.interval_s})

        @app.delete("/whep/{channel}/{id}")
        async def delete(channel: str, id: str) -> Response:
            self.deleted.append(id)
            viewer = self.viewers.get(id)
            if viewer is not None:
                await self._close(viewer)
            return Response(status_code=200)

        pages.serve(app, self._streams)
        return app

    def _channel_state(self) -> dict[str, Any]:
        codec = self.codec if self.on_air else None
        return {"on_air": self.on_air, "viewers": len(self.viewers), "video_codec": codec}

    def _tell_channel(self) -> None:
        for queue in self._listeners:
            queue.put_nowait(("state", self._channel_state()))

    def _feed(self, queue: asyncio.Queue[Event]) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield ": hello\n\n"
            closing = asyncio.create_task(self._closing.wait())
            getting: asyncio.Task[Event] | None = None
            try:
                while not self._closing.is_set():
                    getting = asyncio.create_task(queue.get())
                    await asyncio.wait({getting, closing}, return_when=asyncio.FIRST_COMPLETED)
                    if not getting.done():
                        return
                    event = getting.result()
                    if event is None:
                        return
                    name, data = event
                    yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
            finally:
                closing.cancel()
                if getting is not None:
                    getting.cancel()
                self._listeners.discard(queue)

        return StreamingResponse(lines(), media_type="text/event-stream")

    # -- media -------------------------------------------------------------------------------------------

    async def _answer(self, offer: str) -> Viewer:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        viewer = Viewer(secrets.token_urlsafe(24), peer, Pattern())
        if not self.signal:
            viewer.pattern.running.clear()
        peer.addTrack(viewer.pattern)
        codecs = RTCRtpSender.getCapabilities("video").codecs
        peer.getTransceivers()[0].setCodecPreferences(
            [codec for codec in codecs if codec.mimeType == "video/H264"]
        )
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        self.viewers[viewer.id] = viewer
        self.made.append(viewer.id)
        self._tell_channel()
        return viewer

    async def _close(self, viewer: Viewer) -> None:
        self.viewers.pop(viewer.id, None)
        viewer.pattern.stop()
        viewer.pattern.running.set()
        await viewer.peer.close()
        self._tell_channel()


async def _half() -> AsyncIterator[str]:
    yield "v=0\r\n"


def _problem(status: int, code: str, headers: dict[str, str]) -> JSONResponse:
    content = {"type": "about:blank", "code": code, "title": code, "detail": "", "status": status}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


@pytest.fixture
async def stand(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    # aioice leaves 127.0.0.1 out; here nothing else is wanted, and nothing leaves the machine.
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    running = Stand()
    await running.start()
    yield running
    await running.close()
