"""Events at work: their nodes are there before they begin, say for whom, and go when nobody needs them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.nodes.model import Group
from controlplane.services.books import Changed
from controlplane.services.launches import KEPT, Launches
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import Role
from tests.controlplane.domain.events.test_rules import EVENT
from tests.controlplane.domain.test_rules import NODE
from tests.controlplane.services.test_events import add, send
from tests.controlplane.services.test_scaling import CROWD, TEN, set_policy, what_if
from tests.controlplane.stage import Show, running, settings
from tests.support.wait import wait_for

EVENTS = {"prestage": {"events": True}, "down_cooldown_s": 0}


async def edges(show: Show) -> int:
    return [*(await show.node_states()).values()].count("in_service") - 1  # and an origin


async def until_edges(show: Show, number: int) -> None:
    async def there() -> bool:
        return await edges(show) == number

    await wait_for(there, 15, f"{number} edges in service")


async def test_an_events_nodes_come_before_it_and_go_after_it(show: Show) -> None:
    await set_policy(show, **TEN | EVENTS)
    await add(show, title="Later", start="+3d", channel="second", expected=1000)
    await add(show, start="+20s", expected=15)  # 6 a node: 3
    await until_edges(show, 3)
    (added,) = await show.get("/decisions")
    assert added["decision"] == "+2"
    assert "1 of 3 edges is there (prestage for 'Cup final', 15 expected: 3 nodes by " in added["because"]
    inputs = added["inputs"]
    assert (inputs["floor"], inputs["launches_measured"]) == (3, 1)
    assert 0 < inputs["launch_s"] < 60
    await send(show, "POST", "/cup/cancel")
    await until_edges(show, 1)
    assert [it["decision"] for it in await show.get("/decisions")] == ["-1", "-1", "+2"]


async def test_without_the_word_of_the_policy_nothing_is_prestaged(show: Show) -> None:
    await set_policy(show, **TEN)
    await add(show, start="+20s", expected=15)
    await show.stage.manager.scaling.tick(show.stage.manager.books.clock.monotonic() + 100.0)
    assert await show.get("/decisions") == []


async def test_what_an_event_wants_and_may_not_have_is_held_and_said(show: Show) -> None:
    await set_policy(show, **TEN | EVENTS | {"max": 1})
    await add(show, start="+20s", expected=15)

    async def held() -> Any:
        return [it["because"] for it in await show.get("/decisions")]

    (because,) = await wait_for(held, 10, "the decision is journalled")
    assert because.startswith("Wants +2: 1 of 3 edges is there (prestage for 'Cup final', 15 expected")
    assert because.endswith("held: 1 of at most 1 is there.")


async def test_an_event_of_another_manager_is_seen_within_a_second(show: Show) -> None:
    """It is in the database, and nobody told this one."""
    manager = show.stage.manager
    now = manager.books.clock.now()
    other = replace(EVENT, starts_at=now + 20, ends_at=now + 3600, expected=15)
    await manager.books.store.write(lambda tx: tx.add_event(other))
    await set_policy(show, **TEN | EVENTS)
    await until_edges(show, 3)


async def test_what_is_tried_counts_the_events_that_are_planned(show: Show) -> None:
    await add(show, title="Cup final", start="+10m", lasts_s=1200, expected=2000)
    body = {"crowd": CROWD, "boot_s": 30}
    changes = {"capacity": 400, "max": 20, "launches": 20}
    _, view = await what_if(show, **body, changes=changes | {"prestage": {"events": True}})
    seen = [it["because"] for it in view["changed"]["decisions"]]
    assert any("prestage for 'Cup final', 2,000 expected: 9 nodes" in it for it in seen)
    assert view["changed"]["minutes"][9]["in_service"] == 9, "as it begins"
    _, view = await what_if(show, **body, changes=changes)
    assert not any("prestage" in it["because"] for it in view["changed"]["decisions"])


@pytest.mark.parametrize(
    ("role", "unit", "load"),
    [
        (Role.EDGE, "connections", 8000),
        (Role.EDGE, "mbps", 8000 * 4.5),
        (Role.EDGE, "publishers", 8000),  # each takes a seat, whatever it is called
        (Role.ORIGIN, "connections", 1),
        (Role.ORIGIN, "publishers", 34 / 8),  # 34 edges take the stream
        (Role.ORIGIN, "mbps", 34 * 4.5),
    ],
)
async def test_what_an_event_is_to_a_group(tmp_path: Path, role: Role, unit: str, load: float) -> None:
    async with running(tmp_path, settings(fleet={"edges": 0, "origins": 0})) as show:
        group = show.board.groups[role, "local"]
        expecting = show.stage.manager.scaling._expecting
        expected = expecting.one(EVENT, 8000, group, Policy(unit=unit))
        assert float(expected.weight) == load
        assert expected.crowd == 8000
        other = Group(role=Role.EDGE, region="elsewhere", desired=0)
        show.board.groups[other.role, other.region] = other
        if role is Role.EDGE:
            assert float(expecting.one(EVENT, 8000, group, Policy(unit=unit)).weight) == load / 2


def test_how_long_a_launch_takes_is_supposed_until_one_was_measured() -> None:
    launches = Launches(60.0)
    edge = Group(role=Role.EDGE, region="local", desired=1)
    assert (launches.time(edge).seconds, launches.time(edge).measured) == (60.0, 0)
    assert "none was measured yet" in launches.time(edge).words()

    def launched(name: str, took: float, **more: Any) -> None:
        node = replace(NODE, id=name, created_at=100.0, in_service_at=100.0 + took, **more)
        launches.changed(Changed(nodes={name: node}))

    launched("edge-0", 40.0)
    launched("edge-0", 90.0)  # told of again: it counts once
    assert launches.time(edge).words() == "40.0 s, as 1 launch took (95th percentile)"
    launched("by-hand", 900.0, managed=False)
    for number in range(1, 101):
        launched(f"edge-{number}", float(number))
    assert launches.time(edge).measured == KEPT
    assert launches.time(edge).seconds == 98.0  # of 51 to 100
    assert launches.time(replace(edge, region="elsewhere")).measured == 0
    launched("edge-x", -5.0)
    launched("edge-y", 1e9)
    assert launches.time(edge).seconds <= 1800


async def test_launches_from_before_a_restart_count(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
    async with running(tmp_path, provisioner=show.provisioner) as again:
        group = again.board.groups[Role.EDGE, "local"]
        assert again.stage.manager.scaling.launch_time(group).measured == 1
