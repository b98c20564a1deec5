"""The time code survives drawing, coding and decoding; what carries none is not misread."""

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from media import timecode
from media.publisher.encoder.video import VideoEncoder
from media.publisher.sources.pattern import TestPattern

moments = st.floats(min_value=0, max_value=timecode.MODULUS / 1000 - 1, allow_nan=False)


@given(moments, st.integers(320, 1000), st.integers(180, 400))
def test_what_is_drawn_is_read(moment: float, half_width: int, half_height: int) -> None:
    luma = np.full((2 * half_height, 2 * half_width), 90, np.uint8)
    timecode.draw(luma, moment)
    assert timecode.read(luma) == timecode.code_of(moment)


@settings(deadline=None)
@given(
    arrays(np.uint8, st.sampled_from([(2, 96), (1, 48), (3, 7)]), elements=st.integers(0, 255)),
    st.one_of(
        st.tuples(st.integers(1, 9000), st.integers(1, 400)),
        st.tuples(st.integers(640, 3840), st.integers(360, 2160)),
    ),
)
@example(np.zeros((1, 48), np.uint8), (8000, 360))  # as a publisher of another make may send it
def test_any_picture_has_a_code_or_none(blocks: timecode.Luma, size: tuple[int, int]) -> None:
    """Of any shape, full of anything: also where the strip would be, at the scale of its blocks."""
    width, height = size
    side = max(1, timecode.block_side(width))
    picture = np.tile(
        np.kron(blocks, np.ones((side, side), np.uint8)), (height // side + 1, width // side + 1)
    )
    code = timecode.read(picture[:height, :width])
    assert code is None or 0 <= code < timecode.MODULUS


@given(st.integers(0, 2**44 - 1), st.integers(0, 100))
def test_a_strip_of_any_bits_is_believed_if_its_checksum_is_right(word: int, noise: int) -> None:
    bits = [1, 0, 1, 0, *(word >> np.arange(43, -1, -1) & 1)]
    side = timecode.block_side(640)
    luma = np.full((360, 640), 90, np.uint8)
    strip = np.where(np.repeat(bits, side), 255 - noise // 2, noise // 2)
    luma[side : 3 * side, 2 * side : 50 * side] = strip
    payload = word >> 4
    assert timecode.read(luma) == (payload if timecode.checksum(payload) == word & 0xF else None)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(moments, min_size=3, max_size=6),
    st.sampled_from([(640, 360), (854, 480), (1280, 720)]),
    st.sampled_from([300e3, 1e6, 4.5e6]),
)
def test_the_code_survives_x264(when: list[float], size: tuple[int, int], bitrate: float) -> None:
    pattern = TestPattern(*size, fps=30)
    encoder = VideoEncoder(*size, fps=30, target_bps=bitrate)
    decoder = av.CodecContext.create("h264", "r")
    pattern.start(0, 0)
    seen = []
    for number, moment in enumerate(when):
        frame = pattern.picture(0).make(moment)
        assert isinstance(frame, av.VideoFrame)
        data, _ = encoder.encode(frame, number / 30, key=False)
        seen += decoder.decode(av.Packet(data))
    seen += decoder.decode(None)
    codes = [timecode.read(frame.to_ndarray()[: size[1]]) for frame in seen]
    assert codes == [timecode.code_of(moment) for moment in when]


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_plain_picture_has_no_code(level: int) -> None:
    assert timecode.read(np.full((720, 1280), level, np.uint8)) is None


def test_a_picture_that_is_too_small_has_no_code() -> None:
    assert timecode.read(np.zeros((90, 160), np.uint8)) is None


def test_a_damaged_code_is_not_believed() -> None:
    luma = np.full((720, 1280), 90, np.uint8)
    timecode.draw(luma, 1_700_000_000.5)
    side = timecode.block_side(1280)
    block = luma[side : 3 * side, (2 + 20) * side : (2 + 21) * side]
    block[:] = timecode.WHITE + timecode.BLACK - block
    assert timecode.read(luma) is None


def test_the_strip_is_where_the_page_looks_for_it() -> None:
    """Fixed figures, so that a change here is seen to break the page's own reader."""
    luma = np.full((720, 1280), 90, np.uint8)
    timecode.draw(luma, 0.0)
    assert timecode.block_side(1280) == 20
    assert timecode.block_side(640) == 10
    assert timecode.block_side(854) == 12
    assert luma[40, 50] == 235  # sync: white from x = 40, y = 20 to 60
    assert luma[40, 70] == 16
    assert luma[10, 50] == 16  # the margin
    assert luma[79, 1019] == 16
    assert luma[80, 50] == 90


def test_age_knows_that_codes_wrap() -> None:
    assert timecode.age_ms(timecode.code_of(1000.0), 1000.25) == pytest.approx(250)
    assert timecode.age_ms(timecode.code_of(1000.25), 1000.0) == pytest.approx(-250)
    assert timecode.age_ms(timecode.MODULUS - 100, (timecode.MODULUS + 100) / 1000) == pytest.approx(200)
