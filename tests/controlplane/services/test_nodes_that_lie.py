"""A node that says what cannot be, or speaks of what is not its own: refused or told of; it moves nothing."""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.controlplane.services.test_scaling import evaluate, set_policy
from tests.controlplane.stage import Show, running, settings
from tests.support.wait import wait_for

EAGER = {"capacity": 10, "alarm": 0.6, "in_fraction": 0.4, "max": 9, "up_periods": 1, "down_periods": 1}
_seq = itertools.count(1_000_000)  # later than whatever the node itself has said


async def say(show: Show, *, node: str = "edge-1", to: str = "", **lie: Any) -> httpx.Response:
    """A report with the credential of `node`, as of `to` where that is another one."""
    fake = show.nodes[node]
    fake.silent = True  # it says what we say and nothing else
    assert fake.enrolled is not None
    honest = {"at": time.time(), "seq": next(_seq), "connections": 0, "egress_bps": 0.0, "ingress_bps": 0.0}
    return await show.http.post(
        f"/api/v1/nodes/{to or node}/report",
        content=json.dumps(honest | lie),
        headers={"Authorization": f"Bearer {fake.enrolled.credential}", "Content-Type": "application/json"},
    )


async def standing(show: Show) -> dict[str, Any]:
    """What a lie might move: nodes, sessions, streams, what is planned with, and what it costs."""
    manager = show.stage.manager
    group = manager.scaling.group("edge")
    cost = await show.get("/cost")
    return {
        "nodes": await show.node_states(),
        "desired": group.desired,
        "figures": [replace(it, age_s=0.0, fresh=True) for it in manager.scaling.figures(group)],
        "sessions": sorted(show.board.sessions),
        "streams": [(it["channel"], it["state"]) for it in await show.get("/streams")],
        "egress": (cost["now"]["egress_bps"], cost["month"]["egress_gb"]),
        "decided": await show.get("/decisions"),
    }


LIES: list[dict[str, Any]] = [
    {"connections": -5},
    {"connections": 1_000_000},
    {"connections": 10**400},
    {"egress_bps": -1e9},
    {"egress_bps": 1e15},
    {"ingress_bps": 1.7e308},
    {"cpu": -1.0},
    {"streams": [{"channel": "main", "kind": "relayed", "state": "live", "viewers": -3}]},
    {"streams": [{"channel": "main", "kind": "relayed", "state": "live", "viewers": 10**9}]},
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: "-".join(f"{key}" for key in lie))
async def test_what_cannot_be_is_refused_and_told_once_and_moves_nothing(
    show: Show, lie: dict[str, Any]
) -> None:
    await set_policy(show, **EAGER)
    assert (await say(show)).status_code == 200
    before = await standing(show)
    for _ in range(3):
        response = await say(show, **lie)
        assert response.status_code == 422, response.text
        assert response.json()["code"] == "implausible_report"
        assert len(response.content) < 1000
    assert (await evaluate(show))["actions"] == []
    assert await standing(show) == before
    (entry,) = [it for it in await show.get("/journal?limit=1000") if it["kind"] == "node.refused"]
    assert entry["subject"] == "edge-1"
    assert entry["message"].startswith("A report of edge-1 was refused: ")
    assert next(iter(lie)) in entry["message"] or "viewers of main" in entry["message"]
    assert (await say(show)).status_code == 200, "and the truth is taken again"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", '"many"', "null"])
async def test_what_is_no_number_is_refused(show: Show, word: str) -> None:
    assert (await say(show)).status_code == 200
    before = await standing(show)
    fake = show.nodes["edge-1"]
    assert fake.enrolled is not None
    response = await show.http.post(
        "/api/v1/nodes/edge-1/report",
        content=f'{{"at": 1, "seq": {next(_seq)}, "connections": 0, "egress_bps": {word}, "ingress_bps": 0}}',
        headers={"Authorization": f"Bearer {fake.enrolled.credential}", "Content-Type": "application/json"},
    )
    assert response.status_code == 422, response.text
    assert await standing(show) == before


async def test_who_only_says_what_cannot_be_is_silent_and_the_fleet_says_why(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"suspect_after_s": 1.0})) as show:
        await show.until({"edge-1": "in_service"})

        async def suspected() -> Any:
            assert (await say(show, connections=-5)).status_code == 422
            return next(it for it in await show.get("/nodes") if it["id"] == "edge-1")["state"] == "suspect"

        await wait_for(suspected, 5, "it is suspect")
        node = next(it for it in await show.get("/nodes") if it["id"] == "edge-1")
        assert node["state_reason"] == "its reports are refused: connections is -5"
        assert (await say(show)).status_code == 200
        await show.until({"edge-1": "in_service"})


@pytest.mark.parametrize(("off_s", "way"), [(300.0, "300 s ahead of"), (-300.0, "300 s behind")])
async def test_a_clock_that_is_wrong_is_told_of_and_nothing_goes_by_it(
    show: Show, off_s: float, way: str
) -> None:
    assert (await say(show)).status_code == 200
    before = await standing(show)
    for _ in range(3):
        assert (await say(show, at=time.time() + off_s)).status_code == 200
    assert await standing(show) == before
    node = next(it for it in await show.get("/nodes") if it["id"] == "edge-1")
    assert node["age_s"] < 5
    (entry,) = [it for it in await show.get("/journal?limit=1000") if it["kind"] == "node.clock"]
    assert f"The clock of edge-1 is {way} this stream manager's" in entry["message"]


async def test_nobody_speaks_for_another(show: Show) -> None:
    await show.on_air()
    before = await standing(show)
    closed = [{"channel": "main", "kind": "published", "state": "stalled"}]
    for to in ("origin-1", "edge-2", "ghost"):
        response = await say(show, to=to, connections=9, streams=closed)
        assert response.status_code == 403, response.text
    assert await standing(show) == before


async def test_a_report_that_comes_twice_counts_once_and_an_old_one_not_at_all(show: Show) -> None:
    await show.on_air()
    path = (await show.whep()).headers["Location"]
    session = path.rpartition("/")[2]
    seq = next(_seq)
    first = await say(show, seq=seq, connections=1, egress_bps=5e6, ended=[session])
    assert first.status_code == 200
    assert session not in show.board.sessions
    before = await standing(show)
    again = await say(show, seq=seq, connections=1, egress_bps=5e6, ended=[session])
    older = await say(show, seq=seq - 1, connections=9, egress_bps=9e9)
    assert (again.status_code, older.status_code) == (200, 200)
    assert await standing(show) == before
    assert show.board.seats_on("edge-1") == 0
    rooms = await show.stage.manager.books.store.read(lambda tx: tx.rooms(show.board.nodes["edge-1"].role))
    assert [room.reserved for room in rooms if room.node == "edge-1"] == [0]


async def test_what_it_says_of_sessions_and_streams_of_others_counts_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 2})) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service", "edge-2": "in_service"})
        publisher = await show.on_air()
        viewer = (await show.whep()).headers["Location"].rpartition("/")[2]
        its_edge = show.board.sessions[viewer].node
        liar = "edge-2" if its_edge == "edge-1" else "edge-1"
        assert (await say(show, node=liar)).status_code == 200

        def told() -> bool:
            heard = show.board.heard[its_edge].report
            return heard is not None and heard.connections == 1

        await wait_for(told, 5, "the edge has told of its viewer")
        before = await standing(show)
        shut = [
            {"id": publisher, "kind": "whip", "channel": "main", "state": "closed"},
            {"id": viewer, "kind": "whep", "channel": "main", "state": "closed"},
            {"id": "never-made", "kind": "whep", "channel": "main", "state": "connected"},
        ]
        stalled = [{"channel": "main", "kind": "published", "state": "stalled", "session": publisher}]
        for _ in range(3):
            response = await say(show, node=liar, ended=[publisher, viewer], sessions=shut, streams=stalled)
            assert response.status_code == 200, response.text
        orders = response.json()["orders"]
        assert [(it["kind"], it["session"]) for it in orders] == [("end_session", "never-made")]
        assert await standing(show) == before
        assert show.board.streams["main"].origin == "origin-1"
        assert not show.nodes[its_edge].orders
