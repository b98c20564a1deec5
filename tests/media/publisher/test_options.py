"""The command line, checked before anything starts."""

from collections.abc import Callable

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.publisher.errors import UsageError
from media.publisher.options import parse, parse_bitrate, parse_fps, parse_size, parse_url

FLAGS = ("--whip", "--channel", "--source", "--bitrate", "--loop", "--copy", "--size", "--fps", "--report",
         "--json", "--run-dir", "--name", "--log-json", "--log-plain", "--")  # fmt: skip
GOOD = ["--whip", "http://127.0.0.1:8080/whip/main", "--channel", "main", "--source", "test"]


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("4.5M", 4.5e6),
        ("4.5m", 4.5e6),
        ("800k", 8e5),
        ("4500000", 4.5e6),
        (" 2M ", 2e6),
        ("3Mbps", 3e6),
        ("4.5e6", 4.5e6),
    ],
)
def test_bitrates_people_write(text: str, bps: float) -> None:
    assert parse_bitrate(text) == bps


@pytest.mark.parametrize(
    "text", ["0", "0k", "-1M", "", "M", "4,5M", "4.5G", "nan", "inf", "1e999", "12", "900M", "ten"]
)
def test_bitrates_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bitrate(text)
    assert caught.value.exit_code == 2
    assert "4.5M" in caught.value.next_step


@pytest.mark.parametrize("text", ["1280", "1280x", "1281x720", "64x36", "9999x9999", "axb", "-1280x720"])
def test_sizes_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


# Words much like what people write, and anything at all.
texts = st.one_of(
    st.text(),
    st.from_regex(
        r"[ +-]?[0-9]{0,6}[.,]?[0-9]{1,400}(e[0-9]{1,5})?[kKmMgG]?(bps|bit/s)?[ ]?", fullmatch=True
    ),
    st.from_regex(r"-?[0-9]{1,6}[xX:][0-9]{0,6}", fullmatch=True),
    st.builds("{}x{}".format, st.integers(600, 4000), st.integers(300, 4000)),
    st.from_regex(r"(https?|ftp):/{0,2}[a-z@:\[\]%/?#.0-9]{0,20}(:[0-9a-z-]{0,7})?(/.*)?", fullmatch=True),
    st.text().map("http://{}".format),
    st.sampled_from(["nan", "inf", "-inf", "1_000k", "1e999", "\u0661\u0662", "\ud800"]),
)


def address(text: str) -> str:
    return parse_url(text, "--whip")


@given(texts)
@example("3842x720")
def test_any_text_is_a_value_in_its_bounds_or_a_usage_error(text: str) -> None:
    parsers: list[Callable[[str], object]] = [parse_bitrate, parse_size, parse_fps, address]
    for parser in parsers:
        try:
            value = parser(text)
        except UsageError:
            continue
        match value:
            case (int(width), int(height)):
                assert width % 2 == height % 2 == 0
                assert 640 <= width <= 3840
                assert 360 <= height <= 3840
            case float():
                assert 1 <= value <= 60 or 100_000 <= value <= 100_000_000
            case _:
                assert value == text
                assert httpx.URL(text).host, text


@given(st.lists(st.one_of(st.sampled_from(FLAGS), texts), max_size=6))
def test_any_command_line_is_understood_or_a_usage_error(words: list[str]) -> None:
    try:
        options = parse([*GOOD, *words])
    except UsageError:
        return
    assert 100_000 <= options.bitrate <= 100_000_000
    assert options.source


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--source", ""],
        ["--channel", "Main Show"],
        ["--channel", "../etc"],
        ["--whip", "ftp://somewhere"],
        ["--whip", "http://host:port/whip/main"],
        ["--whip", "http://host/\x1fwhip/main"],
        ["--report", "http://host/\ud800"],
        ["--report", "nowhere"],
        ["--fps", "0"],
        ["--fps", "-5"],
        ["--fps", "many"],
        ["--bitrate", "-5M"],
        ["--copy", "--bitrate", "2M"],
        ["--copy", "--size", "640x360"],
        ["--copy", "--codec", "vp8"],
        ["--codec", "av1"],
        ["--codec", ""],
        ["--nonsense"],
        ["--log-json", "--log-plain"],
    ],
)
def test_command_lines_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse([*GOOD, *words] if words else [])
    assert caught.value.next_step


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOWCALLER_TOKEN", " secret \n")
    options = parse(GOOD)
    assert (options.bitrate, options.token, options.size, options.fps, options.loop) == (
        4.5e6,
        "secret",
        None,
        None,
        False,
    )
