"""One connection to a WHIP server: aiortc, bent to send what is already coded.

aiortc codes by itself and caps what it codes; here its senders are given coded pictures and sound instead.
What it does otherwise than a broadcaster needs is put right on the objects of each connection, in this file:

- its encoder is replaced by a packer, so nothing is coded or capped (`_Packer`);
- sender reports carry the capture clock instead of the time of sending (`_Sending.send_rtcp`);
- pictures leave in small bursts instead of all at once (`_Pacer`);
- 2048 packets are kept for retransmission: a key frame alone is more than its 128;
- no public STUN server is asked, and 127.0.0.1 is offered: it leaves loopback out, and a machine without a
  network would have no candidate at all;
- a server that died is noticed by 4 s without RTCP, where aiortc waits 27 s.
"""

import asyncio
import collections
import contextlib
import struct
import time
from collections.abc import Callable
from typing import Any, cast

import aiortc.rtcrtpsender
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RtcpRrPacket, RtcpSenderInfo, RtcpSrPacket, is_rtcp

from media.publisher import packets
from media.publisher.errors import Refused, TimedOut
from media.publisher.options import SPOKEN, Codec
from media.publisher.pipe import SOUND_CLOCK, VIDEO_CLOCK, Item

_HISTORY = 2048
_SILENCE_S = 4.0
_FIRST_RTCP_S = 6.0
_QUEUE = {"video": 30, "audio": 50}  # about a second of either
_BURST = 16 * 1250
_PACE_BPS = 40e6
_NTP_EPOCH = 2_208_988_800  # 1900 to 1970, in seconds
_SR_KEPT = 32


class Queue(MediaStreamTrack):
    """What waits to be sent. aiortc takes it for a track and pulls from it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.items: collections.deque[Item] = collections.deque()
        self.empty = asyncio.Event()
        self._filled = asyncio.Event()

    async def recv(self) -> Any:
        while not self.items:
            if self.readyState != "live":
                raise MediaStreamError
            self._filled.clear()
            self.empty.set()
            await self._filled.wait()
        return self.items.popleft()

    def put(self, item: Item) -> None:
        self.items.append(item)
        self.empty.clear()
        self._filled.set()

    def stop(self) -> None:
        super().stop()
        self._filled.set()


class _Packer:
    """Stands where aiortc keeps its encoder."""

    def __init__(
        self,
        sending: "_Sending",
        payloads: Callable[[bytes], list[bytes]],
        on_estimate: Callable[[float], None],
    ) -> None:
        self._sending = sending
        self._payloads = payloads
        self._on_estimate = on_estimate

    def pack(self, item: Item) -> tuple[list[bytes], int]:
        self._sending.taken(item)
        return self._payloads(item.payload), item.pts

    @property
    def target_bitrate(self) -> float:
        return 0.0

    @target_bitrate.setter
    def target_bitrate(self, bps: float) -> None:
        self._on_estimate(float(bps))  # REMB, as it came


class _Sending:
    """What is known of one sender's stream: its clock, its reports, its packets."""

    def __init__(
        self, sender: RTCRtpSender, clock: int, on_report: Callable[[float, float | None], None]
    ) -> None:
        self.sender = cast(Any, sender)
        self.clock = clock
        self.bytes = self.packets = self.octets = self.frames = 0
        self.rtt: float | None = None
        self._on_report = on_report
        self._item: Item | None = None  # the one being sent, or the last one sent
        self._pair: tuple[float, int] | None = None  # a capture time and its RTP timestamp
        self._reports: collections.OrderedDict[int, float] = (
            collections.OrderedDict()
        )  # LSR -> monotonic time

    def taken(self, item: Item) -> None:
        self._item = item

    def sent(self, packet: bytes) -> bool:
        """A packet of ours goes out. True after the very first one."""
        first = self._pair is None
        timestamp: int = struct.unpack_from("!I", packet, 4)[0]
        extension = 0
        if packet[0] & 0x10:
            extension = 4 + 4 * int.from_bytes(packet[14:16])
        size = len(packet) - 12 - extension
        self.packets += 1
        self.octets += size
        self.bytes += 12 + size
        self.frames += packet[1] >> 7
        if self._item is not None:
            self._pair = (self._item.capture, timestamp)
        return first

    async def send_report(self) -> None:
        await self.send_rtcp([RtcpSrPacket(ssrc=self.sender._ssrc, sender_info=RtcpSenderInfo(0, 0, 0, 0))])

    async def send_rtcp(self, reports: list[Any]) -> None:
        """Takes the place of aiortc's: the same packets, but with the capture clock as it is now."""
        kept = []
        for report in reports:
            if isinstance(report, RtcpSrPacket):
                if self._pair is None:
                    continue
                self._fill(report.sender_info)
            kept.append(report)
        if kept:
            with contextlib.suppress(ConnectionError):
                await self.sender.transport._send_rtp(b"".join(bytes(report) for report in kept))

    def _fill(self, info: Any) -> None:
        assert self._pair is not None
        now = time.time()
        capture, timestamp = self._pair
        info.ntp_timestamp = int((now + _NTP_EPOCH) * (1 << 32))
        info.rtp_timestamp = (timestamp + round((now - capture) * self.clock)) & 0xFFFFFFFF
        info.packet_count = self.packets & 0xFFFFFFFF
        info.octet_count = self.octets & 0xFFFFFFFF
        middle = info.ntp_timestamp >> 16 & 0xFFFFFFFF
        self._reports[middle] = time.monotonic()
        while len(self._reports) > _SR_KEPT:
            self._reports.popitem(last=False)
        # aiortc reckons its own round trip from these two; they must belong to what was really sent.
        self.sender._RTCRtpSender__lsr = middle
        self.sender._RTCRtpSender__lsr_time = now

    def received(self, packet: Any) -> None:
        if not isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            return
        for report in packet.reports:
            if report.ssrc != self.sender._ssrc:
                continue
            sent_at = self._reports.get(report.lsr) if report.lsr else None
            if sent_at is not None:
                trip = max(0.0, time.monotonic() - sent_at - report.dlsr / 65536)
                self.rtt = trip if self.rtt is None else self.rtt + 0.3 * (trip - self.rtt)
            self._on_report(report.fraction_lost / 256, self.rtt)


class _Pacer:
    """Lets a burst go at once and spreads the rest, so that a key frame does not flood the next hop."""

    def __init__(self) -> None:
        self._debt = 0.0
        self._at = time.monotonic()

    def delay(self, size: int) -> float:
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._at) * _PACE_BPS / 8)
        self._at = now
        self._debt += size
        return max(0.0, self._debt - _BURST) * 8 / _PACE_BPS


class Peer:
    """Goes through once: `offer`, `accept`, `connected`, then `send` until `lost` is done; `close`."""

    def __init__(
        self,
        codec: Codec,
        sound: bool,
        on_key_frame_wanted: Callable[[], None],
        on_estimate: Callable[[float], None],
        on_report: Callable[[float, float | None], None],
    ) -> None:
        cast(Any, aiortc.rtcrtpsender).RTP_HISTORY_SIZE = _HISTORY
        self._codec = codec
        self.dropped = 0  # pictures, because the queue was full
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._connected = asyncio.Event()
        self._wanted = on_key_frame_wanted
        self._gate = True  # nothing but a key frame may come next
        self._heard: float | None = None
        self._live_since: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._pc.on("connectionstatechange", self._state_changed)
        self._video = Queue("video")
        self._sound = Queue("audio") if sound else None
        self._sendings: dict[str, _Sending] = {}
        self._pacer = _Pacer()
        for queue in (self._video, self._sound):
            if queue is not None:
                self._add(queue, on_estimate, on_report)
        self._bend_transport()

    # Set-up.

    def _add(
        self,
        queue: Queue,
        on_estimate: Callable[[float], None],
        on_report: Callable[[float, float | None], None],
    ) -> None:
        transceiver = self._pc.addTransceiver(queue, direction="sendonly")
        video = queue.kind == "video"
        transceiver.setCodecPreferences(_codecs(queue.kind, self._codec))
        payloads = _PAYLOADS[self._codec] if video else lambda packet: [packet]
        report = on_report if video else (lambda lost, rtt: None)
        sending = _Sending(transceiver.sender, VIDEO_CLOCK if video else SOUND_CLOCK, report)
        sender = cast(Any, transceiver.sender)
        sender._RTCRtpSender__encoder = _Packer(sending, payloads, on_estimate if video else lambda bps: None)
        sender._send_rtcp = sending.send_rtcp
        sender._send_keyframe = self._wanted if video else lambda: None
        handle = sender._handle_rtcp_packet

        async def handle_rtcp(packet: Any) -> None:
            # An exception in here would end the connection: a report of the server's cannot be worth that.
            with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError, ConnectionError):
                sending.received(packet)
                await handle(packet)

        sender._handle_rtcp_packet = handle_rtcp
        self._sendings[queue.kind] = sending

    def _bend_transport(self) -> None:
        transport = cast(Any, self._pc.getSenders()[0].transport)
        send, handle = transport._send_rtp, transport._handle_rtcp_data
        streams = {sending.sender._ssrc: sending for sending in self._sendings.values()}
        video = self._sendings["video"]

        async def send_rtp(packet: bytes) -> None:
            sending = None if is_rtcp(packet) else streams.get(int.from_bytes(packet[8:12]))
            await send(packet)
            if sending is None:
                return
            if sending.sent(packet):
                self._start(sending.send_report())  # at once: nobody knows the capture time before
            if sending is video and (delay := self._pacer.delay(len(packet))):
                await asyncio.sleep(delay)

        async def handle_rtcp_data(data: bytes) -> None:
            self._heard = time.monotonic()
            await handle(data)

        transport._send_rtp = send_rtp
        transport._handle_rtcp_data = handle_rtcp_data
        offer_loopback(self._pc)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected":
            self._live_since = time.monotonic()
            self._connected.set()
        elif state in ("failed", "closed") and not self.lost.done():
            why = "the server closed the connection" if self._live_since else "no connection could be made"
            self.lost.set_result(why)

    async def offer(self) -> str:
        """Gathers candidates and makes the offer."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return str(self._pc.localDescription.sdp)

    async def accept(self, answer: str, timeout: float) -> None:
        """Take the server's answer and connect. Raises Refused or TimedOut."""
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        except (
            ValueError, LookupError, AssertionError, InternalError, InvalidAccessError, InvalidStateError,
            OperationError,
        ) as error:  # fmt: skip
            raise Refused(
                f"the server's answer cannot be used ({error or type(error).__name__})",
                f"It must take {SPOKEN[self._codec]} and Opus.",
            ) from None
        connected = asyncio.ensure_future(self._connected.wait())
        either: list[asyncio.Future[Any]] = [connected, self.lost]
        try:
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if self._connected.is_set() and not self.lost.done():
            return
        why = self.lost.result() if self.lost.done() else f"no connection within {timeout:g} s"
        raise TimedOut(
            f"the server answered, but media does not reach it: {why}",
            "Check that UDP is let through to the node's port, and what address nodes --announce.",
        )

    # On air.

    def send(self, item: Item, video: bool) -> None:
        queue = self._video if video else self._sound
        if queue is None:
            return
        if len(queue.items) >= _QUEUE[queue.kind]:
            if video:
                self.dropped += len(queue.items)
                self._gate = True
            queue.items.clear()  # `empty` follows when aiortc asks for the next one
        if video and self._gate:
            if not item.key:
                self._wanted()
                return
            self._gate = False
        queue.put(item)

    async def drained(self) -> None:
        """Everything handed over so far has been taken to be sent."""
        for queue in (self._video, self._sound):
            if queue is not None:
                await queue.empty.wait()

    @property
    def sent_bytes(self) -> int:
        """RTP payload and header, sound and picture, without retransmissions."""
        return sum(sending.bytes for sending in self._sendings.values())

    @property
    def sent_frames(self) -> int:
        return self._sendings["video"].frames

    @property
    def rtt(self) -> float | None:
        return self._sendings["video"].rtt

    def check_silence(self, now: float) -> None:
        """Call a few times a second: gives the server up when nothing was heard of it for too long."""
        if self._live_since is None or self.lost.done():
            return
        silent = now - self._live_since if self._heard is None else now - self._heard
        if silent > (_FIRST_RTCP_S if self._heard is None else _SILENCE_S):
            self.lost.set_result(f"nothing heard from the node for {silent:.0f} s")

    def forgive_silence(self, now: float) -> None:
        """This process itself stood still: the silence was ours."""
        if self._heard is not None:
            self._heard = now

    async def close(self) -> None:
        if not self.lost.done():
            self.lost.set_result("closed")
        for task in tuple(self._tasks):
            task.cancel()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(self._pc.close(), 1.0)


def offer_loopback(pc: RTCPeerConnection) -> None:
    """Let a connection gather 127.0.0.1 too: aioice leaves loopback out, even where there is nothing else."""
    for transceiver in pc.getTransceivers():
        connection = cast(Any, transceiver.sender.transport.transport)._connection
        gather = connection.get_component_candidates

        async def gather_more(
            component: int, addresses: list[str], timeout: int = 5, gather: Any = gather
        ) -> Any:
            if "127.0.0.1" not in addresses:
                addresses = [*addresses, "127.0.0.1"]
            return await gather(component, addresses, timeout)

        connection.get_component_candidates = gather_more


_PAYLOADS: dict[Codec, Callable[[bytes], list[bytes]]] = {
    "h264": packets.payloads,
    "vp8": packets.vp8_payloads,
}


def _codecs(kind: str, codec: Codec) -> list[Any]:
    """Opus; VP8; or H.264 with constrained baseline before baseline, as aiortc would not order them."""
    known = RTCRtpSender.getCapabilities(kind).codecs
    if kind == "audio":
        return [codec for codec in known if codec.mimeType == "audio/opus"]
    wanted = [it for it in known if it.mimeType.lower() == f"video/{codec}"]
    wanted.sort(key=lambda it: it.parameters.get("profile-level-id") != "42e01f")
    return wanted + [it for it in known if it.mimeType == "video/rtx"]
