"""Whoever has to do with a home is found, although nobody recorded it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import stage as support
from tests.support.leftovers import who_uses
from tests.support.stage import Stage, _end_by_force, environment

WAITS = "import sys; print('here', flush=True); sys.stdin.read()"


@contextmanager
def process(*words: str, **how: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """One that waits until its stdin closes."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WAITS, *words], stdin=pipe, stdout=pipe, **how) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"here\n"
        yield it


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_nobody_uses_a_home_that_is_only_ours(home: Path) -> None:
    with (home / "a file").open("w"), process():
        assert who_uses(home) == []


def test_one_is_found_by_each_thing_that_ties_it_to_the_home(home: Path) -> None:
    with (home / "its.log").open("w") as log:
        ties: list[tuple[list[str], dict[str, Any]]] = [
            (["--run-dir", str(home / "run")], {}),
            ([], {"env": environment(home)}),
            ([], {"cwd": home}),
            ([], {"stderr": log}),
        ]
        for words, how in ties:
            with process(*words, **how) as it:
                (found,) = who_uses(home)
                assert (found.pid, found.alive) == (it.pid, True)
                assert sys.executable in found.name
            assert not found.alive
            assert who_uses(home) == []


def test_a_stage_is_not_over_while_one_lives_that_nobody_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "GONE_S", 0.2)
    stage = Stage(home)
    stage.leaves_nothing()
    with process("--home", str(home)) as it:
        with pytest.raises(AssertionError, match=rf"left of the stage: .*--home {home} \(pid {it.pid}\)"):
            stage.leaves_nothing()
        _end_by_force(stage)
        assert it.wait(5) == -9, "nothing outlives a test that failed"
    stage.leaves_nothing()
