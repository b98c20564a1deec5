"""An edge is added and a new viewer lands on it; an edge is drained and its viewers are moved, not lost."""

import pytest

from tests.support.chromium import OpenPage
from tests.support.show import PATIENCE_S, mark, never_reloaded, node_state, plays_on, viewers
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]


async def test_a_new_viewer_lands_on_an_added_edge_and_a_drain_moves_the_others_there(
    stage: Stage, watch_page: OpenPage
) -> None:
    stage.publish_test("main", "--bitrate", "2M")
    first = await watch_page(f"{stage.watch}/main")
    await plays_on(first, "opening the page")
    await mark(first)
    assert (await first.facts())["edge"] == "edge-1"

    added = stage.json("fleet", "add", "edge")["node"]
    await wait_for(lambda: node_state(stage, added) == "in_service", PATIENCE_S, f"{added} is in service")
    second = await watch_page(f"{stage.watch}/main")
    await plays_on(second, "the second viewer came")
    assert (await second.facts())["edge"] == added

    # A drain without any time to move in: at the deadline the page is told, and goes before its edge does.
    drained = stage.json("fleet", "drain", "edge-1", "--deadline", "0.2s", "--yes", "--wait")
    assert drained["state"] == "terminated"
    await plays_on(first, "the drain of its edge")
    facts = await first.facts()
    assert (facts["edge"], facts["sessions"]) == (added, 2)
    assert await never_reloaded(first)
    assert "reconnecting" not in [state for state, _ in await first.history()], "the move was seen"
    assert (await second.facts())["sessions"] == 1
    assert viewers(stage) == [2]


async def test_the_only_edge_is_drained_under_its_viewer_who_waits_for_the_next(
    stage: Stage, watch_page: OpenPage
) -> None:
    stage.publish_test("main", "--bitrate", "2M")
    watch = await watch_page(f"{stage.watch}/main")
    await plays_on(watch, "opening the page")
    await mark(watch)

    # Taken back after its deadline: nothing is lost.
    refused = stage.run("fleet", "drain", "edge-1", "--deadline", "60s", "--yes", check=False)
    assert (refused.returncode, "Add: --yes main" in refused.stderr) == (2, True)
    assert stage.json("fleet", "drain", "edge-1", "--deadline", "60s", "--yes", "main")["viewers"] == 1
    assert stage.json("fleet", "undo", "edge-1")["state"] == "in_service"
    await plays_on(watch, "the drain was taken back")

    drained = stage.json("fleet", "drain", "edge-1", "--deadline", "1s", "--yes", "main", "--wait")
    assert drained["state"] == "terminated"
    added = stage.json("fleet", "add", "edge")["node"]
    await wait_for(lambda: node_state(stage, added) == "in_service", PATIENCE_S, f"{added} is in service")
    await plays_on(watch, f"{added} came")
    assert (await watch.facts())["edge"] == added
    assert await never_reloaded(watch)
