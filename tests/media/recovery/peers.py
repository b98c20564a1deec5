"""A publisher and viewers of the virtual world: session cores, and what a browser does about loss.

The publisher films 30 frames a second at 4.5 Mbps with key frames of a hundred packets, answers NACKs by RTX
out of its last two thousand packets, and a PLI with its next frame.

A viewer asks as Chromium does (modules/video_coding/nack_requester.cc): for a gap at once, again each round
trip, ten times at most; and it wants a key frame when nothing could be shown for a while. It shows a frame
once all of it is here and all before it was shown, or with a key frame.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from controlplane.wire.nodes import SessionKind
from media.core import rtcp, sdp
from media.core.address import Address
from media.core.codecs import H264
from media.core.rtp import build_rtx, parse_header, restore_rtx
from media.core.session import Closed, DtlsReady, RtcpPacket, RtpPacket, Session, SessionConfig, Transmit
from media.fanout.continuity import unwrap
from media.fanout.reception import Reception
from tests.media.core.emulated_network import certificate
from tests.media.fanout.pieces import Camera
from tests.media.recovery.world import PUBLISHER, Call, Node, Show

FPS = 30
KEY_EVERY = 60  # frames
KEY_PACKETS, DELTA_PACKETS, PACKET = 100, 15, 1150  # packets, packets, bytes: together 4.5 Mbps
HISTORY = 2048  # packets that a publisher can send again
NACK_EVERY = 0.020  # seconds
NACK_TRIES = 10
NACK_MOST = 1000  # packets missing at once; more are not asked for
NACK_RTT = 0.1  # seconds, until it is known
KEYFRAME_AFTER = 0.5  # seconds without a frame that can be shown
SEQUENCES = 1 << 16


class Peer:
    """A session core on a host of its own."""

    def __init__(self, show: Show, host: str) -> None:
        self.show, self.world = show, show.world
        self.closed_because: str | None = None
        self.ready = False
        self.joined_at = 0.0  # when it asked for a session
        self.id = ""
        self.their_ssrc = 0  # of the picture that is sent to us
        self.port = self.world.settle(host, None, self._receive)
        self.address: Address = (host, self.port)
        self.local = sdp.LocalDescription(
            sdp.new_credentials(self.world.random.randbytes), certificate("peer").fingerprint, [self.address]
        )
        self.session: Session | None = None
        self._timer: Call | None = None

    def _begin(self, node: Node, kind: SessionKind, offer: str, channel: str) -> None:
        self.joined_at = self.world.now
        self.id, answer = node.open(kind, offer, channel)
        # What is agreed on is what `make_relay_offer` offers; the direction is ours to know.
        agreed = sdp.accept_answer(sdp.parse_answer(answer.replace("a=recvonly", "a=sendonly")))
        if agreed.video is not None and agreed.video.remote_ssrc is not None:
            self.their_ssrc = agreed.video.remote_ssrc
        config = SessionConfig.offered(agreed, self.local, certificate("peer"), self.world.random.randbytes)
        self.session = Session(config, self.world.now)
        self._pump()

    def _receive(self, data: bytes, source: Address, now: float) -> None:
        if self.session is not None:
            self.session.receive(data, source, now)
            self._pump()

    def _timeout(self) -> None:
        if self.session is not None:
            self.session.handle_timeout(self.world.now)
            self._pump()

    def _pump(self) -> None:
        session = self.session
        assert session is not None
        while (item := session.poll()) is not None:
            if isinstance(item, Transmit):
                self.world.send(item.data, self.address, item.to)
            elif isinstance(item, RtpPacket):
                self.rtp(item.data, self.world.now)
            elif isinstance(item, RtcpPacket):
                self.rtcp(item.packets, self.world.now)
            elif isinstance(item, DtlsReady):
                self.ready = True
                self.begin()
            elif isinstance(item, Closed):
                self.closed_because = item.reason
        if self._timer is not None:
            self._timer.cancel()
        moment = session.next_timeout()
        self._timer = None if moment is None else self.world.call_at(moment, self._timeout)

    def say(self, packets: list[rtcp.RtcpPacket]) -> None:
        assert self.session is not None
        self.session.send_rtcp(packets, self.world.now)
        self._pump()

    @property
    def rtt(self) -> float | None:
        return None if self.session is None else self.session.stats(self.world.now).rtt

    def vanish(self) -> None:
        """Without a word: nothing of it is sent or received any more."""
        self.world.leave(*self.address)
        self.session = None

    def close(self) -> None:
        assert self.session is not None
        self.session.close(self.world.now)
        self._pump()

    # what the kinds do

    def begin(self) -> None: ...

    def rtp(self, packet: bytes, now: float) -> None: ...

    def rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None: ...


class Publisher(Peer):
    """See the module's docstring."""

    def __init__(self, show: Show, host: str = PUBLISHER, *, ssrc: int = 0xABCD, sequence: int = 100) -> None:
        super().__init__(show, host)
        self.camera = Camera(ssrc, sequence, payload_type=sdp.H264_PT)
        self.key_packets, self.delta_packets = KEY_PACKETS, DELTA_PACKETS
        self.key_every = KEY_EVERY
        self.frames = 0
        self.asked_at: list[float] = []  # key frames
        self.keyframes = 0
        self.deaf = False  # sends a file as it is: makes no key frame when asked
        self._wanted = True
        self._since_key = 0
        self._history: OrderedDict[int, bytes] = OrderedDict()
        self._rtx_ssrc = self.camera.ssrc + 1
        self._rtx_sequence = 1

    def publish(self, node: Node, channel: str = "main") -> None:
        self.show.origin = node
        self._begin(
            node,
            SessionKind.WHIP,
            sdp.make_relay_offer(self.local).replace("a=recvonly", "a=sendonly"),
            channel,
        )

    def begin(self) -> None:
        self._film()
        self._report()

    def _film(self) -> None:
        if self.session is None or self.session.outbound is None:
            return
        self.world.call_at(self.world.now + 1 / FPS, self._film)
        key = (self._wanted and not self.deaf) or self._since_key >= self.key_every or not self.frames
        self._wanted = False
        self._since_key = 1 if key else self._since_key + 1
        self.keyframes += key
        self.frames += 1
        for packet in self.camera.frame(
            key=key, packets=self.key_packets if key else self.delta_packets, size=PACKET
        ):
            self._history[int.from_bytes(packet[2:4], "big")] = packet
            self._send(packet)
        while len(self._history) > HISTORY:
            self._history.popitem(last=False)

    def _send(self, packet: bytes) -> None:
        assert self.session is not None
        if self.session.outbound is not None and self.session.remote is not None:
            self.world.send(self.session.outbound.protect(packet), self.address, self.session.remote)

    def _report(self) -> None:
        if self.session is None or self.session.closed:
            return
        self.world.call_at(self.world.now + 1.0, self._report)
        ntp = rtcp.ntp_from_unix(1_760_000_000 + self.world.now)
        self.say([rtcp.SenderReport(self.camera.ssrc, ntp, self.camera.timestamp, self.frames, 0)])

    def rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.Pli):
                self.asked_at.append(now)
                self._wanted = True
            elif isinstance(packet, rtcp.Nack):
                for sequence in packet.sequences:
                    self._again(sequence)

    def _again(self, sequence: int) -> None:
        packet = self._history.get(sequence)
        if packet is None:
            return
        self._send(
            build_rtx(packet, payload_type=sdp.H264_RTX_PT, ssrc=self._rtx_ssrc, sequence=self._rtx_sequence)
        )
        self._rtx_sequence = (self._rtx_sequence + 1) % SEQUENCES


@dataclass
class _Gap:
    asked_at: float = 0.0
    tries: int = 0


class Viewer(Peer):
    """See the module's docstring. `shown` has the moment and the number of packets of each frame."""

    def __init__(self, show: Show, host: str) -> None:
        super().__init__(show, host)
        self.shown: list[tuple[float, int]] = []
        self.shown_timestamps: list[int] = []
        self.sequences: list[int] = []  # extended, of all packets in the order of their coming
        self.ssrcs: set[int] = set()
        self.skipped = 0  # times that it went on with a key frame over something that was missing
        self.plis = 0
        self.nacked = 0  # packets
        self.asks = True  # for what is missing
        self._newest: int | None = None
        self._packets: dict[
            int, tuple[int, bool, bool]
        ] = {}  # number -> timestamp, marker, begins a key frame
        self._gaps: OrderedDict[int, _Gap] = OrderedDict()
        self._next: int | None = None  # the number with which the next frame to be shown begins
        self._asked_keyframe_at = 0.0
        self._reception: Reception | None = None

    def watch(self, node: Node, channel: str = "main") -> None:
        self._begin(node, SessionKind.WHEP, sdp.make_relay_offer(self.local), channel)

    def begin(self) -> None:
        self._asked_keyframe_at = self.world.now
        self.world.call_at(self.world.now + NACK_EVERY, self._ask)
        self.world.call_at(self.world.now + 1.0, self._report)

    @property
    def longest_freeze(self) -> float:
        """Seconds between two frames that it showed."""
        moments = [at for at, _ in self.shown]
        return max((later - sooner for sooner, later in pairwise(moments)), default=float("inf"))

    # -- in

    def rtp(self, packet: bytes, now: float) -> None:
        header = parse_header(packet)
        if header.payload_type == sdp.H264_RTX_PT:
            restored = restore_rtx(packet, payload_type=sdp.H264_PT, ssrc=self.their_ssrc)
            if restored is None:
                return
            packet, header = restored, parse_header(restored)
        else:
            self.ssrcs.add(header.ssrc)
            if self._reception is None:
                self._reception = Reception(header.ssrc, 90_000)
            self._reception.packets(header.sequence, header.timestamp, 1, now)
        number = header.sequence + SEQUENCES
        if self._newest is None:
            self._newest = number - 1
        number = unwrap(header.sequence, self._newest, SEQUENCES)
        if number in self._packets or (self._next is not None and number < self._next):
            return
        if number - self._newest > NACK_MOST:
            self._gaps.clear()
        else:
            self._gaps.update((missing, _Gap()) for missing in range(self._newest + 1, number))
        self._gaps.pop(number, None)
        self._newest = max(self._newest, number)
        self.sequences.append(number)
        begins = H264.is_keyframe_start(header.payload(packet))
        self._packets[number] = (header.timestamp, header.marker, begins)
        if self._next is None and begins:
            self._next = number
        self._show(now)
        self._ask_for(n for n, gap in self._gaps.items() if not gap.tries)

    def _show(self, now: float) -> None:
        while self._next is not None:
            end = self._whole(self._next)
            if end is None:
                later = [n for n, (_, _, begins) in self._packets.items() if begins and n > self._next]
                start = next((n for n in sorted(later) if self._whole(n) is not None), None)
                if start is None:
                    return
                self.skipped += 1
                self._forget(start)
                self._next = start
                continue
            self.shown.append((now, end - self._next + 1))
            self.shown_timestamps.append(self._packets[self._next][0])
            self._forget(end + 1)
            self._next = end + 1

    def _forget(self, below: int) -> None:
        for table in (self._packets, self._gaps):
            for number in [n for n in table if n < below]:
                del table[number]

    def _whole(self, start: int) -> int | None:
        """The last packet of the frame that begins here, if all of it has come."""
        number = start
        while (entry := self._packets.get(number)) is not None:
            if entry[1]:
                return number
            number += 1
        return None

    def rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport) and self._reception is not None:
                self._reception.sender_report(packet.ntp, now)

    # -- out

    def _report(self) -> None:
        if self.session is None or self.session.closed:
            return
        self.world.call_at(self.world.now + 1.0, self._report)
        block = None if self._reception is None else self._reception.report(self.world.now)
        self.say([rtcp.ReceiverReport(1, () if block is None else (block,))])

    def _ask(self) -> None:
        if self.session is None or self.session.closed:
            return
        now = self.world.now
        self.world.call_at(now + NACK_EVERY, self._ask)
        again = self.rtt or NACK_RTT
        self._ask_for(n for n, gap in self._gaps.items() if now - gap.asked_at >= again)
        last = max(self.shown[-1][0] if self.shown else 0.0, self._asked_keyframe_at)
        if now - last > KEYFRAME_AFTER:
            self._asked_keyframe_at = now
            self.plis += 1
            self.say([rtcp.Pli(1, self.their_ssrc)])

    def _ask_for(self, numbers: Iterable[int]) -> None:
        due = list(numbers) if self.asks else []
        for number in due:
            gap = self._gaps[number]
            gap.asked_at = self.world.now
            gap.tries += 1
            if gap.tries >= NACK_TRIES:
                del self._gaps[number]
        if due:
            self.nacked += len(due)
            self.say([rtcp.Nack(1, self.their_ssrc, tuple(n % SEQUENCES for n in due))])
