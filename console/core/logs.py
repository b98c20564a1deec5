"""The logs of a stage's processes: H/logs/NAME.log, JSON lines as structlog writes them.

Anything else a process says on stderr (a traceback, a warning of a library) stands between them as it came.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.core.paths import Home

BLOCK = 64 * 1024


@dataclass(frozen=True)
class LogFile:
    name: str
    path: Path
    size: int  # bytes
    changed_at: float  # Unix time


def list_logs(home: Home) -> list[LogFile]:
    """Every log there is, by name."""
    found = []
    for path in sorted(home.logs.glob("*.log")):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append(LogFile(path.stem, path, status.st_size, status.st_mtime))
    return found


def last_lines(path: Path, count: int, *, since: int = 0) -> list[str]:
    """The last `count` lines after byte `since`, without reading a long file whole. [] when there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start, data = end, b""
            while start > since and data.count(b"\n") <= count:
                step = min(BLOCK, start - since)
                start -= step
                file.seek(start)
                data = file.read(step) + data
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-count:]


def parse(line: str) -> dict[str, Any] | None:
    """A JSON line as a mapping; None for anything else."""
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # the latter of a thousand brackets
        return None
    return value if isinstance(value, dict) else None


def error_words(lines: list[str]) -> str:
    """What a process said of its own failure: its last `{"error": ...}` or `error: ...` line; "" if none."""
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ").strip()
        entry = parse(line)
        if entry is None or "error" not in entry or "event" in entry:
            continue
        error = entry["error"]
        if isinstance(error, str):
            return error
        if isinstance(error, dict):
            words = error.get("message") or " ".join(
                str(error[key]).rstrip(".") + "."
                for key in ("what", "title", "next", "next_step", "detail")
                if error.get(key)
            )
            return str(words)
    return ""


def readable(line: str) -> str:
    """One log line for people: the time, the level where it matters, what happened and its figures."""
    entry = parse(line)
    if entry is None or "event" not in entry:
        return line
    at = str(entry.pop("at", entry.pop("timestamp", "")))
    level = str(entry.pop("level", "info"))
    event = str(entry.pop("event"))
    clock = at[11:23] if len(at) >= 19 and at[10:11] in ("T", " ") else at
    trace = entry.pop("exception", None)
    rest = " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in entry.items()
    )
    mark = "" if level in ("info", "debug") else f"{level}: "
    text = " ".join(part for part in (clock, f"{mark}{event}", rest) if part)
    return f"{text}\n{trace}" if isinstance(trace, str) else text


class Follower:
    """New whole lines of a file as they come; begins again when the file is replaced or cut short."""

    def __init__(self, path: Path, *, since: int = 0) -> None:
        self._path = path
        self._at = since
        self._inode: int | None = None
        self._rest = b""

    def read(self) -> Iterator[str]:
        """Whatever whole lines have come since the last call."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._at or (self._inode is not None and status.st_ino != self._inode):
                    self._at, self._rest = 0, b""
                self._inode = status.st_ino
                file.seek(self._at)
                data = file.read()
                self._at += len(data)
        except FileNotFoundError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
