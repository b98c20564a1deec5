"""What a process holds, read from /proc (proc(5), Linux)."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from controlplane.wire.processes import ProcessRecord, alive

KINDS = ("supervisor", "manager", "node", "worker")  # which are to outlive every crowd and publisher


@dataclass(frozen=True)
class Held:
    """One process at one moment."""

    name: str
    pid: int
    own: int  # bytes of memory that are its alone: anonymous, resident or swapped out
    pss: int  # bytes of all its memory; what it shares with others is shared out among them
    descriptors: int


@dataclass(frozen=True)
class Sample:
    """All judged processes of a stage at one moment."""

    at: float  # seconds since the soak began
    held: tuple[Held, ...]


def held_by(record: ProcessRecord) -> Held | None:
    """None when it has ended."""
    folder = Path("/proc", str(record.pid))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = _sizes((folder / "status").read_text())
        rollup = _sizes((folder / "smaps_rollup").read_text())
        descriptors = len(os.listdir(folder / "fd"))
        if alive(record):
            own = status["RssAnon"] + status["VmSwap"]
            return Held(record.name, record.pid, own, rollup["Pss"], descriptors)
    return None


def _sizes(text: str) -> dict[str, int]:
    """The lines of the form `Name:   12 kB`, in bytes."""
    words = (line.split() for line in text.splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in words if len(line) == 3 and line[2] == "kB"}


def sample(records: Iterable[ProcessRecord], at: float) -> Sample:
    """Those of KINDS that live."""
    held = (held_by(record) for record in records if record.kind in KINDS)
    return Sample(at, tuple(sorted((one for one in held if one is not None), key=lambda one: one.name)))
