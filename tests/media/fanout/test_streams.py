"""Viewers over TCP beside those over UDP: the same packets, framed; no room is a stall until a key frame."""

import itertools
from dataclasses import dataclass, field

import pytest

from media.core import rtcp
from media.core.framing import Deframer
from media.core.rtp import RtpHeader, build, parse_header
from media.core.srtp import AEAD_AES_128_GCM, AES128_CM_SHA1_80, Profile
from media.fanout.destinations import Destination, ViewerClass
from media.fanout.frames import Batch
from media.fanout.track import STALL_PAUSE
from media.fanout.viewer import Viewer
from tests.media.fanout.pieces import Receiver, RecordingSocket, srtp_pair
from tests.media.fanout.test_live_stream import AGREED, Stage
from tests.media.fanout.test_sender import packets


@dataclass
class Pipe:
    """A Stream that takes what there is room for."""

    room: int = 1 << 30  # bytes
    congested: bool = False
    writes: list[bytes] = field(default_factory=list)
    discards: int = 0

    def write(self, frames: bytes | memoryview, now: float) -> bool:
        if len(frames) > self.room:
            return False
        self.room -= len(frames)
        self.writes.append(bytes(frames))
        return True

    def write_control(self, packet: bytes) -> bool:
        return self.write(len(packet).to_bytes(2, "big") + packet, 0.0)

    def discard(self) -> None:
        self.discards += 1


class TcpReceiver:
    """A viewer's end of a connection."""

    def __init__(self, profile: Profile = AEAD_AES_128_GCM) -> None:
        self.pipe = Pipe()
        outbound, self._inbound = srtp_pair(profile)
        self.destination = Destination(outbound, self.pipe)
        self._deframer = Deframer()

    def take(self) -> list[bytes]:
        """Media and RTCP since the last take, decrypted, in order."""
        data, self.pipe.writes = b"".join(self.pipe.writes), []
        taken = []
        for packet in self._deframer.feed(data):
            control = 192 <= packet[1] <= 223
            taken.append(self._inbound.unprotect_rtcp(packet) if control else self._inbound.unprotect(packet))
        assert self._deframer.rest == b""
        assert not self._deframer.broken
        return taken

    def headers(self) -> list[RtpHeader]:
        return [parse_header(packet) for packet in self.take() if not 192 <= packet[1] <= 223]


def join(stage: Stage) -> tuple[TcpReceiver, Viewer]:
    receiver = TcpReceiver()
    viewer = stage.stream.join(
        f"tcp-{id(receiver)}",
        AGREED,
        stage.stream.describe(),
        receiver.destination,
        may_repeat=False,
        now=stage.now,
    )
    return receiver, viewer


@pytest.fixture
def stage() -> Stage:
    return Stage()


# -- the send path


@pytest.mark.parametrize("profile", [AEAD_AES_128_GCM, AES128_CM_SHA1_80])
def test_a_batch_of_uneven_packets_is_one_write_of_whole_frames(profile: Profile) -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = TcpReceiver(profile)
    viewers = ViewerClass(102, receiver.destination.tag_length)
    viewers.add(receiver.destination)
    sent = packets([40, 1200, 2000, 1199, 12, 900])
    assert sender.send_batch(Batch(1, sent), [viewers], 0.0) == []
    assert len(receiver.pipe.writes) == 1
    assert receiver.destination.bytes_sent == len(receiver.pipe.writes[0])
    got = receiver.take()
    assert [parse_header(packet).payload_type for packet in got] == [102] * 6
    assert [packet[2:] for packet in got] == [packet[2:] for packet in sent]
    assert receiver.destination.packets_sent == sender.counters.packets == 6
    assert sock.calls == []


def test_viewers_of_both_kinds_in_a_class_get_the_same_and_udp_is_served_first() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    near, far = Receiver(1), TcpReceiver()
    order: list[str] = []
    sock.refuse = lambda how, to: order.append("udp")
    write = far.pipe.write
    far.pipe.write = lambda frames, now: order.append("tcp") or write(frames, now)  # type: ignore[method-assign]
    viewers = ViewerClass(96, near.destination.tag_length)
    viewers.add(far.destination)
    viewers.add(near.destination)
    sender.send_batch(Batch(1, packets([1200, 1200, 300, 900])), [viewers], 0.0)
    assert order == ["udp", "udp", "tcp"]  # two runs, and one write
    assert [packet[2:] for packet in far.take()] == [packet[2:] for packet in near.packets(sock)]


def test_who_has_no_room_is_named_and_the_others_get_everything() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    full, free = TcpReceiver(), TcpReceiver()
    full.pipe.room = 3000
    viewers = ViewerClass(96, 16)
    viewers.add(full.destination)
    viewers.add(free.destination)
    assert sender.send_batch(Batch(1, packets([1200] * 4)), [viewers], 0.0) == [full.destination]
    assert full.pipe.writes == [], "all or nothing"
    assert (full.destination.drops, sender.counters.no_room) == (4, 4)
    assert len(free.headers()) == 4


def test_no_plaintext_ever_leaves_when_libsrtp_refuses_a_packet() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = TcpReceiver()
    first = packets([600] * 3)
    assert sender.send_packets(first[1:2], 96, receiver.destination, 0.0)
    assert len(receiver.take()) == 1
    sender.send_packets(first, 96, receiver.destination, 0.0)  # the middle one was sent already
    assert all(b"pppp" not in data for data in receiver.pipe.writes)
    assert [parse_header(packet).sequence for packet in receiver.take()] == [1, 3]
    assert sender.counters.unprotected == 1
    sender.send_packets(first, 96, receiver.destination, 0.0)
    assert receiver.pipe.writes == []


def test_a_destination_that_moves_between_udp_and_tcp_is_filed_anew() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = TcpReceiver()
    viewers = ViewerClass(96, 16)
    viewers.add(receiver.destination)
    sent = packets([500] * 3)
    sender.send_batch(Batch(1, sent[:1]), [viewers], 0.0)
    receiver.destination.go_to(("192.0.2.9", 4000))
    assert viewers.remove(receiver.destination)
    viewers.add(receiver.destination)
    sender.send_batch(Batch(2, sent[1:2]), [viewers], 0.0)
    assert len(sock.take(("192.0.2.9", 4000))) == 1
    receiver.destination.go_to(receiver.pipe)
    assert viewers.remove(receiver.destination)
    viewers.add(receiver.destination)
    sender.send_batch(Batch(3, sent[2:]), [viewers], 0.0)
    assert len(receiver.pipe.writes) == 2
    assert sock.take() == []
    assert viewers.remove(receiver.destination)
    assert not viewers.remove(receiver.destination)


# -- a live stream


def test_a_viewer_over_tcp_begins_with_a_key_frame_and_hears_reports(stage: Stage) -> None:
    stage.frames(1, key=True)
    receiver, viewer = join(stage)
    stage.frames(5)
    headers = receiver.headers()
    assert len(headers) == 4 * 6
    assert {h.payload_type for h in headers} == {102}
    stage.stream.report(stage.now, [viewer])
    (control,) = receiver.take()
    assert any(isinstance(packet, rtcp.SourceDescription) for packet in rtcp.parse_compound(control))
    request = rtcp.ExtendedReport(7, reference_time=rtcp.ntp_from_unix(1e9))
    stage.stream.feedback(viewer, [request], stage.now)
    assert len(receiver.take()) == 1
    assert stage.socket.datagrams == [], "nothing of it goes over UDP"


def test_a_retransmission_goes_the_way_the_viewer_came(stage: Stage) -> None:
    stage.frames(1, key=True)
    receiver, viewer = join(stage)
    stage.frames(3)
    lost = receiver.headers()[5].sequence
    stage.stream.feedback(viewer, [rtcp.Nack(1, stage.stream.video.ssrc, (lost,))], stage.now)
    assert [header.payload_type for header in receiver.headers()] == [103]
    assert stage.socket.datagrams == []


def test_without_room_it_gets_nothing_more_until_a_key_frame_that_is_asked_for_once(stage: Stage) -> None:
    stage.frames(1, key=True)
    near, _ = stage.join(1)
    slow, viewer = join(stage)
    stage.frames(3)
    near.packets(stage.socket)
    slow.take()
    stage.asked.clear()

    slow.pipe.room, slow.pipe.congested = 0, True
    stage.frames(30)
    assert slow.pipe.discards == 1, "what waited is old by now"
    assert viewer.destination.drops == 4, "of the frame that had no room; the rest is not even tried"
    assert stage.key_frames_asked() == 0, "not while it has no room"

    slow.pipe.room, slow.pipe.congested = 1 << 30, False
    stage.frames(4)
    assert slow.headers() == [], "no delta frames without their key frame"
    assert stage.key_frames_asked() == 1
    stage.frames(1, key=True)
    stage.frames(2)
    headers = slow.headers()
    newest = stage.stream.video.ring.newest & 0xFFFF
    assert [h.sequence for h in headers] == [(newest - 11 + n) & 0xFFFF for n in range(12)]
    assert viewer.destination.drops == 4
    assert len(near.headers(stage.socket)) == 4 * (30 + 4 + 3), "the other one has missed nothing"
    assert stage.stream.video.counters.stalls == 1


def test_it_resumes_at_a_key_frame_that_comes_by_itself(stage: Stage) -> None:
    stage.frames(1, key=True)
    slow, _ = join(stage)
    stage.frames(2)
    slow.pipe.room, slow.pipe.congested = 0, True
    stage.frames(1)
    slow.take()
    slow.pipe.room, slow.pipe.congested = 1 << 30, False
    stage.frames(1, key=True)
    assert len(slow.headers()) == 4


def test_one_that_is_still_behind_does_not_begin_with_a_key_frame(stage: Stage) -> None:
    stage.frames(1, key=True)
    slow, _ = join(stage)
    stage.frames(2)
    slow.take()
    slow.pipe.room, slow.pipe.congested = 0, True
    stage.frames(1)
    slow.pipe.room = 1 << 30
    for _ in range(4):
        stage.frames(1, key=True)
        stage.frames(5)
    assert slow.take() == []
    slow.pipe.congested = False
    stage.frames(1, key=True)
    assert len(slow.headers()) == 4


def test_nothing_is_sent_twice_after_a_stall_also_out_of_the_ring(stage: Stage) -> None:
    """SRTP would refuse the packets it has seen: a group of pictures with holes and no beginning."""
    stage.frames(1, key=True)
    slow, viewer = join(stage)
    stage.frames(3)
    assert len(slow.headers()) == 16
    slow.pipe.room, slow.pipe.congested = 0, True
    stage.frames(1)
    slow.pipe.room, slow.pipe.congested = 1 << 30, False
    stage.frames(40)  # no key frame comes, and the group so far begins before the stall
    assert slow.take() == []
    assert stage.stream._sender.counters.refused == 0
    stage.frames(1, key=True)
    stage.frames(1)
    assert len(slow.headers()) == 8
    assert viewer.video is not None
    assert viewer.video.cursor is None


def test_a_line_too_narrow_for_the_stream_asks_ever_more_seldom(stage: Stage) -> None:
    stage.frames(1, key=True)
    slow, _ = join(stage)
    stage.frames(2)
    stage.asked.clear()
    asked_at: list[float] = []
    end = stage.now + 60
    while stage.now < end:
        slow.pipe.room, slow.pipe.congested = 0, False
        stage.frames(1)
        slow.pipe.room = 1 << 30
        if stage.key_frames_asked():
            asked_at.append(stage.now)
            stage.frames(1, key=True)
    gaps = [later - before for before, later in itertools.pairwise(asked_at)]
    assert gaps[:3] == sorted(gaps[:3])
    assert gaps[-1] >= STALL_PAUSE[1] - 1
    assert len(asked_at) < 15


def test_the_sound_of_a_viewer_without_room_goes_on_when_there_is_some(stage: Stage) -> None:
    stage.frames(1, key=True)
    slow, viewer = join(stage)
    stage.frames(2)
    assert viewer.audio is not None
    feed_sound(stage, 1)
    slow.take()
    slow.pipe.room, slow.pipe.congested = 0, True
    feed_sound(stage, 3)
    assert viewer.destination.drops == 3
    slow.pipe.room = 500
    feed_sound(stage, 1)
    assert [h.payload_type for h in slow.headers()] == [111]
    assert slow.pipe.discards == 0


def feed_sound(stage: Stage, count: int) -> None:
    for _ in range(count):
        stage.seed += 1
        packet = build(
            payload_type=111,
            sequence=stage.seed & 0xFFFF,
            timestamp=stage.seed * 960,
            ssrc=0xBEEF,
            payload=b"s" * 80,
        )
        stage.feed([packet])
        stage.advance(0.02)


def test_a_burst_waits_for_room_instead_of_overflowing(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(60)
    slow, viewer = join(stage)
    slow.pipe.congested = True
    stage.advance(0.31)
    assert viewer.video is not None
    assert slow.take() == []
    slow.pipe.congested = False
    stage.advance(0.093)
    first = len(slow.headers())
    assert 0 < first < 4 * 61
    slow.pipe.congested = True
    stage.frames(10)
    assert slow.take() == []
    assert viewer.destination.drops == 0
    slow.pipe.congested = False
    stage.frames(10)
    assert first + len(slow.headers()) == 4 * 81, "all of it, in the end"
    assert viewer.video.cursor is None


def test_who_falls_behind_the_ring_while_it_catches_up_waits_for_a_key_frame(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(60)
    slow, viewer = join(stage)
    stage.advance(0.301)
    assert slow.take()
    slow.pipe.congested = True
    stage.frames(1200, packets=4)  # more than the ring holds
    assert viewer.video is not None
    assert viewer.video.start is None
    slow.pipe.congested = False
    stage.frames(1, key=True)
    assert len(slow.headers()) == 4


def test_a_viewer_that_changes_to_udp_and_back_loses_nothing(stage: Stage) -> None:
    stage.frames(1, key=True)
    receiver, viewer = join(stage)
    stage.frames(3)
    here = ("192.0.2.7", 4711)
    stage.stream.move(viewer, here)
    stage.frames(3)
    over_udp = stage.socket.take(here)
    stage.stream.move(viewer, ("192.0.2.8", 4712))
    stage.frames(2)
    stage.stream.move(viewer, receiver.pipe)
    stage.frames(1)
    assert len(receiver.headers()) == 4 * (4 + 1)
    assert len(over_udp) == 12
    assert len(stage.socket.take(("192.0.2.8", 4712))) == 8
    stage.stream.leave(viewer.id)
    stage.frames(1)
    assert receiver.pipe.writes == stage.socket.datagrams == []
