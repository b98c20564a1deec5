"""A console in a pseudo-terminal, for the rows that are about its process."""

import asyncio
import contextlib
import os
import pty
import re
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.stage import Stage, command_line, terminal_environment
from tests.support.wait import wait_for

ROWS, COLUMNS = 40, 120
OPEN_S = 30.0
STEERING = re.compile(rb"\x1b\[[0-9;?<>=]*[A-Za-z]")  # between the words of a line: colours, places


@asynccontextmanager
async def console(stage: Stage) -> AsyncIterator[int]:
    """The pid of a console, once it shows this stage. Killed at the end, if it still lives."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
    shown = bytearray()

    def read() -> None:
        try:
            shown.extend(os.read(ours, 1 << 16))
        except OSError:  # nobody has the other end any more
            loop.remove_reader(ours)

    loop = asyncio.get_running_loop()
    loop.add_reader(ours, read)
    process = await asyncio.create_subprocess_exec(
        *command_line(),
        env=terminal_environment(stage.home),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        await wait_for(lambda: b"On air" in STEERING.sub(b"", shown), OPEN_S, "the console shows the stage")
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)
