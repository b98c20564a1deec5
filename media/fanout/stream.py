"""One live stream on this worker: its source, its two tracks, its viewers, and what they say in RTCP.

Sans-IO but for the sender: `now` (steady seconds) is given, what to ask of the source goes through it. The
rule: after packets have been fed, ask `next_deadline()` if it is `stirred`, and call `handle_timeout(now)`
when it has come.
"""

from collections.abc import Callable, Iterable

from media.core import rtcp
from media.core.codecs import VideoCodec
from media.core.sdp import Agreed, AgreedTrack, StreamDescription
from media.fanout.destinations import Destination
from media.fanout.sender import FanoutSender
from media.fanout.sendmany import SocketAddress
from media.fanout.source import Source
from media.fanout.streams import Stream
from media.fanout.track import JOIN_PATIENCE, Track
from media.fanout.viewer import Subscription, Viewer

VIDEO_CLOCK, AUDIO_CLOCK = 90_000, 48_000
STALLED_AFTER = 2.0  # seconds without a packet
DLRR_MAX = 8  # reference times of one datagram that are answered: a receiver has one
_REPORTS = (rtcp.ReceiverReport, rtcp.SenderReport)
LSR_KEPT = 8.0  # seconds for which a viewer's round trip may refer to a sender report of ours


class LiveStream:
    """What viewers see of it (SSRCs, names, numbering) stays while sources come and go."""

    def __init__(self, channel: str, sender: FanoutSender, random: Callable[[int], bytes]) -> None:
        self.channel = channel
        self._sender = sender
        self._random = random
        self.cname = random(8).hex()
        self.msid = f"showcaller-{random(6).hex()}"
        ssrcs: set[int] = set()
        while len(ssrcs) < 3:
            ssrcs.add(int.from_bytes(random(4), "big") or 1)
        video_ssrc, audio_ssrc, self._own_ssrc = ssrcs
        self.video = Track(
            "video",
            sender,
            ssrc=video_ssrc,
            clock_rate=VIDEO_CLOCK,
            first_number=self._start(),
            first_timestamp=int.from_bytes(random(4), "big"),
        )
        self.audio = Track(
            "audio",
            sender,
            ssrc=audio_ssrc,
            clock_rate=AUDIO_CLOCK,
            first_number=self._start(),
            first_timestamp=int.from_bytes(random(4), "big"),
        )
        self.tracks = (self.video, self.audio)
        self.source: Source | None = None
        self.viewers: dict[str, Viewer] = {}
        self._reports_sent: dict[int, float] = {}  # middle NTP of our sender reports -> when

    def _start(self) -> int:
        """A first sequence number: anywhere in the lower half, far from the wrap (RFC 3711 section 3.3.1)."""
        return 0x10000 + int.from_bytes(self._random(2), "big") % 0x8000

    @property
    def own_ssrc(self) -> int:
        """Our name in RTCP toward the source."""
        return self._own_ssrc

    # -- source

    def set_source(self, source: Source | None) -> None:
        """Take the stream from this peer from now on (None: nobody sends at present)."""
        self.source = source

    def state(self, now: float) -> str:
        """waiting: nothing could be shown yet; live; stalled: nothing came for 2 s."""
        if self.video.counters.packets == 0 and self.audio.counters.packets == 0:
            return "waiting"
        last = max((t.last_packet_at for t in self.tracks if t.last_packet_at is not None), default=None)
        return "stalled" if last is None or now - last > STALLED_AFTER else "live"

    @property
    def video_codec(self) -> VideoCodec | None:
        """Of the pictures that come; None before the first one, and from a source of sound alone."""
        sound_alone = self.source is not None and self.video not in self.source.tracks
        return None if sound_alone or not self.video.counters.packets else self.video.codec

    def round_trip(self) -> float | None:
        return None if self.source is None else self.source.rtt

    # -- viewers

    def describe(self) -> StreamDescription:
        """What a new viewer's answer says; each viewer retransmits on an SSRC of its own."""
        return StreamDescription(
            video_ssrc=self.video.ssrc,
            video_rtx_ssrc=int.from_bytes(self._random(4), "big") or 1,
            audio_ssrc=self.audio.ssrc,
            cname=self.cname,
            msid=self.msid,
        )

    def join(
        self,
        viewer_id: str,
        agreed: Agreed,
        description: StreamDescription,
        destination: Destination,
        *,
        may_repeat: bool,
        now: float,
    ) -> Viewer:
        """A viewer's DTLS is done: begin to send to it as soon as it can start."""
        viewer = Viewer(viewer_id, destination)
        self.viewers[viewer_id] = viewer
        if agreed.audio is not None:
            viewer.audio = self._subscription(agreed.audio, 0, destination, may_repeat, now)
            self.audio.subscribe(viewer.audio, now)
        if agreed.video is not None:
            viewer.video = self._subscription(
                agreed.video, description.video_rtx_ssrc, destination, may_repeat, now
            )
            if self.video.subscribe(viewer.video, now):
                self._ask_keyframe(now)
        return viewer

    def _subscription(
        self, agreed: AgreedTrack, rtx_ssrc: int, destination: Destination, may_repeat: bool, now: float
    ) -> Subscription:
        return Subscription(
            destination=destination,
            payload_type=agreed.payload_type,
            codec=agreed.codec,
            rtx_payload_type=agreed.rtx_payload_type if rtx_ssrc else None,
            rtx_ssrc=rtx_ssrc,
            may_repeat=may_repeat,
            joined_at=now,
            wish_at=now + JOIN_PATIENCE,
            rtx_sequence=int.from_bytes(self._random(2), "big") % 0x8000,
        )

    def leave(self, viewer_id: str) -> None:
        viewer = self.viewers.pop(viewer_id, None)
        if viewer is None:
            return
        if viewer.video is not None:
            self.video.unsubscribe(viewer.video)
        if viewer.audio is not None:
            self.audio.unsubscribe(viewer.audio)

    def move(self, viewer: Viewer, where: SocketAddress | Stream) -> None:
        """A viewer is reached at another address, or by a connection, from now on."""
        destination = viewer.destination
        over_tcp = destination.stream is not None
        destination.go_to(where)
        if over_tcp is (destination.stream is not None):
            return
        for track, subscription in ((self.video, viewer.video), (self.audio, viewer.audio)):
            if subscription is not None:
                track.refile(subscription)

    def _ask_keyframe(self, now: float) -> None:
        if self.source is not None:
            self.source.wish_keyframe(self.video, now)

    def feedback(self, viewer: Viewer, packets: Iterable[rtcp.RtcpPacket], now: float) -> None:
        """What a viewer says in RTCP."""
        reference_times: list[rtcp.Dlrr] = []
        for packet in packets:
            if isinstance(packet, _REPORTS):
                self._reception(viewer, packet.reports, now)
            elif isinstance(packet, rtcp.Nack):
                self._nack(viewer, packet, now)
            elif isinstance(packet, rtcp.Pli | rtcp.Fir):
                viewer.plis += 1
                self.video.counters.plis += 1
                started = viewer.video is not None and viewer.video.start is not None
                if started:
                    self.video.stirred = True  # by a wish that has to wait
                    if self.video.keyframes.want(now):
                        self._ask_keyframe(now)
            elif isinstance(packet, rtcp.Remb):
                if self.video.ssrc in packet.ssrcs or self.audio.ssrc in packet.ssrcs:
                    viewer.estimate.remb(packet.bitrate, now)
            elif isinstance(packet, rtcp.ExtendedReport) and packet.reference_time is not None:
                reference_times.append(rtcp.Dlrr(packet.ssrc, rtcp.middle(packet.reference_time), 0))
        if reference_times:
            self._answer_reference_times(viewer, reference_times[-DLRR_MAX:])

    def _answer_reference_times(self, viewer: Viewer, answers: list[rtcp.Dlrr]) -> None:
        """So that a receiver, which sends no reports of its own, knows the round trip (RFC 3611 4.4, 4.5).

        At once, so without a delay to tell; and once a datagram, however many it asks with.
        """
        viewer.reference_times += len(answers)
        self._send_rtcp(
            viewer.destination,
            [
                rtcp.ReceiverReport(self.video.ssrc),
                rtcp.ExtendedReport(self.video.ssrc, dlrr=tuple(answers)),
            ],
        )

    def _nack(self, viewer: Viewer, packet: rtcp.Nack, now: float) -> None:
        viewer.nacks += len(packet.sequences)
        for track, subscription in ((self.video, viewer.video), (self.audio, viewer.audio)):
            if subscription is not None and packet.media_ssrc == track.ssrc:
                track.resend(subscription, packet.sequences, now, viewer.rtt)

    def main_track(self, viewer: Viewer) -> Track:
        """The track whose reports tell how a viewer fares: the picture, or the sound where it has none."""
        return self.audio if viewer.video is None else self.video

    def _reception(self, viewer: Viewer, reports: Iterable[rtcp.ReceptionReport], now: float) -> None:
        main = self.main_track(viewer).ssrc
        for report in reports:
            ssrc = report.ssrc
            if ssrc == main:
                viewer.heard, viewer.heard_at = report, now
                viewer.estimate.report(report, viewer.destination.bytes_sent, now)
            sent = self._reports_sent.get(report.last_sr)
            if sent is not None and (ssrc == main or ssrc in (self.video.ssrc, self.audio.ssrc)):
                viewer.rtt = max(0.0, now - sent - report.delay_since_last_sr / 65536)

    def _send_rtcp(self, destination: Destination, packets: list[rtcp.RtcpPacket]) -> None:
        data = b"".join(packet.to_bytes() for packet in packets)
        self._sender.send_control(destination.outbound.protect_rtcp(data), destination)

    def report(self, now: float, viewers: Iterable[Viewer] | None = None) -> None:
        """A sender report of each track to these viewers, or to all; without a clock yet, a sign of life.

        To be called once a second, and for a viewer that has just joined. Who has left is passed over.
        """
        rtt = self.round_trip()
        reports: dict[str, rtcp.RtcpPacket] = {}
        for track in self.tracks:
            pair = track.report_pair(now, rtt)
            if pair is None:
                continue
            counters = track.counters
            payload_bytes = max(0, counters.received_bytes - 12 * counters.packets)
            reports[track.kind] = rtcp.SenderReport(
                track.ssrc, pair[0], pair[1], counters.packets, payload_bytes
            )
            self._reports_sent[rtcp.middle(pair[0])] = now
        # By age, not by number: each joiner gets a report of its own, and a storm of them is many.
        while self._reports_sent:
            oldest = next(iter(self._reports_sent))
            if now - self._reports_sent[oldest] <= LSR_KEPT:
                break
            del self._reports_sent[oldest]
        names = rtcp.SourceDescription(tuple((track.ssrc, self.cname) for track in self.tracks))
        compounds: dict[tuple[str, ...], bytes] = {}
        for viewer in list(self.viewers.values()) if viewers is None else viewers:
            if self.viewers.get(viewer.id) is not viewer:
                continue
            has = ("video",) * (viewer.video is not None) + ("audio",) * (viewer.audio is not None)
            compound = compounds.get(has)
            if compound is None:
                mine = [reports[kind] for kind in has if kind in reports]
                packets = [*(mine or [rtcp.ReceiverReport(self.video.ssrc)]), names]
                compound = compounds[has] = b"".join(packet.to_bytes() for packet in packets)
            destination = viewer.destination
            self._sender.send_control(destination.outbound.protect_rtcp(compound), destination)

    # -- time

    @property
    def stirred(self) -> bool:
        """Whether `next_deadline` may be sooner than when it was last asked for; it goes to later unsaid."""
        return self.video.stirred or self.audio.stirred

    def next_deadline(self) -> float | None:
        """When to call `handle_timeout`; None: not by itself. Nothing is stirred any more."""
        picture, sound = self.video.next_deadline(), self.audio.next_deadline()
        if picture is None or sound is None:
            return sound if picture is None else picture
        return min(picture, sound)

    def handle_timeout(self, now: float) -> None:
        rtt = self.round_trip()
        for track in self.tracks:
            wishes = track.handle_timeout(now, rtt)
            if self.source is not None and (wishes.keyframe or wishes.sequences):
                self.source.wish(track, wishes, now)
