"""How many members of parties of eight one core carries, as far as sending goes.

Each member gets the live feed (4.5 Mbps: 30 frames of 16 packets a second, and sound) and the webcams and
microphones of the seven others of its party: 180p at 30 frames and 150 kbps, one packet a frame, and Opus at
50 packets a second and about 32 kbps. Everybody talks and everybody is seen all the time: there is no dearer
party.

The send path is the real one, to as many sockets of another process, on another core: the live feed by
LiveStream, one plaintext for all; what is for a seat has a header of its own for each who sees it (its
numbers are that seat's), and is gathered for at most 5 ms by a Coalescer. "Plain" protects and sends each
packet of a seat as it comes. What a core carries is the number of members over the share of a core that
sending to them takes.

Web streams are not in the product yet, so nothing comes in here: reading, opening and numbering what members
send (80 packets a second each, a fourteenth of what goes out to it), reports, joins and the relay are left
out. Plan with less: see bench/README.md.
"""

import os
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from bench.figures import Figure
from bench.rows._cores import on
from bench.rows._limit import keys
from bench.rows._sink import sinks
from bench.rows.relay import FPS, SOUND, SOUND_RATE, VIDEO, Broadcast
from media.core.sdp import Agreed, IceCredentials, RemoteTransport
from media.core.srtp import OutboundSrtp
from media.fanout.coalescer import Coalescer
from media.fanout.destinations import Destination
from media.fanout.sender import FanoutSender, kernel_has_gso
from media.fanout.sendmany import Outbox
from media.fanout.source import Source
from media.fanout.stream import LiveStream

TITLE = "members of parties of eight on one core: the live feed, seven webcams and microphones"

PARTIES, SEATS = 20, 8
ROUNDS, ROUND_S = 5, 2
TICK_S = 0.001  # what comes within one is handled together, as a worker reads its socket
BYTES = ((350, 900), (60, 100))  # of a webcam's frame (150 kbps at 30 frames), of a packet of voice
REMOTE = RemoteTransport(IceCredentials("u", "p"), (), "actpass", False, ())
_HEADER = struct.Struct("!BBHII")

SendSeat = Callable[[Destination, bytes, float], None]


@dataclass
class Cost:
    """CPU seconds of some seconds of parties."""

    live: float = 0.0
    seats: float = 0.0
    packets: int = 0  # to seats

    @property
    def all(self) -> float:
        return self.live + self.seats


@dataclass
class Member:
    """One who sends a webcam and a voice, and is seen by the others of its party."""

    others: list[tuple[Destination, int]]  # and which of their seats is its own
    phase: float  # of its pictures and sounds, in intervals of theirs
    sent: list[int] = field(default_factory=lambda: [0, 0])

    def send(self, kind: int, payload: bytes, send: SendSeat, now: float) -> None:
        """`kind`: 0 webcam, 1 voice. A header for each who sees it, as its seat is numbered there."""
        number = self.sent[kind]
        self.sent[kind] = number + 1
        second, step = ((0x80 | 96, 3000), (111, 960))[kind]
        timestamp, pack = number * step & 0xFFFFFFFF, _HEADER.pack
        for destination, seat in self.others:
            header = pack(0x80, second, number & 0xFFFF, timestamp, 100 + 2 * seat + kind)
            send(destination, header + payload, now)


class House:
    """Parties of eight on one socket, with the live feed beside."""

    def __init__(self, sock: socket.socket, ports: list[int]) -> None:
        self._sender = FanoutSender(sock, gso=kernel_has_gso(sock))
        self._coalescer = Coalescer(self._sender, Outbox(sock))
        self._random = random.Random(7)
        self._stream = LiveStream("live", self._sender, os.urandom)
        self._source = Source(
            ssrc=1,
            video=(VIDEO, self._stream.video),
            audio=(SOUND, self._stream.audio),
            send=lambda packets, now: None,
            remb=False,
        )
        self._stream.set_source(self._source)
        self._broadcast = Broadcast()
        here = [Destination(OutboundSrtp(keys()), ("127.0.0.1", port)) for port in ports]
        agreed = Agreed("", REMOTE, "server", VIDEO, SOUND)
        for number, destination in enumerate(here):
            described = self._stream.describe()
            self._stream.join(str(number), agreed, described, destination, may_repeat=False, now=0.0)
        self._members = []
        for first in range(0, len(here), SEATS):
            party = here[first : first + SEATS]
            for place in range(len(party)):
                others = [
                    (destination, place - (place > other))
                    for other, destination in enumerate(party)
                    if other != place
                ]
                self._members.append(Member(others, self._random.random()))

    def _plain(self, destination: Destination, packet: bytes, now: float) -> None:
        self._sender.send_raw(destination.outbound.protect(packet), destination.address)

    def run(self, seconds: float, *, coalesced: bool) -> Cost:
        """What so many seconds of it cost, at their real pace."""
        send = self._coalescer.add if coalesced else self._plain
        randint = self._random.randint
        cost = Cost()
        ticks = round(seconds / TICK_S)
        live = _schedule(seconds, FPS, SOUND_RATE, 0.0)
        seats: list[list[tuple[Member, int]]] = [[] for _ in range(ticks)]
        for member in self._members:
            for tick, kinds in enumerate(_schedule(seconds, FPS, SOUND_RATE, member.phase)):
                seats[tick] += [(member, kind) for kind in kinds]
        start = time.monotonic()
        for tick in range(ticks):
            _sleep_until(start + tick * TICK_S)
            broadcast = [self._broadcast.sound() if kind else self._broadcast.frame() for kind in live[tick]]
            said = [(member, kind, bytes(randint(*BYTES[kind]))) for member, kind in seats[tick]]
            now = time.monotonic()
            began = time.thread_time()
            for packets in broadcast:
                for packet in packets:
                    self._source.receive_rtp(packet, now)
            middle = time.thread_time()
            for member, kind, payload in said:
                member.send(kind, payload, send, now)
            self._coalescer.handle_timeout(now)
            ended = time.thread_time()
            cost.live += middle - began
            cost.seats += ended - middle
            cost.packets += sum(len(member.others) for member, _ in seats[tick])
        self._coalescer.flush(time.monotonic())
        return cost


def _schedule(seconds: float, fps: int, sounds: int, phase: float) -> list[list[int]]:
    """For each tick, what comes: 0 for a frame, 1 for a sound."""
    ticks: list[list[int]] = [[] for _ in range(round(seconds / TICK_S))]
    for kind, rate in enumerate((fps, sounds)):
        for number in range(int(seconds * rate)):
            ticks[int((number + phase) / rate / TICK_S)].append(kind)
    return ticks


def _sleep_until(moment: float) -> None:
    wait = moment - time.monotonic()
    if wait > 0:
        time.sleep(wait)


def run(rounds: int = ROUNDS) -> list[Figure]:
    count = PARTIES * SEATS
    plain: list[Cost] = []
    ours: list[Cost] = []
    with ExitStack() as stack:
        with on(1):
            ports = stack.enter_context(sinks(count))
        stack.enter_context(on(0))
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        house = House(sock, ports)
        house.run(1.0, coalesced=True)
        for _ in range(rounds):
            plain.append(house.run(ROUND_S, coalesced=False))
            ours.append(house.run(ROUND_S, coalesced=True))
    ratio = median(
        (mine.seats / mine.packets) / (other.seats / other.packets)
        for mine, other in zip(ours, plain, strict=True)
    )
    return [
        Figure("party_members_per_core", median(_members(cost) for cost in ours), "members", "count"),
        Figure("party_members_per_core_plain", median(_members(cost) for cost in plain), "members", "count"),
        Figure("party_seat_us", 1e6 * median(cost.seats / cost.packets for cost in ours), "us", "cost"),
        Figure(
            "party_seat_plain_us", 1e6 * median(cost.seats / cost.packets for cost in plain), "us", "cost"
        ),
        Figure("party_seat_ratio", ratio, "x", "ratio"),
        Figure("party_live_share", median(cost.live / cost.all for cost in ours), "x", "ratio"),
    ]


def _members(cost: Cost) -> float:
    """Those that one core carries."""
    return PARTIES * SEATS * ROUND_S / cost.all
