"""End a stage by its records, in order, whoever is still there to help. Blocks.

Publishers first (they say goodbye to their origin), then the stream manager (so that it replaces no node),
then the nodes, whose workers end with them. The supervisor comes last, by itself or by its caller.
"""

import shutil
from dataclasses import dataclass

from console.core.paths import Home
from console.core.stage.model import Report
from console.core.stage.processes import end_processes, forget
from controlplane.wire import processes as records
from controlplane.wire.processes import Kind, ProcessRecord

ROUNDS = 3  # a manager that is just launching a node may add a process while the others end


@dataclass(frozen=True)
class Phase:
    what: str
    targets: tuple[Kind, ...]
    dependants: tuple[Kind, ...]


PHASES = (
    Phase("broadcasts", ("publisher",), ("encoder",)),
    Phase("the stream manager", ("manager",), ()),
    Phase("nodes", ("node",), ("worker",)),
)


def living(home: Home) -> list[ProcessRecord]:
    return records.read_alive(home.processes)


def end_stage(home: Home, report: Report) -> list[ProcessRecord]:
    """End all but the supervisor; what would not end. Then forget what was said about the stage."""
    for _ in range(ROUNDS):
        if not any(record.kind != "supervisor" for record in living(home)):
            break
        for phase in PHASES:
            _end_phase(home, phase, report)
    left = [record for record in living(home) if record.kind != "supervisor"]
    if not left:
        clear(home)
    return left


def _end_phase(home: Home, phase: Phase, report: Report) -> None:
    alive = living(home)
    targets = [record for record in alive if record.kind in phase.targets]
    dependants = [record for record in alive if record.kind in phase.dependants]
    if not targets and not dependants:
        return
    names = ", ".join(record.name for record in targets) or ", ".join(record.name for record in dependants)
    report(f"ending {phase.what}: {names}")
    for stubborn in end_processes(home.processes, targets, dependants):
        report(f"{stubborn.name} (pid {stubborn.pid}) does not end, not even by SIGKILL")


def clear(home: Home) -> None:
    """Remove what only a running stage means: its place, its broadcasts, the records of the dead."""
    for record in records.read_all(home.processes):
        if record.kind != "supervisor" and not records.alive(record):
            forget(home.processes, record)
    home.stage_file.unlink(missing_ok=True)
    (home.run / "manager.out").unlink(missing_ok=True)
    for path in home.publishers.glob("*"):
        path.unlink(missing_ok=True)
    sockets = home.sockets()
    if sockets != home.run:
        shutil.rmtree(sockets, ignore_errors=True)
