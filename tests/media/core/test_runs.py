"""A run is read as its packets would be, one by one; what is no run is left alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.codecs import H264, VIDEO_CODECS, VP8, VideoCodec
from media.core.rtp import build, pad, parse_header
from media.core.runs import HEADER, MAX_PACKETS, PlainRun, parse_run

TAG = 16
SSRC, TIMESTAMP, PAYLOAD_TYPE = 0xDEADBEEF, 0xFFFFFFF0, 102


def packets(count: int, size: int = 40, last: int | None = None, sequence: int = 7) -> list[bytes]:
    """As a node sends a frame: `size` bytes of payload, the last one shorter and with the marker."""
    return [
        build(
            payload_type=PAYLOAD_TYPE,
            sequence=sequence + number,
            timestamp=TIMESTAMP,
            ssrc=SSRC,
            payload=bytes([number]) * (size if last is None or number < count - 1 else last),
            marker=number == count - 1,
        )
        for number in range(count)
    ]


def laid_out(some: list[bytes]) -> tuple[bytes, int]:
    """With room for tags, as they are read; and the stride."""
    return b"".join(packet + bytes(TAG) for packet in some), len(some[0]) + TAG


def run_of(some: list[bytes]) -> PlainRun:
    data, stride = laid_out(some)
    header = parse_run(memoryview(data), stride)
    assert header is not None
    return PlainRun(header, memoryview(bytearray(data)), stride, TAG)


@pytest.mark.parametrize("count", [2, 3, 32, MAX_PACKETS])
@pytest.mark.parametrize("last", [None, 39, 1, 0])
def test_a_run_gives_back_its_packets(count: int, last: int | None) -> None:
    made = packets(count, last=last)
    run = run_of(made)
    assert run.packets() == made
    assert run.header == (count, PAYLOAD_TYPE, True, 7, TIMESTAMP, SSRC, ())
    assert run.size == sum(map(len, made))
    assert run.longest == len(made[0])
    assert run.padding() == 0


def test_rewritten_packets_have_our_numbers_their_payload_and_their_padding() -> None:
    made = packets(4)
    made[1], made[3] = pad(made[1][:-5], len(made[1])), pad(made[3][:-30], len(made[3]))
    run = run_of(made)
    assert run.header.padded == (1, 3)
    assert run.padding() == 35
    written = run.rewrite(0xFFFE, 5, 0x1234)
    for number, (before, after) in enumerate(zip(made, written, strict=True)):
        was, now = parse_header(before), parse_header(after)
        assert (now.payload_type, now.marker) == (0, was.marker)
        assert (now.sequence, now.timestamp, now.ssrc) == ((0xFFFE + number) & 0xFFFF, 5, 0x1234)
        assert after[HEADER:] == before[HEADER:]
        assert now.padding == was.padding


@pytest.mark.parametrize("lie", [0, 41, 255])
def test_padding_that_cannot_be_is_told(lie: int) -> None:
    made = packets(3)
    made[1] = bytes([made[1][0] | 0x20]) + made[1][1:-1] + bytes([lie])
    assert run_of(made).padding() is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0x90),  # an extension
        (0, 0x81),  # a CSRC
        (0, 0x00),  # STUN
        (0, 0x16),  # DTLS
        (1, 0x80 | PAYLOAD_TYPE),  # a marker in the middle
        (1, 96),  # another payload type
        (3, 99),  # a number out of its row
        (7, 1),  # another picture
        (11, 1),  # another SSRC
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_what_is_not_alike_is_no_run(number: int, at: int, value: int) -> None:
    data, stride = laid_out(packets(3))
    spoilt = bytearray(data)
    spoilt[number * stride + at] = value
    assert parse_run(memoryview(spoilt), stride) is None


def test_rtcp_a_wrap_a_stub_and_too_many_are_no_run() -> None:
    data, stride = laid_out(packets(3))
    rtcp = bytearray(data)
    for number, second in enumerate((72, 72, 200)):  # payload type 72 with a marker is a sender report
        rtcp[number * stride + 1] = second
    assert parse_run(memoryview(rtcp), stride) is None
    assert parse_run(memoryview(laid_out(packets(3, sequence=0xFFFE))[0]), stride) is None
    assert parse_run(memoryview(data)[: 2 * stride + HEADER - 1], stride) is None
    assert parse_run(memoryview(data)[:stride], stride) is None
    assert parse_run(memoryview(laid_out(packets(MAX_PACKETS + 1))[0]), stride) is None


@given(st.binary(max_size=400), st.integers(min_value=1, max_value=200))
def test_any_bytes_are_read_without_an_error(data: bytes, stride: int) -> None:
    assert parse_run(memoryview(data), stride) is None or len(data) > stride > HEADER


FIRST_BYTES = st.sampled_from([0x10, 0x11, 0x90, 0x00, 0x65, 0x41, 0x67, 0x78, 0x7C, 0x5C])
PAYLOAD = st.builds(
    lambda first, rest: bytes([first]) + rest, FIRST_BYTES, st.binary(min_size=29, max_size=29)
)


@pytest.mark.parametrize("codec", VIDEO_CODECS)
@given(payloads=st.lists(PAYLOAD, min_size=2, max_size=5), cut=st.integers(min_value=0, max_value=29))
def test_a_key_frame_in_a_run_is_seen_as_in_its_packets(
    codec: VideoCodec, payloads: list[bytes], cut: int
) -> None:
    payloads[-1] = payloads[-1][: len(payloads[-1]) - cut]
    made = [
        build(payload_type=96, sequence=n, timestamp=9, ssrc=3, payload=payload)
        for n, payload in enumerate(payloads)
    ]
    assert run_of(made).begins_keyframe(codec) is any(map(codec.is_keyframe_start, payloads))


@pytest.mark.parametrize("codec", [H264, VP8])
def test_the_first_two_bytes_never_rule_out_a_key_frame(codec: VideoCodec) -> None:
    """All of them, with rests that let a packet be one: lengths of aggregates, descriptors, frame headers."""
    rests = [bytes(8), b"\x00\x01\x65" + bytes(5), b"\x01\x65" + bytes(6), random.Random(1).randbytes(8)]
    for first in range(256):
        for second in range(256):
            payloads = [bytes([first, second]) + rest for rest in rests] + [bytes([first, second])]
            if any(map(codec.is_keyframe_start, payloads)):
                assert codec.may_start_keyframe(first, second)
