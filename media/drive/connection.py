"""One TCP connection of a peer, as it is written to: what cannot be sent at once waits, and not for long.

Up to QUEUE_BYTES and QUEUE_SECONDS wait; then there is no room for media, whole batches of it are dropped and
counted, and who is behind resumes with a key frame (fanout/track.py). So a slow viewer costs a bounded amount
of memory, and the others nothing. Control (RTCP, DTLS, STUN) has a little room of its own.
"""

import asyncio
import itertools
import socket
from collections import deque
from typing import Protocol

from media.core.address import TcpAddress
from media.core.framing import Deframer, frame
from media.drive.handover import Handover

QUEUE_BYTES = 1 << 20  # several key frames
CONTROL_BYTES = 1 << 16  # and so much more for control
QUEUE_SECONDS = 1.0  # what has waited longer is not live
LOW_WATER = 1 << 16  # from here down there is room to begin something
_WRITES_A_CALL = 16


class Endpoint(Protocol):
    """What a connection needs of the endpoint that made it."""

    loop: asyncio.AbstractEventLoop
    bytes_sent: int

    def now(self) -> float: ...

    def sent_all(self, connection: "TcpConnection") -> None:
        """Nothing is queued of a connection that ends."""

    def lost(self, connection: "TcpConnection") -> None:
        """The peer has closed it, or is not to be spoken with any more."""


class TcpConnection:
    """One accepted connection; a Stream of fanout/streams.py. Made and ended by its endpoint alone."""

    __slots__ = (
        "_begun",
        "_endpoint",
        "_queue",
        "_writing",
        "address",
        "deframer",
        "ending",
        "handover",
        "proven",
        "queued",
        "said",
        "socket",
    )

    def __init__(
        self, endpoint: Endpoint, sock: socket.socket, address: TcpAddress, handover: Handover | None
    ) -> None:
        self.socket = sock
        self.address = address
        self.deframer = Deframer()
        self.handover = handover  # of a shared port
        self.proven = False
        self.ending = False  # nothing more is taken; it is closed when what is queued has left
        self.queued = 0  # bytes
        self.said = 0  # packets, before it had proven anything
        self._endpoint = endpoint
        self._queue: deque[tuple[float, bool, memoryview]] = deque()  # since when, is it control, the bytes
        self._begun = False  # a part of the first has left: the rest must follow
        self._writing = False  # the loop tells us when there is room

    @property
    def closed(self) -> bool:
        return self.socket.fileno() < 0

    @property
    def congested(self) -> bool:
        return self.ending or self.queued > LOW_WATER

    def write(self, frames: bytes | memoryview, now: float) -> bool:
        queue = self._queue
        if queue and (self.queued + len(frames) > QUEUE_BYTES or now - queue[0][0] > QUEUE_SECONDS):
            return False
        return self._write(frames, now, control=False)

    def write_control(self, packet: bytes) -> bool:
        if self.queued + len(packet) > QUEUE_BYTES + CONTROL_BYTES:
            return False
        return self._write(frame(packet), self._endpoint.now(), control=True)

    def discard(self) -> None:
        kept = [entry for place, entry in enumerate(self._queue) if entry[1] or (place == 0 and self._begun)]
        self._queue = deque(kept)
        self.queued = sum(len(entry[2]) for entry in kept)

    def _write(self, data: bytes | memoryview, now: float, *, control: bool) -> bool:
        if self.ending:
            return False
        sent = 0
        if not self._queue:
            try:
                sent = self.socket.send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self.broken()
                return False
            self._endpoint.bytes_sent += sent
            self._begun = sent > 0
        if sent < len(data):
            rest = memoryview(bytes(data[sent:]))  # a copy: the send path uses its buffer again at once
            self._queue.append((now, control, rest))
            self.queued += len(rest)
            if not self._writing:
                self._writing = True
                self._endpoint.loop.add_writer(self.socket.fileno(), self._room)
        return True

    def _room(self) -> None:
        """The socket takes more."""
        queue = self._queue
        while queue:
            try:
                sent = self.socket.sendmsg([entry[2] for entry in itertools.islice(queue, _WRITES_A_CALL)])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.broken()
                return
            self.queued -= sent
            self._endpoint.bytes_sent += sent
            while sent:
                since, control, data = queue[0]
                self._begun = sent < len(data)
                if self._begun:
                    queue[0] = (since, control, data[sent:])
                    break
                queue.popleft()
                sent -= len(data)
        self._writing = False
        self._endpoint.loop.remove_writer(self.socket.fileno())
        if self.ending:
            self._endpoint.sent_all(self)

    @property
    def waits(self) -> bool:
        """Whether something is queued."""
        return bool(self._queue)

    def broken(self) -> None:
        """The kernel refuses it: gone in the next turn, for we may be in the middle of a fan-out."""
        self.ending = True
        self._queue.clear()
        self.queued = 0
        self._endpoint.loop.call_soon(self._endpoint.lost, self)


class Gone:
    """The Stream of a connection that is no more."""

    congested = True

    def write(self, frames: bytes | memoryview, now: float) -> bool:
        return False

    def write_control(self, packet: bytes) -> bool:
        return False

    def discard(self) -> None:
        """There is nothing."""
