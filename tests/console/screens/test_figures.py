"""Figures as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from console.screens.shared import figures
from console.screens.shared.frame import entry_lines
from console.screens.shared.words import Line, plain, wrap
from tests.console.screens.stand import entry


@pytest.mark.parametrize(
    ("bps", "text"),
    [(None, "-"), (0.0, "0 bps"), (940.0, "940 bps"), (4.484e6, "4.48 Mbps"), (44.8e6, "44.8 Mbps"),
     (999.96e6, "1.00 Gbps"), (5.31e9, "5.31 Gbps"), (999.4, "999 bps"), (128_000.0, "128 kbps")],
)  # fmt: skip
def test_rates(bps: float | None, text: str) -> None:
    assert figures.rate(bps) == text


def test_an_unknown_figure_is_never_zero() -> None:
    for write in (
        figures.rate,
        figures.count,
        figures.share,
        figures.loss,
        figures.milliseconds,
        figures.age,
    ):
        assert write(None) == figures.UNKNOWN
    assert figures.short_rate(None) == figures.lasting(None) == figures.clock(None) == figures.UNKNOWN


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (99.0, "99 s"),
        (100.0, "1 min"),
        (7800.0, "2 h 10"),
        (4 * 86400.0, "4 d"),
        (-3.0, "0.0 s"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert figures.age(seconds) == text


@given(st.integers(0, 60), st.floats(0, 3))
def test_a_bar_has_its_width_and_shows_the_first_one(width: int, fraction: float) -> None:
    full, empty = figures.bar(width, fraction)
    assert len(full + empty) == width
    if fraction > 0 and width:
        assert full


@given(st.lists(st.integers(0, 10**6), max_size=200), st.integers(1, 80))
def test_sparks_fit_and_keep_the_peak(values: list[int], width: int) -> None:
    line = figures.spark(values, width)
    assert len(line) <= width
    if values and max(values) > 0:
        assert "█" in line


@given(st.text(max_size=300), st.integers(1, 40))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    line: Line = [(text, "$muted")]
    lines = wrap(line, width)
    assert "".join(plain(part) for part in lines) == text
    assert all(len(plain(part).rstrip(" ")) <= width for part in lines)


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert figures.harmless("edge-1\x1b[2J\x07\u202eevil") == "edge-1·[2J··evil"
    assert figures.harmless("Überträger 放送 ●") == "Überträger 放送 ●"


@given(st.text(max_size=60), st.integers(1, 40))
def test_clipping_counts_cells(text: str, width: int) -> None:
    assert cell_len(figures.clip(text, width)) <= max(width, 1)


def test_what_is_too_long_for_a_line_of_the_journal_is_told_whole_where_there_is_room() -> None:
    entries = [
        entry(1, "one two three four five six"),
        entry(2, "seven"),
        entry(3, "eight nine ten eleven twelve"),
    ]
    head = len(plain(entry_lines(entries, 80, 1)[0])) - len(entries[0].message)

    def told(rows: int) -> list[str]:
        return [plain(line)[head:].rstrip() for line in entry_lines(entries, head + 14, rows)]

    assert told(5) == ["one two three", "four five six", "seven", "eight nine ten", "eleven twelve"]
    assert told(4) == ["one two three", "four five six", "seven", "eight nine te…"], "the newest come first"
    assert told(3) == ["one two three…", "seven", "eight nine te…"]
