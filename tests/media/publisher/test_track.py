"""The sound timeline of a file."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.publisher.sources.port import Sound
from media.publisher.sources.track import AHEAD, Track


def _count(first: int, count: int) -> Sound:
    values = (np.arange(first, first + count) % 30_000 + 1).astype(np.int16)
    return np.stack((values, values), axis=1)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(0, 3))
def test_what_is_written_is_read_through_any_number_of_rounds(steps: list[int], lead: int) -> None:
    track = Track()
    at = 0
    for step in steps * 5:
        track.write(at, _count(at, step))
        assert np.array_equal(track.read(at, step), _count(at, step))
        at += step


def test_what_was_never_written_is_silence() -> None:
    track = Track()
    track.write(1000, _count(1000, 500))
    heard = track.read(0, 3000)
    assert not heard[:1000].any()
    assert np.array_equal(heard[1000:1500], _count(1000, 500))
    assert not heard[1500:].any()


def test_what_hangs_over_the_end_of_a_pass_is_cut() -> None:
    track = Track()
    track.write(0, _count(0, 2000))
    track.cut(1500)
    assert not track.read(0, 2000)[1500:].any()


def test_sound_that_comes_too_late_or_far_too_early_is_left_out() -> None:
    track = Track()
    track.read(0, 1000)
    track.write(500, _count(500, 1000))
    assert np.array_equal(track.read(1000, 500), _count(1000, 500))
    track.write(AHEAD * 3, _count(0, 10))
    assert not track.read(1500, 1000).any()


def test_skipped_sound_is_not_heard_a_round_later() -> None:
    track = Track()
    track.write(0, _count(0, 48_000))
    track.read(400_000, 960)  # the reader jumped
    assert not track.read(400_960, 500_000).any()
