"""Parts of the system that pip cannot bring (a browser, tmux, ffmpeg): what a test does without them.

A pytest plugin, loaded by tests/conftest.py. A test says what it needs by a marker (`browser`, `terminal`) or
by calling `need("ffmpeg")`. Where the part is missing the test is not run, and the end of the test run says
so with the reason: nothing is left out in silence. With SHOWCALLER_REQUIRE_ALL=1 (as in .ci/run) a test that
was not run, for whatever reason, is a failure.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from console.core.browser import find_browser
from tests.support.firefox import find_firefox

# marker -> the part it stands for
MARKERS = {"browser": "chromium", "firefox": "firefox", "gstreamer": "gstreamer", "terminal": "tmux"}
SBIN = "/usr/sbin:/sbin"  # where servers are, and not on everybody's PATH
WEBRTCBIN = Path(__file__).parent / "webrtcbin.py"


def required() -> bool:
    return os.environ.get("SHOWCALLER_REQUIRE_ALL", "") not in ("", "0")


def find(part: str) -> Path | None:
    """Where a part is, None if it is not on this machine."""
    if part == "chromium":
        return find_browser()
    if part == "firefox":
        return find_firefox()
    if part == "gstreamer":
        return find_gstreamer()
    path = shutil.which(part, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    return Path(path) if path else None


@functools.cache
def find_gstreamer() -> Path | None:
    """The system's Python, which SYSTEM_PYTHON may name, if it has GStreamer with all that is needed."""
    python = Path(os.environ.get("SYSTEM_PYTHON") or "/usr/bin/python3")
    if not os.access(python, os.X_OK):
        return None
    checked = subprocess.run([python, "-I", WEBRTCBIN, "--check"], capture_output=True, check=False)
    return python if checked.returncode == 0 else None


def how_to_get(part: str) -> str:
    if part == "chromium":
        return (
            "no Chrome or Chromium was found (Ubuntu's chromium package is only a snap stub): "
            "install one, or name it by CHROMIUM_PATH"
        )
    if part == "firefox":
        return (
            "no Firefox was found (Ubuntu's is a snap): `make test` installs firefox-esr as root, or prints "
            "the command that does; or name one by FIREFOX_PATH"
        )
    if part == "gstreamer":
        return (
            "the system's Python has no GStreamer with webrtcbin: `make test` installs it as root, or prints "
            "the command that does; or name another Python by SYSTEM_PYTHON"
        )
    if part == "mariadbd":
        part = "MariaDB (Debian's mariadb-server-core)"
    return f"{part} is not installed: `make test` installs it as root, or prints the command that does"


def need(part: str) -> Path:
    """The path of a part; a test that calls this without it is not run, and that is reported."""
    path = find(part)
    if path is None:
        pytest.skip(how_to_get(part))
    return path


def need_root(what_for: str) -> None:
    """Rights that only root has; the same for who lacks them."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip(f"{what_for} needs root")


def index_away(pip_said: str) -> str | None:
    """Why the package index was not reached, from what a pip that failed said on stderr; None when that was
    not the reason. pip says of each connection that broke how many more it will try: none after the last."""
    given_up = [line for line in pip_said.splitlines() if "Retry(total=0," in line and "connection" in line]
    if not given_up:
        return None
    return f"the package index cannot be reached: {given_up[-1].partition('connection broken by ')[2]}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, part in MARKERS.items():
        if item.get_closest_marker(marker) is not None:
            need(part)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)


def _not_run_is_a_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    if required() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"not run, and SHOWCALLER_REQUIRE_ALL is set: {_reason(report)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _not_run_is_a_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _not_run_is_a_failure(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        reasons.setdefault(_reason(report), []).append(report.nodeid)
    if not reasons:
        return
    terminalreporter.section("not run on this machine", yellow=True)
    for reason, tests in reasons.items():
        terminalreporter.line(f"{len(tests)} not run: {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
