"""A policy at work: nodes come and go with the viewers, the journal says why, and asking changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from controlplane.fleet.snapshot import Past
from controlplane.wire.nodes import Role
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for

TEN = {"capacity": 10, "alarm": 0.6, "in_fraction": 0.4, "max": 3, "up_periods": 1, "down_periods": 1}


async def set_policy(show: Show, group: str = "edge", **said: Any) -> dict[str, Any]:
    response = await show.http.patch(f"/api/v1/groups/{group}/policy", headers=AS_OPERATOR, json=said)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def refused(show: Show, group: str = "edge", **said: Any) -> dict[str, Any]:
    response = await show.http.patch(f"/api/v1/groups/{group}/policy", headers=AS_OPERATOR, json=said)
    assert response.status_code >= 400
    return dict(response.json())


async def evaluate(show: Show, nodes: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    body = more | ({} if nodes is None else {"nodes": nodes})
    response = await show.http.post("/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def decided(show: Show) -> list[str]:
    """Newest first."""
    return [it["decision"] for it in await show.get("/decisions?group=edge@local")]


async def test_a_policy_is_looked_at_without_being_set(show: Show) -> None:
    async def look(**said: Any) -> Any:
        path = "/api/v1/groups/edge/policy?check=true"
        return (await show.http.patch(path, headers=AS_OPERATOR, json=said)).json()

    await set_policy(show, **TEN)
    assert (await look(max=20))["policy"]["max"] == 20
    faults = (await look(max=0, alarm=7))["faults"]
    assert [fault["place"] for fault in faults] == ["alarm", "min"]
    assert (await show.get("/groups/edge/policy"))["policy"]["max"] == 3
    assert len([it for it in await show.get("/journal") if it["kind"] == "fleet.policy"]) == 1


async def test_the_first_viewer_above_the_alarm_brings_a_node_and_the_journal_says_why(show: Show) -> None:
    await show.on_air()
    await set_policy(show, **TEN)
    for _ in range(6):
        assert (await show.whep()).status_code == 201
    assert (await evaluate(show))["actions"] == []
    assert (await show.whep()).status_code == 201
    await show.until({"edge-2": "in_service"})
    (newest,) = await show.get("/decisions")
    assert newest["group"] == "edge@local"
    assert newest["decision"] == "+1"
    assert newest["because"] == "+1: 7 of 10 is 70 %, over the alarm of 60 %; +$0.031 an hour."
    assert newest["inputs"] | {"load": 7, "supply": 10, "in_service": 1, "wanted": 1} == newest["inputs"]
    groups = {group["id"]: group for group in await show.get("/groups")}
    assert groups["edge@local"]["desired"] == 2
    assert groups["edge@local"]["policy"] == "10 connections, 60 %, 1..3, +1"


async def test_when_they_leave_one_is_drained_after_the_cooldown_and_never_the_last(show: Show) -> None:
    await show.on_air()
    await set_policy(show, **TEN, down_cooldown_s=0)
    paths = [(await show.whep()).headers["Location"] for _ in range(7)]
    await show.until({"edge-2": "in_service"})
    for path in paths:
        await show.http.delete(path)

    async def one_is_left() -> bool:
        return [name for name in await show.node_states() if name.startswith("edge")] in (
            ["edge-1"],
            ["edge-2"],
        )

    await wait_for(one_is_left, 15, "one edge is left")
    assert (await decided(show))[:2] == ["-1", "+1"]
    states = [entry for entry in await show.get("/journal?limit=1000") if entry["kind"] == "node.draining"]
    assert "autoscaler drains it" in states[0]["message"]


async def test_who_is_refused_for_want_of_room_counts_as_waiting(show: Show) -> None:
    """The edges of this stage have 400 seats each; the policy says how they are planned for."""
    await show.on_air()
    await set_policy(show, **TEN, min=0)
    last = {"deadline_s": 0, "channels": ["main"]}
    drained = await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR, json=last)
    assert drained.status_code == 200
    await show.until_gone("edge-1", 15)
    assert (await show.whep()).status_code == 503
    await show.until({"edge-2": "in_service"})
    newest = (await show.get("/decisions"))[0]
    waits = "+1: 1, 1 of them waiting, and nothing to carry them, over the alarm of 60 %; +$0.031 an hour."
    assert newest["because"] == waits
    assert (await show.whep()).status_code == 201
    assert show.stage.manager.scaling._waiting.people(Role.EDGE) == 0, "who has a seat waits no more"


async def test_what_is_held_back_is_journalled_once_and_not_each_second(show: Show) -> None:
    await show.on_air()
    await set_policy(show, **TEN | {"max": 1})
    for _ in range(7):
        await show.whep()

    async def held() -> bool:
        return await decided(show) == ["held +1"]

    await wait_for(held, 10, "the decision is journalled")
    scaling = show.stage.manager.scaling
    paths = []
    for number in range(6):  # its size changes, and goes away for a moment: it is held by the same
        paths.append((await show.whep()).headers["Location"])
        if number % 2:
            await show.http.delete(paths.pop())
        await scaling.tick(show.stage.manager.books.clock.monotonic() + 100.0 * number)
    assert await decided(show) == ["held +1"]
    assert (await show.get("/decisions"))[0]["inputs"]["held_by"] == "max"


async def test_asking_changes_nothing(show: Show) -> None:
    await set_policy(show, capacity=400, alarm=0.6)
    before = await show.get("/groups")
    assert (await evaluate(show, [{"connections": 240}]))["actions"] == []
    answer = await evaluate(show, [{"connections": 241}])
    assert answer["actions"] == [{"kind": "add", "count": 1, "node": None}]
    assert answer["because"].startswith("+1: 241 of 400 is 60.3 %, over the alarm of 60 %")
    assert (await evaluate(show, [{"connections": 9}, {"connections": 5, "node": "edge-9"}]))["actions"] == [
        {"kind": "drain", "count": 1, "node": "edge-9"}
    ]
    assert (await evaluate(show, waiting=241))["actions"][0]["kind"] == "add"
    assert await show.get("/groups") == before
    assert await show.get("/decisions") == []
    response = await show.http.post(
        "/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json={"nodes": [{"connections": -1}]}
    )
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("unit", "node", "missing"),
    [
        ("connections", {}, ["connections"]),
        ("connections", {"mbps": 50}, ["connections"]),
        ("mbps", {"connections": 240}, ["mbps"]),
        ("mbps", {"mbps": 50, "reserved": 10}, ["connections"]),
        ("publishers", {"connections": 5}, ["relays"]),
        ("publishers", {}, ["connections", "relays"]),
        ("connections", {"reserved": 5}, []),
        ("mbps", {"mbps": 50}, []),
        ("publishers", {"connections": 0, "relays": 24}, []),
        ("mbps", {"state": "booting"}, []),  # it carries nothing yet
    ],
)
async def test_a_supposed_node_says_what_its_load_is_counted_from(
    show: Show, unit: str, node: dict[str, Any], missing: list[str]
) -> None:
    """What is not said is not known, and never zero."""
    await set_policy(show, unit=unit, capacity=100)
    body = {"nodes": [{"connections": 1, "relays": 0, "mbps": 1}, node]}
    response = await show.http.post("/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json=body)
    assert [it["place"] for it in response.json().get("faults") or []] == [f"nodes.1.{it}" for it in missing]
    assert response.status_code == (422 if missing else 200)


async def test_people_who_wait_take_what_connections_do_so_these_have_to_be_known(show: Show) -> None:
    await set_policy(show, unit="mbps", capacity=100)
    body = {"nodes": [{"mbps": 40}], "waiting": 10}
    response = await show.http.post("/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json=body)
    assert response.json()["detail"].startswith("nodes.0.connections: ")
    assert (await evaluate(show, [{"mbps": 40, "connections": 10}], waiting=10))["actions"], "80 of 100"


async def test_a_policy_is_shown_with_what_a_node_takes(show: Show) -> None:
    view = await set_policy(show, capacity=10)
    assert (view["policy"]["capacity"], view["node_takes"]) == (10, 400)
    assert sum(it.capacity for it in show.board.nodes.values() if it.role == "edge") == 400


async def test_a_policy_with_faults_is_refused_whole(show: Show) -> None:
    await set_policy(show, capacity=50)
    problem = await refused(show, min=9, max=8, alarm=2, unit="x")
    assert (problem["status"], problem["code"]) == (422, "policy_refused")
    for place in ("unit: there is no unit 'x'", "alarm: 2 is not above 0", "min: 9 is above max, 8"):
        assert place in problem["detail"]
        assert place in [f"{fault['place']}: {fault['text']}"[: len(place)] for fault in problem["faults"]]
    assert "; ".join(f"{it['place']}: {it['text']}" for it in problem["faults"]) in problem["detail"]
    assert (await show.get("/groups/edge/policy"))["policy"] | {"capacity": 50, "alarm": 0.6, "min": 1} == (
        await show.get("/groups/edge/policy")
    )["policy"]
    assert (await refused(show, colour="red"))["code"] == "invalid_request"
    assert (await refused(show, group="nobody"))["code"] == "no_group"
    assert "faults" not in await refused(show, group="nobody")


async def test_who_was_invited_and_has_not_come_carries_nothing(show: Show) -> None:
    """An enrolment token that nobody has used is no edge, and the one that there is stays."""
    await show.on_air()
    await show.whep()
    invited = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
    assert invited.status_code == 201
    await set_policy(show, **TEN | {"down_cooldown_s": 0})
    scaling = show.stage.manager.scaling
    for number in range(5):
        await scaling.tick(show.stage.manager.books.clock.monotonic() + 100.0 * number)
    assert (await show.node_states())["edge-1"] == "in_service"
    assert await show.get("/decisions") == []


async def test_a_policy_is_not_followed_where_nothing_is_launched_any_more(show: Show) -> None:
    await set_policy(show, **TEN | {"min": 3})
    desired = {group["id"]: group["desired"] for group in await show.get("/groups")}
    show.stage.manager.provisioning._launches = False
    before = await show.get("/decisions")
    await show.stage.manager.scaling.tick(show.stage.manager.books.clock.monotonic() + 100.0)
    assert await show.get("/decisions") == before
    assert {group["id"]: group["desired"] for group in await show.get("/groups")} == desired
    show.stage.manager.provisioning._launches = True


async def test_a_policy_begins_with_what_a_node_of_the_role_carries(show: Show) -> None:
    usual = await show.get("/groups/origin/policy?usual=true")
    assert (usual["usual"], usual["policy"]["capacity"]) == (True, 20)
    origin = (await set_policy(show, "origin", max=3))["policy"]
    assert origin == usual["policy"] | {"max": 3}
    assert (await show.get("/groups/origin/policy?usual=true"))["usual"] is False
    assert (origin["unit"], origin["capacity"]) == ("publishers", 20)
    assert "more than a node takes, 20" in (await refused(show, "origin", capacity=21))["detail"]
    zone = {"prestage": {"schedule": {"zone": "Europe/Berlin"}}}
    window = {"nodes": 2, "start": "20:00", "end": "21:00"}
    await set_policy(show, **zone)
    view = await set_policy(show, prestage={"schedule": {"windows": [window]}})
    assert view["policy"]["prestage"]["schedule"]["zone"] == "Europe/Berlin"
    for wrong in ({"min": True}, {"min": "5"}, {"alarm": "1e1000"}, {"spend_cap": 1e30}):
        assert (await refused(show, **wrong))["code"] == "invalid_request"


async def test_a_policy_is_followed_with_what_a_node_takes_by_now(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await set_policy(show, capacity=400)
    async with running(tmp_path, settings(fleet={"edge_capacity": 100})) as again:
        assert (await evaluate(again, [{"connections": 60}]))["actions"] == []
        assert (await evaluate(again, [{"connections": 61}]))["actions"][0]["kind"] == "add"


async def test_periods_are_kept_while_a_plan_cannot_be_written(show: Show) -> None:
    await show.on_air()
    for _ in range(7):
        await show.whep()
    scaling = show.stage.manager.scaling
    now = show.stage.manager.books.clock.monotonic()
    await set_policy(show, **TEN | {"up_periods": 3})
    group = show.board.groups["edge", "local"]
    seen: list[int] = []

    async def somebody_was_quicker(*_: object) -> bool:
        seen.append(scaling._past.get(group.id, Past()).agreed_up)
        return False

    scaling._act = somebody_was_quicker
    for number in range(1, 6):
        await scaling.tick(now + 100.0 * number)
    assert len(seen) >= 2
    assert set(seen) == {2}, "the third period agrees each time, until it can be written"


async def test_where_no_nodes_are_launched_there_is_no_policy(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        assert (await refused(show, capacity=50))["code"] == "launches_nothing"


async def test_what_is_not_said_stays_and_null_takes_the_cap_away(show: Show) -> None:
    await set_policy(show, capacity=50, spend_cap=2.5, prestage={"nodes": 2})
    view = await set_policy(show, alarm=0.58, prestage={"schedule": {"zone": "Asia/Tokyo"}})
    assert view["policy"] | {"capacity": 50, "spend_cap": 2.5, "alarm": 0.58} == view["policy"]
    assert view["policy"]["prestage"]["nodes"] == 2
    assert view["policy"]["prestage"]["schedule"]["zone"] == "Asia/Tokyo"
    assert (await set_policy(show, spend_cap=None))["policy"]["spend_cap"] is None


async def test_a_policy_and_its_cooldown_outlive_the_manager(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await set_policy(show, **TEN, min=2, up_cooldown_s=600)
        await show.until({"edge-2": "in_service"})
        decisions = await show.get("/decisions")
        bound = show.url
        lacked = "+1: 1 of 2 edges is there (the least there may be); +$0.031 an hour."
        assert [it["because"] for it in decisions] == [lacked]
        before = show.board.groups["edge", "local"]
    async with running(tmp_path, provisioner=show.provisioner) as again:
        assert again.url != bound
        group = again.board.groups["edge", "local"]
        assert (group.policy, group.scaled_up_at) == (before.policy, before.scaled_up_at)
        assert (await again.get("/decisions"))[-1:] == decisions
        asked = {"nodes": [{"connections": 20}, {"connections": 10}]}
        response = await again.http.post("/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json=asked)
        assert response.json()["actions"], "asked, its cooldown counts as passed"
        response = await again.http.delete("/api/v1/groups/edge/policy", headers=AS_OPERATOR)
        assert response.status_code == 204
        response = await again.http.get("/api/v1/groups/edge/policy", headers=AS_OPERATOR)
        assert response.json()["code"] == "no_policy"


CROWD = [{"at_s": 0, "people": 0}, {"at_s": 600, "people": 2000}, {"at_s": 1800, "people": 2000}]


async def what_if(show: Show, **body: Any) -> tuple[int, dict[str, Any]]:
    response = await show.http.post("/api/v1/groups/edge/whatif", headers=AS_OPERATOR, json=body, timeout=60)
    return response.status_code, dict(response.json())


async def test_a_policy_is_tried_on_a_crowd_beside_todays_and_nothing_changes(show: Show) -> None:
    await set_policy(show, capacity=400, max=4)
    before = await show.get("/groups")
    status, view = await what_if(show, crowd=CROWD, changes={"max": 20}, party=8, boot_s=30)
    assert status == 200
    assert (view["today"]["most_nodes"], view["changed"]["most_nodes"]) == (4, 9)
    assert view["today"]["refused"] > 300
    assert view["changed"]["refused"] == 0
    assert view["changed"]["policy"]["capacity"] == 400
    assert len(view["changed"]["minutes"]) == 30
    assert view["changed"]["cost"] == pytest.approx(view["changed"]["node_hours"] * view["price"])
    assert view["today"]["decisions"][-1]["decision"].startswith("held +")
    assert await show.get("/groups") == before
    assert await show.get("/decisions") == []


async def test_without_a_policy_only_the_changed_one_is_tried_and_what_makes_no_sense_is_refused(
    show: Show,
) -> None:
    assert (await what_if(show, crowd=CROWD))[1]["code"] == "no_policy"
    status, view = await what_if(show, crowd=CROWD, changes={"max": 20})
    assert (status, view["today"], view["changed"]["most_nodes"]) == (200, None, 9)
    assert view["boot_s"] < 60  # as long as edge-1 took
    assert (await what_if(show, crowd=CROWD, changes={"min": 9, "max": 8}))[1]["code"] == "policy_refused"
    for crowd in (CROWD[1:], [CROWD[0], CROWD[2], CROWD[1]], [CROWD[0], CROWD[0]]):
        assert (await what_if(show, crowd=crowd, changes={}))[1]["code"] == "bad_crowd"
