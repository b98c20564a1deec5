"""Which Chromium is taken: the one rule of `doctor`, the tests and `make test`."""

import subprocess
import sys
from pathlib import Path

import pytest

from console.core import browser
from console.core.browser import find_browser, is_snap_stub
from console.core.checks import check_browser


@pytest.fixture
def on_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(path: Path, text: bytes = b'#!/bin/sh\nexec /opt/google/chrome/chrome "$@"\n') -> Path:
    path.write_bytes(text)
    path.chmod(0o755)
    return path


STUB = b'#!/bin/sh\nif ! [ -x /snap/bin/chromium ]; then\n  echo "snap install chromium" >&2\nfi\n'


@pytest.mark.parametrize("name", browser.NAMES)
def test_each_of_the_usual_names_is_found(on_path: Path, name: str) -> None:
    assert find_browser({"PATH": str(on_path)}) is None
    own = program(on_path / name)
    assert find_browser({"PATH": str(on_path)}) == own


def test_a_snap_stub_is_passed_over(on_path: Path) -> None:
    stub = program(on_path / "chromium", STUB)
    assert is_snap_stub(stub)
    assert find_browser({"PATH": str(on_path)}) is None
    real = program(on_path / "google-chrome")
    assert find_browser({"PATH": str(on_path)}) == real


def test_a_link_to_a_snap_is_passed_over(on_path: Path) -> None:
    snap = program(on_path / "snap", b"\x7fELF")
    (on_path / "chromium").symlink_to(snap)
    assert find_browser({"PATH": str(on_path)}) is None


def test_a_program_that_has_the_word_somewhere_in_it_is_a_browser(on_path: Path) -> None:
    """Chrome itself, where no wrapper stands before it: `snapshot_blob.bin` is among its strings."""
    chrome = program(on_path / "chrome", b"\x7fELF" + bytes(16) + b"snapshot_blob.bin")
    assert not is_snap_stub(chrome)
    assert find_browser({"PATH": str(on_path)}) == chrome


def test_the_one_that_is_named_is_taken_and_nothing_else_is_guessed(on_path: Path, tmp_path: Path) -> None:
    program(on_path / "chromium")
    named = program(tmp_path / "mine")
    surroundings = {"PATH": str(on_path), "CHROMIUM_PATH": str(named)}
    assert find_browser(surroundings) == named
    named.chmod(0o644)
    assert find_browser(surroundings) is None
    assert find_browser(surroundings | {"CHROMIUM_PATH": str(tmp_path)}) is None, "a folder"
    assert find_browser(surroundings | {"CHROMIUM_PATH": ""}) == on_path / "chromium"


def test_doctor_and_a_script_say_the_same(on_path: Path, tmp_path: Path) -> None:
    surroundings = {"PATH": str(on_path)}

    def ask() -> tuple[int, str]:
        command = [sys.executable, "-P", browser.__file__]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert ask() == (1, "")
    assert not check_browser(surroundings).ok
    own = program(on_path / "chromium")
    assert ask() == (0, str(own))
    assert check_browser(surroundings).found == str(own)
    surroundings["CHROMIUM_PATH"] = str(tmp_path / "gone")
    assert ask() == (2, "")
    assert "gone" in check_browser(surroundings).found
