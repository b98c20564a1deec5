"""`stage down` while the stage comes up: it ends, nothing is left, and `stage up` says so at once."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.wire.processes import alive
from tests.support.stage import UP_S, Stage, _end_by_force, command_line, environment
from tests.support.wait import wait_until

SAYS_SO_S = 15.0


@pytest.fixture
def home() -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="showcaller-test-"))
    stage = Stage(folder / "home")
    try:
        yield stage
    finally:
        _end_by_force(stage)
        shutil.rmtree(folder, ignore_errors=True)


def start(stage: Stage, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command_line(*words, "--json"),
        env=environment(stage.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.stage
@pytest.mark.parametrize("moment", ["supervisor", "manager", "edge-1"])
def test_down_in_the_middle_of_coming_up(home: Stage, moment: str) -> None:
    coming = start(home, "stage", "up", "--port", "0")

    def begun() -> bool:
        home.look()
        return any(record.name == moment and alive(record) for record in home.processes())

    wait_until(begun, UP_S, f"{moment} runs", interval=0.01)
    both = [start(home, "stage", "down") for _ in range(2)]  # and twice at once
    for down in both:
        told, words = down.communicate(timeout=30)
        assert down.returncode == 0, words
        assert json.loads(told) == {"state": "down", "processes": []}
    told, words = coming.communicate(timeout=SAYS_SO_S)
    if moment == "edge-1" and coming.returncode == 0:  # it was up by the time that `down` had begun
        assert json.loads(told)["state"] == "up"
    else:
        assert coming.returncode == 1, words
        error = json.loads(words.splitlines()[-1])["error"]
        assert "ended" in error["what"]
        assert "stage up" in error["next"]
    home.leaves_nothing()
    assert home.json("stage", "status") == {"state": "down", "processes": []}
    assert not home.processes()
