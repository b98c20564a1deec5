"""Terminals that show less: no UTF-8, no colour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from console.glyphs import TABLE, ascii_wanted, to_ascii
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import snapshot


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C.utf8"}, False),
        ({}, False),
        ({"LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "C", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, True),
        ({"LANG": "en_US.UTF-8", "TERM": "xterm-256color"}, False),
        ({"LANG": "en_US.UTF-8", "SHOWCALLER_ASCII": "1"}, True),
        ({"LANG": "C", "SHOWCALLER_ASCII": "0"}, False),
    ],
)
def test_where_ascii_is_wanted(environment: dict[str, str], wanted: bool) -> None:
    assert ascii_wanted(environment, "utf-8") is wanted


def test_an_output_that_is_not_utf8_gets_ascii() -> None:
    assert ascii_wanted({"LANG": "en_US.UTF-8"}, "ascii") is True
    assert ascii_wanted({"LANG": "en_US.UTF-8"}, "ISO8859-1") is True


def test_each_glyph_has_one_ascii_character() -> None:
    assert all(len(other) == 1 and other.isascii() and other.isprintable() for other in TABLE.values())


@given(st.text(max_size=80))
def test_ascii_keeps_the_width(text: str) -> None:
    printable = "".join(character for character in text if character.isprintable())
    assert to_ascii(printable).isascii()
    assert cell_len(to_ascii(printable)) == sum(cell_len(character) for character in printable)


KEYS = [
    "1",
    "2",
    "3",
    "4",
    "question_mark",
    "escape",
    "b",
    "right",
    "space",
    "escape",
    "q",
    "escape",
    "2",
    "down",
    "d",
]


async def test_no_screen_sends_anything_but_ascii_where_that_is_all_there_is(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(80, 24), ascii_only=True) as it:
        for key in KEYS:
            await it.press(key)
            await it.pilot.pause(0.05)
            text = it.text()
            assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]


async def test_without_colour_none_is_sent_and_the_chosen_is_reversed(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with stand(snapshot(), size=(80, 24)) as it:
        for key in KEYS:
            await it.press(key)
            await it.pilot.pause(0.05)
            segments = [
                s for strip in it.app.screen._compositor.render_strips() for s in strip if s.style is not None
            ]
            assert all(
                s.style is not None and s.style.color is None and s.style.bgcolor is None for s in segments
            )
        reversed_ = "".join(s.text for s in segments if s.style is not None and s.style.reverse)
        assert "Cancel" in reversed_  # the dialog's focus can be seen
        await it.press("escape")
        await it.pilot.pause(0.05)
        strips = it.app.screen._compositor.render_strips()
        chosen = "".join(s.text for strip in strips for s in strip if s.style is not None and s.style.reverse)
        assert "edge-1" in chosen  # and so can the chosen row
        assert "Fleet" in chosen  # and the page we are on


async def test_states_have_a_word_and_a_glyph_beside_their_colour() -> None:
    from console.screens.shared import words
    from controlplane.wire.nodes import NodeState

    assert {str(state) for state in NodeState} == set(words.NODE)
    for looks in (words.NODE, words.STREAM):
        assert len({look.word for look in looks.values()}) == len(looks)
        assert all(look.glyph and look.style for look in looks.values())
