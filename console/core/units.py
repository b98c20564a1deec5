"""Figures as people write and read them. Reading raises UsageError, saying what is accepted."""

import math
import re
from typing import Literal

from console.core.errors import UsageError

CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # the same as controlplane.wire.api.CHANNEL_PATTERN
# As controlplane.wire.api has it, which brings pydantic along; a test holds the two together.
CHANNEL_RULE = (
    "A channel name has 1 to 63 small letters, digits, - and _, and starts with a letter or a digit"
)

# Digits are 0 to 9: \d would take those of every script, and float() underscores too (4_5M as 45 Mbps).
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER} ?d ?)?(?:{_NUMBER} ?h ?)?(?:{_NUMBER} ?m(?:in)? ?)?(?:{_NUMBER} ?s?)?")
_BITRATE = re.compile(rf"{_NUMBER} ?([kKmMgG]?)(?:bps|bit/s|b/s)?")
_SIZE = re.compile(r"([0-9]{2,5})x([0-9]{2,5})")

LOWEST_BPS = 100_000.0
HIGHEST_BPS = 100_000_000.0


def parse_duration(text: str, *, least_s: float = 0.0, most_s: float = 30 * 86_400.0, of: str = "") -> float:
    """Seconds: "90", "90s", "5m", "1h30m", "7d". `of`: the option that it is of, for the refusal."""
    said = f"{of}: {text!r}" if of else repr(text)
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise UsageError(f"{said} is not a duration", "Write it like 60s, 5m, 1h30m or 7d")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    value = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not least_s <= value <= most_s:
        raise UsageError(
            f"{said} is out of range", f"Accepted: {show_duration(least_s)} to {show_duration(most_s)}"
        )
    return value


def parse_bitrate(text: str) -> float:
    """Bits per second: "4.5M", "800k", "4500000", "4.5Mbps"."""
    accepted = "Write it like 4.5M, 800k or 4500000 (bits per second), from 100k to 100M"
    match = _BITRATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a bitrate", accepted)
    value = float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()]
    if not LOWEST_BPS <= value <= HIGHEST_BPS:
        raise UsageError(f"a bitrate of {text} is out of range", accepted)
    return value


def parse_channel(text: str) -> str:
    if CHANNEL.fullmatch(text) is None:
        raise UsageError(
            f"{text!r} cannot name a channel",
            CHANNEL_RULE,
        )
    return text


def parse_codec(text: str) -> Literal["h264", "vp8"]:
    match text.lower():
        case "h264":
            return "h264"
        case "vp8":
            return "vp8"
        case _:
            raise UsageError(f"{text!r} is no codec that can be sent", "Write h264 or vp8")


def parse_size(text: str) -> str:
    """ "1280x720": at least 640x360, even."""
    match = _SIZE.fullmatch(text)
    accepted = "Write it like 1280x720: even numbers, at least 640x360, at most 3840x2160"
    if match is None:
        raise UsageError(f"{text!r} is not a picture size", accepted)
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2 or not (640 <= width <= 3840 and 360 <= height <= 2160):
        raise UsageError(f"a picture of {text} cannot be sent", accepted)
    return text


def show_duration(seconds: float | None) -> str:
    """Short, two units at most: "0.4 s", "42 s", "5 min", "2 h 10"."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d}"
    return f"{seconds / 86_400:,.0f} days"


def show_bitrate(bps: float | None) -> str:
    """Three significant figures: "4.48 Mbps", "812 kbps"."""
    if bps is None:
        return "-"
    for unit, size in (("Gbps", 1e9), ("Mbps", 1e6), ("kbps", 1e3)):
        if bps >= size * 0.9995:
            value = bps / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{bps:.0f} bps"


def show_number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def show_state(state: str) -> str:
    """A state of the wire as people read it: "in service"."""
    return state.replace("_", " ")


def count(number: int, thing: str) -> str:
    """ "1 viewer", "3 viewers"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
