"""A stage on a kernel without UDP_SEGMENT: the show runs all the same, one send a packet, and it is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import old_kernel
from tests.support.stage import command_line, environment, running_stage
from tests.support.wait import wait_until

UNDER = (sys.executable, str(Path(old_kernel.__file__)))


@pytest.mark.stage
def test_viewers_see_it_all_and_the_nodes_say_that_they_send_plainly(tmp_path: Path) -> None:
    with running_stage(*UNDER) as stage:
        stage.publish_test("main", "--bitrate", "3M")
        reported = wait_until(
            lambda: [node["gso"] for node in stage.get("nodes") if node["gso"] is not None], 10, "reports"
        )
        assert not any(reported)
        words = ["-m", "media.swarm", "probe", "--whep", f"{stage.api}/whep/main", "--seconds", "5", "--json"]
        probe = subprocess.run(
            [sys.executable, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert probe.returncode == 0, probe.stderr
        seen = json.loads(probe.stdout)
        assert seen["ended"] is None
        assert seen["fps"] > 20
        assert seen["bitrate_bps"] > 2_000_000
        assert seen["loss"] < 0.02


def test_the_doctor_names_it_and_what_it_costs(tmp_path: Path) -> None:
    done = subprocess.run(
        [*UNDER, *command_line("doctor")],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "UDP GSO     note  protocol not available" in done.stdout
    assert "a kernel of 4.18 or newer has it" in done.stdout
