"""The bitrate asked for is the bitrate that goes out, whatever the content is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.publisher.encoder.pace import Pace, rtp_bytes, sound_bps, video_bps
from media.publisher.encoder.video import VideoEncoder
from media.publisher.sources.pattern import TestPattern

FPS = 30


def _play(pace: Pace, sizes: list[int]) -> list[int]:
    """RTP bytes of each picture, filler included."""
    return [rtp_bytes(size) + pace.filler(number / FPS, size) for number, size in enumerate(sizes)]


def test_a_content_worth_nothing_is_filled_up() -> None:
    sent = _play(Pace(4.5e6, FPS), [200] * 300)
    for second in range(2, 10):
        assert sum(sent[second * FPS : (second + 1) * FPS]) * 8 == pytest.approx(4.5e6, rel=0.06)


def test_a_content_worth_its_bitrate_gets_no_filler() -> None:
    pace = Pace(4.5e6, FPS)
    fair = round(4.5e6 / 8 / FPS * 0.985)
    assert sum(pace.filler(number / FPS, fair) for number in range(300)) == 0


def test_an_encoder_that_sends_too_much_is_told_to_aim_lower() -> None:
    pace = Pace(4.5e6, FPS)
    before = pace.encoder_bps
    _play(pace, [round(4.5e6 / 8 / FPS * 1.1)] * 300)
    assert pace.encoder_bps < before * 0.95


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=120), st.floats(1e5, 2e7))
def test_filler_is_never_a_burst(sizes: list[int], target: float) -> None:
    pace = Pace(target, FPS)
    for number, size in enumerate(sizes):
        assert 0 <= pace.filler(number / FPS, size) <= 2 * target / 8 / FPS + 1
    assert pace.encoder_bps > 0


def test_sound_is_counted_so_that_both_ways_of_counting_are_near() -> None:
    for asked in (300e3, 800e3, 2e6, 4.5e6, 8e6):
        picture = video_bps(asked, sound=True)
        assert picture >= 0.9 * asked
        assert picture + sound_bps(asked) <= 1.1 * asked
    assert video_bps(4.5e6, sound=False) == 4.5e6


@pytest.mark.parametrize("target", [800e3, 4.5e6])
def test_the_pattern_through_x264_keeps_the_rate_from_the_third_second_on(target: float) -> None:
    size = (640, 360) if target < 1e6 else (1280, 720)
    pattern = TestPattern(*size, fps=FPS)
    encoder = VideoEncoder(*size, fps=FPS, target_bps=target)
    sent = []
    for number in range(8 * FPS):
        frame = pattern.picture(0).make(1_700_000_000 + number / FPS)
        data, key = encoder.encode(frame, number / FPS, key=False)  # type: ignore[arg-type]
        assert key == (number % FPS == 0)
        sent.append(rtp_bytes(len(data)))
    for second in range(2, 8):
        assert sum(sent[second * FPS : (second + 1) * FPS]) * 8 == pytest.approx(target, rel=0.1)


def test_a_lower_bitrate_takes_effect_without_a_key_frame() -> None:
    pattern = TestPattern(1280, 720, fps=FPS)
    encoder = VideoEncoder(1280, 720, fps=FPS, target_bps=4.5e6)
    sent = []
    for number in range(7 * FPS):
        if number == 2 * FPS + 10:
            encoder.set_bitrate(2e6)
        data, key = encoder.encode(pattern.picture(0).make(number / FPS), number / FPS, key=False)  # type: ignore[arg-type]
        assert key == (number % FPS == 0)
        sent.append(rtp_bytes(len(data)))
    assert sum(sent[4 * FPS :]) * 8 / 3 == pytest.approx(2e6, rel=0.1)
