"""Figures as people read them: one way to write a rate, an age, a share, everywhere. Pure.

An unknown figure is `-`, never 0.
"""

import re
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from rich.cells import cell_len

UNKNOWN = "-"


def count(value: int | None) -> str:
    """1204 -> "1,204"."""
    return UNKNOWN if value is None else f"{value:,}"


def rate(bps: float | None) -> str:
    """Bits per second with three figures: "940 bps", "4.48 Mbps", "5.31 Gbps"."""
    if bps is None:
        return UNKNOWN
    for unit in ("bps", "kbps", "Mbps"):
        if abs(bps) < 999.5:
            return f"{_three(bps)} {unit}"
        bps /= 1000
    return f"{_three(bps)} Gbps"


def short_rate(bps: float | None) -> str:
    """The same for a narrow column: "940", "4.48M", "5.31G"."""
    return rate(bps).replace(" bps", "").replace(" kbps", "k").replace(" Mbps", "M").replace(" Gbps", "G")


def _three(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def share(value: float | None, places: int = 0) -> str:
    """A fraction 0..1 as "75 %"."""
    return UNKNOWN if value is None else f"{value * 100:.{places}f} %"


def loss(value: float | None) -> str:
    """A loss as "0.02 %": two places while it is small enough to matter."""
    if value is None:
        return UNKNOWN
    return share(value, 2 if value < 0.1 else 1)


def milliseconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} ms"


def age(seconds: float | None) -> str:
    """How old: "0.4 s", "12 s", "3 min", "2 h 10", "4 d"."""
    if seconds is None:
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d}" if hours < 48 else f"{hours // 24} d"


def lasting(seconds: float | None) -> str:
    """A running time as "00:41:12"."""
    if seconds is None:
        return UNKNOWN
    whole = int(max(0.0, seconds))
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def clock(at: float | None) -> str:
    """A moment (Unix time) on the wall clock here: "21:04:17"."""
    return UNKNOWN if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def date(moment: str) -> str:
    """A moment in ISO 8601 by the wall clock here: "2026-09-21 21:04"."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def plural(number: int, one: str, many: str | None = None) -> str:
    """ "1 viewer", "3 viewers"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def bar(width: int, fraction: float | None) -> tuple[str, str]:
    """A bar of `width` cells as its full and its empty part."""
    if fraction is None or width <= 0:
        return "", "░" * max(0, width)
    full = min(width, max(0, round(width * min(1.0, fraction))))
    if fraction > 0 and full == 0:
        full = 1  # somebody is there: never an empty bar
    return "█" * full, "░" * (width - full)


SPARKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], width: int, top: float | None = None) -> str:
    """The last values as a line of `width` cells; each cell is the highest of the values it stands for."""
    if not values or width <= 0:
        return ""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [max(values[a : max(b, a + 1)]) for a, b in pairwise(edges)]
    top = max(top or 0.0, max(values), 1e-9)
    return "".join(SPARKS[min(7, int(v / top * 7.999))] if v > 0 else SPARKS[0] for v in values)


def clip(text: str, width: int) -> str:
    """At most `width` cells; what is cut ends in an ellipsis."""
    return text if cell_len(text) <= width else chop(text, max(0, width - 1)) + "…"


def chop(text: str, width: int) -> str:
    """As much of it as fits into `width` cells."""
    if text.isascii():
        return text[:width]
    while cell_len(text) > width:
        text = text[:-1]
    return text


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text from elsewhere without the characters that would steer the terminal or turn the line around."""
    return text if text.isprintable() else CONTROL.sub("·", text)
