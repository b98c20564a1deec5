"""Which lane a test runs in, and that a run in lanes keeps to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lanes import SHOWS, lane

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", SHOWS)
def test_whole_shows_have_a_lane_of_their_own(folder: str) -> None:
    assert (PROJECT / "tests" / folder).is_dir()
    assert lane(f"tests/{folder}/test_it.py::test_it[a/b::c]") == "shows"


@pytest.mark.parametrize(
    "name", ["tests/media/core/test_stun.py::test_it", "tests/test_rooms.py::test_it", "a.py"]
)
def test_everything_else_is_in_the_other(name: str) -> None:
    assert lane(name) == "pieces"


def test_a_run_in_lanes_has_one_process_a_lane(tmp_path: Path) -> None:
    for folder in ("browser", "media", "console"):
        tests = tmp_path / "tests" / folder
        tests.mkdir(parents=True)
        (tests / f"test_{folder}.py").write_text(
            "import os, pathlib, pytest\n"
            "@pytest.mark.parametrize('number', range(20))\n"
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
    who = dict(ran)
    assert len(ran) == 3, ran  # each folder in one process
    assert who["media"] == who["console"] != who["browser"]
