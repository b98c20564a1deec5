"""States in words, with the glyph and the meaning-colour that go beside each. Pure.

A line of a panel is a list of spans: text and a style in Textual's words, where `$good`, `$muted`... are the
colours of the palette in use. Colour is never alone: every state has its word and its own glyph.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[str, str]
Line = list[Span]


@dataclass(frozen=True, slots=True)
class Look:
    glyph: str
    word: str
    style: str


NODE: dict[str, Look] = {
    "requested": Look("…", "asked for", "$muted"),
    "creating": Look("…", "being made", "$muted"),
    "booting": Look("…", "booting", "$accent"),
    "in_service": Look("●", "in service", "$good"),
    "suspect": Look("▲", "suspect", "$warn"),
    "draining": Look("▼", "draining", "$warn"),
    "terminating": Look("▽", "ending", "$muted"),
    "terminated": Look("○", "ended", "$muted"),
    "faulty": Look("✗", "faulty", "$bad"),
}

STREAM: dict[str, Look] = {
    "connecting": Look("…", "connecting", "$accent"),
    "live": Look("●", "on air", "$air"),
    "stalled": Look("▲", "stalled", "$warn"),
    "reconnecting": Look("▲", "reconnecting", "$warn"),
    "starting": Look("…", "starting", "$accent"),
    "stopping": Look("▽", "stopping", "$muted"),
    "ended": Look("○", "ended", "$muted"),
    "failed": Look("✗", "failed", "$bad"),
}

UNKNOWN = Look("?", "unknown", "$muted")

# What OBS Studio warns at: shares of frames lost, and of the frame rate asked for.
LOST_WARN, LOST_BAD = 0.01, 0.05
FPS_WARN, FPS_BAD = 0.95, 0.80
RATE_WITHIN = 0.10


def node(state: str) -> Look:
    return NODE.get(state, UNKNOWN)


def stream(state: str) -> Look:
    return STREAM.get(state, UNKNOWN)


def lost_level(fraction: float | None) -> int:
    """A share that was lost: 0 is well, 1 a warning, 2 bad."""
    return 0 if fraction is None else (fraction > LOST_WARN) + (fraction > LOST_BAD)


def lost(fraction: float | None) -> Span:
    """The same in words: "ok", "▲ over 1 %", "✗ over 5 %"."""
    if fraction is None:
        return ("unknown", "$muted")
    return (("ok", "$good"), ("▲ over 1 %", "bold $warn"), ("✗ over 5 %", "bold $bad"))[lost_level(fraction)]


def frame_rate_level(fps: float | None, asked: float | None) -> int:
    """A frame rate beside the one asked for: 0 is well (or unknown), 1 a warning, 2 bad."""
    return 0 if fps is None or not asked else (fps < asked * FPS_WARN) + (fps < asked * FPS_BAD)


def frame_rate(fps: float | None, asked: float | None) -> Span:
    """The same in words."""
    if fps is None or not asked:
        return ("", "$muted")
    judged = (("ok", "$good"), ("▲ under 95 %", "bold $warn"), ("✗ under 80 %", "bold $bad"))
    return judged[frame_rate_level(fps, asked)]


def bitrate_level(bps: float, asked: float) -> int:
    """What arrives is what was asked for, within 10 %; 1 when it is not."""
    return int(abs(bps - asked) > RATE_WITHIN * asked)


def load(fraction: float | None) -> str:
    """The style of a bar that is this full."""
    if fraction is None:
        return "$muted"
    return "$bad" if fraction > 0.9 else "$warn" if fraction > 0.75 else "$good"


def wrap(line: Line, width: int) -> list[Line]:
    """The line as several of at most `width` cells, broken between words; a longer word is cut."""
    lines: list[Line] = [[]]
    used = 0
    for text, style in line:
        for word in re.split(r"(?<= )", text):
            while word:
                if used and used + len(word.rstrip(" ")) > width:
                    lines.append([])
                    used = 0
                piece, word = word[:width], word[width:]
                lines[-1].append((piece, style))
                used += len(piece)
    return lines


def plain(line: Iterable[Span]) -> str:
    return "".join(text for text, _ in line)
