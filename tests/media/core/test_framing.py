"""Packets over a byte stream: the same packets wherever it is cut, and never more kept than one frame."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from media.core.framing import LENGTH_BYTES, MAX_FRAME, Deframer, frame

PACKETS = st.lists(st.binary(max_size=MAX_FRAME), max_size=12)


def feed(deframer: Deframer, stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces that end at these places."""
    got: list[bytes] = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        got += deframer.feed(stream[start:end])
        assert len(deframer.rest) < LENGTH_BYTES + MAX_FRAME
    return got


@given(PACKETS, st.lists(st.integers(min_value=0)))
def test_packets_come_out_as_they_went_in_wherever_the_stream_is_cut(
    packets: list[bytes], cuts: list[int]
) -> None:
    deframer = Deframer()
    got = feed(deframer, b"".join(map(frame, packets)), cuts)
    assert got == [packet for packet in packets if packet]  # null packets are passed over: RFC 4571 section 2
    assert not deframer.broken
    assert deframer.rest == b""


@given(
    PACKETS,
    st.integers(min_value=MAX_FRAME + 1, max_value=0xFFFF),
    st.binary(max_size=5000),
    st.lists(st.integers(min_value=0)),
)
def test_after_a_frame_that_is_too_long_nothing_comes_and_nothing_is_kept(
    packets: list[bytes], length: int, after: bytes, cuts: list[int]
) -> None:
    stream = b"".join(map(frame, packets)) + length.to_bytes(2, "big") + after
    deframer = Deframer()
    assert feed(deframer, stream, cuts) == [packet for packet in packets if packet]
    assert deframer.broken
    assert deframer.rest == b""
    assert deframer.feed(frame(b"more")) == []


@given(st.binary(max_size=20_000), st.lists(st.integers(min_value=0)), st.lists(st.integers(min_value=0)))
def test_rubbish_raises_nothing_and_is_read_alike_however_it_is_cut(
    stream: bytes, cuts: list[int], others: list[int]
) -> None:
    one, another = Deframer(), Deframer()
    assert feed(one, stream, cuts) == feed(another, stream, others)
    assert (one.rest, one.broken) == (another.rest, another.broken)


def test_a_frame_of_the_longest_packet_there_may_be() -> None:
    deframer = Deframer()
    packet = b"p" * MAX_FRAME
    assert deframer.feed(frame(packet)[:-1]) == []
    assert deframer.feed(frame(packet)[-1:]) == [packet]
    assert frame(memoryview(b"view")) == b"\x00\x04view"
