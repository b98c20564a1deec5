"""The recorded load, as people name it: `last:24h`, `FROM..TO`, or a file of JSON Lines."""

from datetime import datetime
from pathlib import Path

from console.core.errors import UsageError
from console.core.units import count, parse_duration
from controlplane.wire.fleet import Span
from controlplane.wire.history import LONGEST_LINE, BadHistory, HistoryLine, Recorded, read

LONGEST_S = 7 * 86_400.0
MOST_SENT = 1_000_000  # bytes: the manager takes no more than a MiB at once
ACCEPTED = (
    "Write it like last:24h, last:7d, 2026-11-26T18:00..2026-11-26T23:00, or name a file that ends in .jsonl"
)


def parse_on(text: str) -> Span | Path:
    """A time, as `parse_span` has it, or a file. UsageError."""
    try:
        return parse_span(text)
    except NoTime:
        if text.endswith(".jsonl") or Path(text).is_file():
            return Path(text)
        raise UsageError(f"--on: {text!r} is no time and no file of a history", ACCEPTED) from None


class NoTime(UsageError):
    """It is not written like a time at all."""


def parse_span(text: str) -> Span:
    """A time of the manager's own history. Times without a zone are this machine's. UsageError."""
    kind, colon, lasting = text.partition(":")
    if kind == "last" and colon:
        return Span(last_s=parse_duration(lasting, least_s=1.0, most_s=LONGEST_S, of="--on"))
    first, dots, last = text.partition("..")
    if dots and (start := _moment(first)) is not None and (end := _moment(last)) is not None:
        if end <= start:
            raise UsageError(f"--on: {last} is not after {first}", ACCEPTED)
        if end - start > LONGEST_S:
            raise UsageError("--on: that is more than 7 days", "Ask about part of it")
        return Span(start=start, end=end)
    raise NoTime(f"--on: {text!r} is no time", ACCEPTED)


def _moment(text: str) -> float | None:
    try:
        return max(0.0, datetime.fromisoformat(text.strip()).timestamp())
    except (ValueError, OverflowError, OSError):  # no date; one before there were any, as this machine counts
        return None


def read_file(path: Path, group: str) -> Recorded:
    """What a file has of one group: the one that is named, by its id or its role, or the only one there is.
    Raises UsageError where it cannot be used as a whole."""
    recorded = Recorded()
    try:
        with path.open("rb") as file:
            read(str(path), iter(lambda: file.readline(LONGEST_LINE), b""), recorded)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "Name a file of JSON Lines") from error
    except BadHistory as error:
        raise UsageError(str(error)) from error
    groups = sorted({line.group for line in recorded.lines})
    if not groups:
        raise UsageError(
            f"{path} has no line that can be read",
            "`showcaller fleet history GROUP --jsonl` prints such a file",
            details=damages(recorded.torn, recorded.damaged, recorded.damaged_in_all),
        )
    named = [it for it in groups if it == group] or [it for it in groups if it.partition("@")[0] == group]
    found = named or groups
    if len(found) != 1:
        what = "several groups of that name" if named else f"several groups, and none is {group!r}"
        raise UsageError(f"{path} has {what}: {', '.join(found)}", "Name one of those")
    recorded.lines = [line for line in recorded.lines if line.group == found[0]]
    size = sum(len(line.model_dump_json(exclude_unset=True)) + 1 for line in recorded.lines)
    if size > MOST_SENT:
        raise UsageError(
            f"{path} has {size / 1e6:.1f} MB of {found[0]}, and {MOST_SENT / 1e6:g} MB can be sent",
            "Take part of it: `fleet history GROUP --on FROM..TO --jsonl`",
        )
    return recorded


def damages(torn: int, damaged: list[str], damaged_in_all: int) -> list[str]:
    """What could not be read, in words."""
    said = [f"{count(torn, 'line')} half written at the end of a file left out"] if torn else []
    said += [f"left out: {where}" for where in damaged]
    if damaged_in_all > len(damaged):
        said.append(f"and {count(damaged_in_all - len(damaged), 'more damaged line')}")
    return said


def line_of(line: HistoryLine) -> str:
    """As the file has it, without its end."""
    return line.model_dump_json(exclude_defaults=True)
