"""A WHIP server for tests: aiortc receives and decodes, over real HTTP and real UDP.

An implementation of its own, independent of our nodes: what it plays, another server would play.
"""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtcpSrPacket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from media import timecode
from media.publisher.peer import offer_loopback

TOKEN = "a-publish-token"


@dataclass
class Seen:
    """One decoded picture."""

    at: float  # Unix time of its decoding
    code: int | None
    shape: tuple[int, int]
    key: bool


@dataclass
class Session:
    """One publisher's session."""

    id: str
    pc: RTCPeerConnection
    offer: str
    pictures: list[Seen] = field(default_factory=list)
    sound: list[float] = field(default_factory=list)  # peak level of each 20 ms
    rtp: list[tuple[float, int, int, int]] = field(default_factory=list)  # when, SSRC, bytes, timestamp
    heads: list[tuple[int, bytes]] = field(default_factory=list)  # payload type, and how the payload begins
    reports: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # SSRC: sender reports (NTP, RTP)
    why: str = ""  # as its DELETE said
    ended_by_delete: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def receivers(self) -> dict[str, Any]:
        return {r.track.kind: cast(Any, r) for r in self.pc.getReceivers() if r.track is not None}

    def bitrate(self, seconds: float) -> float:
        """RTP payload and header, all streams, over the last seconds that are whole."""
        last = self.rtp[-1][0]
        return sum(size for at, _, size, _ in self.rtp if last - seconds <= at < last) * 8 / seconds

    async def ask_key_frame(self) -> None:
        receiver = self.receivers["video"]
        (ssrc,) = receiver._RTCRtpReceiver__active_ssrc
        await receiver._send_rtcp_pli(ssrc)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.pc.close(), 2)


class Endpoint:
    """`async with Endpoint() as server`: server.whip, server.report are its addresses."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.published: list[dict[str, Any]] = []  # reports, as received
        self.order: dict[str, Any] = {"action": "continue"}
        self.refuse: tuple[int, dict[str, Any]] | None = None  # answer every POST like this
        self.silent = False  # take a POST and never answer it
        self.posts = 0
        self.decode = True
        routes = [
            Route("/whip/{channel}", self._publish, methods=["POST"]),
            Route("/whip/{channel}/{resource}", self._delete, methods=["DELETE"]),
            Route("/api/v1/channels/{channel}/publisher", self._report, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._socket = socket.socket()

    async def __aenter__(self) -> "Endpoint":
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.whip = f"{self.base}/whip/main"
        self.report = f"{self.base}/api/v1/channels/main/publisher"
        self._task = asyncio.create_task(self._server._serve(sockets=[self._socket]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self.sessions:
            await session.close()
        self._server.should_exit = True
        await self._task
        self._socket.close()

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    async def _publish(self, request: Request) -> Response:
        self.posts += 1
        if self.silent:
            await asyncio.sleep(60)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse = self.refuse or (401, {"code": "bad_token", "title": "Unauthorized"})
        if self.refuse is not None:
            status, problem = self.refuse
            return JSONResponse({**problem, "status": status}, status, media_type="application/problem+json")
        offer = (await request.body()).decode()
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        session = Session(f"session-{len(self.sessions) + 1}", pc, offer)

        @pc.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            watch = self._watch if track.kind == "video" else self._listen
            session.tasks.append(asyncio.create_task(watch(session, track)))

        await pc.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        offer_loopback(pc)
        for receiver in pc.getReceivers():
            self._count(session, receiver)
        await pc.setLocalDescription(await pc.createAnswer())
        self.sessions.append(session)
        return Response(
            pc.localDescription.sdp,
            201,
            {"Location": f"/whip/main/{session.id}"},
            media_type="application/sdp",
        )

    def _count(self, session: Session, receiver: Any) -> None:
        on_rtp, on_rtcp = receiver._handle_rtp_packet, receiver._handle_rtcp_packet

        async def handle_rtp(packet: Any, arrival_time_ms: int) -> None:
            size = 12 + len(packet.payload)
            session.rtp.append((time.monotonic(), packet.ssrc, size, packet.timestamp))
            session.heads.append((packet.payload_type, packet.payload[:16]))
            if self.decode:
                await on_rtp(packet, arrival_time_ms=arrival_time_ms)

        async def handle_rtcp(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                session.reports.setdefault(packet.ssrc, []).append((info.ntp_timestamp, info.rtp_timestamp))
            await on_rtcp(packet)

        receiver._handle_rtp_packet, receiver._handle_rtcp_packet = handle_rtp, handle_rtcp

    async def _watch(self, session: Session, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(Any, await track.recv())
                plane = frame.planes[0]
                luma = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                code = timecode.read(luma[:, : plane.width])
                session.pictures.append(
                    Seen(time.time(), code, (frame.width, frame.height), bool(frame.key_frame))
                )

    async def _listen(self, session: Session, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(Any, await track.recv())
                session.sound.append(float(np.abs(frame.to_ndarray().astype(np.int32)).max()) / 32768)

    async def _delete(self, request: Request) -> Response:
        for session in self.sessions:
            if session.id == request.path_params["resource"]:
                session.ended_by_delete = True
                session.why = request.query_params.get("why", "")
                await session.close()
                return Response(status_code=200)
        return Response(status_code=404)

    async def _report(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Response(status_code=401)
        self.published.append(await request.json())
        return JSONResponse(self.order)
