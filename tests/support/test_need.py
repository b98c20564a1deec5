"""Tests that cannot run here are reported with the reason, and fail where everything is required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chromium import find_chromium, is_snap_stub
from tests.support.need import find

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest
from tests.support.need import need

@pytest.mark.browser
def test_in_a_browser(): ...

def test_with_a_tool():
    need("a-program-nobody-has")

def test_of_nothing_special(): ...
"""


def run_pytest(folder: Path, **extra: str) -> tuple[int, str]:
    (folder / "test_here.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n    terminal\n")
    env = os.environ | {"CHROMIUM_PATH": str(folder / "no-such-browser"), "PYTHONPATH": str(ROOT)}
    env.pop("SHOWCALLER_REQUIRE_ALL", None)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.support.need",
            "-p",
            "no:cacheprovider",
            "test_here.py",
        ],
        cwd=folder,
        env=env | extra,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_missing_is_reported_at_the_end(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path)
    assert code == 0, output
    assert "1 passed, 2 skipped" in output
    end = output[output.index("not run on this machine") :]
    assert "CHROMIUM_PATH" in end
    assert "test_here.py::test_in_a_browser" in end
    assert "a-program-nobody-has is not installed" in end


def test_what_is_missing_fails_where_everything_is_required(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, SHOWCALLER_REQUIRE_ALL="1")
    assert code == 1
    assert "1 passed" in output
    assert "skipped" not in output.splitlines()[-1]
    assert "not run, and SHOWCALLER_REQUIRE_ALL is set" in output


def test_a_snap_stub_is_no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "chromium-browser"
    stub.write_text(
        '#!/bin/sh\nif ! [ -x /snap/bin/chromium ]; then\n  echo "snap install chromium" >&2\nfi\n'
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM_PATH", raising=False)
    assert is_snap_stub(stub)
    assert find_chromium() is None
    assert find("chromium") is None
    real = tmp_path / "google-chrome"
    real.write_text('#!/bin/sh\nexec /opt/google/chrome/chrome "$@"\n')
    real.chmod(0o755)
    assert find_chromium() == real
