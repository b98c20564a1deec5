"""The console in a real terminal, on a stage of its own that is gone when the test is over."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stage import (
    KEYRING,
    Stage,
    _end_by_force,
    command_line,
    keyring_of,
    terminal_environment,
)
from tests.terminal.tmux import Terminal, terminal

UP_S = 60.0


@dataclass
class Console:
    """A console in a terminal, and the plain commands on the same stage to check it against."""

    window: Terminal
    stage: Stage

    def open(self, *words: str, **environment: str) -> None:
        """Start `showcaller` and wait for its pages."""
        self.start(*words, **environment)
        self.window.until("1 Overview", "2 nodes in service", within=UP_S)
        self.stage.look()
        assert keyring_of(self.stage.process("supervisor").pid) == os.environ[KEYRING]

    def start(self, *words: str, **environment: str) -> None:
        own = terminal_environment(self.stage.home)
        self.window.start(command_line("--port", "0", *words), {**own, **environment})


@pytest.fixture
def home() -> Iterator[Stage]:
    """A stage that the console brings up; ended at the end, and checked to leave nothing."""
    folder = Path(tempfile.mkdtemp(prefix="showcaller-test-"))
    stage = Stage(folder / "home")
    try:
        yield stage
        stage.down()
        stage.leaves_nothing()
    finally:
        _end_by_force(stage)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def console(home: Stage) -> Iterator[Console]:
    with terminal() as window:
        yield Console(window, home)
