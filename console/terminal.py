"""The terminal that the console is shown in, and how the console ends when that goes away.

A terminal may go at any moment: its window is closed, its connection breaks, its multiplexer is killed. The
kernel then sends SIGHUP to those it controls, and to them alone; every write fails (EIO), and a read finds
the end. Textual writes on a thread of its own, fed through a queue of 30 texts, and joins it when it ends:
the thread died of the first failed write, the next 30 texts filled the queue, and whoever had one more, or
wanted the thread to end, waited for ever. So

- what can no longer be written goes nowhere, and the thread lives (`TerminalDriver`);
- a terminal that has gone is noticed without SIGHUP too: the app asks `gone` at each tick;
- a signal is heeded at once, also while the app itself waits for that queue, which a terminal that is there
  and takes nothing fills as well. What has not ended `LEAVE_S` later is ended (`leave_on_signals`).
"""

import asyncio
import logging
import os
import select
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

from textual.drivers.linux_driver import LinuxDriver

LEAVE_S = 3  # whole seconds: it takes half a one where nothing is in the way
BY_FORCE = 1  # the exit code of a console that had to be ended

log = logging.getLogger(__name__)


class Output:
    """What Textual's writing thread has for a file: the terminal while it is there, and then nothing."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.gone = False

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError:
            self._lose()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._lose()

    def fileno(self) -> int:
        return self._file.fileno()

    def _lose(self) -> None:
        """What is buffered, and what Python writes as the process ends, goes where it does not fail."""
        self.gone = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._file.fileno(), inheritable=True)
        os.close(nowhere)


class TerminalDriver(LinuxDriver):
    """Textual's driver for all but Windows, for a terminal that may go away."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self._file is not None  # a console is opened in a terminal alone
        self._output = Output(self._file)
        self._file = self._output  # type: ignore[assignment]  # all that is asked of it

    @property
    def gone(self) -> bool:
        """Whether nobody can read what is written, or type, any more."""
        if not self._output.gone:
            asked = select.poll()
            asked.register(self.fileno, 0)  # a hang-up is told without being asked for
            self._output.gone = any(events & select.POLLHUP for _, events in asked.poll(0))
        return self._output.gone

    def run_input_thread(self) -> None:
        """In the moment of the hang-up a read fails, after it it finds the end: nothing is wrong with us."""
        try:
            super().run_input_thread()
        except OSError:
            if not self.gone:
                raise


def leave_on_signals(leave: Callable[[], object]) -> None:
    """From now on SIGTERM and SIGHUP call `leave` in the running loop, and end the process LEAVE_S later at
    the latest.

    Not `loop.add_signal_handler`: what that calls has to wait until the loop has its turn.
    """
    loop = asyncio.get_running_loop()

    def by_force(number: int, frame: FrameType | None) -> None:
        log.warning(
            "console left by force: %s s after it was told to end its terminal takes nothing", LEAVE_S
        )
        os._exit(BY_FORCE)

    def heed(number: int, frame: FrameType | None) -> None:
        signal.alarm(signal.alarm(0) or LEAVE_S)  # from the first of them on
        if not loop.is_closed():
            loop.call_soon_threadsafe(leave)

    signal.signal(signal.SIGALRM, by_force)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, heed)
