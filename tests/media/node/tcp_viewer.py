"""A viewer over TCP: the swarm's viewer (a real WebRTC peer) on one connection of RFC 4571 frames."""

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from media.core.certificate import Certificate
from media.core.description import Candidate
from media.core.framing import Deframer, frame
from media.core.sdp import LocalDescription, accept_answer, make_relay_offer, new_credentials, parse_answer
from media.core.session import Session, SessionConfig
from media.drive.timers import Timers
from media.swarm.viewer import Viewer
from tests.media.node.stand import Manager

_CERTIFICATE = Certificate.generate(datetime.now(UTC))


def tcp_candidates(answer: str) -> list[tuple[str, int]]:
    """Where an answer says that TCP connections are taken, best first, each once."""
    found = {}
    for line in answer.splitlines():
        words = line.split()
        if line.startswith("a=candidate:") and words[2] == "tcp" and words[-1] == "passive":
            found[words[4], int(words[5])] = int(words[3])
    return sorted(found, key=lambda place: -found[place])


class TcpViewer:
    """Connects to one of an answer's TCP candidates, and watches."""

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(16)
        self.answer = ""
        self.viewer: Viewer | None = None
        self.received = 0  # bytes
        self.closed = False  # by the other side
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self._loop)
        self._socket: socket.socket | None = None
        self._deframer = Deframer()
        self._place = ("", 0)

    async def watch(self, manager: Manager, node: str, channel: str, *, port: int | None = None) -> None:
        """Make a session and connect, to the candidate with this port where one is given."""
        local = LocalDescription(new_credentials(os.urandom), _CERTIFICATE.fingerprint, [("127.0.0.1", 9)])
        self.answer = await manager.session(node, "whep", channel, make_relay_offer(local), self.id)
        self._place = next(place for place in tcp_candidates(self.answer) if port in (None, place[1]))
        agreed = accept_answer(parse_answer(self.answer))
        host, number = self._place
        there = Candidate("1", 1, 1, host, number, "host")
        agreed = replace(agreed, remote=replace(agreed.remote, candidates=(there,)))
        await self.connect()
        now = self._loop.time()
        config = SessionConfig.offered(agreed, local, _CERTIFICATE, os.urandom)
        self.viewer = Viewer(Session(config, now), agreed, secrets.randbits(32), now)
        self._timers.set("report", now + 1, self._report)
        self._flush(now)

    async def connect(self) -> None:
        """A new connection; what the session knows stays."""
        family = socket.AF_INET6 if ":" in self._place[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        await self._loop.sock_connect(sock, self._place)
        self._socket, self._deframer, self.closed = sock, Deframer(), False
        self._loop.add_reader(sock.fileno(), self._read)

    @contextmanager
    def not_reading(self) -> Iterator[None]:
        """It takes nothing out of its socket for a while."""
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        try:
            yield
        finally:
            self._loop.add_reader(self._socket.fileno(), self._read)

    def drop_connection(self) -> None:
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            self._loop.remove_reader(self._socket.fileno())
            return
        self.received += len(data)
        now = self._loop.time()
        assert self.viewer is not None
        for packet in self._deframer.feed(data):
            self.viewer.receive(memoryview(packet), len(packet), self._place, now)
        assert not self._deframer.broken
        self._flush(now)

    def _flush(self, now: float) -> None:
        viewer, sock = self.viewer, self._socket
        if viewer is None:
            return
        outgoing = b"".join(frame(data) for data, _ in viewer.outgoing)
        viewer.outgoing.clear()
        if outgoing and sock is not None and not self.closed:
            try:
                sent = sock.send(outgoing)
                assert sent == len(outgoing), "a node that does not read"
            except ConnectionError:
                self.closed = True
        self._timers.set("session", viewer.next_timeout(), self._timeout)

    def _timeout(self, now: float) -> None:
        assert self.viewer is not None
        self.viewer.handle_timeout(now)
        self._flush(now)

    def _report(self, now: float) -> None:
        assert self.viewer is not None
        self._timers.set("report", now + 1, self._report)
        self.viewer.report(now)
        self._flush(now)

    @property
    def frames(self) -> int:
        return 0 if self.viewer is None else self.viewer.frames.seen

    def close(self) -> None:
        if self.viewer is not None and self._socket is not None and not self.closed:
            self.viewer.close(self._loop.time())
            self._flush(self._loop.time())
        self._timers.close()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
