"""Who still has to do with a home, recorded or not: found in /proc, by what each process says and holds.

Records tell only of those that somebody recorded. A process of a stage also names its home in its command
line or its environment, stands in it, or keeps a file of it open (its log, at least).
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controlplane.wire.processes import ProcessRecord, start_time

PROC = Path("/proc")


@dataclass(frozen=True)
class Left:
    """A living process: by its record, or by its command line."""

    pid: int
    start_time: float
    name: str
    kind: str  # "" without a record

    @classmethod
    def recorded(cls, record: ProcessRecord) -> "Left":
        return cls(record.pid, record.start_time, record.name, record.kind)

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.start_time

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def who_uses(home: Path) -> list[Left]:
    """Every living process but this one that names or holds anything below `home`. Linux: proc(5)."""
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if any(os.fsencode(home) in said for said in _says(folder)):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                started = start_time(int(folder.name))
                if started is not None:
                    found.append(Left(int(folder.name), started, command.strip(), ""))
    return found


def _says(folder: Path) -> Iterator[bytes]:
    """The texts of a process that may have a path in them. Raises OSError when it has ended."""
    yield (folder / "cmdline").read_bytes()
    yield (folder / "environ").read_bytes()
    yield os.fsencode(os.readlink(folder / "cwd"))
    for handle in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.fsencode(os.readlink(handle))
