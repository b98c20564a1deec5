"""Who started which process: small records that outlive the process that wrote them.

Every long-lived process of an embedded stage has a record in the stage's run folder, `processes/NAME.json`,
written by whoever launched it, before anything relies on it. One that outlives its launcher writes the same
of itself as it begins, since the launcher may be killed in between. A process is known by pid AND start time,
so a record never names a stranger that was given the same pid later. `stage status` and `stage down` read
these records, so they find everything although the supervisor or the stream manager is gone.
"""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from controlplane.wire.base import Message

PROC = Path("/proc")

Kind = Literal["supervisor", "manager", "node", "worker", "publisher", "encoder"]


class ProcessRecord(Message):
    name: str  # "supervisor", "manager", "edge-1", "edge-1/worker-0", "publisher-main", "encoder-main"
    kind: Kind
    pid: int = Field(ge=1, lt=2**31)
    start_time: float  # clock ticks since boot on Linux (field 22 of /proc/PID/stat), see start_time()


def start_time(pid: int) -> float | None:
    """When the process started, in a unit that only compares with itself; None if there is no such process.

    A zombie (ended, not yet reaped) counts as gone. Linux: proc(5). Elsewhere psutil's create_time.
    """
    if (PROC / "self/stat").exists():  # Linux
        try:
            stat = (PROC / str(pid) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        fields = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil  # only where there is no /proc

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def record_self_or_child(folder: Path, name: str, kind: Kind, pid: int) -> ProcessRecord | None:
    """Write the record of a process just launched; None if it has already gone."""
    started = start_time(pid)
    if started is None:
        return None
    record = ProcessRecord(name=name, kind=kind, pid=pid, start_time=started)
    write(folder, record)
    return record


def _path(folder: Path, name: str) -> Path:
    return folder / (re.sub(r"[^A-Za-z0-9._-]", "~", name) + ".json")


def write(folder: Path, record: ProcessRecord) -> None:
    """Atomic: a reader sees the old record or the new one, never half of one. An OSError names the folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(fd, "w") as file:
            file.write(record.model_dump_json())
        os.replace(temporary, _path(folder, record.name))
    except OSError as error:
        os.unlink(temporary)
        error.filename = str(folder)  # a full disk says only that it is full
        raise


def remove(folder: Path, name: str) -> None:
    _path(folder, name).unlink(missing_ok=True)


def forget_self(folder: Path) -> None:
    """Remove what is recorded of this very process: it is about to end."""
    for record in read_all(folder):
        if record.pid == os.getpid():
            remove(folder, record.name)


def alive(record: ProcessRecord) -> bool:
    """Whether this very process still runs (not another one with its pid)."""
    return start_time(record.pid) == record.start_time


def read_all(folder: Path) -> list[ProcessRecord]:
    """Every readable record, the living and the dead, by name. A damaged file is passed over."""
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(ProcessRecord.model_validate(json.loads(path.read_text())))
        except (OSError, ValueError, RecursionError):
            continue
    return records


def read_alive(folder: Path) -> list[ProcessRecord]:
    return [record for record in read_all(folder) if alive(record)]
