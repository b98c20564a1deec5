"""Spans drawn as strips, for the widgets that draw line by line. Styles are the words of Textual ("bold
$warn"), resolved once per theme and kept."""

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.app import App
from textual.content import Content
from textual.strip import Strip
from textual.style import Style

from console.screens.shared.figures import harmless
from console.screens.shared.words import Line


@lru_cache(maxsize=1024)
def _resolve(theme: str, style: str, variables: tuple[tuple[str, str], ...]) -> RichStyle:
    return Style.parse(style, dict(variables)).rich_style if style else RichStyle.null()


@lru_cache(maxsize=16)
def _variables(items: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return items


class Ink:
    """Resolves the styles of spans for one widget's app. Cheap to make; nothing is kept of the app."""

    def __init__(self, app: "App[object]") -> None:
        self._theme = app.theme
        self._variables = _variables(tuple(app.theme_variables.items()))

    def style(self, style: str) -> RichStyle:
        return _resolve(self._theme, style, self._variables)

    def strip(self, line: Line, width: int, base: RichStyle) -> Strip:
        """The line on `base`, cut or filled to exactly `width` cells."""
        segments = [Segment(harmless(text), base + self.style(style)) for text, style in line if text]
        return Strip(segments).adjust_cell_length(width, base)


def content(line: Line) -> Content:
    """The same spans for a widget that takes Content (Static, buttons)."""
    return Content.assemble(*[(harmless(text), style) if style else harmless(text) for text, style in line])


def paragraphs(lines: list[Line]) -> Content:
    """Several lines, one under the other."""
    return Content("\n").join([content(line) for line in lines])
