"""Tests that cannot run here are reported with the reason, and fail where everything is required."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.need import index_away

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


def pip_fails(index: str) -> str:
    """What pip says on stderr when it looks for a package in this index, and does not get it."""
    command = [sys.executable, "-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check"]
    options = ["--quiet", "--retries", "1", "--dry-run", "--no-deps", "--index-url", index]
    done = subprocess.run(
        [*command, "install", *options, "a-package-nobody-has"],
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def test_an_index_that_is_away_is_told_from_one_that_lacks_a_package() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and listens to nobody
        said = pip_fails(f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        reason = index_away(said)
    assert reason is not None, said
    assert reason.startswith("the package index cannot be reached")
    assert "refused" in reason

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            said = pip_fails(f"http://127.0.0.1:{server.server_port}/simple")
        finally:
            server.shutdown()
            serving.join()
    assert "No matching distribution" in said
    assert index_away(said) is None
