"""Real nodes on virtual time, over an emulated network: loss, bursts, reordering, duplicates, delay, MTU.

A node is the very engine of a worker, with its demux, its timers, its relay and its fan-out. What is emulated
is below: its UDP socket, the event loop's clock, and the stream manager's part in a subscription. Publisher
and viewers are session cores with ICE, DTLS and SRTP of their own.

Nothing waits: time jumps to the next arrival or timer. All chance comes from a seed, except OpenSSL's own
random numbers, which only fill opaque bytes.
"""

import errno
import heapq
import itertools
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from controlplane.wire.nodes import Role, SessionKind
from media.core.address import Address
from media.core.sdp import H264_PT, H264_RTX_PT
from media.drive.udp import OnRun, UdpEndpoint
from media.fanout.sender import FanoutSender
from media.fanout.sendmany import SocketAddress
from media.node import engine as engines
from media.node.engine import Engine
from media.node.errors import Refused
from tests.media.fanout.pieces import RecordingMany, RecordingSocket

PUBLISHER, ORIGIN, EDGE, VIEWER = "10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"  # hosts
SECOND_PUBLISHER, SECOND_ORIGIN = "10.0.0.2", "10.0.1.2"
IP_AND_UDP = 28  # bytes of headers before a datagram
MANAGER_S = 0.005  # that a question to the stream manager takes


def never() -> bool:
    return False


@dataclass
class Path:
    """What happens to datagrams from one host to another, and what has passed."""

    delay: float = 0.020
    jitter: float = 0.0  # up to this much more: reorders
    duplication: float = 0.0
    lost: Callable[[], bool] = never  # asked once a datagram, in the order of sending
    no_media: bool = False  # nothing but STUN and DTLS passes
    mtu: int = 1500
    offered: int = 0  # datagrams
    dropped: int = 0
    media: dict[tuple[int, int, int], int] = field(default_factory=dict)  # each RTP packet once -> its bytes
    rtp_bytes: int = 0  # all of it: media, again, and RTX
    rtx: int = 0  # packets

    @property
    def overhead(self) -> float:
        """RTP bytes that were sent, over what the media alone has."""
        return self.rtp_bytes / sum(self.media.values())

    def count_from_here(self) -> None:
        self.offered = self.dropped = self.rtp_bytes = self.rtx = 0
        self.media.clear()

    def note(self, data: bytes) -> None:
        self.offered += 1
        kind = data[1] & 0x7F
        if not 128 <= data[0] <= 191 or kind not in (H264_PT, H264_RTX_PT):
            return
        self.rtp_bytes += len(data)
        if kind == H264_RTX_PT:
            self.rtx += 1
            return
        sequence, timestamp = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        self.media[sequence, timestamp, int.from_bytes(data[8:12], "big")] = len(data)


class Call:
    """As asyncio's TimerHandle, as far as it is used."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """The clock, the network between hosts, and the part of an event loop that an engine uses."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._order = itertools.count()
        self._calls: list[tuple[float, int, Call]] = []
        self._hosts: dict[Address, Callable[[bytes, Address, float], None]] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._ports = itertools.count(20_000)

    # as an event loop

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Callable[..., None], *arguments: Any) -> Call:
        call = Call(lambda: act(*arguments))
        heapq.heappush(self._calls, (max(when, self.now), next(self._order), call))
        return call

    def call_soon(self, act: Callable[..., None], *arguments: Any) -> Call:
        return self.call_at(self.now, act, *arguments)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]

    # as a network

    def path(self, source: str, to: str) -> Path:
        """From this host to that one; clean until it is changed."""
        path = self._paths.get((source, to))
        if path is None:
            path = self._paths[source, to] = Path()
        return path

    def both_ways(self, one: str, other: str) -> tuple[Path, Path]:
        return self.path(one, other), self.path(other, one)

    def settle(self, host: str, port: int | None, receive: Callable[[bytes, Address, float], None]) -> int:
        """Something listens at this host from now on; returns its port."""
        port = next(self._ports) if port is None else port
        self._hosts[host, port] = receive
        return port

    def leave(self, host: str, port: int) -> None:
        self._hosts.pop((host, port), None)

    def send(self, data: bytes, source: Address, to: Address) -> None:
        if to not in self._hosts:
            return
        path = self.path(source[0], to[0])
        path.note(data)
        if len(data) + IP_AND_UDP > path.mtu or (path.no_media and data[0] >= 128) or path.lost():
            path.dropped += 1
            return
        for _ in range(2 if self.random.random() < path.duplication else 1):
            self.call_at(
                self.now + path.delay + self.random.random() * path.jitter, self._arrive, data, source, to
            )

    def _arrive(self, data: bytes, source: Address, to: Address) -> None:
        receive = self._hosts.get((to[0], to[1]))
        if receive is not None:
            receive(data, source, self.now)

    # its course

    def run_until(self, condition: Callable[[], object], limit: float = 30.0) -> bool:
        """Whether the condition came true within `limit` virtual seconds."""
        end = self.now + limit
        while not condition():
            if not self._calls or self._calls[0][0] > end:
                self.now = end
                return bool(condition())
            self._step()
        return True

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self._calls and self._calls[0][0] <= end:
            self._step()
        self.now = end

    def _step(self) -> None:
        at, _, call = heapq.heappop(self._calls)
        self.now = max(self.now, at)
        if not call.cancelled:
            call.act()


def at_random(world: World, fraction: float) -> Callable[[], bool]:
    """This share of the datagrams is lost, each by itself."""
    return lambda: world.random.random() < fraction


def in_bursts(world: World, length: int, fraction: float) -> Callable[[], bool]:
    """Runs of `length` datagrams are lost, this share of all in the long run."""
    left = [0]

    def lost() -> bool:
        if left[0]:
            left[0] -= 1
            return True
        if world.random.random() < fraction / (length * (1 - fraction)):
            left[0] = length - 1
            return True
        return False

    return lost


class WorldSocket(RecordingSocket):
    """A UDP socket of a host: what an engine and its fan-out use of one."""

    family = socket.AF_INET

    def __init__(self, world: World, host: str) -> None:
        super().__init__()
        self.world = world
        self.host = host
        self.port = 0

    def sendto(self, data: Any, address: SocketAddress, /) -> int:
        self.world.send(bytes(data), (self.host, self.port), (address[0], address[1]))
        return len(data)

    def take_message(self, data: bytes, address: SocketAddress, segment: int) -> None:
        size = segment or len(data)
        if segment and size + IP_AND_UDP > self.world.path(self.host, address[0]).mtu:
            raise OSError(errno.EMSGSIZE, "segments do not fit the way's MTU")
        for at in range(0, len(data), size):
            self.world.send(data[at : at + size], (self.host, self.port), address)


def runs_of(arrived: list[tuple[bytes, Address]]) -> list[tuple[list[bytes], Address]]:
    """Neighbours of one sender and one size, of which only the last may be shorter."""
    runs: list[tuple[list[bytes], Address]] = []
    for data, source in arrived:
        if runs:
            run, theirs = runs[-1]
            if (
                theirs == source
                and len(run[-1]) == len(run[0]) >= len(data)
                and (len(run) + 1) * len(run[0]) < 65_000
            ):
                run.append(data)
                continue
        runs.append(([data], source))
    return runs


def _nobody_reads(data: bytes, source: Address, now: float) -> None:
    """For an endpoint that is closed."""


def _nothing_begins() -> None:
    pass


def _nobody_minds(now: float) -> None:
    """For an endpoint that is closed."""


class WorldEndpoint:
    """In the place of UdpEndpoint: what arrives in one moment is one read, as with UDP_GRO."""

    def __init__(
        self,
        loop: World,
        sock: WorldSocket,
        on_datagram: Callable[[bytes, Address, float], None],
        on_drained: Callable[[float], None],
        *,
        on_begin: Callable[[], None] = _nothing_begins,
        on_run: OnRun | None = None,
    ) -> None:
        self.sender = FanoutSender(sock, gso=True, many=RecordingMany)
        self.closed = False
        self.bytes_received = self.datagrams_received = self.datagrams_dropped = 0
        self._world, self._socket = loop, sock
        self._on_datagram, self._on_drained, self._on_run = on_datagram, on_drained, on_run
        self._on_begin = on_begin
        self._arrived: list[tuple[bytes, Address]] = []
        self.port = sock.port = loop.settle(sock.host, None, self._receive)

    def _receive(self, data: bytes, source: Address, now: float) -> None:
        self.bytes_received += len(data)
        self.datagrams_received += 1
        self._arrived.append((data, source))
        if len(self._arrived) == 1:
            self._world.call_soon(self._read)

    def _read(self) -> None:
        now = self._world.now
        arrived, self._arrived = self._arrived, []
        on_drained = self._on_drained
        self._on_begin()
        for run, source in runs_of(arrived) if self._on_run is not None else (([d], s) for d, s in arrived):
            taken = len(run) > 1 and self._on_run is not None
            if taken and self._on_run is not None:
                taken = self._on_run(memoryview(bytearray(b"".join(run))), len(run[0]), source, now)
            for data in () if taken else run:
                self._on_datagram(data, source, now)
        on_drained(now)

    def where(self, address: Address) -> SocketAddress:
        return (address[0], address[1])

    def can_reach(self, address: Address) -> bool:
        return True

    def send(self, data: bytes, address: Address) -> bool:
        return not self.closed and self.sender.send_raw(data, self.where(address))

    def close(self) -> None:
        self.closed = True
        self._world.leave(self._socket.host, self.port)
        self._on_datagram, self._on_drained, self._on_run = _nobody_reads, _nobody_minds, None  # no circle
        self._on_begin = _nothing_begins


class WorldEngine(Engine):
    """An engine that knows on which host it is."""

    def __init__(self, show: "Show", role: Role, host: str, emit: Callable[[dict[str, Any]], None]) -> None:
        self._show, self._host = show, host
        random = show.world.random.randbytes
        super().__init__(
            cast(Any, show.world), role, cast(Any, WorldSocket(show.world, host)), [host], emit, random
        )

    def relay_endpoint(self, *handlers: Any) -> UdpEndpoint:
        self._show.making = self._host
        return super().relay_endpoint(*handlers)


class Node:
    """A node of one worker, and its agent's part in subscriptions."""

    def __init__(self, show: "Show", role: Role, host: str) -> None:
        self.host = host
        self.ended: dict[str, str] = {}  # session -> why
        self._show = show
        self._sessions = itertools.count()
        self.engine = WorldEngine(show, role, host, self._emit)

    def _emit(self, event: dict[str, Any]) -> None:
        if event["ev"] == "ended":
            self.ended[event["id"]] = event["reason"]
        elif event["ev"] == "subscribe":
            self._show.world.call_at(self._show.world.now + MANAGER_S, self._subscribe, event)

    def _subscribe(self, event: dict[str, Any]) -> None:
        """The stream manager knows which origin has the channel."""
        channel, attempt = event["channel"], event["attempt"]
        origin = self._show.origin
        try:
            if origin is None:
                raise Refused(409, "nothing_on_air", "Nothing is on air")
            session, answer = origin.open(SessionKind.RELAY_OUT, event["offer"], channel)
        except Refused as refused:
            self.engine.refused(channel, attempt, str(refused))
            return
        self.engine.subscribed(channel, attempt, session, answer)

    def open(self, kind: SessionKind, offer: str, channel: str = "main") -> tuple[str, str]:
        """Make a session; its id and the answer. Raises Refused."""
        session = f"{self.host}/{kind.value}-{next(self._sessions)}"
        return session, self.engine.create(session, kind, channel, offer).answer

    @property
    def newest(self) -> int:
        """The extended number of the last packet of the picture that it sent."""
        channel = self.engine._channels.get("main")
        assert channel is not None
        return channel.stream.video.ring.newest

    def die(self) -> None:
        """Without a word to anybody: as by kill -9."""
        for endpoint in self.engine._endpoints:
            endpoint.close()
        self.engine.timers.close()


class Show:
    """A world with nodes in it. `origin` is who has the channel, as the stream manager knows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> None:
        self.world = World(seed)
        self.origin: Node | None = None
        self.making = ""  # the host that opens a relay's socket
        monkeypatch.setattr(engines, "UdpEndpoint", WorldEndpoint)
        monkeypatch.setattr(engines, "bind", lambda port, *, dual_stack: WorldSocket(self.world, self.making))

    def node(self, role: Role, host: str) -> Node:
        return Node(self, role, host)
