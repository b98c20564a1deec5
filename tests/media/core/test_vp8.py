"""VP8 as far as we look into it: descriptors of every shape, key frames, sizes; rubbish survived."""

from fractions import Fraction

import av
import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from media.core import codecs, vp8
from media.core.errors import ParseError

KEY_HEADER = bytes.fromhex("50421e 9d012a 0005d002")  # 1280x720, shown, first partition of some size
DELTA_HEADER = bytes.fromhex("b13d00")


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b"", False),
        (b"\x10", False),  # a descriptor and nothing of a frame
        (b"\x10" + KEY_HEADER, True),
        (b"\x30" + KEY_HEADER, True),  # N: nothing refers to it
        (b"\x00" + KEY_HEADER, False),  # S is not set: the middle of a frame
        (b"\x11" + KEY_HEADER, False),  # the start of another partition
        (b"\x10" + DELTA_HEADER, False),
        (b"\x90", False),
        (b"\x90\x00" + KEY_HEADER, True),  # X without anything
        (b"\x90\x80\x05" + KEY_HEADER, True),  # PictureID of 7 bits
        (b"\x90\x80\x85\x01" + KEY_HEADER, True),  # of 15 bits
        (b"\x90\x80\x85", False),  # cut in the middle of it
        (b"\x90\xc0\x85\x01\x07" + KEY_HEADER, True),  # and TL0PICIDX
        (b"\x90\xf0\x85\x01\x07\x61" + KEY_HEADER, True),  # and TID, Y, KEYIDX
        (b"\x90\xf0\x85\x01\x07\x61" + DELTA_HEADER, False),
        (b"\x90\x20\x41" + KEY_HEADER, True),  # TID alone
        (b"\x90\x10\x01" + KEY_HEADER, True),  # KEYIDX alone
        (b"\x90\x20", False),
    ],
)
def test_key_frames_are_recognised_where_they_begin(payload: bytes, key: bool) -> None:
    assert vp8.is_keyframe_start(payload) is key
    assert vp8.is_keyframe_start(memoryview(payload)) is key
    header = vp8.size_header_of(payload)
    assert (header is not None) is key
    if header is not None:
        assert vp8.resolution(header) == (1280, 720)


def test_a_key_frame_cut_before_its_size_tells_none() -> None:
    payload = b"\x10" + KEY_HEADER[:-1]
    assert vp8.is_keyframe_start(payload)
    assert vp8.size_header_of(payload) is None


@pytest.mark.parametrize("header", [b"", b"\x9d\x01\x2a\x00\x05\xd0", b"\x9d\x01\x2b" + KEY_HEADER[6:]])
def test_what_is_no_header_of_a_key_frame_tells_no_size(header: bytes) -> None:
    with pytest.raises(ParseError):
        vp8.resolution(header)


def test_the_scale_is_no_part_of_the_size() -> None:
    assert vp8.resolution(vp8.START_CODE + bytes.fromhex("80420e81")) == (640, 270)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (854, 480), (176, 144)])
def test_the_resolution_is_that_which_was_encoded(width: int, height: int) -> None:
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"deadline": "realtime", "lag-in-frames": "0"}
    kinds = []
    for number in range(4):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([40 + 20 * number]) * plane.buffer_size)
        frame.pts = number
        for packet in encoder.encode(frame):
            payload = bytes(VpxPayloadDescriptor(1, 0, picture_id=4711)) + bytes(packet)
            kinds.append(vp8.is_keyframe_start(payload))
            assert kinds[-1] == packet.is_keyframe
            header = vp8.size_header_of(payload)
            assert header is None or vp8.resolution(header) == (width, height)
    assert kinds == [True, False, False, False]


@given(st.binary(max_size=40))
def test_rubbish_payloads_are_no_trouble(data: bytes) -> None:
    for payload in (data, b"\x10" + data, b"\x90" + data, b"\x90\xf0" + data):
        size = vp8.descriptor_size(payload)
        assert size is None or 1 <= size <= len(payload)
        header = vp8.size_header_of(payload)
        assert header is None or vp8.is_keyframe_start(payload)
        try:
            width, height = vp8.resolution(header or payload)
        except ParseError:
            continue
        assert 0 < width < 1 << 14
        assert 0 < height < 1 << 14


@given(
    st.booleans(),
    st.integers(0, 7),
    st.none() | st.integers(0, 0x7FFF),
    st.none() | st.integers(0, 255),
    st.none() | st.tuples(st.integers(0, 3), st.integers(0, 1)),
    st.none() | st.integers(0, 31),
    st.binary(min_size=1, max_size=20),
)
def test_a_descriptor_is_as_long_as_another_implementation_makes_it(
    start: bool,
    partition: int,
    picture: int | None,
    tl0: int | None,
    tid: tuple[int, int] | None,
    key_index: int | None,
    rest: bytes,
) -> None:
    made = bytes(VpxPayloadDescriptor(int(start), partition, picture, tl0, tid, key_index))
    assert vp8.descriptor_size(made + rest) == len(made)
    assert vp8.is_keyframe_start(made + rest) is (start and partition == 0 and not rest[0] & 1)
    for end in range(len(made)):
        assert vp8.descriptor_size(made[:end]) is None
        assert not vp8.is_keyframe_start(made[:end])


def test_codecs_are_found_by_their_names() -> None:
    assert codecs.video_codec("H264") is codecs.video_codec("h264") is codecs.H264
    assert codecs.video_codec("VP8") is codecs.video_codec("vp8") is codecs.VP8
    for unknown in (None, "", "AV1", "rtx"):
        assert codecs.video_codec(unknown) is None
