"""The command line, checked before anything starts."""

import pytest

from media.publisher.errors import UsageError
from media.publisher.options import parse, parse_bitrate, parse_size

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


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--source", ""],
        ["--channel", "Main Show"],
        ["--channel", "../etc"],
        ["--whip", "ftp://somewhere"],
        ["--whip", "http://host:port/whip/main"],
        ["--report", "nowhere"],
        ["--fps", "0"],
        ["--fps", "-5"],
        ["--fps", "many"],
        ["--bitrate", "-5M"],
        ["--copy", "--bitrate", "2M"],
        ["--copy", "--size", "640x360"],
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
