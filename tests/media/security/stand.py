"""What the security tests stand on: a real worker process, and cheap real peers of it over loopback.

A peer is the session core on a socket of its own: full ICE, DTLS and SRTP, and every packet is decrypted and
kept. An attacker is a plain socket; as 127.0.0.0/8 is all ours, it can have any address in there, and what a
victim's own address sends is sent by the victim's own socket.
"""

import asyncio
import contextlib
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psutil

from media.core import rtcp, sdp, stun
from media.core.certificate import Certificate
from media.core.session import (
    Address,
    Closed,
    DtlsReady,
    Event,
    RtcpPacket,
    RtpPacket,
    Session,
    SessionConfig,
    Transmit,
)
from media.node.workers import Worker, WorkerPlan, launch
from tests.media.fanout.pieces import Camera
from tests.support.wait import wait_for

CHANNEL = "main"
FRAME_S = 1 / 30
FULL = 1000  # bytes; shorter packets of the publisher are parameter sets


@cache
def own_certificate() -> Certificate:
    """One for all peers of a test run: they may be asked for by the hundred."""
    return Certificate.generate(datetime.now(UTC))


async def until(condition: Callable[[], Any], what: str, within: float = 15.0) -> Any:
    return await wait_for(condition, within, what, interval=0.01)


class Refused(Exception):
    """The worker said no."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(f"{problem['status']} {problem['code']}: {problem['detail']}")
        self.status: int = problem["status"]
        self.code: str = problem["code"]


PLAN = WorkerPlan(0, "the-worker", "origin", ("127.0.0.1",), None)


class RealWorker:
    """A worker process, spoken with as its agent speaks."""

    def __init__(self, plan: WorkerPlan = PLAN) -> None:
        self.events: list[dict[str, Any]] = []
        self._worker = Worker(launch(plan), lambda _, event: self.events.append(event), lambda _: None)

    async def ready(self) -> None:
        await self._worker.ready()
        self.process = psutil.Process(self._worker.pid)
        self.address: Address = ("127.0.0.1", self._worker.port)
        self.fingerprint = self._worker.fingerprint

    async def session(self, kind: str, offer: str, name: str) -> str:
        """The answer. Raises Refused."""
        message = {"op": "session", "id": name, "kind": kind, "channel": CHANNEL}
        message |= {"offer": offer, "video_codec": None}
        said = await self._worker.ask(message)
        if said["ev"] == "problem":
            raise Refused(said["problem"])
        answer: str = said["answer"]
        return answer

    async def report(self) -> dict[str, Any]:
        return await self._worker.ask({"op": "report", "sessions": True})

    async def ask(self, op: str, **message: Any) -> dict[str, Any]:
        """Any other request, and what the worker says to it."""
        return await self._worker.ask({"op": op, **message})

    async def row(self, name: str) -> dict[str, Any]:
        """What the worker says of a session."""
        rows = (await self.report())["sessions"]
        found: dict[str, Any] = next(row for row in rows if row["id"] == name)
        return found

    def ended(self, name: str) -> str | None:
        """Why a session has ended; None when it has not."""
        reasons = [event["reason"] for event in self.events if event["ev"] == "ended" and event["id"] == name]
        return reasons[0] if reasons else None

    @property
    def rss(self) -> int:
        size: int = self.process.memory_info().rss
        return size

    async def end(self) -> None:
        await self._worker.end()


class Peer:
    """A session core on a socket: what it got and when, decrypted. `deaf` drops what comes, unread."""

    def __init__(self, certificate: Certificate | None = None, port: int = 0) -> None:
        self.name = secrets.token_urlsafe(12)
        self.certificate = certificate or own_certificate()
        self.socket = udp(port=port)
        self.address: Address = self.socket.getsockname()
        self.local = sdp.LocalDescription(
            sdp.new_credentials(os.urandom), self.certificate.fingerprint, [self.address], 7
        )
        self.session: Session | None = None
        self.events: list[Event] = []
        self.rtp: list[bytes] = []
        self.media_datagrams = 0
        self.deaf = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    # what a test asks of it

    @property
    def offer(self) -> str:
        return sdp.make_relay_offer(self.local)

    @property
    def ready(self) -> bool:
        return any(isinstance(event, DtlsReady) for event in self.events)

    @property
    def closed_because(self) -> str | None:
        return next((event.reason for event in self.events if isinstance(event, Closed)), None)

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def seen_marks(self) -> list[int]:
        """The numbers of the publisher's full packets that came, in order of arrival."""
        return [int.from_bytes(packet[-4:], "big") for packet in self.rtp if len(packet) >= FULL]

    # its life

    async def ask(self, worker: RealWorker, kind: str = "whep", offer: str | None = None) -> str:
        return await worker.session(kind, offer or self.offer, self.name)

    def begin(self, answer: str) -> None:
        """Take the answer and begin ICE. What it agrees on for media is what `make_relay_offer` offers."""
        agreed = sdp.accept_answer(sdp.parse_answer(answer.replace("a=recvonly", "a=sendonly")))
        config = SessionConfig.offered(agreed, self.local, self.certificate, os.urandom)
        self.session = Session(config, self._loop.time())
        self._loop.add_reader(self.socket.fileno(), self._read)
        self._pump()

    async def join(self, worker: RealWorker) -> None:
        self.begin(await self.ask(worker))
        await until(lambda: self.ready, "the peer is connected")

    def _read(self) -> None:
        while True:
            try:
                data, source = self.socket.recvfrom(2048)
            except OSError:
                break
            if self.deaf or self.session is None:
                continue
            if 128 <= data[0] <= 191:
                self.media_datagrams += 1
            self.session.receive(data, source, self._loop.time())
        self._pump()

    def _timeout(self) -> None:
        if self.session is not None and not self.deaf:
            self.session.handle_timeout(self._loop.time())
            self._pump()

    def _pump(self) -> None:
        session = self.session
        assert session is not None
        while (item := session.poll()) is not None:
            if isinstance(item, Transmit):
                self.send(item.data, item.to)
            elif isinstance(item, RtpPacket):
                self.rtp.append(item.data)
            else:
                self.events.append(item)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moment = session.next_timeout()
        if moment is not None:
            self._timer = self._loop.call_at(moment, self._timeout)

    def send(self, data: bytes, to: Address) -> None:
        """From the peer's own address. A full buffer is waited for no longer than the kernel does."""
        if not self.deaf:
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                self.socket.sendto(data, to)

    def send_rtcp(self, packets: list[rtcp.RtcpPacket]) -> None:
        assert self.session is not None
        self.session.send_rtcp(packets, self._loop.time())
        self._pump()

    def move(self) -> None:
        """Go on from another port, as behind a router that forgot us."""
        self._loop.remove_reader(self.socket.fileno())
        self.socket.close()
        self.socket = udp()
        self.address = self.socket.getsockname()
        self._loop.add_reader(self.socket.fileno(), self._read)

    @property
    def nomination(self) -> bytes:
        """A binding request with USE-CANDIDATE, as only this peer and the worker can make it."""
        assert self.session is not None
        theirs = self.session.config.remote.credentials
        return nomination(f"{theirs.ufrag}:{self.local.credentials.ufrag}", theirs.password.encode())

    def leave(self) -> None:
        """Say good-bye, and close."""
        if self.session is not None:
            self.session.close(self._loop.time())
            self._pump()
        self.close()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self.socket.fileno())
        self.socket.close()


class Publisher(Peer):
    """Sends frames of a picture, thirty a second; each full packet ends in a number of its own.

    `protected` has what it sent, as it was on the wire.
    """

    def __init__(self) -> None:
        super().__init__()
        self.camera = Camera(payload_type=sdp.H264_PT)
        self.protected: list[bytes] = []
        self.marks = 0  # given so far: the last one is marks - 1
        self.key_frames_asked = 0
        self._frames = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def offer(self) -> str:
        return super().offer.replace("a=recvonly", "a=sendonly")

    async def publish(self, worker: RealWorker) -> None:
        self.begin(await self.ask(worker, "whip"))
        await until(lambda: self.ready, "the publisher is connected")
        self._task = asyncio.create_task(self._film(worker.address))

    async def _film(self, to: Address) -> None:
        next_at = self._loop.time()
        while True:
            for packet in self.frame():
                self.send(packet, to)
            next_at += FRAME_S
            await asyncio.sleep(max(0.0, next_at - self._loop.time()))

    def frame(self) -> list[bytes]:
        """The next frame's packets, protected."""
        assert self.session is not None
        assert self.session.outbound is not None
        made = []
        for packet in self.camera.frame(key=self._frames % 300 == 0 or self._wanted()):
            if len(packet) >= FULL:
                packet = packet[:-4] + self.marks.to_bytes(4, "big")
                self.marks += 1
            made.append(self.session.outbound.protect(packet))
        self.protected += made
        self._frames += 1
        return made

    def _wanted(self) -> bool:
        """Whether a key frame was asked for since the last frame."""
        asked = self.seen(RtcpPacket)
        wanted = any(isinstance(packet, rtcp.Pli | rtcp.Fir) for event in asked for packet in event.packets)
        self.key_frames_asked += wanted
        self.events = [event for event in self.events if event not in asked]
        return wanted

    def pause(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        self.pause()
        super().close()


class Show:
    """A worker with a publisher on air; peers made here are closed with it."""

    def __init__(self, worker: RealWorker, publisher: Publisher) -> None:
        self.worker = worker
        self.publisher = publisher
        self.peers: list[Peer] = [publisher]

    def peer(self, certificate: Certificate | None = None, port: int = 0) -> Peer:
        peer = Peer(certificate, port)
        self.peers.append(peer)
        return peer

    async def nothing_lost(self, viewer: Peer) -> int:
        """Pause the publisher; its viewer got each packet once, from the first on. How many they were."""
        self.publisher.pause()
        last = self.publisher.marks - 1
        await until(lambda: viewer.seen_marks[-1] == last, "the last packet has come")
        marks = viewer.seen_marks
        assert marks == list(range(marks[0], last + 1)), "none is lost, none comes twice"
        return len(marks)

    async def viewer(self) -> Peer:
        """One that sees the picture."""
        peer = self.peer()
        await peer.join(self.worker)
        await until(lambda: len(peer.rtp) > 30, "the viewer sees the picture")
        return peer


@contextlib.asynccontextmanager
async def running_show(plan: WorkerPlan = PLAN) -> AsyncIterator[Show]:
    worker = RealWorker(plan)
    show: Show | None = None
    try:
        await worker.ready()
        show = Show(worker, Publisher())
        await show.publisher.publish(worker)
        yield show
    finally:
        for peer in show.peers if show is not None else ():
            peer.close()
        await worker.end()


def udp(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket with room for what a test sends at once."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock


def heard_by(sock: socket.socket) -> list[bytes]:
    """What has been sent to an attacker's socket so far."""
    got: list[bytes] = []
    while True:
        try:
            got.append(sock.recv(65536))
        except BlockingIOError:
            return got
        except ConnectionRefusedError:
            continue


def nomination(username: str, password: bytes | None, *, fingerprint: bool = True) -> bytes:
    """A binding request with USE-CANDIDATE."""
    attributes = (
        (stun.Attribute.USERNAME, username.encode()),
        (stun.Attribute.ICE_CONTROLLING, os.urandom(8)),
        (stun.Attribute.PRIORITY, b"\x7f\xff\xff\xff"),
        (stun.Attribute.USE_CANDIDATE, b""),
    )
    request = stun.Message(stun.Class.REQUEST, os.urandom(12), attributes)
    return request.to_bytes(password, fingerprint=fingerprint)


def credentials_of(answer: str) -> sdp.IceCredentials:
    """The worker's, of this session."""
    ufrag, password = (re.search(rf"a=ice-{name}:(\S+)", answer) for name in ("ufrag", "pwd"))
    assert ufrag is not None
    assert password is not None
    return sdp.IceCredentials(ufrag[1], password[1])


async def spray(
    send: Callable[[int], object], count: int, a_second: float, *, stop: Callable[[], bool] = lambda: False
) -> int:
    """Call `send(n)` so many times at so many a second, in steps of 2 ms; how often it was called."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = 0
    while done < count and not stop():
        due = min(count, int((loop.time() - began) * a_second) + 1)
        while done < due:
            send(done)
            done += 1
        await asyncio.sleep(0.002)
    return done
