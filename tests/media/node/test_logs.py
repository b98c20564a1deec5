"""What agent and worker write to their log, and what happens where it cannot be written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEAKS = """
import logging, structlog
from media.node import logs
logs.configure("edge-1.worker-0")
log = structlog.get_logger("media.node")
log.debug("not told")
log.info("session_created", session="s1")
log.warning("odd", number=float("inf"), what=object)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", session="s1")
logging.getLogger("elsewhere").warning("a %s", "library's")
print("whole")
"""


def speak(stderr: int) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-c", SPEAKS]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=30)


def test_each_line_is_json_and_says_what_who_and_when() -> None:
    lines = [json.loads(line) for line in speak(subprocess.PIPE).stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("session_created", "info"),
        ("odd", "warning"),
        ("failed", "error"),
        ("a library's", "warning"),
    ]
    assert {line["process"] for line in lines} == {"edge-1.worker-0"}
    assert all(line["at"].endswith("Z") for line in lines)
    assert lines[0]["session"] == "s1"
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert lines[3]["logger"] == "elsewhere"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    with open("/dev/full", "wb") as full:
        spoken = speak(full.fileno())
    assert (spoken.returncode, spoken.stdout) == (0, b"whole\n")
