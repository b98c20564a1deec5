"""The stream manager of this machine's stage, to be killed in a drill: exactly that process, or nobody.

Who answers at the API says which process it is (pid and start time). It is killed only if this home's own
records say the same, and if a supervisor lives that would start another one; the signal goes through a pidfd.
"""

import asyncio
import os
import signal

from console.core.drills.words import ELSEWHERE
from console.core.errors import ConsoleError, StageError
from console.core.paths import Home
from console.core.stage.control import SupervisorGone, ask_status
from console.core.stage.processes import open_process
from console.core.target import Target
from controlplane.wire import processes as records
from controlplane.wire.drills import Drill
from controlplane.wire.processes import ProcessRecord


async def guarded_manager(target: Target, home: Home) -> ProcessRecord:
    """The manager of this home's stage, which a supervisor keeps. StageError: why it is not to be killed."""
    if target.remote:
        raise StageError("the stream manager named by --api is not killed from here", ELSEWHERE)
    try:
        supervisor = await ask_status(home)
    except SupervisorGone as gone:
        raise StageError(
            "no supervisor runs that would start the stream manager again",
            "Start one with `showcaller stage up`, then try again",
        ) from gone
    if supervisor.stopping:
        raise StageError("this stage is ending", "Bring it up again with `showcaller stage up`")
    if supervisor.manager.state != "ready":
        raise StageError(
            f"the stream manager is {supervisor.manager.state} just now", "Wait until `stage status` says up"
        )
    for record in records.read_alive(home.processes):
        if record.kind == "manager" and record.pid == supervisor.manager.pid:
            return record
    raise StageError(
        "the supervisor's stream manager has no record here", "Look at `showcaller stage status`"
    )


async def kill(record: ProcessRecord, drill: Drill) -> None:
    """SIGKILL for the process that answered; returns when it has ended. StageError if it is another one."""
    if (record.pid, record.start_time) != (drill.pid, drill.start_time):
        raise StageError(
            f"the stream manager that answers (pid {drill.pid}) is not this home's (pid {record.pid})"
        )
    handle = open_process(record)
    if handle is None:
        raise StageError("the stream manager had ended by itself")
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(handle, lambda: None if ended.done() else ended.set_result(None))
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        await ended
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)


async def another_is_kept(home: Home, before: ProcessRecord, interval_s: float) -> None:
    """Returns when the supervisor has started another manager."""
    while True:
        try:
            status = await ask_status(home)
        except ConsoleError:  # it is asked again for as long as the drill has time
            status = None
        if status is not None and status.manager.pid not in (None, before.pid):
            return
        await asyncio.sleep(interval_s)
