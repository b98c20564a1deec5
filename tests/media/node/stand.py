"""What the node tests stand on: a small manager over real HTTP, real node processes, aiortc peers.

The manager here does what the contract says of enrolment, reports and subscriptions, and no more.
Everything a viewer or publisher would meet (SDP, ICE, DTLS, SRTP, the node's processes and sockets) is real.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import uvicorn
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controlplane.adapters.control.pinned import PinnedContext
from controlplane.wire.nodes import EnrolRequest, NodeReport, SessionReport, SubscribeRequest
from controlplane.wire.processes import read_alive, start_time
from tests.support.wait import wait_for

ROOT = Path(__file__).parents[3]

Change = Callable[[str], str]


async def until(condition: Callable[[], Any], what: str, within: float = 15.0) -> Any:
    """Wait for a condition with a deadline; returns its value."""
    return await wait_for(condition, within, what, interval=0.02)


@dataclass
class EnrolledNode:
    """A node as the manager of the tests knows it."""

    id: str
    enrol: EnrolRequest
    secret: str
    credential: str
    reports: list[NodeReport] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> NodeReport | None:
        return self.reports[-1] if self.reports else None

    @property
    def sessions(self) -> list[SessionReport]:
        """As it told of them last: not every report does."""
        told = (report.sessions for report in reversed(self.reports) if report.sessions is not None)
        return [SessionReport.model_validate(row) for row in next(told, [])]


class Manager:
    """The stream manager's side of enrol, report and subscribe."""

    def __init__(self) -> None:
        self.nodes: dict[str, EnrolledNode] = {}
        self.tokens: dict[str, str] = {}  # one-use token -> node id
        self.origin_of: dict[str, str] = {}  # channel -> node id
        self.codec_of: dict[str, str | None] = {}  # channel -> what its publisher was answered
        self.tells_codec = True  # to viewers' edges
        self.refused = 0
        self.report_interval = 0.25
        self.metrics_sha256: str | None = None  # of the token that may read nodes' metrics
        self.url = ""
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> None:
        app = Starlette(
            routes=[
                Route("/api/v1/nodes/enrol", self._enrol, methods=["POST"]),
                Route("/api/v1/nodes/{id}/report", self._report, methods=["POST"]),
                Route("/api/v1/nodes/{id}/subscribe", self._subscribe, methods=["POST"]),
            ]
        )
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        )
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))
        await until(lambda: self._server is not None and self._server.started, "the manager listens")

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    def new_token(self, node: str) -> str:
        token = secrets.token_urlsafe(16)
        self.tokens[token] = node
        return token

    async def _enrol(self, request: Request) -> Response:
        enrol = EnrolRequest.model_validate_json(await request.body())
        name = self.tokens.pop(enrol.token, None)
        if name is None:
            self.refused += 1
            return problem(403, "bad_token", "The enrolment token is used, expired or wrong")
        node = EnrolledNode(name, enrol, secrets.token_urlsafe(16), secrets.token_urlsafe(16))
        self.nodes[name] = node
        return JSONResponse(
            {
                "node_id": name,
                "credential": node.credential,
                "control_secret": node.secret,
                "report_interval_s": self.report_interval,
            }
        )

    def _node(self, request: Request) -> EnrolledNode:
        node = self.nodes[request.path_params["id"]]
        assert request.headers["authorization"] == f"Bearer {node.credential}"
        return node

    async def _report(self, request: Request) -> Response:
        node = self._node(request)
        report = NodeReport.model_validate_json(await request.body())
        node.reports.append(report)
        node.ended += report.ended
        orders, node.orders = node.orders, []
        return JSONResponse({"orders": orders, "metrics_sha256": self.metrics_sha256})

    async def _subscribe(self, request: Request) -> Response:
        self._node(request)
        wanted = SubscribeRequest.model_validate_json(await request.body())
        origin = self.nodes.get(self.origin_of.get(wanted.channel, ""))
        if origin is None:
            return problem(404, "nothing_on_air", "Nothing is on air")
        session = secrets.token_urlsafe(16)
        try:
            answer = await self.session(origin.id, "relay_out", wanted.channel, wanted.offer, session)
        except (SessionRefused, httpx.HTTPError) as error:
            return problem(503, "origin_refused", str(error))
        return JSONResponse({"session": session, "origin": origin.id, "answer": answer})

    async def call(self, node: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A request to a node's control endpoint."""
        enrolled = self.nodes[node]
        headers = {"authorization": f"Bearer {enrolled.secret}"} | kwargs.pop("headers", {})
        pinned = PinnedContext(enrolled.enrol.control_fingerprint)
        async with httpx.AsyncClient(trust_env=False, timeout=5, verify=pinned) as client:
            return await client.request(method, enrolled.enrol.control_url + path, headers=headers, **kwargs)

    async def end(self, node: str, *sessions: str) -> None:
        ended = await self.call(node, "POST", "/v1/sessions/end", json={"ids": sessions, "reason": "a test"})
        assert ended.status_code == 204

    async def session(
        self, node: str, kind: str, channel: str, offer: str, session: str, party: str | None = None
    ) -> str:
        response = await self.call(
            node,
            "POST",
            "/v1/sessions",
            json={
                "id": session,
                "kind": kind,
                "channel": channel,
                "offer": offer,
                "video_codec": self.codec_of.get(channel) if kind == "whep" and self.tells_codec else None,
                "party": party,
            },
        )
        if response.status_code != 201:
            raise SessionRefused(response)
        if kind == "whip":
            self.origin_of[channel] = node
            self.codec_of[channel] = response.json()["video_codec"]
        answer: str = response.json()["answer"]
        return answer


class SessionRefused(Exception):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code}: {response.text}")
        self.status = response.status_code
        self.problem = response.json()


def problem(status: int, code: str, title: str) -> Response:
    return JSONResponse(
        {"code": code, "title": title, "status": status, "detail": ""},
        status,
        media_type="application/problem+json",
    )


@dataclass
class NodeProcess:
    name: str
    process: asyncio.subprocess.Process
    run_dir: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def worker_pids(self) -> list[int]:
        records = read_alive(self.run_dir / "processes")
        return [record.pid for record in records if record.name.startswith(f"{self.name}/worker")]


class Stand:
    """A manager and nodes; `close` leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manager = Manager()
        self.nodes: list[NodeProcess] = []
        self._pids: set[int] = set()

    async def node(self, role: str, name: str, *arguments: str, enrol: bool = True) -> NodeProcess:
        """With one worker unless told."""
        if "--workers" not in arguments:
            arguments += ("--workers", "1")
        log = self.folder / f"{name}.log"
        token = self.manager.new_token(name)
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "media.node", "--role", role, "--manager", self.manager.url,
                "--run-dir", str(self.folder / "run"), "--log-dir", str(self.folder), "--name", name,
                *arguments,
                cwd=ROOT, env=os.environ | {"SHOWCALLER_ENROL_TOKEN": token},
                stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        node = NodeProcess(name, process, self.folder / "run", log)
        self.nodes.append(node)
        if enrol:
            await until(
                lambda: name in self.manager.nodes or process.returncode is not None, f"{name} enrols"
            )
            assert process.returncode is None, log.read_text()
            self._pids.update(node.worker_pids())
        return node

    async def close(self) -> None:
        for node in self.nodes:
            self._pids.update(node.worker_pids())
            if node.process.returncode is None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            try:
                await asyncio.wait_for(node.process.wait(), 5)
            except TimeoutError:
                node.process.kill()
                await node.process.wait()
        await self.manager.stop()
        left = [pid for pid in self._pids if start_time(pid) is not None]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"worker processes outlived their agents: {left}"


class Pattern(VideoStreamTrack):
    """Moving noise of a size that makes several packets a frame; counts what was asked for."""

    def __init__(self, width: int = 640, height: int = 360) -> None:
        super().__init__()
        random = np.random.default_rng(7)
        self._picture = random.integers(0, 255, (height, width * 2, 3), dtype=np.uint8)
        self._width = width
        self.frames = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        shift = (self.frames * 4) % self._width
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(self._picture[:, shift : shift + self._width]), format="bgr24"
        )
        frame.pts, frame.time_base = pts, time_base
        self.frames += 1
        return frame


def peer_connection() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def offer_only(transceiver: Any, *names: str) -> None:
    """Leave every video codec but these, and RTX, out of an offer."""
    wanted = {f"video/{name}".lower() for name in (*names, "rtx")}
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in wanted])


class Publisher:
    """An aiortc WHIP publisher of the pattern and a quiet tone."""

    def __init__(self, *codecs: str) -> None:
        """`codecs`: what it offers; H.264 by default."""
        self.connection = peer_connection()
        self.codecs = codecs or ("H264",)
        self.pattern = Pattern()
        self.session = secrets.token_urlsafe(16)
        self.keyframes = 0

    async def publish(self, manager: Manager, node: str, channel: str, change: Change = str) -> None:
        """`change` gets the answer before the peer does."""
        video = self.connection.addTransceiver(self.pattern, direction="sendonly")
        self.connection.addTransceiver(AudioStreamTrack(), direction="sendonly")
        offer_only(video, *self.codecs)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        answer = await manager.session(
            node, "whip", channel, self.connection.localDescription.sdp, self.session
        )
        await self.connection.setRemoteDescription(RTCSessionDescription(change(answer), "answer"))

    async def close(self) -> None:
        await self.connection.close()


class Watcher:
    """An aiortc WHEP viewer: decodes, counts frames and sound, keeps the last picture's size."""

    def __init__(self, *codecs: str) -> None:
        """`codecs`: what it offers; H.264 by default."""
        self.connection = peer_connection()
        self.codecs = codecs or ("H264",)
        self.session = secrets.token_urlsafe(16)
        self.frames = 0
        self.samples = 0
        self.size: tuple[int, int] | None = None
        self.last_frame_at = 0.0
        self.answer = ""
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", self._track)

    def _track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._consume(track)))

    async def _consume(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except Exception:
                return
            if track.kind == "video":
                self.frames += 1
                self.size = (frame.width, frame.height)
                self.last_frame_at = time.monotonic()
            else:
                self.samples += frame.samples

    async def watch(self, manager: Manager, node: str, channel: str, change: Change = str) -> None:
        """`change` gets the answer before the peer does."""
        await self.offer_only(manager, node, channel)
        await self.connection.setRemoteDescription(RTCSessionDescription(change(self.answer), "answer"))

    async def offer_only(self, manager: Manager, node: str, channel: str, party: str | None = None) -> None:
        """Ask for a session and do nothing about the answer."""
        offer_only(self.connection.addTransceiver("video", direction="recvonly"), *self.codecs)
        self.connection.addTransceiver("audio", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        self.answer = await manager.session(
            node, "whep", channel, self.connection.localDescription.sdp, self.session, party
        )

    async def sees(self, frames: int, within: float = 15.0) -> None:
        wanted = self.frames + frames
        await until(lambda: self.frames >= wanted, f"{frames} more frames after {self.frames}", within)

    async def close(self) -> None:
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    made = Stand(folder)
    await made.manager.start()
    try:
        yield made
    finally:
        await made.close()


def log_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a node's log."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
