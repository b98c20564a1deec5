"""Drills against a whole manager: what they refuse, that they are journalled before anything dies, and that
what follows is what follows any death."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.wire import processes
from tests.controlplane.events import join
from tests.controlplane.fake_node import OFFER
from tests.controlplane.services.test_fleet import add, drain
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for


async def look(show: Show, kind: str, node: str | None = None, **more: Any) -> httpx.Response:
    query = {"node": node} if node else {}
    return await show.http.get(f"/api/v1/drills/{kind}", headers=AS_OPERATOR, params=query | more)


async def begin(show: Show, kind: str, node: str | None = None, **more: Any) -> httpx.Response:
    body = {"kind": kind, "node": node, **more}
    return await show.http.post("/api/v1/drills", headers=AS_OPERATOR, json=body)


async def finish(show: Show, number: int, **outcome: Any) -> httpx.Response:
    path = f"/api/v1/drills/{number}/outcome"
    return await show.http.post(path, headers=AS_OPERATOR, json={"took_s": 1.0, **outcome})


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_a_killed_edge_is_journalled_first_and_its_viewers_are_told_to_move(show: Show) -> None:
    await show.on_air()
    _, events = await join(show)
    seen = (await look(show, "kill-edge")).json()
    assert (seen["id"], seen["node"], seen["blast"]["viewers"]) == (None, "edge-1", 1)
    assert "drill.started" not in await show.journal()
    begun = await begin(show, "kill-edge")
    assert begun.status_code == 200, begun.text
    drill = begun.json()
    assert drill["effect"] == seen["effect"]
    await events.until("move")
    await show.until({"edge-2": "in_service"})
    await show.until_gone("edge-1")
    entries = await show.get("/journal?limit=1000")
    (started,) = [entry for entry in entries if entry["kind"] == "drill.started"]
    assert (started["id"], started["subject"], started["actor"]) == (drill["id"], "edge-1", "operator")
    assert started["data"]["blast"]["channels"] == [{"channel": "main", "live": True, "viewers": 1}]
    assert "1 viewer of main on it" in started["message"]
    faulty = next(entry for entry in entries if entry["kind"] == "node.faulty")
    assert faulty["id"] > started["id"]
    assert show.provisioner.killed == ["edge-1"]
    await events.close()


async def test_the_node_with_most_on_it_is_the_one(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 2})) as show:
        await show.until({"edge-1": "in_service", "edge-2": "in_service", "origin-1": "in_service"})
        await show.on_air()
        for _ in range(2):
            headers = AS_OPERATOR | {"Content-Type": "application/sdp"}
            answer = await show.http.post("/whep/main?edge=edge-2", headers=headers, content=OFFER)
            assert answer.status_code == 201, answer.text
        seen = (await look(show, "kill-edge")).json()
        assert (seen["node"], seen["blast"]["viewers"], seen["blast"]["others"]) == ("edge-2", 2, ["edge-1"])
        assert "edge-1 has room for both." in seen["effect"]


async def test_who_names_an_edge_to_watch_from_is_an_operator(show: Show) -> None:
    await show.on_air()
    refused = await show.whep(query="?edge=edge-1")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


async def test_a_killed_origin_takes_its_publisher_along_and_says_whose_it_is(show: Show) -> None:
    session = await show.on_air()
    assert "not one of ours" in " ".join((await look(show, "kill-origin")).json()["effect"])
    await show.publisher_report(session)
    seen = (await look(show, "kill-origin", "origin-1")).json()
    assert seen["blast"]["strangers"] == []
    assert seen["effect"][-1] == "main is live, and nobody watches."
    assert (await begin(show, "kill-origin")).status_code == 200
    await show.until_stream("main", "reconnecting")
    await show.until({"origin-2": "in_service"})


async def test_of_the_manager_it_says_which_process_it_is_and_kills_nothing(show: Show) -> None:
    drill = (await begin(show, "kill-manager")).json()
    assert (drill["pid"], drill["start_time"]) == (os.getpid(), processes.start_time(os.getpid()))
    assert drill["node"] is None
    assert show.provisioner.killed == []
    (started,) = [e for e in await show.get("/journal") if e["kind"] == "drill.started"]
    assert started["subject"] == "stream manager"


async def test_what_makes_no_sense_is_refused(show: Show) -> None:
    assert refusal(await look(show, "kill-edge", "edge-7")) == (404, "no_such_node")
    assert refusal(await begin(show, "kill-edge", "edge-7")) == (404, "no_such_node")
    wrong = await look(show, "kill-edge", "origin-1")
    assert refusal(wrong) == (409, "other_role")
    assert "showcaller drill kill-origin origin-1" in wrong.json()["detail"]
    assert refusal(await look(show, "kill-manager", "edge-1")) == (409, "no_node_wanted")
    assert (await look(show, "kill-everything")).status_code == 422
    assert (await show.http.post("/api/v1/drills", json={"kind": "kill-edge"})).status_code == 401
    assert "drill.started" not in await show.journal()
    assert show.provisioner.killed == []


async def test_a_node_that_drains_is_not_killed_in_a_drill(show: Show) -> None:
    await show.on_air()
    await show.whep()
    await drain(show, "edge-1", 60, ("main",))
    assert refusal(await begin(show, "kill-edge", "edge-1", force=True)) == (409, "not_in_service")
    assert refusal(await begin(show, "kill-edge")) == (409, "no_node_in_service")


async def test_a_node_that_was_started_by_hand_is_not_ours_to_kill(show: Show) -> None:
    response = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
    assert response.status_code == 201
    refused = await begin(show, "kill-edge", response.json()["node"], force=True)
    assert refusal(refused) == (409, "not_managed")


async def test_while_the_stage_is_not_whole_only_who_insists_may_drill(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 2})) as show:
        await show.until({"edge-1": "in_service", "edge-2": "in_service", "origin-1": "in_service"})
        show.provisioner.refuse = "no more of them today"  # what dies is not replaced
        assert (await begin(show, "kill-edge", "edge-2")).status_code == 200
        at_once = await begin(show, "kill-edge", "edge-1")  # whether or not its death is known by now
        assert refusal(at_once) == (409, "stage_not_whole")
        assert "edge-2 was killed a moment ago" in at_once.text or "1 of 2 edges" in at_once.text
        await show.until_gone("edge-2")
        later = await look(show, "kill-edge")
        assert "1 of 2 edges in service" in later.json()["detail"]
        assert "--force" in later.json()["detail"]
        assert (await look(show, "kill-edge", force=True)).json()["node"] == "edge-1"


async def test_a_drill_of_a_moment_ago_is_known_before_its_death_is(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def takes_its_time(node: str) -> None:
        """The process is as good as dead, and still there."""

    monkeypatch.setattr(show.provisioner, "kill", takes_its_time)
    assert (await begin(show, "kill-edge")).status_code == 200
    for kind in ("kill-edge", "kill-origin", "kill-manager"):
        refused = await begin(show, kind)
        assert refusal(refused) == (409, "stage_not_whole")
        assert "edge-1 was killed a moment ago" in refused.json()["detail"]


async def test_what_came_of_it_is_written_down_once(show: Show) -> None:
    drill = (await begin(show, "kill-edge")).json()
    milestone = {"name": "whole", "at_s": 2.2, "words": "edge-2 in service"}
    first = await finish(show, drill["id"], milestones=[milestone], unwatched="nothing is on air")
    assert first.status_code == 200, first.text
    entry = first.json()
    assert entry["message"] == (
        "edge-1 was killed on purpose: edge-2 in service after 2.2 s, no picture was watched: nothing is on "
        "air."
    )
    assert (entry["kind"], entry["data"]["drill"], entry["data"]["took_s"]) == (
        "drill.ended",
        drill["id"],
        1.0,
    )
    again = await finish(show, drill["id"], missing=["everything"])
    assert again.json() == entry
    assert (await show.journal()).count("drill.ended") == 1


@pytest.mark.parametrize("number", [1, 4711])
async def test_an_outcome_of_no_drill_is_refused(show: Show, number: int) -> None:
    assert refusal(await finish(show, number)) == (404, "no_drill")


async def test_the_next_drill_may_follow_when_the_stage_is_whole_again(show: Show) -> None:
    assert (await begin(show, "kill-edge")).status_code == 200
    await show.until({"edge-2": "in_service"})
    await wait_for(lambda: "edge-1" not in show.board.nodes, 5, "edge-1 is gone")
    assert (await begin(show, "kill-edge")).json()["node"] == "edge-2"


async def test_an_added_node_that_is_not_up_yet_is_no_whole_stage(show: Show) -> None:
    show.provisioner.refuse = "not today"
    await add(show)
    refused = await begin(show, "kill-origin")
    assert "1 of 2 edges in service" in refused.json()["detail"]
