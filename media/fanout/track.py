"""One medium of a live stream on this worker: packets of a source in, datagrams to its viewers out.

A packet's way: gate (a new source begins with a key frame) -> continuity (our numbers and timestamps) ->
ring -> batcher -> sender. The source's loss is noted on the way; who drives the track asks for what is
missing.

Joining: a viewer of the picture begins at the first packet of a key frame, live, or out of the ring with the
whole group of pictures so far, never with anything less. No viewer begins shortly before the 16-bit sequence
number wraps: a receiver that loses its first packets there would count the wraps differently from us and fail
to authenticate for ever.

A track has the codec of its source, and a viewer that of its answer. Nothing is sent to a viewer of another
codec: it waits, whatever it was sent before, until whoever owns it ends its session.

Stalling: a viewer over TCP whose connection had no room for a batch of the picture gets no more of it: half a
frame is of no use, and what waits is old by then. It waits like a joiner, and begins again with a key frame
once there is room. One is asked for on its behalf, each time it stalls soon again after a longer pause: a
viewer whose line is too narrow must not make the picture of all others coarse.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from media.core.codecs import VideoCodec
from media.core.errors import ParseError
from media.core.picture import Resolution
from media.core.rtp import RtpHeader, build_rtx
from media.core.runs import PlainRun
from media.core.srtp import WINDOW_OUT
from media.fanout.continuity import Continuity
from media.fanout.destinations import ViewerClass
from media.fanout.frames import Batch, FrameBatcher, evened
from media.fanout.keyframes import KeyframeRequests
from media.fanout.loss import MissingPackets, met_on_its_way
from media.fanout.ring import PacketRing
from media.fanout.sender import MAX_PACKET, FanoutSender
from media.fanout.senderclock import SenderClock
from media.fanout.viewer import Subscription

WRAP_MARGIN = (64, 512)  # packets, at least and at most; between them a second of the track
NACKS_READ = 512  # packets of one NACK that are looked for: twice what a viewer may have at once
LATE_KEPT = 256  # packets that filled a gap, and when: those that viewers may be asking for just now
FLUSH_AFTER = 0.002  # seconds an unfinished frame waits for its next packet
JOIN_PATIENCE = 0.3  # seconds a joiner waits for a live key frame before it gets the group of pictures so far
WISH_AGAIN = 0.5
BURST_SLICE = 32  # packets
BURST_EVERY = 0.004  # seconds
BURST_BLOCKED = 0.02  # when all that catch up wait for room in their connections
ROOM_AGAIN = 0.1  # seconds until it is looked again whether a stalled viewer has room
STALL_PAUSE = (0.25, 8.0)  # seconds, the first and the longest, before a key frame is asked for
STALLS_FORGOTTEN = 30.0  # seconds of picture after which a stall counts as the first again
_REPLAY_HORIZON = WINDOW_OUT - 24  # packets: beyond it an SRTP sender refuses an old number

_HEADER = struct.Struct("!BBHII")


@dataclass(slots=True)
class TrackCounters:
    """Since the start of the track."""

    packets: int = 0  # forwarded, each once
    received_bytes: int = 0  # RTP header and payload
    frames: int = 0
    keyframes: int = 0
    # Packets that were not forwarded, and why:
    keyless: int = 0  # before the first key frame of a source
    too_long: int = 0
    too_late: int = 0
    duplicates: int = 0
    stalls: int = 0  # times a viewer over TCP had no room for a batch
    # What viewers asked for, and what came of it:
    nacked: int = 0  # packets
    resent: int = 0
    resend_refused: int = 0  # beyond a viewer's budget
    plis: int = 0
    # What was asked for upstream:
    nacks_sent: int = 0  # packets
    plis_sent: int = 0


@dataclass(slots=True)
class Wishes:
    """What a track wants of its source now."""

    keyframe: bool = False
    sequences: list[int] = field(default_factory=list)


class Track:
    """See the module's docstring. `ssrc` is ours, the same for all viewers and all sources."""

    def __init__(
        self,
        kind: Literal["video", "audio"],
        sender: FanoutSender,
        *,
        ssrc: int,
        clock_rate: int,
        first_number: int,
        first_timestamp: int,
    ) -> None:
        self.kind = kind
        self.ssrc = ssrc
        self.stirred = True  # the next deadline may be sooner than when it was last asked for
        self.ring = PacketRing(4096 if kind == "video" else 512)
        self.clock = SenderClock(clock_rate)
        self.clock_rate = clock_rate
        self.missing = MissingPackets()
        self.keyframes = KeyframeRequests()
        self.counters = TrackCounters()
        self.codec: VideoCodec | None = (
            None  # of the source, or of the last one; None: sound, or no source yet
        )
        self.resolution: Resolution | None = None
        self.last_packet_at: float | None = None
        self.keyframe_at: float | None = None
        self.source_ssrc: int | None = None
        self._sender = sender
        self._continuity = Continuity(clock_rate, first_number, first_timestamp)
        self._batcher = FrameBatcher()
        self._flush_at: float | None = None
        self._frame_timestamp: int | None = None
        self._keyframe_timestamp: int | None = None
        self._gated = kind == "video"
        self._gate_wish_at: float | None = None  # a source sends, but its key frame was missed: ask for one
        self._classes: dict[tuple[int, int], ViewerClass] = {}
        self._late: OrderedDict[int, float] = (
            OrderedDict()
        )  # numbers that filled a gap -> when they were sent
        self._waiting: list[Subscription] = []
        self._catching: list[Subscription] = []
        self._live: list[Subscription] = []
        self._burst_at: float | None = None
        self._begins_keyframe: Callable[[bytes], bool] | None = None  # None: nothing in this track is one
        self._size_header: bytes | None = None
        self._first_at: float | None = None

    # -- the source's side

    def change_source(self) -> None:
        """What comes next is another source; what the old one left unfinished goes out first.

        Also when nothing of the old one was shown: its clock and what was asked of it are not the new one's.
        """
        self.source_ssrc = None
        self.missing.reset()
        self.keyframes.reset()
        self.clock.reset()
        self._continuity.change_source()
        self._gated = self.kind == "video"
        self._gate_wish_at = None
        self._keyframe_timestamp = None

    def take_codec(self, codec: VideoCodec) -> None:
        """The new source sends this codec. If it is another one, what was before is of no use to a joiner."""
        if codec is self.codec:
            return
        self.codec = codec
        self.stirred = True
        self._begins_keyframe = codec.is_keyframe_start
        self._size_header = None
        self.ring.gop_start = None
        self.keyframe_at = None
        for subscription in (*self._catching, *self._live):  # all of the codec before
            subscription.start = subscription.cursor = None
            self._waiting.append(subscription)
        self._catching.clear()
        self._live.clear()
        for viewers in self._classes.values():
            viewers.dissolve()
        self._classes.clear()
        self._burst_at = None

    def _misfit(self, subscription: Subscription) -> bool:
        """A viewer of another codec than what is on air."""
        return self.codec is not None and subscription.codec is not self.codec

    def receive(self, packet: bytes, header: RtpHeader, now: float, *, again: bool = False) -> None:
        """A packet of the source, in plaintext, its RTX already undone (`again`: it was one)."""
        if self.source_ssrc is not None and header.ssrc != self.source_ssrc:
            self.change_source()
        payload = packet[header.payload_offset : len(packet) - header.padding]
        if len(payload) + 12 > MAX_PACKET:
            self.counters.too_long += 1
            return
        begins_keyframe = self._begins_keyframe
        keyframe = begins_keyframe is not None and begins_keyframe(payload)
        if self._gated:
            if not keyframe:
                self.counters.keyless += 1
                self.last_packet_at = now
                if self._gate_wish_at is None:
                    self._gate_wish_at = now
                    self.stirred = True
                return
            self._gated = False
            self._gate_wish_at = None
        self.source_ssrc = header.ssrc
        continuity = self._continuity
        before = continuity.newest
        number = continuity.map(header.sequence, header.timestamp, now)
        if number < continuity.floor:
            self.counters.too_late += 1
            return
        timestamp = continuity.map_timestamp(header.timestamp)
        out = (
            _HEADER.pack(0x80, 0x80 if header.marker else 0, number & 0xFFFF, timestamp, self.ssrc) + payload
        )
        if not self.ring.insert(number, out):
            self.counters.duplicates += 1
            return
        if number == before + 1:
            self.missing.followed(1)
        elif self.missing.arrived(number, before, now, again=again):
            self.stirred = True
        counters = self.counters
        counters.packets += 1
        counters.received_bytes += len(out)
        self.last_packet_at = now
        if self._first_at is None:
            self._first_at = now
        if keyframe:
            self._keyframe(number, timestamp, payload, late=number <= before, now=now)
        if number <= before:
            self._send_late(number, out, now)
            return
        marker = header.marker or self.kind == "audio"
        self._gather(number, [out], timestamp, marker=marker, now=now)
        if self._waiting and self.kind == "audio":
            self._start_waiting(number + 1, now)

    def receive_run(self, run: PlainRun, now: float) -> bool:
        """Take a run of the source's as a whole, where it brings nothing but the next packets of a picture.

        False, and nothing is changed, when it is to be looked at packet by packet: the source is another one
        or has to begin with a key frame, a key frame begins, something is missing before it or came twice.
        """
        header, codec = run.header, self.codec
        if self._gated or header.ssrc != self.source_ssrc or codec is None or run.longest > MAX_PACKET:
            return False
        padding = run.padding()
        if padding is None or run.begins_keyframe(codec):
            return False
        number = self._continuity.follow(header.sequence, header.timestamp, header.packets, now)
        if number is None:
            return False
        timestamp = self._continuity.timestamp
        packets = run.rewrite(number, timestamp, self.ssrc)
        self.ring.append(number, packets)
        self.missing.followed(header.packets)
        self.counters.packets += header.packets
        self.counters.received_bytes += run.size - padding
        self.last_packet_at = now
        self._gather(number, packets, timestamp, marker=header.marker, now=now)
        return True

    def _gather(self, number: int, packets: list[bytes], timestamp: int, *, marker: bool, now: float) -> None:
        """The next packets, of one picture or of sound, on their way to who is live."""
        if timestamp != self._frame_timestamp:
            self._frame_timestamp = timestamp
            self.counters.frames += 1
        for batch in self._batcher.add(number, packets, timestamp, marker=marker):
            self._send(batch, now)
        if self._batcher.pending:
            self._flush_at = now + FLUSH_AFTER
            self.stirred = True
        else:
            self._flush_at = None

    def _keyframe(self, number: int, timestamp: int, payload: bytes, *, late: bool, now: float) -> None:
        codec = self.codec
        header = codec.size_header_of(payload) if codec is not None else None
        if codec is not None and header is not None and header != self._size_header:
            self._size_header = header
            try:
                self.resolution = codec.resolution(header)
            except ParseError:
                self.resolution = None
        if timestamp == self._keyframe_timestamp:  # a further part of the key frame that has begun
            start = self.ring.gop_start
            if late and start is not None and number < start:
                self.ring.gop_start = number
            return
        if late:
            # The beginning of a key frame whose later packets came first: from the ring for who waits.
            if self.ring.gop_start is None or number > self.ring.gop_start:
                self._keyframe_timestamp = timestamp
                self.ring.gop_start = number
            return
        self._keyframe_timestamp = timestamp
        self.keyframe_at = now
        self.counters.keyframes += 1
        self.keyframes.arrived(now)
        self.flush(now)
        self.ring.gop_start = number
        if self._waiting:
            self._start_waiting(number, now)

    def _start_waiting(self, number: int, now: float) -> None:
        """The viewers that wait begin with this number, which is the next one to be sent."""
        if not self._may_start_at(number, now):
            return
        beginning = [s for s in self._waiting if not self._misfit(s) and not s.destination.congested]
        for subscription in beginning:
            self._waiting.remove(subscription)
            subscription.start = number
            self._go_live(subscription)

    def _may_start_at(self, number: int, now: float) -> bool:
        least, most = WRAP_MARGIN
        return (number & 0xFFFF) < 0x10000 - max(least, min(most, round(self._packet_rate(now))))

    def _packet_rate(self, now: float) -> float:
        """Packets a second, since the start."""
        return 0.0 if self._first_at is None else self.counters.packets / max(1.0, now - self._first_at)

    def _send(self, batch: Batch, now: float) -> None:
        if not self._live:
            return
        packets = evened(batch.packets)
        if packets is not batch.packets:
            for number, packet in enumerate(packets, batch.first):
                self.ring.replace(number, packet)
        full = self._sender.send_batch(Batch(batch.first, packets), self._classes.values(), now)
        if self.kind == "video":  # of the sound a moment is missing, that is all
            for destination in full:
                self._stall(next(s for s in self._live if s.destination is destination), now)

    def _send_late(self, number: int, packet: bytes, now: float) -> None:
        """A packet that filled a gap: to everyone who is past it, in as few calls as any other."""
        if number < self._continuity.newest - _REPLAY_HORIZON:
            self.counters.too_late += 1
            return
        self._late[number] = now
        if len(self._late) > LATE_KEPT:
            self._late.popitem(last=False)
        classes: Collection[ViewerClass] = self._classes.values()
        younger = {s.destination for s in self._live if s.start is None or s.start > number}
        if younger:
            classes = [viewers.without(younger) for viewers in classes]
        self._sender.send_batch(Batch(number, [packet]), classes, now)
        for subscription in self._catching:
            cursor, start = subscription.cursor, subscription.start
            if cursor is not None and start is not None and start <= number < cursor:
                self._sender.send_packets([packet], subscription.payload_type, subscription.destination, now)

    def flush(self, now: float) -> None:
        """Send what the batcher holds."""
        batch = self._batcher.flush()
        self._flush_at = None
        if batch is not None:
            self._send(batch, now)

    # -- the viewers' side

    def subscribe(self, subscription: Subscription, now: float) -> bool:
        """A viewer joins. True when a key frame is to be asked for now."""
        self._waiting.append(subscription)
        self.stirred = True
        return self.kind == "video" and self._serve(subscription, now)

    def _serve(self, subscription: Subscription, now: float) -> bool:
        """A viewer of the picture waits from now on. True when a key frame is to be asked for."""
        if self._misfit(subscription):
            return False
        recent = self.keyframe_at is not None and now - self.keyframe_at < WISH_AGAIN
        if recent and self._burst_from_ring(subscription, now):
            return False
        if self.keyframes.deaf(now):
            self._burst_from_ring(subscription, now)
        return self.keyframes.want(now)

    def unsubscribe(self, subscription: Subscription) -> None:
        for group in (self._waiting, self._catching, self._live):
            if subscription in group:
                group.remove(subscription)
        for viewers in self._classes.values():
            viewers.remove(subscription.destination)

    def refile(self, subscription: Subscription) -> None:
        """Its destination is reached over TCP instead of UDP now, or the other way round."""
        for viewers in self._classes.values():
            if viewers.remove(subscription.destination):
                viewers.add(subscription.destination)

    def _stall(self, subscription: Subscription, now: float) -> None:
        """Its connection had no room: it waits for room and a key frame. See the module's docstring."""
        self.unsubscribe(subscription)
        self.stirred = True
        if subscription.destination.stream is not None:
            subscription.destination.stream.discard()
        if now - subscription.stalled_at > STALLS_FORGOTTEN:
            subscription.stalls = 0
        first, longest = STALL_PAUSE
        subscription.wish_at = now + min(longest, first * 2**subscription.stalls)
        subscription.stalls += 1
        subscription.stalled_at = now
        subscription.stalled = True
        subscription.start = subscription.cursor = None
        subscription.not_before = self._continuity.newest + 1
        self._waiting.append(subscription)
        self.counters.stalls += 1

    def _go_live(self, subscription: Subscription) -> None:
        subscription.cursor = None
        subscription.stalled = False
        self._live.append(subscription)
        key = (subscription.payload_type, subscription.destination.tag_length)
        viewers = self._classes.get(key)
        if viewers is None:
            viewers = self._classes[key] = ViewerClass(*key)
        viewers.add(subscription.destination)

    def _burst_from_ring(self, subscription: Subscription, now: float) -> bool:
        """Begin to send the group of pictures so far to a waiting viewer; False when that cannot be done."""
        start = self.ring.gop_start
        if (
            start is None
            or start < subscription.not_before
            or self._gated
            or not self._may_start_at(start, now)
            or not self.ring.holds_gop()
        ):
            return False
        self._waiting.remove(subscription)
        subscription.start = subscription.cursor = start
        subscription.stalled = False
        self._catching.append(subscription)
        self._burst_at = now
        return True

    def _burst(self, now: float) -> None:
        """One slice to each viewer that catches up. What the batcher holds is still to be sent to all."""
        end = self._continuity.newest + 1 - self._batcher.held
        blocked = True
        for subscription in list(self._catching):
            cursor = subscription.cursor
            if cursor is None:
                continue
            if subscription.destination.congested:  # a connection takes a burst as fast as it can
                if cursor <= self.ring.newest - self.ring.capacity:
                    self._stall(subscription, now)  # what comes next for it is here no more
                continue
            blocked = False
            upto = min(cursor + BURST_SLICE, end)
            packets = [packet for n in range(cursor, upto) if (packet := self.ring.get(n)) is not None]
            sent = self._sender.send_packets(
                packets, subscription.payload_type, subscription.destination, now
            )
            if not sent:
                self._stall(subscription, now)
                continue
            subscription.cursor = upto
            if upto >= end:
                self._catching.remove(subscription)
                self._go_live(subscription)
        self._burst_at = now + (BURST_BLOCKED if blocked else BURST_EVERY) if self._catching else None

    def resend(
        self, subscription: Subscription, sequences: tuple[int, ...], now: float, rtt: float | None
    ) -> int:
        """Answer a viewer's NACK from the ring; returns how many packets went out again."""
        packets: list[bytes] = []
        self.counters.nacked += len(sequences)
        refused_before = subscription.budget.refused
        rate = self._packet_rate(now)
        sent = self._continuity.newest - self._batcher.held  # what is gathered still may be padded
        for sequence in sequences[:NACKS_READ]:
            number = self.ring.find(sequence)
            if number is None or subscription.start is None or not subscription.start <= number <= sent:
                continue
            if subscription.cursor is not None and number >= subscription.cursor:
                continue
            if met_on_its_way(self._late.get(number), now, rtt):
                continue
            if not subscription.budget.allow(number, now, min(rate, 2000.0), rtt):
                continue
            packet = self.ring.get(number)
            if packet is None:
                continue
            if subscription.rtx_payload_type is not None:
                packet = build_rtx(
                    packet,
                    payload_type=subscription.rtx_payload_type,
                    ssrc=subscription.rtx_ssrc,
                    sequence=subscription.rtx_sequence,
                )
                subscription.rtx_sequence = (subscription.rtx_sequence + 1) & 0xFFFF
            elif not subscription.may_repeat or number < self._continuity.newest - _REPLAY_HORIZON:
                continue
            packets.append(packet)
        self.counters.resend_refused += subscription.budget.refused - refused_before
        if packets:
            payload_type = 0 if subscription.rtx_payload_type is not None else subscription.payload_type
            self._sender.send_packets(packets, payload_type, subscription.destination, now)
            subscription.resent += len(packets)
            self.counters.resent += len(packets)
        return len(packets)

    # -- time

    def next_deadline(self) -> float | None:
        """When to call `handle_timeout`; None: not by itself. Nothing is stirred any more."""
        self.stirred = False
        moments = [
            self._flush_at,
            self._burst_at,
            self._gate_wish_at,
            self.missing.next_due(),
            self.keyframes.deadline(),
            min((s.wish_at for s in self._waiting), default=None) if self.kind == "video" else None,
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float, rtt: float | None) -> Wishes:
        """Do what is due; returns what to ask the source for."""
        wishes = Wishes()
        self.stirred = True
        if self._flush_at is not None and now >= self._flush_at:
            self.flush(now)
        if self.kind == "video":
            # Once it turns out that no key frame will come, nobody waits for the end of his own patience.
            give_up = now >= min((s.wish_at for s in self._waiting), default=now) and self.keyframes.deaf(now)
            for subscription in [s for s in self._waiting if now >= s.wish_at or (give_up and not s.stalled)]:
                misfit = self._misfit(subscription)
                if subscription.destination.congested:
                    subscription.wish_at = now + ROOM_AGAIN
                elif subscription.stalled:
                    subscription.stalled = False
                    subscription.wish_at = now + JOIN_PATIENCE
                    wishes.keyframe |= self._serve(subscription, now)
                elif misfit or not self._burst_from_ring(subscription, now):
                    subscription.wish_at = now + WISH_AGAIN
                    wishes.keyframe |= not misfit and self.keyframes.want(now)
            if self._gate_wish_at is not None and now >= self._gate_wish_at:
                self._gate_wish_at = now + WISH_AGAIN
                wishes.keyframe |= self.keyframes.want(now)
            wishes.keyframe |= self.keyframes.due(now)
        if self._burst_at is not None and now >= self._burst_at:
            self._burst(now)
        if len(self.missing):
            wishes.sequences = [self._continuity.source_sequence(n) for n in self.missing.due(now, rtt)]
        if self.missing.given_up:
            self.missing.given_up = False
            if self.kind == "video":
                wishes.keyframe |= self.keyframes.want(now)
        return wishes

    # -- figures

    @property
    def newest_sent(self) -> int:
        """The extended number of the last packet that viewers who are live were sent."""
        return self._continuity.newest - self._batcher.held

    @property
    def viewers_live(self) -> int:
        return len(self._live)

    def report_pair(self, now: float, rtt: float | None) -> tuple[int, int] | None:
        """(NTP of the publisher's clock now, our timestamp) for a sender report; None when not known."""
        pair = self.clock.pair(now, rtt)
        if pair is None or not self._continuity.has_source:
            return None
        return pair[0], self._continuity.map_timestamp(pair[1])
