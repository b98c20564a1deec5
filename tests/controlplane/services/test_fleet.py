"""Adding, draining, taking back; deaths and what becomes of viewers and publishers; too many faults."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlplane.services.books import Change
from controlplane.wire.nodes import Role
from tests.controlplane.events import Events, join
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for


async def add(show: Show, role: str = "edge") -> dict[str, Any]:
    response = await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": role})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def drain(
    show: Show, node: str, deadline_s: float | None, channels: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`channels` are named where they would have no edge, or no origin, left."""
    path = f"/api/v1/nodes/{node}/drain"
    body: dict[str, Any] = {"channels": list(channels)} if channels else {}
    body |= {} if deadline_s is None else {"deadline_s": deadline_s}
    response = await show.http.post(path, headers=AS_OPERATOR, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_an_added_edge_comes_into_service_and_gets_the_next_viewer(show: Show) -> None:
    await show.on_air()
    _, events = await join(show)
    view = await add(show)
    assert view == {"node": "edge-2", "state": "requested", "viewers": 0, "deadline_s": None}
    await show.until({"edge-2": "in_service"})
    await show.whep()
    assert len(show.nodes["edge-2"].sessions) == 1
    groups = {group["role"]: group for group in await show.get("/groups")}
    assert groups["edge"]["desired"] == groups["edge"]["in_service"] == 2
    assert groups["edge"]["capacity"] == 800
    await events.close()


async def test_a_drained_edge_takes_no_new_viewers_and_ends_when_it_is_empty(show: Show) -> None:
    await show.on_air()
    await add(show)
    await show.until({"edge-2": "in_service"})
    paths = [(await show.whep()).headers["Location"] for _ in range(4)]
    on_edge_1 = [path for path in paths if path.rpartition("/")[2] in show.nodes["edge-1"].sessions]
    view = await drain(show, "edge-1", 60)
    assert view == {"node": "edge-1", "state": "draining", "viewers": len(on_edge_1), "deadline_s": 60}
    before = len(show.nodes["edge-2"].sessions)
    await show.whep()
    await show.whep()
    assert len(show.nodes["edge-2"].sessions) == before + 2
    for path in on_edge_1:
        await show.http.delete(path)
    await show.until_gone("edge-1")
    assert set(await show.node_states()) == {"origin-1", "edge-2"}  # nobody takes its place


async def test_at_the_deadline_viewers_are_told_to_move_before_the_edge_ends(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 2, "drain_grace_s": 1.5})) as show:
        await show.until({"edge-1": "in_service", "edge-2": "in_service", "origin-1": "in_service"})
        await show.on_air()
        _, events = await join(show)
        edge = next(name for name, node in show.nodes.items() if node.role == "edge" and node.sessions)
        await drain(show, edge, 0)
        await events.until("move")
        assert show.nodes[edge].sessions  # still served while the page makes its new session
        assert (await show.node_states())[edge] == "draining"
        assert (await show.whep()).status_code == 201
        await show.until_gone(edge)
        await events.close()


async def test_a_drain_can_be_taken_back(show: Show) -> None:
    await show.on_air()
    await join(show)
    await drain(show, "edge-1", 60, ("main",))
    path = "/api/v1/nodes/edge-1/drain"
    response = await show.http.delete(path, headers=AS_OPERATOR)
    assert response.json()["state"] == "in_service"
    assert (await show.whep()).status_code == 201
    assert {g["role"]: g["desired"] for g in await show.get("/groups")} == {"edge": 1, "origin": 1}
    assert (await show.http.delete(path, headers=AS_OPERATOR)).status_code == 409


async def test_a_later_deadline_lets_a_publisher_stay(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"drain_grace_s": 60})) as show:
        await show.until({"origin-1": "in_service"})
        session = await show.on_air()
        await drain(show, "origin-1", 0, ("main",))

        async def told() -> bool:
            return bool((await show.publisher_report(session))["action"] == "reconnect")

        await wait_for(told, 5, "the publisher is told to move")
        await drain(show, "origin-1", 600)
        assert (await show.publisher_report(session))["action"] == "continue"


async def test_draining_an_unknown_node_or_one_that_leaves_is_refused(show: Show) -> None:
    response = await show.http.post("/api/v1/nodes/edge-9/drain", headers=AS_OPERATOR)
    assert (response.status_code, response.json()["code"]) == (404, "no_such_node")
    bad = {"deadline_s": -1}
    response = await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR, json=bad)
    assert response.status_code == 422
    response = await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge", "x": 1})
    assert response.status_code == 422
    response = await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "transcoder"})
    assert (response.status_code, response.json()["code"]) == (404, "no_group")


async def test_a_dead_edge_is_replaced_and_its_viewers_are_told_to_move(show: Show) -> None:
    await show.on_air()
    _, events = await join(show)
    await show.crash("edge-1")
    await events.until("move")
    await wait_for(lambda: events.closed, 5, "the event stream ends")
    await show.until({"edge-2": "in_service"})
    assert "edge-1" not in await show.node_states()
    assert (await show.whep()).status_code == 201
    assert "node.faulty" in await show.journal()


async def test_a_page_that_reconnects_after_the_move_is_told_again(show: Show) -> None:
    await show.on_air()
    path, events = await join(show)
    await events.close()
    await show.crash("edge-1")
    await show.until({"edge-2": "in_service"})
    late = Events(show, f"{path}/events")
    await late.until("move")
    await late.close()


async def test_a_dead_origin_is_replaced_and_its_publisher_told_to_come_back(show: Show) -> None:
    session = await show.on_air()
    _, events = await join(show)
    await show.crash("origin-1")
    await events.until("state", state="waiting")
    assert (await show.publisher_report(session))["action"] == "reconnect"
    assert "POST /v1/channels/main/resubscribe" in show.nodes["edge-1"].calls
    await show.until({"origin-2": "in_service"})
    again = await show.whip(token=show.tokens["main"])
    assert again.status_code == 201
    await events.until("state", state="live")
    assert show.nodes["edge-1"].sessions  # the viewer was never moved
    await wait_for(
        lambda: show.nodes["edge-1"].calls.count("POST /v1/channels/main/resubscribe") >= 2,
        5,
        "the edge is told of the new origin",
    )
    await events.close()


async def test_an_edge_that_missed_the_push_is_ordered_to_subscribe_until_it_has(show: Show) -> None:
    await show.on_air()
    _, events = await join(show)
    await show.crash("origin-1")
    edge = show.nodes["edge-1"]
    await wait_for(lambda: edge.orders.count("resubscribe main") >= 2, 5, "the order is repeated")
    await show.until({"origin-2": "in_service"})
    assert (await show.whip(token=show.tokens["main"])).status_code == 201
    assert edge.enrolled is not None
    response = await show.http.post(
        "/api/v1/nodes/edge-1/subscribe",
        headers={"Authorization": f"Bearer {edge.enrolled.credential}"},
        json={"channel": "main", "offer": "v=0\r\n"},
    )
    assert response.json()["origin"] == "origin-2"
    seen = len(edge.orders)
    reported = show.board.heard["edge-1"].report.seq
    await wait_for(lambda: show.board.heard["edge-1"].report.seq > reported + 2, 5, "more reports")
    assert len(edge.orders) <= seen + 1  # at most one was on its way
    await events.close()


async def test_a_silent_node_gets_no_viewers_and_is_forgiven_when_it_speaks(tmp_path: Path) -> None:
    config = settings(fleet={"suspect_after_s": 0.6, "faulty_after_s": 60})
    async with running(tmp_path, config) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        show.nodes["edge-1"].silent = True
        await show.until({"edge-1": "suspect"})
        assert (await show.whep()).status_code == 503
        show.nodes["edge-1"].silent = False
        await show.until({"edge-1": "in_service"})
        assert (await show.whep()).status_code == 201


async def test_a_node_silent_for_too_long_is_replaced(tmp_path: Path) -> None:
    config = settings(fleet={"suspect_after_s": 0.5, "faulty_after_s": 1.0})
    async with running(tmp_path, config) as show:
        await show.until({"edge-1": "in_service"})
        show.nodes["edge-1"].silent = True
        await show.until({"edge-2": "in_service"}, deadline=8)


async def test_five_faults_within_a_minute_stop_a_group_until_an_operator_says_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until({"edge-1": "in_service", "origin-1": "in_service"})
        show.provisioner.refuse = "there is no more room on this machine"
        await show.crash("edge-1")

        async def stopped() -> bool:
            return "fleet.stopped" in await show.journal()

        await wait_for(stopped, 8, "the group is stopped")
        kinds = await show.journal()
        assert kinds.count("node.faulty") == 5  # the crash and four launches
        assert "edge" not in {name.partition("-")[0] for name in await show.node_states()}
        show.provisioner.refuse = None
        added = await add(show)
        await show.until({added["node"]: "in_service"})

        async def two() -> bool:
            return list((await show.node_states()).values()).count("in_service") == 3

        await wait_for(two, 5, "the missing one is launched as well")


async def test_a_node_that_never_reports_is_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"boot_timeout_s": 0.5, "edges": 0})) as show:
        show.provisioner._on_launch = None  # launched, and nothing ever comes of it
        added = await add(show, "origin")
        await show.until_gone(added["node"], deadline=8)
        assert "node.faulty" in await show.journal()


async def test_a_launch_that_never_began_is_begun_at_the_next_look(tmp_path: Path) -> None:
    """As when the database was busy just after the row was written, or another manager wrote it."""
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        manager = show.stage.manager

        async def asked_for(change: Change) -> None:
            group = await change.tx.group(Role.EDGE, "local")
            assert group is not None
            await manager.provisioning.request(change, replace(group, desired=2), "a test")

        await manager.books.change(asked_for)
        assert (await show.node_states())["edge-2"] == "requested"
        await show.until({"edge-2": "in_service"})
        assert len(await show.node_states()) == 3


async def test_a_second_drain_moves_the_deadline_only_when_one_is_given(show: Show) -> None:
    await show.on_air()
    await show.whep()
    assert (await drain(show, "edge-1", 600, ("main",)))["deadline_s"] == 600
    until = show.board.nodes["edge-1"].drain_deadline
    again = await drain(show, "edge-1", None)
    assert 590 < again["deadline_s"] <= 600
    assert show.board.nodes["edge-1"].drain_deadline == until
    assert (await drain(show, "edge-1", 300))["deadline_s"] == 300
    first = await drain(show, "origin-1", None, ("main",))
    assert first["deadline_s"] == 60, "what one without a deadline has, where no policy says more"


async def test_a_death_that_could_not_be_written_is_found_at_the_next_look(show: Show) -> None:
    show.provisioner._instances.pop("edge-1")  # nobody is told of it
    await show.vanish("edge-1")
    await show.until({"edge-2": "in_service"})


async def test_a_node_started_by_hand_enrols_with_an_invitation(tmp_path: Path) -> None:
    from tests.controlplane.fake_node import FakeNode

    async with running(tmp_path, launches=False) as show:
        assert await show.get("/nodes") == []
        refused = await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
        assert (refused.status_code, refused.json()["code"]) == (409, "launches_nothing")
        made = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
        assert made.status_code == 201
        given = made.json()
        node = FakeNode(show.url, given["token"], Role.EDGE, given["node"])
        node.start()
        try:
            await show.until({given["node"]: "in_service"})
            await drain(show, given["node"], 0)
            assert await asyncio.to_thread(node.terminated.wait, 5)
            node.silent = True
            await show.until_gone(given["node"], deadline=10)
        finally:
            await asyncio.to_thread(node.stop)


async def test_a_node_that_nobody_starts_is_given_up_with_its_token_and_is_no_fault(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        made = await show.http.post(
            "/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge", "ttl_s": 1.5}
        )
        given = made.json()
        assert (await show.node_states())[given["node"]] == "booting"
        await show.until_gone(given["node"], deadline=5)
        entries = [entry for entry in await show.get("/journal") if entry["subject"] == given["node"]]
        assert "nobody started it" in entries[-1]["message"]
        assert "node.faulty" not in {entry["kind"] for entry in entries}


async def test_a_node_started_by_hand_that_refuses_connections_has_died(tmp_path: Path) -> None:
    """Nothing watches its process; silence makes the manager knock, long before it would be suspect."""
    from tests.controlplane.fake_node import FakeNode

    async with running(tmp_path, launches=False) as show:
        made = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
        given = made.json()
        node = FakeNode(show.url, given["token"], Role.EDGE, given["node"])
        node.start()
        try:
            await show.until({given["node"]: "in_service"})
        finally:
            await asyncio.to_thread(node.stop)
        await show.until_gone(given["node"], deadline=10)
        kinds = [entry["kind"] for entry in await show.get("/journal")]
        assert "node.faulty" in kinds
        assert "node.suspect" not in kinds


async def test_a_drained_origin_sends_its_publisher_to_another(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"origins": 2, "drain_grace_s": 3})) as show:
        await show.until({"origin-1": "in_service", "origin-2": "in_service", "edge-1": "in_service"})
        session = await show.on_air()
        origin = show.board.streams["main"].origin
        await drain(show, origin, 0)

        async def told() -> bool:
            return bool((await show.publisher_report(session))["action"] == "reconnect")

        await wait_for(told, 5, "the publisher is told to move")
        assert (await show.whip(token=show.tokens["main"])).status_code == 201
        await show.until_stream("main", "live")
        assert show.board.streams["main"].origin != origin
        await show.until_gone(origin)
        assert show.board.streams["main"].state == "live"
