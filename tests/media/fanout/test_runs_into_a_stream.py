"""A picture that comes in runs is to a stream, its viewers and its reports what it is packet by packet."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.rtp import build, pad, parse_header
from media.core.runs import PlainRun, parse_run
from tests.media.fanout.pieces import Camera, Receiver, Vp8Camera
from tests.media.fanout.test_live_stream import VP8_AGREED, VP8_VIDEO, Stage

TAG = 16


def reads(packets: list[bytes]) -> list[list[bytes]]:
    """As the kernel hands them over: equal sizes together, a shorter one ends a read."""
    result: list[list[bytes]] = []
    for packet in packets:
        last = result[-1] if result else []
        if last and len(packet) <= len(last[0]) == len(last[-1]):
            last.append(packet)
        else:
            result.append([packet])
    return result


def feed_runs(stage: Stage, packets: list[bytes]) -> int:
    """Returns how many packets were fed as parts of runs."""
    source = stage.stream.source
    assert source is not None
    in_runs = 0
    for read in reads(packets):
        data = b"".join(packet + bytes(TAG) for packet in read)
        header = parse_run(memoryview(data), len(read[0]) + TAG)
        if header is None:
            stage.feed(read)
        else:
            in_runs += len(read)
            source.receive_run(
                PlainRun(header, memoryview(bytearray(data)), len(read[0]) + TAG, TAG), stage.now
            )
    return in_runs


def shown(receiver: Receiver, stage: Stage) -> list[tuple[int, int, bool, bytes]]:
    """What a viewer was sent, without padding."""
    result = []
    for packet in receiver.packets(stage.socket):
        header = parse_header(packet)
        result.append((header.sequence, header.timestamp, header.marker, bytes(header.payload(packet))))
    return result


@dataclass(frozen=True)
class Frame:
    """One picture on its way: which of its packets are lost, and whether two of the others change places."""

    key: bool
    packets: int
    lost: frozenset[int]
    swapped: int | None
    pause: float


FRAMES = st.lists(
    st.builds(
        Frame,
        key=st.sampled_from([False, False, False, True]),
        packets=st.integers(min_value=1, max_value=70),
        lost=st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({2, 3}), frozenset({1})]),
        swapped=st.sampled_from([None, None, 1, 4]),
        pause=st.sampled_from([1 / 30, 1 / 30, 0.001]),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("codec", ["H264", "VP8"])
@given(frames=FRAMES, start=st.sampled_from([100, 65_500]))
@settings(max_examples=60)
def test_runs_and_single_packets_come_to_the_same(codec: str, frames: list[Frame], start: int) -> None:
    single, whole = Stage(), Stage()
    viewers = []
    for stage in (single, whole):
        stage.camera = Camera(sequence=start) if codec == "H264" else Vp8Camera(sequence=start)
        if codec == "VP8":
            stage.publish(VP8_VIDEO)
        receiver, _ = stage.join(1, VP8_AGREED) if codec == "VP8" else stage.join(1)
        viewers.append(receiver)
        first = stage.camera.frame(key=True)
        stage.feed(first)
        stage.advance(1 / 30)
    for frame in frames:
        for stage in (single, whole):
            made = stage.camera.frame(key=frame.key, packets=frame.packets, size=200)
            come = [packet for number, packet in enumerate(made) if number not in frame.lost]
            if frame.swapped is not None and frame.swapped + 1 < len(come):
                at = frame.swapped
                come[at : at + 2] = reversed(come[at : at + 2])
            if stage is single:
                stage.feed(come)
            else:
                feed_runs(stage, come)
            stage.advance(frame.pause)
        assert shown(viewers[0], single) == shown(viewers[1], whole)
        assert single.asked == whole.asked
        one, other = single.stream.video, whole.stream.video
        assert one.counters == other.counters
        assert (one.ring.newest, one.ring.gop_start) == (other.ring.newest, other.ring.gop_start)
        assert one.ring.holds_gop() is other.ring.holds_gop()
        assert (one.missing.expected, one.missing.lost) == (other.missing.expected, other.missing.lost)
        assert one.keyframe_at == other.keyframe_at
        assert single.stream.source is not None
        assert whole.stream.source is not None
        assert single.stream.source.bytes_received == whole.stream.source.bytes_received
        single.stream.source.report(single.now, 1_000_000.0)
        whole.stream.source.report(whole.now, 1_000_000.0)
        assert single.asked == whole.asked  # the report blocks are alike: numbers, loss, jitter


def test_a_run_is_taken_as_a_whole_and_a_key_frame_is_not() -> None:
    """What the comparison above rests on: that both ways were gone."""
    stage = Stage()
    stage.feed(stage.camera.frame(key=True))
    track = stage.stream.video
    taken: list[bool] = []
    whole = track.receive_run

    def watched(run: PlainRun, now: float) -> bool:
        taken.append(whole(run, now))
        return taken[-1]

    track.receive_run = watched  # type: ignore[method-assign]
    assert feed_runs(stage, stage.camera.frame(packets=10)) == 10
    assert feed_runs(stage, stage.camera.frame(key=True, packets=10)) == 9  # SPS is shorter: alone
    lossy = stage.camera.frame(packets=10)
    feed_runs(stage, lossy[1:])
    feed_runs(stage, stage.camera.frame(packets=10))
    assert taken == [True, False, False, True]


def test_padding_stays_on_and_is_counted_as_none() -> None:
    stage = Stage()
    receiver, _ = stage.join(1)
    stage.feed(stage.camera.frame(key=True))
    receiver.packets(stage.socket)
    before = stage.stream.video.counters.received_bytes
    frame = stage.camera.frame(packets=4, size=500)
    frame[1] = pad(frame[1][:-20], len(frame[1]))
    assert feed_runs(stage, frame) == 4
    sent = receiver.packets(stage.socket)
    assert [len(packet) for packet in sent] == [512] * 4
    assert [parse_header(packet).padding for packet in sent] == [0, 20, 0, 0]
    assert stage.stream.video.counters.received_bytes - before == 4 * 512 - 20
    assert stage.socket.calls[-1][0] == "gso"


def test_packets_too_long_for_us_are_dropped_from_a_run_too() -> None:
    stage = Stage()
    stage.feed(stage.camera.frame(key=True))
    feed_runs(stage, stage.camera.frame(packets=3, size=2100))
    assert stage.stream.video.counters.too_long == 3


def test_a_run_of_lies_about_padding_is_dropped() -> None:
    stage = Stage()
    stage.feed(stage.camera.frame(key=True))
    forged = [
        b"\xa0" + build(payload_type=96, sequence=104 + n, timestamp=8_000, ssrc=0xABCD, payload=b"A\x00")[1:]
        for n in range(2)
    ]
    packets = stage.stream.video.counters.packets
    assert feed_runs(stage, forged) == 2
    assert stage.stream.video.counters.packets == packets
