"""What an edge's fan-out costs a packet and viewer, against the plain loop anyone would write first.

Both send the same frames of 1,200-byte packets, protected by AES-128-GCM, over loopback to a process that
reads them, in turns within one run. Ours is the whole way from a decrypted packet of the source (ring,
batches, loss accounting) to the datagrams; the plain loop is `pylibsrtp.Session.protect` and `socket.sendto`
alone.
CPU is this process's, user and system, and so includes what the kernel does for a send.
"""

import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection
from typing import Protocol

import pylibsrtp

from bench.figures import Figure, percentile
from media.core.codecs import H264
from media.core.rtp import build
from media.core.sdp import Agreed, AgreedTrack, IceCredentials, RemoteTransport
from media.core.srtp import AEAD_AES_128_GCM, OutboundSrtp, SrtpKeys
from media.fanout.destinations import Destination
from media.fanout.sender import FanoutSender, kernel_has_gso
from media.fanout.source import Source
from media.fanout.stream import LiveStream

TITLE = "edge fan-out, CPU a packet and viewer, against a plain pylibsrtp + sendto loop"

VIEWERS = 200
PACKETS_A_FRAME = 16
ROUNDS, FRAMES_A_ROUND = 8, 12
SIZE = 1200
VIDEO = AgreedTrack("video", "0", 96, 97, 90_000, 1, "", (), (), 1, None, H264)
REMOTE = RemoteTransport(IceCredentials("u", "p"), (), "actpass", False, ())


def _reader(pipe: Connection) -> None:
    """The viewers' side: reads and forgets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        pipe.send(sock.getsockname())
        buffer = bytearray(2048)
        sock.settimeout(0.2)
        while not pipe.poll():
            try:
                for _ in range(1000):
                    sock.recv_into(buffer)
            except TimeoutError:
                continue


class _Frames:
    """Frames of a source, ever on: the first is a key frame."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> list[bytes]:
        first = self._count == 0
        packets = [
            build(
                payload_type=96,
                sequence=self._count * PACKETS_A_FRAME + n,
                timestamp=self._count * 3000,
                ssrc=1,
                payload=(b"\x65" if first else b"\x41") + bytes(SIZE - 13),
                marker=n == PACKETS_A_FRAME - 1,
            )
            for n in range(PACKETS_A_FRAME)
        ]
        self._count += 1
        return packets


def _keys() -> SrtpKeys:
    key, salt = os.urandom(16), os.urandom(12)
    return SrtpKeys(AEAD_AES_128_GCM, key, salt, key, salt)


class _Path(Protocol):
    def send(self, frame: list[bytes]) -> None: ...


class _Ours:
    def __init__(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self._now = 0.0
        self._stream = LiveStream("bench", FanoutSender(sock, gso=kernel_has_gso(sock)), os.urandom)
        self._source = Source(
            ssrc=1, video=(VIDEO, self._stream.video), audio=None, send=lambda packets, now: None, remb=False
        )
        self._stream.set_source(self._source)
        agreed = Agreed("", REMOTE, "server", VIDEO, None)
        for n in range(VIEWERS):
            destination = Destination(OutboundSrtp(_keys()), address)
            description = self._stream.describe()
            self._stream.join(str(n), agreed, description, destination, may_repeat=False, now=0.0)

    def send(self, frame: list[bytes]) -> None:
        self._now += 1 / 30
        for packet in frame:
            self._source.receive_rtp(packet, self._now)
        self._stream.handle_timeout(self._now)


class _Plain:
    def __init__(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self._socket, self._address = sock, address
        self._sessions = []
        for _ in range(VIEWERS):
            policy = pylibsrtp.Policy(
                key=os.urandom(28),
                ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
                srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
            )
            self._sessions.append(pylibsrtp.Session(policy))

    def send(self, frame: list[bytes]) -> None:
        sendto, address = self._socket.sendto, self._address
        for session in self._sessions:
            for packet in frame:
                try:
                    sendto(session.protect(packet), address)
                except BlockingIOError:
                    continue


def run() -> list[Figure]:
    here, there = multiprocessing.Pipe()
    reader = multiprocessing.get_context("spawn").Process(target=_reader, args=(there,), daemon=True)
    reader.start()
    try:
        address = here.recv()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            return _measure(sock, address)
    finally:
        here.send("done")
        reader.join(5)


def _measure(sock: socket.socket, address: tuple[str, int]) -> list[Figure]:
    paths: dict[str, tuple[_Path, _Frames]] = {
        "ours": (_Ours(sock, address), _Frames()),
        "plain": (_Plain(sock, address), _Frames()),
    }
    ratios: list[float] = []
    frame_ms: list[float] = []
    for round_number in range(ROUNDS + 1):
        cost: dict[str, float] = {}
        for name, (path, frames) in paths.items():
            made = [frames.next() for _ in range(FRAMES_A_ROUND)]
            began = time.process_time()
            for frame in made:
                wall = time.perf_counter()
                path.send(frame)
                if name == "ours" and round_number:
                    frame_ms.append((time.perf_counter() - wall) * 1000)
            cost[name] = time.process_time() - began
        if round_number:  # the first one warms up
            ratios.append(cost["plain"] / cost["ours"])
    viewers = f"{VIEWERS} viewers"
    return [
        Figure(
            "plain loop / ours, CPU a packet and viewer", percentile(ratios, 50), "x", "ratio", at_least=2.5
        ),
        Figure(
            f"a {PACKETS_A_FRAME}-packet frame to {viewers}, p50",
            percentile(frame_ms, 50),
            "ms",
            "percentile",
        ),
        Figure(
            f"a {PACKETS_A_FRAME}-packet frame to {viewers}, p99",
            percentile(frame_ms, 99),
            "ms",
            "percentile",
        ),
    ]
