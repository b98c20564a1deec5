"""Which tests run in one process, and that a run in lanes keeps to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lanes import SHOWS, together

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", SHOWS)
def test_all_shows_are_in_one_process(folder: str) -> None:
    assert (PROJECT / "tests" / folder).is_dir()
    assert together(f"tests/{folder}/test_it.py::test_it[a/b::c]") == "shows"


@pytest.mark.parametrize("file", ["tests/media/core/test_stun.py", "tests/test_rooms.py", "a.py"])
def test_everything_else_goes_by_files(file: str) -> None:
    assert together(f"{file}::test_it[a/b::c]") == file


def test_a_run_in_lanes_never_has_two_shows_at_once(tmp_path: Path) -> None:
    for folder in ("browser", "scenarios", "terminal", "media"):
        tests = tmp_path / "tests" / folder
        tests.mkdir(parents=True)
        (tests / f"test_{folder}.py").write_text(
            "import os, pathlib, pytest\n"
            "@pytest.mark.parametrize('number', range(10))\n"
            "def test_it(number):\n"
            f"    pathlib.Path({str(tmp_path)!r}, f'{folder}-{{os.getpid()}}.ran').touch()\n"
        )
    (tmp_path / "conftest.py").write_text("from tests.support.lanes import pytest_xdist_make_scheduler\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [path.stem.split("-") for path in tmp_path.glob("*.ran")]
    assert len(ran) == 4, ran  # each folder in one process
    assert len({process for folder, process in ran if folder in SHOWS}) == 1
    assert len({process for _, process in ran}) == 2
