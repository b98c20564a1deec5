"""End a stage, whoever of it still lives."""

import asyncio
import os
import sys
import time

from console.core.errors import ConsoleError, StageError
from console.core.paths import Home
from console.core.stage.control import SupervisorGone, ask, ask_status
from console.core.stage.model import Report, silent
from controlplane.wire import processes as records
from controlplane.wire.api import StageView

ANSWER_S = 3.0  # a supervisor that says nothing for so long is ended by its record
DOWN_S = 60.0
NEWBORN_S = 20.0  # a supervisor that was just being started has said by then who it is
BETWEEN_S = 0.2


async def down(home: Home, *, report: Report = silent) -> StageView:
    """End everything in order: publishers, stream manager, nodes with their workers, supervisor.

    Works although supervisor and manager are gone. Idempotent. Only processes whose record matches are
    touched.
    """
    if sys.platform != "linux" or not home.run.is_dir():
        return StageView(state="down")
    deadline = time.monotonic() + NEWBORN_S
    while True:
        try:
            await ask_status(home, timeout_s=ANSWER_S)
            await ask(home, {"do": "down"}, timeout_s=DOWN_S, report=report)
            await _wait_supervisor_end(home)
        except ConsoleError as error:
            if not isinstance(error, SupervisorGone):
                report(f"the supervisor cannot end the stage ({error.what}); ending it without")
        known = records.read_alive(home.processes)
        ended = await asyncio.to_thread(_end_without_supervisor, home, report)
        left = records.read_alive(home.processes)
        if ended and not left:
            return StageView(state="down")
        if any(record in known for record in left):
            names = ", ".join(f"{record.name} (pid {record.pid})" for record in left)
            raise StageError(f"these processes would not end: {names}", "Try `showcaller stage down` again")
        if time.monotonic() > deadline:
            raise StageError(
                "the stage is being started at the same time", "Try `showcaller stage down` again"
            )
        await asyncio.sleep(BETWEEN_S)


def _end_without_supervisor(home: Home, report: Report) -> bool:
    """Whatever is left, including a supervisor that does not answer. Nothing to do after a good `down`.

    False when somebody holds the lock who has no record: a supervisor in its first moments.
    """
    from console.core.stage.ending import end_stage, living
    from console.core.stage.lock import take_lock
    from console.core.stage.processes import end_processes

    supervisors = [record for record in living(home) if record.kind == "supervisor"]
    if supervisors:
        report("ending the supervisor")
        end_processes(home.processes, supervisors)
    lock = take_lock(home)
    if lock is None:
        return False
    try:
        end_stage(home, report)
        for record in records.read_all(home.processes):
            if not records.alive(record):
                records.remove(home.processes, record.name)
    finally:
        os.close(lock)
    return True


async def _wait_supervisor_end(home: Home) -> None:
    from console.core.stage.processes import wait_end

    for record in records.read_alive(home.processes):
        if record.kind == "supervisor":
            try:
                await asyncio.wait_for(wait_end(record), 10.0)
            except TimeoutError:
                return  # it will be ended by its record
