"""The console ends when its terminal goes away, however that happens, and says so in its log.

It is aimed at a stream manager that does not answer, so no stage is needed; the terminal is a real one.
"""

import os
import pty
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import command_line, terminal_environment
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
SHOWN_S = 20.0
ENDS_S = 10.0  # it is a second, and LEAVE_S and some where it has to be by force
LOOKS = 25  # so many, one after the other, that find it where it was, though a key was pressed before each
OWN = 'exec <"$0" >"$0" 2>&1; exec "$@"'  # who leads a session and opens a terminal is controlled by it


class Shown:
    """A console in a terminal that is ours to take away."""

    def __init__(self, home: Path, *, controlled: bool) -> None:
        self.log = home / "logs" / "console.log"
        token = home / "token"
        home.mkdir()
        token.write_text("x" * 40)
        token.chmod(0o600)
        command = command_line("--api", "http://127.0.0.1:9", "--token-file", str(token))
        self.ours, self.theirs = pty.openpty()
        if controlled:
            command = ["sh", "-c", OWN, os.ttyname(self.theirs), *command]
        stdio = subprocess.DEVNULL if controlled else self.theirs
        self.process = subprocess.Popen(
            command,
            stdin=stdio,
            stdout=stdio,
            stderr=stdio,
            env=terminal_environment(home) | {"COLUMNS": "100", "LINES": "30", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self._read = b""
        self._reading = threading.Event()
        self._reading.set()
        self._reader = threading.Thread(target=self._keep_reading, daemon=True)
        self._reader.start()
        self.until(b"Overview")

    def _keep_reading(self) -> None:
        while self._reading.is_set():
            if select.select([self.ours], [], [], 0.05)[0]:
                self._read += os.read(self.ours, 65536)

    def until(self, wanted: bytes) -> None:
        wait_until(lambda: wanted in self._read, SHOWN_S, f"{wanted!r} is shown")

    def keys(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def freeze(self) -> None:
        """The terminal takes nothing more. Returns when the console waits for it, and does nothing else."""
        self.keys(b":")
        termios.tcflow(self.theirs, termios.TCOOFF)
        turns: list[int] = []

        def stuck() -> bool:
            self.keys(b"x")  # it is shown, each alone
            turns.append(self._turns())
            return len(turns) > LOOKS and len(set(turns[-LOOKS:])) == 1

        wait_until(stuck, SHOWN_S, "the console waits for its terminal", interval=0.02)

    def _turns(self) -> int:
        """How often the console's own thread has waited for something."""
        pid = self.process.pid
        status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary"))

    def look_away(self) -> None:
        self._reading.clear()
        self._reader.join()

    def close(self) -> None:
        self.look_away()
        os.close(self.ours)
        self.ours = -1

    def left(self) -> tuple[int, str]:
        """Its exit code, and the last line of its log."""
        code = self.process.wait(ENDS_S)
        return code, self.log.read_text().splitlines()[-1]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.ours >= 0:
            self.close()
        os.close(self.theirs)


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[Shown]:
    """By a terminal whose going away is told by SIGHUP."""
    shown = Shown(tmp_path / "home", controlled=True)
    yield shown
    shown.end()


@pytest.fixture
def uncontrolled(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "home", controlled=False)
    yield shown
    shown.end()


def test_a_terminal_that_is_closed_ends_the_console_under_a_dialog_too(controlled: Shown) -> None:
    controlled.keys(b"2")
    controlled.until(b"Nothing is written")
    controlled.keys(b"?")
    controlled.until(b"Go and look")
    controlled.close()
    code, said = controlled.left()
    assert code == 0
    assert said.endswith("console left with 0")


def test_a_terminal_that_goes_without_a_signal_is_noticed(uncontrolled: Shown) -> None:
    uncontrolled.close()
    code, said = uncontrolled.left()
    assert code == 0
    assert said.endswith("console left with 0")


def test_what_a_frozen_terminal_was_to_show_holds_nothing_up_when_it_is_closed(controlled: Shown) -> None:
    controlled.freeze()
    controlled.close()
    code, said = controlled.left()
    assert code == 0
    assert said.endswith("console left with 0")


def test_a_signal_ends_it_also_while_its_terminal_takes_nothing(controlled: Shown) -> None:
    controlled.freeze()
    os.kill(controlled.process.pid, signal.SIGHUP)
    code, said = controlled.left()
    assert code == 1
    assert "console left by force" in said
