"""Where a live stream comes from: a publisher (WHIP) or a relay from another worker.

Sorts the peer's packets by payload type into tracks, undoes retransmissions (RFC 4588), keeps what our
receiver reports say, and turns what the tracks want into RTCP: NACK, PLI, REMB. No sockets: `send` is given.
"""

import math
from collections.abc import Callable, Iterable

from media.core import rtcp
from media.core.errors import ParseError
from media.core.rtp import parse_header, restore_rtx
from media.core.runs import PlainRun
from media.core.sdp import AgreedTrack
from media.fanout.reception import Reception
from media.fanout.track import Track, Wishes

REMB_CAP = 10_000_000  # bits per second: more than any layer; without a REMB a browser stays at 300 kbps
SSRC_SILENT = 1.0  # seconds after which another SSRC may take a track over

SendRtcp = Callable[[list[rtcp.RtcpPacket], float], None]


class Source:
    """One peer that sends to us. It feeds tracks until it is detached."""

    def __init__(
        self,
        *,
        ssrc: int,
        video: tuple[AgreedTrack, Track] | None,
        audio: tuple[AgreedTrack, Track] | None,
        send: SendRtcp,
        remb: bool,
    ) -> None:
        """`ssrc` is our name in RTCP; `remb`: announce a bitrate (to publishers, not to nodes)."""
        self._ssrc = ssrc
        self._send = send
        self._remb = remb
        self._by_payload_type: dict[int, tuple[Track, int | None]] = {}  # None: media; else RTX of that type
        self._tracks: list[Track] = []
        self._reception: dict[int, Reception] = {}
        self._media_ssrc: dict[str, int] = {}
        self._agreed: dict[str, AgreedTrack] = {}
        for agreed, track in [pair for pair in (video, audio) if pair is not None]:
            self._tracks.append(track)
            self._agreed[track.kind] = agreed
            self._by_payload_type[agreed.payload_type] = (track, None)
            if agreed.rtx_payload_type is not None:
                self._by_payload_type[agreed.rtx_payload_type] = (track, agreed.payload_type)
            if agreed.remote_ssrc is not None:
                self._media_ssrc[track.kind] = agreed.remote_ssrc
            track.change_source()
            if agreed.codec is not None:
                track.take_codec(agreed.codec)
        self.rtt: float | None = None  # seconds, by RRTR and DLRR or as the driver knows it
        self.bytes_received = 0
        self.nacks_sent = 0  # packets
        self.plis_sent = 0
        self.last_at: float | None = None  # anything authentic
        self._reference_sent: dict[int, float] = {}

    @property
    def tracks(self) -> list[Track]:
        return self._tracks

    def reception(self, track: Track) -> Reception | None:
        """How the track's SSRC arrives; None before its first packet."""
        return self._reception.get(self._media_ssrc.get(track.kind, -1))

    def receive_rtp(self, data: bytes, now: float) -> None:
        self.last_at = now
        self.bytes_received += len(data)
        try:
            header = parse_header(data)
            entry = self._by_payload_type.get(header.payload_type)
            if entry is None:
                return
            track, apt = entry
            if apt is not None:
                primary = self._media_ssrc.get(track.kind)
                if primary is None or not self._retransmits(track, header.ssrc, primary):
                    return
                restored = restore_rtx(data, payload_type=apt, ssrc=primary)
                if restored is None:
                    return
                track.receive(restored, parse_header(restored), now, again=True)
                return
        except ParseError:
            return
        reception = self._reception.get(header.ssrc)
        if reception is None:
            if not self._takes_over(track, header.ssrc, now):
                return
            reception = self._new_ssrc(track, header.ssrc)
        reception.packets(header.sequence, header.timestamp, 1, now)
        track.receive(data, header, now)

    def receive_run(self, run: PlainRun, now: float) -> None:
        """The same for a run: as a whole where nothing is special about it, else packet by packet."""
        header = run.header
        track, apt = self._by_payload_type.get(header.payload_type, (None, None))
        reception = self._reception.get(header.ssrc)
        if track is None or apt is not None or reception is None or not track.receive_run(run, now):
            for packet in run.packets():
                self.receive_rtp(packet, now)
            return
        self.last_at = now
        self.bytes_received += run.size
        reception.packets(header.sequence, header.timestamp, header.packets, now)

    def _takes_over(self, track: Track, ssrc: int, now: float) -> bool:
        """Whether a new SSRC may have the track: the one the SDP names, or any once its holder is silent.

        A publisher may send layers as SSRCs of one payload type though we answered none of it (the SIM groups
        of old): a track that followed each packet would change its source with each.
        """
        holder = self._reception.get(self._media_ssrc.get(track.kind, ssrc))
        return (
            holder is None
            or ssrc == self._agreed[track.kind].remote_ssrc
            or now - holder.last_at > SSRC_SILENT
        )

    def _retransmits(self, track: Track, ssrc: int, primary: int) -> bool:
        """Whether this RTX SSRC belongs to the track's SSRC, as far as the SDP tells.

        Another layer's retransmission would come out as a packet of this one, thousands of numbers away.
        """
        agreed = self._agreed[track.kind]
        if agreed.remote_rtx_ssrc is None:
            return True
        return ssrc == agreed.remote_rtx_ssrc and primary == agreed.remote_ssrc

    def _new_ssrc(self, track: Track, ssrc: int) -> Reception:
        """The first packet of an SSRC: it is the track's from now on, and its predecessor is forgotten."""
        previous = self._media_ssrc.get(track.kind)
        if previous is not None and previous != ssrc:
            self._reception.pop(previous, None)
        self._media_ssrc[track.kind] = ssrc
        reception = self._reception[ssrc] = Reception(ssrc, track.clock_rate)
        return reception

    def receive_rtcp(self, packets: Iterable[rtcp.RtcpPacket], now: float) -> None:
        self.last_at = now
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                self._sender_report(packet, now)
            elif isinstance(packet, rtcp.ExtendedReport):
                for answer in packet.dlrr:
                    sent = self._reference_sent.get(answer.last_rr)
                    if sent is not None:
                        self.rtt = max(0.0, now - sent - answer.delay / 65536)

    def _sender_report(self, report: rtcp.SenderReport, now: float) -> None:
        for track in self._tracks:
            if self._media_ssrc.get(track.kind) == report.ssrc:
                track.clock.received(report.ntp, report.rtp_timestamp, now)
                reception = self._reception.get(report.ssrc)
                if reception is not None:
                    reception.sender_report(report.ntp, now)

    def wish(self, track: Track, wishes: Wishes, now: float) -> None:
        """Ask the peer for what a track wants."""
        ssrc = self._media_ssrc.get(track.kind)
        if ssrc is None:
            return
        packets: list[rtcp.RtcpPacket] = []
        if wishes.keyframe:
            track.counters.plis_sent += 1
            self.plis_sent += 1
            packets.append(rtcp.Pli(self._ssrc, ssrc))
        if wishes.sequences:
            track.counters.nacks_sent += len(wishes.sequences)
            self.nacks_sent += len(wishes.sequences)
            packets.append(rtcp.Nack(self._ssrc, ssrc, tuple(wishes.sequences)))
        if packets:
            self._send([rtcp.ReceiverReport(self._ssrc), *packets], now)

    def wish_keyframe(self, track: Track, now: float) -> None:
        self.wish(track, Wishes(keyframe=True), now)

    def report(self, now: float, wall: float) -> None:
        """Once a second: receiver report, reference time, and to publishers the bitrate they may send."""
        blocks = [block for r in self._reception.values() if (block := r.report(now)) is not None]
        reference = rtcp.ntp_from_unix(wall)
        key = rtcp.middle(reference)
        self._reference_sent[key] = now
        while len(self._reference_sent) > 8:
            del self._reference_sent[next(iter(self._reference_sent))]
        packets: list[rtcp.RtcpPacket] = [
            rtcp.ReceiverReport(self._ssrc, tuple(blocks[:31])),
            rtcp.ExtendedReport(self._ssrc, reference_time=reference),
        ]
        ssrcs = tuple(self._media_ssrc.values())
        if self._remb and ssrcs:
            packets.append(rtcp.Remb(self._ssrc, REMB_CAP, ssrcs))
        self._send(packets, now)

    def quiet_for(self, now: float) -> float:
        """Seconds since anything authentic came; infinite before that."""
        return math.inf if self.last_at is None else now - self.last_at
