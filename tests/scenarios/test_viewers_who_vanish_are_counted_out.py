"""A viewer that ends without a word (its browser was killed) is counted out before its consent expires."""

import subprocess
import sys

import pytest

from tests.support.show import nodes, viewers
from tests.support.stage import Stage
from tests.support.wait import wait_until

SILENCE_S = 15.0
SLACK_S = 8.0  # two reports, and a machine that has other things to do


@pytest.mark.stage
def test_viewers_who_vanish_are_counted_out(stage: Stage) -> None:
    stage.publish_test("main", "--bitrate", "1M")
    whep = f"{stage.api}/whep/main"
    command = [sys.executable, "-m", "media.swarm", "probe", "--whep", whep, "--seconds", "600", "--json"]
    viewer = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def counted() -> tuple[int, int]:
        (watching,) = viewers(stage)
        return watching, nodes(stage)["edge-1"]["connections"]

    try:
        wait_until(lambda: counted() == (1, 1), 20, "the viewer is counted")
    finally:
        viewer.kill()
        viewer.wait()
    wait_until(lambda: counted() == (0, 0), SILENCE_S + SLACK_S, "the viewer is counted out")
