"""Terminals that show less: no UTF-8, no colour. Two filters over what is drawn: no screen needs to know.

Without UTF-8 every character is replaced by an ASCII one of the same width. With NO_COLOR every colour is
dropped; what stands out by its background (the chosen row, the focused button) is shown reversed.
"""

import os
import sys
from collections.abc import Mapping
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

GROUPS = {
    "-": "─━┈┄╸╺╴╶–—▃",
    "=": "═▄▬",
    "|": "│┃║╷╵╹╻▎▍▏▊▋▉▕┊┆",
    "+": "┌┐└┘├┤┬┴┼╭╮╰╯",
    "_": "▁▔",
    ".": "▂░…·",
    "~": "▅",
    "*": "▆●◉•",
    "%": "▇",
    "#": "█▓▒",
    "[": "▐",
    "]": "▌",
    "o": "○◌⭘",
    "!": "▲△",
    "v": "▼▽↓⏷",
    "x": "✗×",
    "V": "✓✔",
    ">": "▸▹▶▷►→⏵≥",
    "<": "◀◁←≤",
    "^": "↑",
    '"': "“”",
    "'": "‘’",
}
TABLE = {ord(glyph): ascii_ for ascii_, glyphs in GROUPS.items() for glyph in glyphs}
WIDE = {"🔎": "> "}  # the palette's, two cells wide
POOR_TERMINALS = ("dumb", "linux", "vt100", "vt102", "vt220", "ansi")


def ascii_wanted(environment: Mapping[str, str] = os.environ, encoding: str | None = None) -> bool:
    """Whether only ASCII should be drawn here.

    `SHOWCALLER_ASCII=1` and `=0` decide. Otherwise: a locale that names no UTF-8, an output that is not
    UTF-8, or a terminal known for few glyphs. The locales C and POSIX name none; LC_CTYPE=C.UTF-8 over
    LANG=C was set by Python itself and says nothing of the terminal. Where no locale is set at all,
    terminals of today are trusted.
    """
    said = environment.get("SHOWCALLER_ASCII", "")
    if said:
        return said not in ("0", "no", "false")
    encoding = encoding if encoding is not None else getattr(sys.__stdout__, "encoding", None) or "utf-8"
    if not encoding.lower().replace("_", "-").startswith("utf"):
        return True
    if environment.get("TERM", "").split("-")[0] in POOR_TERMINALS:
        return True
    everything, ctype, lang = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    if lang in ("C", "POSIX") and ctype == "C.UTF-8":
        ctype = ""
    locale = everything or ctype or lang
    return bool(locale) and "utf" not in locale.lower()


@lru_cache(maxsize=4096)
def to_ascii(text: str) -> str:
    """The same text in ASCII, cell for cell."""
    if text.isascii():
        return text
    out = []
    for character in text:
        if character.isascii():
            out.append(character)
        elif character in WIDE:
            out.append(WIDE[character])
        elif ord(character) in TABLE:
            out.append(TABLE[ord(character)])
        else:
            out.append("?" * cell_len(character))
    return "".join(out)


class Ascii(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


@lru_cache(maxsize=2048)
def _colourless(style: Style) -> Style:
    bright = style.bgcolor is not None and Color.from_rich_color(style.bgcolor).brightness > 0.5
    return Style(
        bold=style.bold or None,
        dim=style.dim or None,
        italic=style.italic or None,
        underline=style.underline or None,
        strike=style.strike or None,
        reverse=bool(style.reverse) != bright or None,
        meta=style.meta or None,
        link=style.link,
    )


class NoColour(LineFilter):
    """Drops colours as https://no-color.org asks; a bright background becomes reverse video."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, None if style is None else _colourless(style), control)
            for text, style, control in segments
        ]
