"""Standard streams that are closed or full, Ctrl-C before anything has begun, a file name not in UTF-8."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import Stage, command_line, environment, running_stage
from tests.support.wait import wait_until

PATIENCE_S = 30.0
pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    """One stage for all of them: none of this may leave a trace in it."""
    with running_stage() as stage:
        yield stage


def live(stage: Stage, channel: str) -> bool:
    streams = stage.json("streams")
    return any(s["channel"] == channel and s["state"] == "live" and s["bitrate_bps"] for s in streams)


def test_status_lines_that_cannot_be_written_end_no_broadcast(shared: Stage) -> None:
    with Path("/dev/full").open("w") as full:
        publisher = subprocess.Popen(
            command_line("publish", "test", "--channel", "main", "--bitrate", "1M"),
            env=environment(shared.home),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        wait_until(lambda: live(shared, "main"), PATIENCE_S, "the broadcast is live")
        publisher.send_signal(signal.SIGINT)
        _, words = publisher.communicate(timeout=PATIENCE_S)
    finally:
        publisher.kill()
    assert publisher.returncode == 0
    assert "status lines cannot be written any more (no space left on device)" in words
    assert "Traceback" not in words
    for command, code in ((["nodes"], 1), (["nodes", "--json"], 1)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command_line(*command),
                env=environment(shared.home),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        assert done.returncode == code
        assert "no space left on device" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "code"), [("media.publisher", 0), ("media.node", 130), ("media.swarm", 130)]
)
def test_a_command_that_becomes_another_process_is_not_interrupted_in_between(module: str, code: int) -> None:
    """Ctrl-C comes while the new interpreter starts: it is answered when the module can answer it."""
    words = (
        "import os, signal, sys\n"
        "from console.cli import context\n"
        "begin = context._exec\n"
        "def interrupted(*command):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    begin(*command)\n"
        "context._exec = interrupted\n"
        "sys.exit(context.become(sys.argv[1], ['--help'], {}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, module],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_standard_streams_that_are_closed_and_a_publisher_interrupted_as_it_starts(shared: Stage) -> None:
    for line in ("nodes >&-", "nodes --json >&-", "stage status >&- 2>&-", "nodes <&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" {line}', command_line()[0]],
            env=environment(shared.home),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), line
    record = shared.home / "run" / "processes" / "publisher-main.json"
    encoder = shared.home / "run" / "processes" / "encoder-main.json"
    for begun in (record, encoder):
        publisher = subprocess.Popen(
            command_line("publish", "test", "--channel", "main", "--json"),
            env=environment(shared.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(begun.exists, PATIENCE_S, f"{begun.name} is there", interval=0.005)
            shared.look()
            publisher.send_signal(signal.SIGINT)
            out, words = publisher.communicate(timeout=PATIENCE_S)
        finally:
            publisher.kill()
        # Until the command has become the publisher (a moment after its record) it is a command like others.
        assert publisher.returncode in ((0, 130, -signal.SIGINT) if begun is record else (0,)), words
        assert all(json.loads(line) for line in out.splitlines())
        record.unlink(missing_ok=True)
        assert shared.json("streams") == []


def test_a_file_whose_name_is_no_utf8(shared: Stage, tmp_path: Path) -> None:
    clip = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    with open(clip, "wb") as file:
        file.write(b"no video")
    for options, words in (([], "is not a video file"), (["--detach"], "is not UTF-8")):
        done = subprocess.run(
            [*command_line("publish"), clip, "--channel", "main", *options],
            env=environment(shared.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1
        assert words in done.stderr.decode()
        assert b"Traceback" not in done.stderr
