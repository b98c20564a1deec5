"""A live stream on virtual time: joins, recovery, changes of source, and what is said in RTCP."""

import gc
from dataclasses import replace

import pytest

from media.core import rtcp
from media.core.codecs import H264, VP8
from media.core.rtp import build, build_rtx, parse_header, restore_rtx
from media.core.sdp import Agreed, AgreedTrack, IceCredentials, RemoteTransport
from media.fanout.destinations import Destination
from media.fanout.source import REMB_CAP, Source
from media.fanout.stream import LiveStream
from media.fanout.viewer import Viewer
from tests.media.fanout.pieces import Camera, Receiver, RecordingSocket, Vp8Camera

VIDEO = AgreedTrack("video", "0", 96, 97, 90_000, 1, "", ("nack", "nack pli"), (), 0xABCD, 0xABCE, H264)
AUDIO = AgreedTrack("audio", "1", 111, None, 48_000, 2, "", (), (), 0xBEEF, None, None)
REMOTE = RemoteTransport(IceCredentials("u", "p"), (), "actpass", False, ())
AGREED = Agreed("", REMOTE, "server", replace(VIDEO, payload_type=102, rtx_payload_type=103), AUDIO)

VP8_VIDEO = replace(VIDEO, payload_type=98, rtx_payload_type=99, codec=VP8)
VP8_AGREED = replace(AGREED, video=replace(VP8_VIDEO, payload_type=120, rtx_payload_type=124))


class Stage:
    """A stream with a socket that records, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.socket = RecordingSocket()
        self.seed = 0
        self.stream = LiveStream("main", self.socket.sender(), self.random)
        self.asked: list[rtcp.RtcpPacket] = []
        self.now = 100.0
        self._due: float | None = None
        self.camera = Camera()
        self.publish()

    def random(self, count: int) -> bytes:
        self.seed += 1
        return (self.seed * 0x9E3779B97F4A7C15).to_bytes(16, "little")[:count].ljust(count, b"\x05")

    def publish(self, video: AgreedTrack = VIDEO) -> Source:
        source = Source(
            ssrc=self.stream.own_ssrc,
            video=(video, self.stream.video),
            audio=(AUDIO, self.stream.audio),
            send=lambda packets, now: self.asked.extend(packets),
            remb=True,
        )
        self.stream.set_source(source)
        return source

    def feed(self, packets: list[bytes]) -> None:
        assert self.stream.source is not None
        for packet in packets:
            self.stream.source.receive_rtp(packet, self.now)
            self.due()

    def due(self) -> float | None:
        """The stream's; and whoever had asked only while it is stirred would have missed nothing."""
        stirred, known = self.stream.stirred, self._due
        due = self._due = self.stream.next_deadline()
        assert stirred or due is None or due == known or (known is not None and due > known)
        return due

    def advance(self, seconds: float) -> None:
        """Let time pass, doing what falls due."""
        end = self.now + seconds
        while (due := self.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.stream.handle_timeout(self.now)
        self.now = end

    def frames(self, count: int, **kwargs) -> list[bytes]:
        sent: list[bytes] = []
        for _ in range(count):
            frame = self.camera.frame(**kwargs)
            sent += frame
            self.feed(frame)
            self.advance(1 / 30)
        return sent

    def join(
        self, port: int, agreed: Agreed = AGREED, *, may_repeat: bool = False
    ) -> tuple[Receiver, Viewer]:
        receiver = Receiver(port, allow_repeat=may_repeat)
        viewer = self.stream.join(
            f"viewer-{port}",
            agreed,
            self.stream.describe(),
            receiver.destination,
            may_repeat=may_repeat,
            now=self.now,
        )
        return receiver, viewer

    def key_frames_asked(self) -> int:
        count = sum(isinstance(packet, rtcp.Pli) for packet in self.asked)
        self.asked.clear()
        return count


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_joiner_asks_for_a_key_frame_at_once_and_begins_with_it(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(40)
    stage.asked.clear()
    receiver, _ = stage.join(1)
    assert stage.key_frames_asked() == 1
    stage.feed(stage.camera.frame())
    assert receiver.packets(stage.socket) == []  # no delta frames before a key frame
    stage.frames(1, key=True)
    stage.frames(2)
    headers = receiver.headers(stage.socket)
    assert len(headers) == 12
    assert {h.ssrc for h in headers} == {stage.stream.video.ssrc}
    assert {h.payload_type for h in headers} == {102}
    first = headers[0].sequence
    assert [h.sequence for h in headers] == [first + n for n in range(12)]


def test_the_group_of_pictures_so_far_is_burst_when_no_key_frame_comes(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(40)
    receiver, _ = stage.join(1)
    stage.advance(0.29)
    assert receiver.packets(stage.socket) == []
    stage.frames(12)
    headers = receiver.headers(stage.socket)
    assert len(headers) == 4 * (1 + 40 + 12)
    assert [h.sequence for h in headers] == list(
        range(headers[0].sequence, headers[0].sequence + len(headers))
    )
    stage.frames(1)
    assert len(receiver.headers(stage.socket)) == 4


def test_nobody_waits_for_a_source_that_makes_no_key_frame_when_asked(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(20)
    early = []
    for port in (11, 12, 13):  # in the time in which a key frame may still come
        early.append(stage.join(port)[0])
        stage.advance(0.1)
    assert [receiver.headers(stage.socket) for receiver in early] == [[], [], []]
    stage.advance(0.05)
    for receiver in early:  # it did not: who came last waits no longer than who came first
        assert len(receiver.headers(stage.socket)) == 4 * 21
    stage.frames(1, key=True)
    stage.frames(30)
    stage.socket.take()
    receiver, _ = stage.join(3)
    stage.advance(0.05)
    assert len(receiver.headers(stage.socket)) == 4 * 31  # the group of pictures so far, at once


def test_a_group_with_a_hole_is_not_burst(stage: Stage) -> None:
    stage.frames(1, key=True)
    damaged = stage.camera.frame()
    stage.feed(damaged[:1] + damaged[2:])
    stage.frames(40)
    stage.asked.clear()
    receiver, _ = stage.join(1)
    stage.frames(20)
    assert receiver.packets(stage.socket) == []
    assert stage.key_frames_asked() >= 2  # asked at the join, and again


def test_a_joiner_right_after_a_key_frame_needs_no_other(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(5)
    stage.asked.clear()
    receiver, _ = stage.join(1)
    assert stage.key_frames_asked() == 0
    stage.frames(2)
    assert len(receiver.headers(stage.socket)) == 4 * 8


def test_a_storm_of_joiners_makes_one_request_in_half_a_second(stage: Stage) -> None:
    stage.frames(1, key=True)
    stage.frames(60)
    damaged = stage.camera.frame()
    stage.feed(damaged[:1] + damaged[2:])  # so that nobody can be served from the ring
    stage.advance(2.0)
    stage.asked.clear()
    for port in range(50):
        stage.join(port)
        stage.advance(0.008)
    assert stage.key_frames_asked() == 1


def test_no_viewer_starts_shortly_before_the_sequence_wraps(stage: Stage) -> None:
    stage.frames(1, key=True)
    ring = stage.stream.video.ring
    while (left := 0x10000 - 60 - (ring.newest & 0xFFFF)) > 0:  # in steps that are no ambiguous jumps
        stage.camera.sequence = (stage.camera.sequence + min(left, 20_000)) & 0xFFFF
        stage.frames(1)
    stage.advance(1.0)
    receiver, _ = stage.join(1)
    stage.frames(1, key=True)
    stage.frames(10)
    assert receiver.packets(stage.socket) == []
    stage.frames(70)
    stage.frames(1, key=True)
    stage.frames(5)
    headers = receiver.headers(stage.socket)
    assert headers
    assert headers[0].sequence < 1000


def test_near_the_wrap_of_a_slow_stream_a_viewer_waits_for_seconds_only(stage: Stage) -> None:
    stage.frames(1, key=True, packets=2)
    ring = stage.stream.video.ring
    while (left := 0x10000 - 300 - (ring.newest & 0xFFFF)) > 0:
        stage.camera.sequence = (stage.camera.sequence + min(left, 20_000)) & 0xFFFF
        stage.frames(1, packets=1)
    stage.frames(90, packets=1)
    receiver, _ = stage.join(1)
    stage.frames(1, key=True, packets=2)  # some 200 packets, seven seconds, before the wrap
    headers = receiver.headers(stage.socket)
    assert headers
    assert headers[0].sequence > 0x8000
    stage.frames(300, packets=1)
    headers += receiver.headers(stage.socket)
    assert headers[-1].sequence < 0x8000  # and it goes on over it
    late, _ = stage.join(2)
    stage.frames(1, key=True, packets=2)
    assert late.packets(stage.socket)


def test_a_nack_of_thousands_is_not_looked_through(stage: Stage) -> None:
    _, viewer = stage.join(1)
    stage.frames(1, key=True)
    stage.frames(3)
    asked = stage.stream.video.ring.newest & 0xFFFF
    strange = tuple((asked + 1 + n) & 0xFFFF for n in range(512))
    stage.stream.feedback(viewer, [rtcp.Nack(1, stage.stream.video.ssrc, (*strange, asked))], stage.now)
    assert viewer.video is not None
    assert viewer.video.resent == 0
    stage.stream.feedback(viewer, [rtcp.Nack(1, stage.stream.video.ssrc, (asked,))], stage.now)
    assert viewer.video.resent == 1


def test_a_nack_is_answered_by_rtx_with_the_very_packet(stage: Stage) -> None:
    receiver, viewer = stage.join(1)
    stage.frames(1, key=True)
    stage.frames(3)
    got = receiver.packets(stage.socket)
    lost = got[5]
    sequence = parse_header(lost).sequence
    nack = rtcp.Nack(1, stage.stream.video.ssrc, (sequence, sequence + 2))
    stage.stream.feedback(viewer, [nack], stage.now)
    again = receiver.packets(stage.socket)
    assert viewer.video is not None
    assert {parse_header(p).payload_type for p in again} == {103}
    assert {parse_header(p).ssrc for p in again} == {viewer.video.rtx_ssrc}
    restored = restore_rtx(again[0], payload_type=102, ssrc=stage.stream.video.ssrc)
    assert restored == lost
    assert viewer.nacks == 2
    stage.stream.feedback(viewer, [nack], stage.now + 0.001)
    assert receiver.packets(stage.socket) == []  # not twice within a round trip


def test_a_viewer_without_rtx_gets_the_same_packet_again(stage: Stage) -> None:
    assert AGREED.video is not None
    plain = replace(AGREED, video=replace(AGREED.video, rtx_payload_type=None))
    receiver, viewer = stage.join(1, plain, may_repeat=True)
    stage.frames(1, key=True)
    raw = stage.socket.take(receiver.address)
    sequence = int.from_bytes(raw[2][2:4], "big")
    stage.stream.feedback(viewer, [rtcp.Nack(1, stage.stream.video.ssrc, (sequence,))], stage.now)
    assert stage.socket.take(receiver.address) == [raw[2]]


def test_upstream_loss_is_asked_for_and_the_late_packet_passed_on(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    stage.frames(1, key=True)
    receiver.packets(stage.socket)
    stage.asked.clear()
    frame = stage.camera.frame()
    stage.feed(frame[:1] + frame[2:])
    stage.advance(0.01)
    (nack,) = [packet for packet in stage.asked if isinstance(packet, rtcp.Nack)]
    assert nack.media_ssrc == 0xABCD
    assert nack.sequences == (parse_header(frame[1]).sequence,)
    # It comes back by RTX: other SSRC and type, the sequence inside.
    stage.feed(
        [
            build(
                payload_type=97,
                sequence=9,
                timestamp=parse_header(frame[1]).timestamp,
                ssrc=0xABCE,
                payload=frame[1][2:4] + frame[1][12:],
            )
        ]
    )
    sequences = [h.sequence for h in receiver.headers(stage.socket)]
    assert len(sequences) == 4
    assert sorted(sequences) == list(range(min(sequences), min(sequences) + 4))
    stage.asked.clear()
    stage.advance(1.0)
    assert not [packet for packet in stage.asked if isinstance(packet, rtcp.Nack)]


def test_a_question_that_met_the_late_packet_on_its_way_is_not_answered_with_another(stage: Stage) -> None:
    stage.frames(1, key=True)
    receiver, viewer = stage.join(1)
    younger, _ = stage.join(2)
    stage.frames(1, key=True)
    viewer.rtt = 0.04
    frame = stage.camera.frame()
    stage.feed([frame[0], *frame[2:]])
    stage.advance(0.03)
    stage.feed([frame[1]])
    late = parse_header(receiver.packets(stage.socket)[-1])
    assert late.sequence == parse_header(younger.packets(stage.socket)[-1]).sequence
    nack = rtcp.Nack(1, stage.stream.video.ssrc, (late.sequence,))
    stage.advance(0.03)
    stage.stream.feedback(viewer, [nack], stage.now)
    assert receiver.packets(stage.socket) == []
    stage.advance(0.03)
    stage.stream.feedback(viewer, [nack], stage.now)  # asked when it should have been there
    assert len(receiver.packets(stage.socket)) == 1


def test_a_late_packet_goes_to_those_who_are_past_it_in_as_few_calls_as_any_other(stage: Stage) -> None:
    stage.frames(1, key=True)
    receivers = [stage.join(port)[0] for port in range(1, 5)]
    stage.frames(1, key=True)
    frame = stage.camera.frame()
    stage.feed([frame[0], *frame[2:]])
    stage.advance(0.5)
    newcomer, _ = stage.join(9)
    stage.frames(1, key=True)
    for receiver in (*receivers, newcomer):
        receiver.packets(stage.socket)
    calls = len(stage.socket.calls)
    stage.feed([frame[1]])
    assert [len(receiver.packets(stage.socket)) for receiver in (*receivers, newcomer)] == [1, 1, 1, 1, 0]
    assert len(stage.socket.calls) - calls == 4
    stage.frames(1)  # and the newcomer is in its class as before
    assert len(newcomer.packets(stage.socket)) == 4


def test_viewers_see_one_stream_across_a_change_of_source(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    stage.frames(1, key=True)
    stage.frames(3)
    before = receiver.headers(stage.socket)
    stage.advance(2.0)
    stage.publish()
    stage.camera = Camera(ssrc=0x1111, sequence=40_000, timestamp=1)
    stage.frames(2)  # deltas of the new source show nothing
    assert receiver.packets(stage.socket) == []
    stage.frames(1, key=True)
    stage.frames(1)
    after = receiver.headers(stage.socket)
    assert {h.ssrc for h in after} == {stage.stream.video.ssrc}
    assert after[0].sequence == before[-1].sequence + 1
    gone_by = after[0].timestamp - before[-1].timestamp
    assert 2.0 * 90_000 <= gone_by <= 2.2 * 90_000


def test_a_source_that_never_showed_anything_leaves_nothing_to_the_next(stage: Stage) -> None:
    stage.frames(1)  # a delta: its clock is known, its picture is not
    assert stage.stream.source is not None
    stage.stream.source.receive_rtcp([rtcp.SenderReport(0xABCD, 100 << 32, 5_000, 1, 1)], stage.now)
    stage.advance(0.1)
    stage.asked.clear()
    stage.publish()
    stage.frames(1)
    stage.advance(0.05)
    assert stage.key_frames_asked() == 1  # the new source has been asked for nothing yet
    stage.frames(1, key=True)
    assert stage.stream.video.report_pair(stage.now, None) is None  # the old one's clock is not the new one's


def test_a_source_whose_first_key_frame_was_missed_is_asked_for_another(stage: Stage) -> None:
    stage.asked.clear()
    stage.frames(20)  # deltas only: two thirds of a second
    assert stage.key_frames_asked() == 2
    receiver, _ = stage.join(1)
    stage.frames(1, key=True)
    stage.asked.clear()
    stage.frames(20)
    assert stage.key_frames_asked() == 0
    assert len(receiver.headers(stage.socket)) == 4 * 21


def test_of_several_layers_with_one_payload_type_the_one_the_sdp_names_is_taken(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    others = [Camera(ssrc=0x2222, sequence=900), Camera(ssrc=0x3333, sequence=30_000)]
    sent = 0
    for n in range(20):
        for other in others:
            frame = other.frame(key=n == 0)
            stage.feed(frame)
            for packet in frame:  # a probe, or what another layer lost
                stage.feed([build_rtx(packet, payload_type=97, ssrc=other.ssrc + 1, sequence=n)])
        sent += len(stage.frames(1, key=n == 0))
    headers = receiver.headers(stage.socket)
    lead = 4  # the first key frame of a layer that began before the one that is named
    assert len(headers) == lead + sent
    assert [h.sequence for h in headers] == list(
        range(headers[0].sequence, headers[0].sequence + len(headers))
    )
    stage.advance(1.1)
    stage.feed(others[0].frame(key=True))  # the named one is silent: another may go on
    assert len(receiver.headers(stage.socket)) == 4


def test_extensions_and_padding_are_taken_off(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    (first, *rest) = stage.camera.frame(key=True)
    extended = bytes([0xB0]) + first[1:12] + bytes.fromhex("bede000110aa0000") + first[12:] + b"\x00\x00\x03"
    stage.feed([extended, *rest])
    got = receiver.packets(stage.socket)
    assert got[0][0] == 0x80
    assert got[0][12:] == first[12:]


def test_reports_carry_the_publishers_clock_and_answer_for_round_trips(stage: Stage) -> None:
    receiver, viewer = stage.join(1)
    stage.frames(1, key=True)
    stage.stream.report(stage.now)
    (sign_of_life,) = receiver.rtcp(stage.socket)
    assert isinstance(rtcp.parse_compound(sign_of_life)[0], rtcp.ReceiverReport)
    assert stage.stream.source is not None
    stage.stream.source.receive_rtcp([rtcp.SenderReport(0xABCD, 1000 << 32, 5_000, 1, 1)], stage.now)
    stage.advance(0.5)
    stage.stream.report(stage.now)
    (compound,) = receiver.rtcp(stage.socket)
    report, names = rtcp.parse_compound(compound)[:2]
    assert isinstance(report, rtcp.SenderReport)
    assert report.ssrc == stage.stream.video.ssrc
    assert report.ntp / 2**32 == pytest.approx(1000.5)
    assert isinstance(names, rtcp.SourceDescription)
    first = parse_header(stage.stream.video.ring.get(stage.stream.video.ring.gop_start or 0) or b"")
    assert (report.rtp_timestamp - first.timestamp) % 2**32 == 45_000  # source 5,000 is the key frame's time

    stage.now += 0.120
    block = rtcp.ReceptionReport(
        stage.stream.video.ssrc, 64, 1, 1, 0, rtcp.middle(report.ntp), int(0.1 * 65536)
    )
    reference = rtcp.ExtendedReport(5, reference_time=0x1122334455667788)
    stage.stream.feedback(viewer, [rtcp.ReceiverReport(5, (block,)), reference], stage.now)
    assert viewer.rtt == pytest.approx(0.02, abs=0.001)
    assert viewer.loss(stage.now) == pytest.approx(0.25)
    (answer,) = receiver.rtcp(stage.socket)
    extended = rtcp.parse_compound(answer)[1]
    assert isinstance(extended, rtcp.ExtendedReport)
    assert extended.dlrr[0].last_rr == 0x33445566


def test_what_a_viewer_reports_makes_its_loss_jitter_and_estimate(stage: Stage) -> None:
    _, viewer = stage.join(1)
    stage.frames(1, key=True)
    video, audio = stage.stream.video.ssrc, stage.stream.audio.ssrc

    def say(ssrc: int, highest: int, fraction: int = 0, jitter: int = 0) -> None:
        block = rtcp.ReceptionReport(ssrc, fraction, 0, highest, jitter, 0, 0)
        stage.stream.feedback(viewer, [rtcp.ReceiverReport(5, (block,))], stage.now)

    say(video, 1000)
    stage.frames(40)
    for stranger in (audio, 0, video ^ 1):  # what it says of the sound, and of what nobody sends
        say(stranger, 9000, fraction=255, jitter=90_000)
    assert (viewer.loss(stage.now), viewer.jitter(stage.now, 90_000)) == (0, 0)
    say(video, 1200, fraction=64, jitter=1800)
    assert viewer.loss(stage.now) == 0.25
    assert viewer.jitter(stage.now, 90_000) == pytest.approx(0.02)
    estimate = viewer.estimate.value(stage.now)
    sent = 8 * viewer.destination.bytes_sent / stage.now
    assert estimate is not None
    assert estimate > sent
    assert viewer.estimate.upper_bound(stage.now) is None
    stage.stream.feedback(viewer, [rtcp.Remb(5, 77_000, (123, 456))], stage.now)
    assert viewer.estimate.value(stage.now) == estimate  # about somebody else's media
    stage.stream.feedback(viewer, [rtcp.Remb(5, 77_000, (123, video))], stage.now)
    assert viewer.estimate.value(stage.now) == 77_000
    stage.advance(16)
    assert (viewer.loss(stage.now), viewer.jitter(stage.now, 90_000)) == (None, None)
    assert viewer.estimate.value(stage.now) is None


def test_who_only_listens_is_judged_by_the_sound(stage: Stage) -> None:
    _, viewer = stage.join(1, replace(AGREED, video=None))
    block = rtcp.ReceptionReport(stage.stream.audio.ssrc, 32, 1, 1, 480, 0, 0)
    stage.stream.feedback(viewer, [rtcp.ReceiverReport(5, (block,))], stage.now)
    assert viewer.loss(stage.now) == 0.125
    assert viewer.jitter(stage.now, stage.stream.main_track(viewer).clock_rate) == pytest.approx(0.01)


def test_every_reference_time_is_answered_but_a_datagram_of_them_once(stage: Stage) -> None:
    receiver, viewer = stage.join(1)
    asked = [rtcp.ExtendedReport(n, reference_time=n << 32) for n in range(1, 61)]
    stage.stream.feedback(viewer, asked[:1], stage.now)
    stage.stream.feedback(viewer, asked, stage.now)
    first, second = receiver.rtcp(stage.socket)
    for compound, numbers in ((first, [1]), (second, list(range(53, 61)))):
        answer = rtcp.parse_compound(compound)[1]
        assert isinstance(answer, rtcp.ExtendedReport)
        assert [(d.ssrc, d.last_rr, d.delay) for d in answer.dlrr] == [(n, n << 16, 0) for n in numbers]
    assert len(second) < len(rtcp.build_compound(asked))  # never more than was asked with


def test_a_storm_of_joiners_hides_nobodys_round_trip(stage: Stage) -> None:
    _, viewer = stage.join(1)
    stage.frames(1, key=True)
    assert stage.stream.source is not None
    stage.stream.source.receive_rtcp([rtcp.SenderReport(0xABCD, 1000 << 32, 5_000, 1, 1)], stage.now)
    pair = stage.stream.video.report_pair(stage.now, None)
    assert pair is not None
    stage.stream.report(stage.now)
    for port in range(2, 102):
        stage.advance(0.01)
        stage.stream.report(stage.now, [stage.join(port)[1]])
    block = rtcp.ReceptionReport(stage.stream.video.ssrc, 0, 0, 1, 0, rtcp.middle(pair[0]), 0)
    stage.stream.feedback(viewer, [rtcp.ReceiverReport(5, (block,))], stage.now)
    assert viewer.rtt == pytest.approx(1.0, abs=0.001)
    for _ in range(20):
        stage.advance(1.0)
        stage.stream.report(stage.now)
    viewer.rtt = None
    stage.stream.feedback(viewer, [rtcp.ReceiverReport(5, (block,))], stage.now)
    assert viewer.rtt is None  # that old a report is forgotten


def test_a_publisher_is_told_of_loss_reference_time_and_the_bitrate_it_may_send(stage: Stage) -> None:
    stage.frames(1, key=True)
    assert stage.stream.source is not None
    stage.asked.clear()
    stage.stream.source.report(stage.now, 1_700_000_000.0)
    report, reference, remb = stage.asked
    assert isinstance(report, rtcp.ReceiverReport)
    assert report.reports[0].ssrc == 0xABCD
    assert isinstance(reference, rtcp.ExtendedReport)
    assert isinstance(remb, rtcp.Remb)
    assert remb.bitrate == REMB_CAP
    assert reference.reference_time is not None
    dlrr = rtcp.Dlrr(1, rtcp.middle(reference.reference_time), int(0.03 * 65536))
    stage.stream.source.receive_rtcp([rtcp.ExtendedReport(2, dlrr=(dlrr,))], stage.now + 0.05)
    assert stage.stream.source.rtt == pytest.approx(0.02, abs=0.001)


def test_a_viewer_that_left_gets_nothing_more(stage: Stage) -> None:
    receiver, viewer = stage.join(1)
    other, _ = stage.join(2)
    stage.frames(1, key=True)
    stage.stream.leave(viewer.id)
    receiver.packets(stage.socket)
    other.packets(stage.socket)
    stage.frames(2)
    assert receiver.packets(stage.socket) == []
    assert len(other.packets(stage.socket)) == 8
    stage.stream.leave(viewer.id)  # twice does no harm


def test_sound_begins_at_once_and_needs_no_key_frame(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    for n in range(5):
        stage.feed(
            [build(payload_type=111, sequence=n, timestamp=960 * n, ssrc=0xBEEF, payload=b"opus" * 20)]
        )
    headers = receiver.headers(stage.socket)
    assert len(headers) == 4  # from the packet after the first
    assert {(h.ssrc, h.payload_type) for h in headers} == {(stage.stream.audio.ssrc, 111)}


def publish_vp8(stage: Stage) -> None:
    """The publisher comes back with another codec."""
    stage.publish(VP8_VIDEO)
    stage.camera = Vp8Camera(ssrc=0xABCD, sequence=40_000, timestamp=1, payload_type=98)


def test_a_vp8_stream_begins_with_a_key_frame_and_tells_its_size(stage: Stage) -> None:
    publish_vp8(stage)
    receiver, viewer = stage.join(1, VP8_AGREED)
    stage.frames(3)  # the middle of a frame, or a delta, is no beginning
    assert receiver.packets(stage.socket) == []
    stage.frames(1, key=True)
    stage.frames(2)
    headers = receiver.headers(stage.socket)
    assert len(headers) == 12
    assert {h.payload_type for h in headers} == {120}
    assert stage.stream.video.resolution == (1280, 720)
    assert stage.stream.video.counters.keyframes == 1
    lost = headers[5].sequence
    stage.stream.feedback(viewer, [rtcp.Nack(1, stage.stream.video.ssrc, (lost,))], stage.now)
    assert {h.payload_type for h in receiver.headers(stage.socket)} == {124}
    late, _ = stage.join(2, VP8_AGREED)
    stage.frames(12)
    assert len(late.headers(stage.socket)) == 4 * 15  # out of the ring, with the group of pictures so far


def test_a_viewer_of_another_codec_is_sent_nothing_of_a_new_source(stage: Stage) -> None:
    old, viewer = stage.join(1)
    stage.frames(1, key=True)
    stage.frames(3)
    catching, _ = stage.join(2)
    stage.advance(0.001)
    before = old.headers(stage.socket)
    catching.packets(stage.socket)
    publish_vp8(stage)
    new, _ = stage.join(3, VP8_AGREED)
    stage.frames(2)
    stage.frames(1, key=True)
    stage.frames(30)
    assert old.packets(stage.socket) == catching.packets(stage.socket) == []
    after = new.headers(stage.socket)
    assert len(after) == 4 * 31
    assert after[0].sequence == (before[-1].sequence + 1) & 0xFFFF
    nack = rtcp.Nack(1, stage.stream.video.ssrc, (after[0].sequence, before[-1].sequence))
    stage.stream.feedback(viewer, [nack], stage.now)
    assert old.packets(stage.socket) == []
    stage.stream.leave(viewer.id)


def test_what_was_on_air_in_another_codec_is_no_beginning_for_a_joiner(stage: Stage) -> None:
    stage.frames(1, key=True)
    publish_vp8(stage)
    receiver, _ = stage.join(1, VP8_AGREED)  # right after a key frame, but one of the codec before
    stage.advance(1.0)
    assert receiver.packets(stage.socket) == []
    stage.frames(1, key=True)
    assert len(receiver.packets(stage.socket)) == 4


def test_a_viewer_of_another_codec_asks_for_no_key_frames(stage: Stage) -> None:
    publish_vp8(stage)
    stage.frames(1, key=True)
    stage.advance(1.0)
    stage.asked.clear()
    receiver, viewer = stage.join(1)
    stage.advance(3.0)
    stage.stream.feedback(viewer, [rtcp.Pli(1, stage.stream.video.ssrc)], stage.now)
    assert stage.key_frames_asked() == 0
    assert receiver.packets(stage.socket) == []


def test_the_same_codec_again_changes_nothing_for_viewers(stage: Stage) -> None:
    publish_vp8(stage)
    receiver, _ = stage.join(1, VP8_AGREED)
    stage.frames(1, key=True)
    publish_vp8(stage)
    stage.frames(1, key=True)
    assert len(receiver.packets(stage.socket)) == 8


def test_sound_goes_on_over_a_change_of_the_pictures_codec(stage: Stage) -> None:
    receiver, _ = stage.join(1)
    sounds = [
        build(payload_type=111, sequence=n, timestamp=960 * n, ssrc=0xBEEF, payload=b"o") for n in range(6)
    ]
    stage.feed(sounds[:3])
    publish_vp8(stage)
    stage.feed(sounds[3:])
    assert len(receiver.headers(stage.socket)) == 5


def alive() -> int:
    return sum(isinstance(thing, Destination) for thing in gc.get_objects())


@pytest.mark.parametrize("changes", [0, 2])
def test_whoever_leaves_is_freed_without_the_collector(stage: Stage, changes: int) -> None:
    gc.collect()
    before = alive()
    gc.disable()  # a worker's never looks at what is old
    try:
        for port in range(1, 6):
            stage.join(port)
        stage.frames(1, key=True)
        stage.frames(3)
        assert alive() == before + 5
        for change in range(changes):
            if change % 2:
                stage.publish()
                stage.camera = Camera(sequence=20_000)
            else:
                publish_vp8(stage)
            stage.frames(2, key=True)
        for port in range(1, 6):
            stage.stream.leave(f"viewer-{port}")
        stage.socket.datagrams.clear()
        assert alive() == before
    finally:
        gc.enable()


def test_a_gap_too_wide_to_fill_is_made_good_by_a_key_frame_though_nobody_asks(stage: Stage) -> None:
    stage.join(1)
    stage.frames(1, key=True)
    stage.frames(40)
    stage.asked.clear()
    stage.camera.sequence += 600
    stage.frames(1)
    assert stage.key_frames_asked() == 1
    stage.frames(60)
    assert not any(isinstance(packet, rtcp.Nack) for packet in stage.asked)
