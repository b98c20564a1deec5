"""What a palette is: names of meanings and the colour of each, `#rrggbb`.

A palette knows nothing of the console that draws with it. The console turns it into a theme of its own and
puts a glyph or a word beside every colour, so that no meaning rests on colour alone.
"""

import re
from dataclasses import dataclass, fields

HEX = re.compile(r"^#[0-9a-f]{6}$")


@dataclass(frozen=True, slots=True)
class Palette:
    name: str  # what a person types: "dark"
    title: str  # what a person reads: "Dark"
    dark: bool
    text: str  # words and numbers
    muted: str  # labels, units, what is not the point
    background: str
    surface: str  # panels
    raised: str  # header, footer, dialogs
    line: str  # borders
    accent: str  # the key to press, the focus, the chart's main line
    second: str  # the chart's other line, links
    cursor: str  # background of the chosen row
    good: str
    warn: str
    bad: str
    air: str  # on air

    def colours(self) -> dict[str, str]:
        """Every colour by its meaning."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("name", "title", "dark")
        }

    def mistakes(self) -> list[str]:
        """What is wrong with it, in words; empty when it can be used."""
        return [
            f"{name} is {value!r}, not #rrggbb"
            for name, value in self.colours().items()
            if not HEX.match(value)
        ]


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, 0..1 (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2.2): 4.5 is wanted for text."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
