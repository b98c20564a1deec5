"""An edge is drained under a page and a crowd: everybody is on another one long before the deadline, and the
pictures, as the time code in them tells, go on."""

import json
import subprocess

import pytest

from tests.support.chromium import OpenPage
from tests.support.pictures import record, seen
from tests.support.show import PATIENCE_S, node_state, plays_on, viewers
from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]

VIEWERS = 12


def watch(stage: Stage) -> "subprocess.Popen[bytes]":
    words = ("swarm", f"{stage.api}/whep/main", "--viewers", str(VIEWERS), "--seconds", "600", "--json")
    return subprocess.Popen(
        command_line(*words),
        env=environment(stage.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def test_nobody_sees_that_his_edge_goes(stage: Stage, watch_page: OpenPage) -> None:
    stage.publish_test("main", "--bitrate", "1M", "--size", "640x360")
    crowd = watch(stage)
    try:
        page = await watch_page(f"{stage.watch}/main")
        await plays_on(page, "opening the page")
        everybody = VIEWERS + 1
        await wait_for(lambda: viewers(stage) == [everybody], PATIENCE_S, "all watch")
        stage.json("fleet", "add", "edge", "--wait")
        await record(page.page)
        done = stage.run("fleet", "drain", "edge-1", "--deadline", "60s", "--yes", "--wait")
        assert "edge-1  terminated" in done.stdout
        assert f"of {everybody} moved" in done.stderr, "it says how far it is"
        await plays_on(page, "the drain of its edge")

        saw = await seen(page.page)
        assert saw.read > 0.9 * saw.pictures
        assert saw.longest_ms < 1000
        assert saw.longest_code_ms < 1000
        facts = await page.facts()
        assert (facts["edge"], facts["sessions"]) == ("edge-2", 2)
        assert {state for state, _ in await page.history()} <= {"connecting", "playing"}
        assert node_state(stage, "edge-1") == "gone"
        kinds = {entry["kind"]: entry for entry in stage.json("journal", "-n", "100")}
        assert kinds["fleet.drained"]["data"]["moved"] == everybody
        assert kinds["fleet.drained"]["data"]["left"] == 0
        assert "fleet.deadline" not in kinds
    finally:
        crowd.terminate()
        figures = json.loads(crowd.communicate(timeout=20)[0])
    assert (figures["failed"], figures["moved"]) == (0, VIEWERS)
    assert figures["move_gap_ms"]["max"] < 1000
