"""Figures as people write them: what is read, and that everything else is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.errors import UsageError
from console.core.units import (
    parse_bitrate,
    parse_channel,
    parse_codec,
    parse_duration,
    parse_size,
    show_bitrate,
    show_duration,
    show_state,
)
from controlplane.wire.nodes import NodeState


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("60s", 60),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("0.5s", 0.5),
        ("0", 0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-5s", "5 minutes", "1s1h", "nan", "inf", "1e3", "31d"])
def test_what_is_no_duration_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_duration(text)
    assert refused.value.exit_code == 2
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("text", "bps"), [("4.5M", 4.5e6), ("800k", 8e5), ("4500000", 4.5e6), ("4.5Mbps", 4.5e6), ("2 M", 2e6)]
)
def test_a_bitrate_is_read(text: str, bps: float) -> None:
    assert parse_bitrate(text) == pytest.approx(bps)


@pytest.mark.parametrize("text", ["0", "0M", "-1M", "4,5M", "fast", "", "99k", "101M", "1G", "1e6", "nan"])
def test_what_is_no_bitrate_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match=r"4\.5M") as refused:
        parse_bitrate(text)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("text", ["main", "0", "a-b_c", "x" * 63])
def test_a_channel_name_is_taken(text: str) -> None:
    assert parse_channel(text) == text


@pytest.mark.parametrize("text", ["", "Main", "a b", "-a", "../x", "x" * 64, "é", "a/b", "a\n"])
def test_what_cannot_name_a_channel_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        parse_channel(text)


@pytest.mark.parametrize("text", ["1280x721", "320x240", "1280", "x", "9999x9999"])
def test_what_is_no_picture_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="1280x720"):
        parse_size(text)


@given(st.text(max_size=20))
def test_no_text_makes_a_reader_fail_in_any_other_way(text: str) -> None:
    for read in (parse_duration, parse_bitrate, parse_channel, parse_size):
        try:
            read(text)
        except UsageError:
            pass


@pytest.mark.parametrize(
    ("bps", "text"),
    [
        (None, "-"),
        (0, "0 bps"),
        (812_000, "812 kbps"),
        (4_480_000, "4.48 Mbps"),
        (999_960, "1.00 Mbps"),
        (5.31e9, "5.31 Gbps"),
    ],
)
def test_a_bitrate_is_shown_with_three_figures(bps: float | None, text: str) -> None:
    assert show_bitrate(bps) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0.4 s"), (42, "42 s"), (300, "5 min"), (7800, "2 h 10")]
)
def test_a_duration_is_shown_short(seconds: float | None, text: str) -> None:
    assert show_duration(seconds) == text


def test_a_state_is_shown_in_words() -> None:
    assert [show_state(state) for state in (NodeState.IN_SERVICE, "draining")] == ["in service", "draining"]
    assert not any("_" in show_state(state) for state in NodeState)


def test_a_codec_is_read_however_it_is_written() -> None:
    assert [parse_codec(text) for text in ("h264", "H264", "vp8", "VP8")] == ["h264", "h264", "vp8", "vp8"]
    for text in ("", "av1", "h.264"):
        with pytest.raises(UsageError, match="Write h264 or vp8"):
            parse_codec(text)
