"""Figures as people write them: what is read, and that everything else is refused in words."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.errors import UsageError
from console.core.units import (
    CHANNEL,
    CHANNEL_RULE,
    HIGHEST_BPS,
    LOWEST_BPS,
    parse_bitrate,
    parse_channel,
    parse_codec,
    parse_duration,
    parse_size,
    show_bitrate,
    show_duration,
    show_state,
)
from controlplane.wire import api
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
        ("5 min", 300),
        ("1H 30M", 5400),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-5s", "5 minutes", "1s1h", "nan", "inf", "1e3", "31d", "1_0", "٥m", "1 0s"]
)
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


@pytest.mark.parametrize(
    "text", ["0", "0M", "-1M", "4,5M", "fast", "", "99k", "101M", "1G", "1e6", "nan", "4_5M", "٤M", "4 5M"]
)
def test_what_is_no_bitrate_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match=r"4\.5M") as refused:
        parse_bitrate(text)
    assert refused.value.exit_code == 2


# Words much like what people write, and anything at all.
typed = st.one_of(
    st.text(),
    st.from_regex(
        r"[ -]?[0-9]{0,400}[.,]?[0-9]{0,9}(e[0-9]{1,5})? ?(s|min|m|h|d|k|M|G|[kKMG]bps|bit/s)?",
        fullmatch=True,
    ),
    st.sampled_from(["nan", "-inf", "infinity m", "1_0m", "\u0661\u0662m", "in", "min", "\u0130", "\ud800"]),
)


def read(parser: Callable[[str], float], text: str) -> float | str:
    """The value, or what is said instead."""
    try:
        return parser(text)
    except UsageError as error:
        return error.next_step


@given(typed)
def test_any_text_is_a_duration_of_thirty_days_at_most_or_is_refused_in_words(text: str) -> None:
    found = read(parse_duration, text)
    assert found if isinstance(found, str) else 0 <= found <= 30 * 86_400


@given(typed)
def test_any_text_is_a_bitrate_that_can_be_sent_or_is_refused_in_words(text: str) -> None:
    found = read(parse_bitrate, text)
    assert found if isinstance(found, str) else LOWEST_BPS <= found <= HIGHEST_BPS


@pytest.mark.parametrize("text", ["main", "0", "a-b_c", "x" * 63])
def test_a_channel_name_is_taken(text: str) -> None:
    assert parse_channel(text) == text


@pytest.mark.parametrize("text", ["", "Main", "a b", "-a", "../x", "x" * 64, "é", "a/b", "a\n"])
def test_what_cannot_name_a_channel_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(CHANNEL_RULE)):
        parse_channel(text)


def test_the_rule_of_a_channel_name_is_the_manager_s() -> None:
    assert f"^{CHANNEL.pattern}$" == api.CHANNEL_PATTERN
    assert CHANNEL_RULE == api.CHANNEL_RULE


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
