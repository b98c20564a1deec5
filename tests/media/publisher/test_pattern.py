"""The test pattern: its picture and its sound tell the time."""

import av
import numpy as np
import pytest

from media import timecode
from media.publisher.sources.pattern import TestPattern
from media.publisher.sources.port import SAMPLE_RATE


def test_the_picture_carries_the_moment_of_its_capture() -> None:
    pattern = TestPattern(1280, 720, 30)
    pattern.start(0, 1_700_000_000.0)
    for number in range(3):
        picture = pattern.picture(0)
        assert picture.at == pytest.approx(number / 30)
        frame = picture.make(1_700_000_000 + picture.at)
        assert isinstance(frame, av.VideoFrame)
        assert timecode.read(frame.to_ndarray()[:720]) == timecode.code_of(1_700_000_000 + picture.at)


@pytest.mark.parametrize(
    "size", [(640, 360), (1920, 1080), (3840, 2160), (2160, 3840), (640, 1200), (3840, 360)]
)
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    frame = TestPattern(*size, fps=25).picture(0).make(1_700_000_000.0)
    assert isinstance(frame, av.VideoFrame)
    assert (frame.width, frame.height) == size
    assert timecode.read(frame.to_ndarray()[: size[1]]) == timecode.code_of(1_700_000_000.0)


def test_it_beeps_when_the_second_begins() -> None:
    pattern = TestPattern(640, 360, 30)
    pattern.start(0, 1_700_000_000.25)  # show time 0.75 is a full second
    sound = np.concatenate([pattern.sound(n * 960, 960) for n in range(100)])
    loud = np.flatnonzero(np.abs(sound[:, 0]) > 0.2 * 32768)
    starts = [loud[0], *loud[1:][np.diff(loud) > SAMPLE_RATE // 2]]
    assert [start / SAMPLE_RATE for start in starts] == pytest.approx([0.75, 1.75], abs=0.005)


def test_it_goes_on_where_it_is_told_to() -> None:
    pattern = TestPattern(640, 360, 30)
    pattern.start(2.01, 0.0)
    assert pattern.picture(0).at == pytest.approx(61 / 30)
