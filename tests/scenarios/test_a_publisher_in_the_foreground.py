"""A broadcast in the foreground: killed the same command brings it back at once; `stage down` ends it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_until

pytestmark = pytest.mark.stage

LIVE_S = 20.0


@contextmanager
def foreground(stage: Stage, lines: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with lines.open("wb") as sink:
        publisher = subprocess.Popen(
            command_line("publish", "test", "--channel", "main", "--bitrate", "1M", "--json"),
            env=environment(stage.home),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        yield publisher
    finally:
        publisher.kill()
        publisher.wait()


def states(lines: Path) -> list[str]:
    whole = [line for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [str(json.loads(line).get("state")) for line in whole if line.startswith("{")]


def goes_live(publisher: "subprocess.Popen[bytes]", lines: Path) -> None:
    wait_until(lambda: publisher.poll() is not None or "live" in states(lines), LIVE_S, "it is live")
    assert publisher.poll() is None, lines.read_text()


def test_killed_and_started_again_at_once_it_takes_its_channel_over(stage: Stage, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with foreground(stage, first) as publisher:
        goes_live(publisher, first)
        publisher.kill()
        publisher.wait()
        (stream,) = stage.json("streams")  # held for whoever comes back
        assert stream["channel"] == "main"
    with foreground(stage, second) as publisher:
        goes_live(publisher, second)
        # What was stopped stays stopped: the token died with it, and the next broadcast has a new one.
        stage.stop("main")
        assert publisher.wait(10) == 0
        assert "ublishing again" not in second.read_text()
    with foreground(stage, second) as publisher:
        goes_live(publisher, second)
        stage.down()
        assert publisher.wait(10) == 0
        assert states(second)[-1] == "ended"


def test_the_channel_of_a_killed_one_is_taken_over_by_a_detached_one(stage: Stage, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    with foreground(stage, lines) as publisher:
        goes_live(publisher, lines)
        publisher.kill()
        publisher.wait()
    assert stage.publish_test("main", "--bitrate", "1M")["state"] == "live"
