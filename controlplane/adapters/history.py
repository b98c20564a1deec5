"""The recorded load as files: one a day (UTC), `2026-11-26.jsonl`, the last so many days.

A file is opened for each append, once a minute: whoever moves or removes one disturbs nothing. What a crash
left half written at its end is cut off, and so is what a full disk took of an append. A file that cannot be
gone on with, being of another version or none of ours, is left alone, and `2026-11-26.1.jsonl` begun.

Nothing is synced: a manager that is killed loses nothing that was appended, a machine that loses its power
some seconds of it.
"""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path

from controlplane.ports.history import HistoryUnwritable
from controlplane.wire.history import (
    LONGEST_LINE,
    VERSION,
    HistoryLine,
    NotAHistory,
    Recorded,
    header,
    is_header,
    read,
    written,
)

FILE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.([0-9]{1,3}))?\.jsonl")
MOST_OF_A_DAY = 100  # files
BEGINS = b'{"showcaller_history"'


class FileHistory:
    """ports.history.History."""

    def __init__(self, folder: Path, *, keep_days: int, stage: str) -> None:
        self._folder = folder
        self._keep = keep_days
        self._header = header(stage)
        self._one_at_a_time = threading.Lock()  # whoever waited may have been cancelled
        self._today: date | None = None  # the day that was written last

    def place(self) -> str:
        return str(self._folder)

    async def append(self, lines: Sequence[HistoryLine]) -> None:
        await asyncio.to_thread(self._append, lines)

    def _append(self, lines: Sequence[HistoryLine]) -> None:
        with self._one_at_a_time:
            self._append_now(lines)

    def _append_now(self, lines: Sequence[HistoryLine]) -> None:
        done = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for day, of_day in groupby(lines, lambda line: _day(line.at)):
                texts = [written(line) for line in of_day]
                self._write(day, b"".join(texts))
                done += len(texts)
                if day != self._today:
                    self._today = day
                    self._prune(day)
        except OSError as error:
            raise HistoryUnwritable(f"{error.filename or self._folder}: {error.strerror}", done) from error

    def _write(self, day: date, text: bytes) -> None:
        for number in range(MOST_OF_A_DAY):
            path = self._folder / (f"{day}.{number}.jsonl" if number else f"{day}.jsonl")
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                end = self._end(file)
                if end is not None:
                    self._put(file, path, end, text if end else self._header + text)
                    return
            finally:
                os.close(file)
        raise OSError(0, f"none of {MOST_OF_A_DAY} files of {day} can be gone on with", str(self._folder))

    def _end(self, file: int) -> int | None:
        """Where its last whole line ends; 0: it has none; None: it is not ours to go on with."""
        size = os.fstat(file).st_size
        head, newline, _ = os.pread(file, LONGEST_LINE, 0).partition(b"\n")
        if not newline:  # empty, or a header of ours that is half written
            return 0 if self._header.startswith(head) or head.startswith(BEGINS) else None
        if is_header(head) != VERSION:
            return None
        tail_from = max(0, size - LONGEST_LINE)
        tail = os.pread(file, LONGEST_LINE, tail_from)
        return tail_from + tail.rfind(b"\n") + 1

    @staticmethod
    def _put(file: int, path: Path, end: int, text: bytes) -> None:
        """All of it or nothing."""
        os.ftruncate(file, end)
        try:
            put = os.pwrite(file, text, end)
            if put < len(text):
                put += os.pwrite(file, text[put:], end + put)  # says why
            if put < len(text):
                raise OSError(0, "it was not written whole", str(path))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            error.filename = str(path)
            raise

    def _prune(self, today: date) -> None:
        """The newest so many days stay: by their number and not by the clock, which may have been set."""
        days = sorted({day for day, _, _ in files(self._folder)} - {today}, reverse=True)
        kept = {today, *days[: self._keep - 1]}
        for day, _, path in files(self._folder):
            if day not in kept:
                path.unlink(missing_ok=True)


def files(folder: Path) -> list[tuple[date, int, Path]]:
    """What there is, in the order of the days. None where there is no such folder. May raise OSError."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if (match := FILE.fullmatch(path.name)) is not None:
                with contextlib.suppress(ValueError):  # no day of the calendar
                    found.append((date.fromisoformat(match[1]), int(match[2] or 0), path))
    return sorted(found)


def read_days(folder: Path, start: float, end: float) -> Recorded:
    """All lines of the days in which a time lies, in the order in which they were written. Raises
    FutureHistory, OSError. A file that is none of ours is named among what is damaged."""
    recorded = Recorded()
    for day, _, path in files(folder):
        if _day(start) <= day <= _day(end):
            _read(path, recorded)
    return recorded


def first_and_last(folder: Path, group: str) -> tuple[int, int] | None:
    """Since when a group is recorded, and until when. None: it is not. As read_days."""
    found = files(folder)
    first = next(_lines_of(found, group), None)
    last = next(_lines_of(reversed(found), group), None)
    if not first or not last:
        return None
    return min(line.at for line in first), max(line.at + line.seconds for line in last)


def _lines_of(found: Iterable[tuple[date, int, Path]], group: str) -> Iterator[list[HistoryLine]]:
    """File by file, if it has any."""
    for _, _, path in found:
        recorded = Recorded()
        _read(path, recorded)
        if lines := [line for line in recorded.lines if line.group == group]:
            yield lines


def _read(path: Path, into: Recorded) -> None:
    try:
        with path.open("rb") as file:
            read(path.name, iter(lambda: file.readline(LONGEST_LINE), b""), into)
    except FileNotFoundError:  # it has become too old meanwhile
        pass
    except NotAHistory as error:
        into.damage(str(error))


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()
