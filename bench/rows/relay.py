"""What the hop from an origin to an edge costs a packet, against a plain loop of `sendto` and `recv`.

A packet crosses when the origin protects it and hands it to the kernel (one message a frame, UDP_SEGMENT),
and when the edge has read it (UDP_GRO), checked and opened it and put it in its ring. Both are our own
engines, as workers have them, in two processes on two cores; some channels at once, each 4.5 Mbps of
1,200-byte packets, 16 a frame, and sound, each by a relay of its own with ICE, DTLS, AES-128-GCM and reports.

    way out   for each frame: CPU of the thread that feeds a stream with a relay, less that of feeding the
              same frame to a stream nobody watches
    way in    CPU of the edge's process, everything in it, over what came. It has no viewers to send to
    plain     the same packets, without encryption: `socket.sendto` each, `socket.recv` each in a process of
              its own. CPU of both

All of it as fast as it can be fed, in the order of the channels' own times: with pauses in between the figure
would be what it costs this machine to wake up from an idle core, 20 to 60 us each time, on either side.

CPU is user and system; on loopback the delivery, and waking the other side, are the sender's.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.figures import Figure
from bench.rows._cores import cores, on
from bench.rows._crowds import SOUND_BYTES
from bench.rows._relay_ends import no_log
from controlplane.wire.nodes import Role, SessionKind
from media.core.codecs import H264
from media.core.rtp import build
from media.core.sdp import AgreedTrack
from media.core.srtp import AEAD_AES_128_GCM
from media.drive.udp import bind
from media.fanout.source import Source
from media.fanout.stream import LiveStream
from media.node.engine import Engine

TITLE = "origin -> edge, CPU a packet, against a plain sendto + recv loop"

CHANNELS = 16
PACKETS_A_FRAME = 16
SIZE = 1200  # of a packet with its RTP header
FPS = 30
SOUND_RATE = 50
KEYFRAME_EVERY = 60  # frames
ROUNDS, ROUND_S = 5, 2.0
UP_S = 10.0
VIDEO = AgreedTrack("video", "0", 96, 97, 90_000, 1, "", (), (), 1, None, H264)
SOUND = AgreedTrack("audio", "1", 111, None, 48_000, 2, "", (), (), 2, None, None)


class Broadcast:
    """Pictures and sound of a publisher, as packets in plaintext; the first picture is a key frame."""

    def __init__(self) -> None:
        self._frames = self._sounds = 0

    def frame(self) -> list[bytes]:
        count = self._frames
        self._frames += 1
        kind = b"\x65" if count % KEYFRAME_EVERY == 0 else b"\x41"
        return [
            build(
                payload_type=96,
                sequence=count * PACKETS_A_FRAME + number,
                timestamp=count * 90_000 // FPS,
                ssrc=1,
                payload=kind + bytes(SIZE - 13),
                marker=number == PACKETS_A_FRAME - 1,
            )
            for number in range(PACKETS_A_FRAME)
        ]

    def sound(self) -> list[bytes]:
        count = self._sounds
        self._sounds += 1
        payload = bytes(SOUND_BYTES - AEAD_AES_128_GCM.tag_length - 12)
        return [
            build(
                payload_type=111,
                sequence=count,
                timestamp=count * 48_000 // SOUND_RATE,
                ssrc=2,
                payload=payload,
            )
        ]


Feed = Callable[[int, list[bytes]], None]


async def play(broadcasts: list[Broadcast], feed: Feed, seconds: float) -> int:
    """So many seconds of all channels, in the order of their times; returns how many packets.

    `feed(channel, packets)` is called for each frame and each sound.
    """
    count = len(broadcasts)
    moments = [
        ((number + channel / count) / rate, channel, rate == FPS)
        for rate in (FPS, SOUND_RATE)
        for channel in range(count)
        for number in range(round(seconds * rate))
    ]
    packets = 0
    for _, channel, is_frame in sorted(moments):
        made = broadcasts[channel].frame() if is_frame else broadcasts[channel].sound()
        feed(channel, made)
        packets += len(made)
        await asyncio.sleep(0)  # what an engine hears of its peers
    return packets


class End:
    """A receiving end in a process of its own: see _relay_ends.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def start(cls, kind: str, core: int) -> "AsyncIterator[End]":
        pipe = asyncio.subprocess.PIPE
        words = ["-m", "bench.rows._relay_ends", kind]
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
        os.sched_setaffinity(process.pid, {core})
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    def tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def next(self, event: str) -> dict[str, Any]:
        """Its next word of this kind; what else it says before is of no interest."""
        assert self._process.stdout is not None
        async with asyncio.timeout(UP_S):
            while line := await self._process.stdout.readline():
                message: dict[str, Any] = json.loads(line)
                if message["ev"] == event:
                    return message
        raise RuntimeError("the receiving end has ended; see its words above")

    async def count(self) -> dict[str, Any]:
        self.tell(op="count")
        return await self.next("count")

    async def count_from(self, received: float) -> dict[str, Any]:
        """Its count once it has had so many bytes in all. Raises RuntimeError when they do not come."""
        for _ in range(round(UP_S / 0.05)):
            counted = await self.count()
            if counted["bytes"] >= received:
                return counted
            await asyncio.sleep(0.05)
        raise RuntimeError(f"not all came over: {counted}, of {received:.0f} bytes")


@dataclass
class Cost:
    """Microseconds of CPU a packet."""

    out: float
    into: float


class Relayed:
    """An origin of ours here, and streams that an edge has subscribed to, each with a twin nobody watches."""

    def __init__(self, edge: End) -> None:
        self._edge = edge
        loop, sock = asyncio.get_running_loop(), bind(None, dual_stack=False)
        self._engine = Engine(loop, Role.ORIGIN, sock, ["127.0.0.1"], lambda said: None)
        self._channels = [f"channel-{number}" for number in range(CHANNELS)]
        self._streams = [self._engine._channels.publish(name).stream for name in self._channels]
        self._sources = [self._source(stream) for stream in self._streams]
        sender = self._engine.endpoint.sender
        self._twins = [self._source(LiveStream("twin", sender, os.urandom)) for _ in self._channels]
        self._broadcasts = [Broadcast() for _ in self._channels]
        self._more = 0.0  # CPU seconds that a watched stream took more than its twin

    @staticmethod
    def _source(stream: LiveStream) -> Source:
        source = Source(
            ssrc=stream.own_ssrc,
            video=(VIDEO, stream.video),
            audio=(SOUND, stream.audio),
            send=lambda packets, now: None,
            remb=False,
        )
        stream.set_source(source)
        return source

    async def subscribe(self) -> None:
        """Returns when all of the edge's relays get pictures."""
        self._edge.tell(op="watch", channels=self._channels)
        for number in range(CHANNELS):
            asked = await self._edge.next("subscribe")
            session = f"relay-{number}"
            agreed = self._engine.create(session, SessionKind.RELAY_OUT, asked["channel"], asked["offer"])
            self._edge.tell(
                op="subscribed",
                channel=asked["channel"],
                attempt=asked["attempt"],
                session=session,
                answer=agreed.answer,
            )
        async with asyncio.timeout(UP_S):
            while any(stream.video.viewers_live < 1 for stream in self._streams):
                await play(self._broadcasts, self._feed, KEYFRAME_EVERY / FPS / 2)
                await asyncio.sleep(0.05)

    def _feed(self, channel: int, packets: list[bytes]) -> None:
        now = asyncio.get_running_loop().time()
        watched, alone = self._sources[channel].receive_rtp, self._twins[channel].receive_rtp
        begin = time.thread_time()
        for packet in packets:
            alone(packet, now)
        middle = time.thread_time()
        for packet in packets:
            watched(packet, now)
        self._more += (time.thread_time() - middle) - (middle - begin)
        self._streams[channel].handle_timeout(now)

    async def measure(self) -> Cost:
        """One round."""
        self._edge.tell(op="watch", channels=self._channels)  # an edge lets go of what nobody wants to see
        before, self._more = await self._edge.count(), 0.0
        packets = await play(self._broadcasts, self._feed, ROUND_S)
        wanted = CHANNELS * ROUND_S * FPS * PACKETS_A_FRAME * (SIZE + AEAD_AES_128_GCM.tag_length)
        after = await self._edge.count_from(before["bytes"] + wanted)
        if not after["whole"]:
            raise RuntimeError(f"something was lost: {after}")
        return Cost(1e6 * self._more / packets, 1e6 * (after["cpu"] - before["cpu"]) / packets)

    def close(self) -> None:
        self._engine.shutdown("the bench is over")


class Plain:
    """`sendto` each packet to a process that reads each."""

    def __init__(self, reader: End, port: int) -> None:
        self._reader = reader
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._address = ("127.0.0.1", port)
        self._broadcasts = [Broadcast() for _ in range(CHANNELS)]
        self._spent = 0.0

    def _feed(self, channel: int, packets: list[bytes]) -> None:
        send, address = self._socket.sendto, self._address
        begin = time.thread_time()
        for packet in packets:
            send(packet, address)
        self._spent += time.thread_time() - begin

    async def measure(self) -> Cost:
        """One round."""
        before, self._spent = await self._reader.count(), 0.0
        packets = await play(self._broadcasts, self._feed, ROUND_S)
        wanted = 0.999 * CHANNELS * ROUND_S * FPS * PACKETS_A_FRAME * SIZE
        after = await self._reader.count_from(before["bytes"] + wanted)
        return Cost(1e6 * self._spent / packets, 1e6 * (after["cpu"] - before["cpu"]) / packets)

    def close(self) -> None:
        self._socket.close()


async def run(rounds: int = ROUNDS) -> list[Figure]:
    ours: list[Cost] = []
    theirs: list[Cost] = []
    other = cores()[1]
    with no_log(), on(0):
        async with End.start("edge", other) as edge, End.start("plain", other) as reader:
            relayed, plain = Relayed(edge), Plain(reader, (await reader.next("port"))["port"])
            try:
                await relayed.subscribe()
                for _ in range(rounds):
                    ours.append(await relayed.measure())
                    theirs.append(await plain.measure())
            finally:
                relayed.close()
                plain.close()
    return [
        Figure("relay_us", median(cost.out + cost.into for cost in ours), "us", "cost"),
        Figure("relay_out_us", median(cost.out for cost in ours), "us", "cost"),
        Figure("relay_in_us", median(cost.into for cost in ours), "us", "cost"),
        Figure("plain_us", median(cost.out + cost.into for cost in theirs), "us", "cost"),
        Figure("plain_recv_us", median(cost.into for cost in theirs), "us", "cost"),
        Figure(
            "relay_ratio",
            median((a.out + a.into) / (b.out + b.into) for a, b in zip(ours, theirs, strict=True)),
            "x",
            "ratio",
            at_most=0.6,
        ),
    ]
