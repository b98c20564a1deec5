"""A real terminal for a test: a program in a tmux of its own (a private socket), keys in, screen text out."""

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.wait import NotInTime

COMMAND_S = 10.0
LOOK_S = 0.1


@dataclass
class Terminal:
    """One window. `keys` are tmux's names ("Enter", "C-p"); `type` sends text as it is."""

    socket: Path
    size: tuple[int, int]
    _server: psutil.Process | None = None

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", os.devnull, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        if done.returncode != 0:
            raise AssertionError(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run the command in the window; the window stays when it ends, with its exit code."""
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
        line = f"{shlex.join(words)}; printf '\\nended with %s\\n' $?; exec sleep 3600"
        columns, rows = self.size
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", line)
        self._server = psutil.Process(int(self._tmux("display-message", "-p", "#{pid}")))

    def keys(self, *names: str) -> None:
        for name in names:
            self._tmux("send-keys", name)

    def burst(self, *words: str) -> None:
        """Keys and texts at once, nothing between them; a text that is no key's name is typed."""
        self._tmux("send-keys", *words)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def text(self) -> str:
        """What the window shows."""
        return self._tmux("capture-pane", "-p")

    def raw(self) -> str:
        """The same with the escape sequences of its colours and styles."""
        return self._tmux("capture-pane", "-p", "-e")

    def until(self, *wanted: str, within: float = 20.0) -> str:
        """Wait until all of these are in the window."""
        return self._wait(lambda text: all(part in text for part in wanted), f"shown: {wanted}", within)

    def until_gone(self, *unwanted: str, within: float = 20.0) -> str:
        return self._wait(
            lambda text: not any(part in text for part in unwanted), f"gone: {unwanted}", within
        )

    def _wait(self, condition: "object", what: str, within: float) -> str:
        assert callable(condition)
        end = time.monotonic() + within
        while not condition(text := self.text()):
            if time.monotonic() > end:
                raise NotInTime(f"not within {within:g} s: {what}; the screen:\n{text}")
            time.sleep(LOOK_S)
        return text

    def end(self) -> None:
        """End the window and all that runs in it; nothing when it is gone already.

        The server answers before it has ended, and a new one is refused at its socket until then: its end is
        waited for, so that the same window can be started again at once.
        """
        if self._server is None:
            return
        subprocess.run(
            ["tmux", "-S", str(self.socket), "kill-server"],
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
        self._server.wait(COMMAND_S)
        self._server = None


@contextmanager
def terminal(columns: int = 120, rows: int = 40) -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="showcaller-tmux-") as folder:
        window = Terminal(Path(folder) / "socket", (columns, rows))
        try:
            yield window
        finally:
            window.end()
