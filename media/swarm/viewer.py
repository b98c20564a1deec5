"""One viewer of a swarm, sans-IO: a real WebRTC peer that looks at as little as it may.

ICE, DTLS, SRTP and RTCP are real: an edge cannot tell it from a browser by what it is sent. To be cheap it
decodes nothing, and once it has seen a whole key frame it decrypts only a sample; the rest is counted by
headers, which SRTP leaves readable. Every second it reports what it received (RR), asks for what is missing
(NACK), and says which delay it sees (by the sender reports, RFC 3550 section 6.4.1).
"""

import struct
from dataclasses import dataclass, field

from media.core import rtcp
from media.core.errors import ParseError
from media.core.rtp import parse_header
from media.core.sdp import Agreed
from media.core.session import (
    Address,
    Closed,
    Connected,
    DtlsReady,
    RemoteChanged,
    RtcpPacket,
    RtpPacket,
    Session,
    Transmit,
)
from media.swarm.arrivals import Arrivals

SAMPLE = 64  # of so many reads of the socket one is decrypted
LATE_S = 0.15  # a frame later than this is counted; see Frames

_SEQUENCE = struct.Struct("!BHII")  # marker and payload type, sequence, timestamp, SSRC; from the second byte


@dataclass
class Frames:
    """The video frames of one viewer by their last packets. Times in seconds of the clock it is given.

    A frame is as late as its way took longer than that of the viewer's quickest frame so far: its arrival
    against its RTP timestamp, so whatever held it up on the way from the publisher's clock on counts.
    """

    late_after: float = LATE_S
    seen: int = 0
    late: int = 0  # later than `late_after`
    latest: float = 0.0  # the worst lateness since it was last asked for
    gap: float = 0.0  # the longest time between two frames since it was last asked for
    last_at: float | None = None
    _quickest: float | None = field(default=None, repr=False)
    timestamp: int = 0  # of the newest, as sent
    _extended: int = 0

    def end(self, timestamp: int, now: float) -> None:
        """A frame's last packet has come."""
        if self.last_at is None:
            self._extended = timestamp
        else:
            self._extended += (timestamp - self.timestamp + 0x80000000) % 0x100000000 - 0x80000000
            self.gap = max(self.gap, now - self.last_at)
        self.timestamp = timestamp
        self.last_at = now
        self.seen += 1
        transit = now - self._extended / 90_000
        if self._quickest is None or transit < self._quickest:
            self._quickest = transit
        lateness = transit - self._quickest
        self.latest = max(self.latest, lateness)
        if lateness > self.late_after:
            self.late += 1

    def take_worst(self) -> tuple[float, float]:
        """The worst lateness and the longest gap since the last call."""
        worst = self.latest, self.gap
        self.latest = self.gap = 0.0
        return worst


class Viewer:
    """After every call, send what `outgoing` holds and look at `next_timeout`."""

    def __init__(
        self, session: Session, agreed: Agreed, ssrc: int, now: float, late_after: float = LATE_S
    ) -> None:
        """`ssrc` is our name in RTCP. Times are of one steady clock."""
        self.session = session
        self.outgoing: list[tuple[bytes, Address]] = []
        self.state = "connecting"  # connected, closed
        self.reason = ""
        self.remote: Address | None = None
        self.connected_at: float | None = None
        self.first_frame_at: float | None = None  # a whole key frame is here
        self.closed_at: float | None = None
        self.bytes = 0  # SRTP, headers included
        self.datagrams = 0
        self.unauthentic = 0  # of those decrypted
        self.decrypted = 0
        self.reports_sent = self.nacks_sent = 0
        self.frames = Frames(late_after)
        self.started_at = now
        self._ssrc = ssrc
        self._arrivals: dict[int, Arrivals] = {}
        self._clock = {t.payload_type: t for t in (agreed.video, agreed.audio) if t is not None}
        self._video = agreed.video
        self._video_arrivals: Arrivals | None = None
        self._keyframe: tuple[int, int] | None = None  # timestamp, and the sequence its next packet must have
        self._reads = 0
        self._clock_pair: tuple[int, int] | None = None  # NTP time and timestamp of the video's latest report
        self._pump(now)

    @property
    def arrivals(self) -> list[Arrivals]:
        return list(self._arrivals.values())

    # -- in

    def receive(self, data: memoryview, segment: int, source: Address, now: float) -> bool:
        """One read of the socket: datagrams of `segment` bytes, the last may be shorter (UDP_GRO).

        False when it was only counted: then there is nothing to send, and the next timeout is what it was.
        """
        size = len(data)
        self._reads += 1
        sampled = self.first_frame_at is None or self._reads % SAMPLE == 0
        if not sampled and self._whole_run(data, size, segment, now):
            return False
        for at in range(0, size, segment):
            self._datagram(data[at : at + segment], sampled, source, now)
        self._pump(now)
        return True

    def _whole_run(self, data: memoryview, size: int, segment: int, now: float) -> bool:
        """Count packets of one frame that came in one read (or one packet), without looking at each.

        False when it is anything else.
        """
        count = -(-size // segment)
        tail = (count - 1) * segment
        if size - tail < 12 or data[0] < 128:
            return False
        kind, first, timestamp, ssrc = _SEQUENCE.unpack_from(data, 1)
        last, last_timestamp, last_ssrc = first, timestamp, ssrc
        if tail:
            kind, last, last_timestamp, last_ssrc = _SEQUENCE.unpack_from(data, tail + 1)
        arrivals = self._arrivals.get(ssrc)
        if (
            arrivals is None
            or 192 <= kind <= 223  # RTCP
            or last_ssrc != ssrc
            or last_timestamp != timestamp
            or (last - first) % 0x10000 != count - 1
        ):
            return False
        self.bytes += size
        self.datagrams += count
        arrivals.run(first, count, timestamp, now)
        if kind & 0x80 and arrivals is self._video_arrivals:
            self.frames.end(timestamp, now)
        return True

    def _datagram(self, packet: memoryview, sampled: bool, source: Address, now: float) -> None:
        if len(packet) < 12 or not 128 <= packet[0] <= 191 or 192 <= packet[1] <= 223:
            self.session.receive(bytes(packet), source, now)  # STUN, DTLS, RTCP
            return
        self.bytes += len(packet)
        self.datagrams += 1
        kind, sequence, timestamp, ssrc = _SEQUENCE.unpack_from(packet, 1)
        track = self._clock.get(kind & 0x7F)
        if track is None:  # a retransmission: which packet it brings is inside
            self.session.receive(bytes(packet), source, now)
            return
        if sampled:
            self.session.receive(bytes(packet), source, now)
            self.decrypted += 1
        arrivals = self._arrivals.get(ssrc)
        if arrivals is None:
            arrivals = self._arrivals[ssrc] = Arrivals(ssrc, track.clock_rate)
            if track is self._video:
                self._video_arrivals = arrivals
        arrivals.run(sequence, 1, timestamp, now)
        if kind & 0x80 and track is self._video:
            self.frames.end(timestamp, now)

    def handle_timeout(self, now: float) -> None:
        self.session.handle_timeout(now)
        self._pump(now)

    def next_timeout(self) -> float | None:
        return self.session.next_timeout()

    def close(self, now: float) -> None:
        self.session.close(now, "the swarm leaves")
        self._pump(now)

    def report(self, now: float) -> None:
        """Once a second: what arrived."""
        blocks = [
            block for arrivals in self._arrivals.values() if (block := arrivals.report(now)) is not None
        ]
        if self.state == "connected":
            self.session.send_rtcp([rtcp.ReceiverReport(self._ssrc, tuple(blocks[:31]))], now)
            self.reports_sent += 1
            self._pump(now)

    def ask(self, now: float) -> bool:
        """Some times a second: NACK what is missing. Whether there was anything to ask for."""
        arrivals = self._video_arrivals
        if self.state != "connected" or arrivals is None or not arrivals.missing:
            return False
        missing = arrivals.to_ask(now)
        if missing:
            nack = rtcp.Nack(self._ssrc, arrivals.ssrc, missing)
            self.session.send_rtcp([rtcp.ReceiverReport(self._ssrc), nack], now)
            self.nacks_sent += len(missing)
            self._pump(now)
        return bool(missing)

    def watched(self, now: float) -> float:
        """Seconds since its first picture, as long as its session stands or stood."""
        if self.first_frame_at is None:
            return 0.0
        return (now if self.closed_at is None else self.closed_at) - self.first_frame_at

    def latency(self, unix: float) -> float | None:
        """Seconds from capture to the newest frame's arrival, if both ends' clocks agree.

        `unix` is Unix time less our clock. None before the first sender report and frame.
        """
        pair, frames = self._clock_pair, self.frames
        if pair is None or frames.last_at is None:
            return None
        behind = (pair[1] - frames.timestamp + 0x80000000) % 0x100000000 - 0x80000000
        return frames.last_at + unix - (rtcp.unix_from_ntp(pair[0]) - behind / 90_000)

    # -- what the session says

    def _pump(self, now: float) -> None:
        poll = self.session.poll
        while (item := poll()) is not None:
            if isinstance(item, Transmit):
                self.outgoing.append((item.data, item.to))
            elif isinstance(item, RtpPacket):
                self._opened(item.data, now)
            elif isinstance(item, RtcpPacket):
                self._control(item.packets, now)
            elif isinstance(item, Connected | RemoteChanged):
                self.remote = item.remote
            elif isinstance(item, DtlsReady):
                self.state = "connected"
                self.connected_at = now
            elif isinstance(item, Closed):
                self.state = "closed"
                self.closed_at = now
                self.reason = item.reason

    def _opened(self, packet: bytes, now: float) -> None:
        """A packet that was decrypted: one of a sample, of the first picture, or a retransmission."""
        try:
            header = parse_header(packet)
        except ParseError:
            return
        video = self._video
        if video is None or (self._video_arrivals is None and header.payload_type != video.payload_type):
            return
        payload = header.payload(packet)
        if header.payload_type == video.rtx_payload_type:
            if len(payload) >= 2 and self._video_arrivals is not None:
                self._video_arrivals.restored(payload[0] << 8 | payload[1])
            return
        if self.first_frame_at is None and header.payload_type == video.payload_type:
            self._wait_for_picture(header.sequence, header.timestamp, header.marker, payload, now)

    def _wait_for_picture(
        self, sequence: int, timestamp: int, marker: bool, payload: memoryview, now: float
    ) -> None:
        if self._keyframe is None or self._keyframe != (timestamp, sequence):
            self._keyframe = None
            codec = None if self._video is None else self._video.codec
            if codec is None or not codec.is_keyframe_start(payload):
                return
        self._keyframe = (timestamp, (sequence + 1) % 0x10000)
        if marker:
            self.first_frame_at = now

    def _control(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                arrivals = self._arrivals.get(packet.ssrc)
                if arrivals is not None:
                    arrivals.sender_report(packet.ntp, now)
                    if arrivals is self._video_arrivals:
                        self._clock_pair = (packet.ntp, packet.rtp_timestamp)
