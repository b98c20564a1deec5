"""Go or no-go over a whole manager: what it knows of nodes, publisher, database, budget."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from console.core.client import Client
from console.core.preflight import NoPicture, first_frame_ms, preflight, synthetic_viewer
from controlplane.ports.store import StoreFull
from tests.controlplane.services.test_events import add, send
from tests.controlplane.services.test_prestage import EVENTS, until_edges
from tests.controlplane.services.test_scaling import TEN, set_policy
from tests.controlplane.stage import AS_OPERATOR, OPERATOR, Show, running, settings
from tests.support.wait import wait_for


async def ask(show: Show, event: str = "cup") -> dict[str, Any]:
    status, view = await send(show, "POST", f"/{event}/preflight")
    assert status == 200, view
    return view


def lines(view: dict[str, Any]) -> dict[str, str]:
    return {f"{it['check']} {it['subject']}".strip(): it["verdict"] for it in view["checks"]}


def line(view: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [it for it in view["checks"] if f"{it['check']} {it['subject']}".strip() == name]
    return dict(found)


async def test_from_no_go_to_go(show: Show) -> None:
    await add(show, start="+30s", expected=15)
    view = await ask(show)
    assert view["go"] is False
    assert lines(view) == {
        "event ev-1": "green",
        "nodes edge@local": "green",  # of 400 seats one does
        "nodes origin@local": "green",
        "publisher main": "red",
        "database": "green",
        "budget edge@local": "amber",
        "budget origin@local": "amber",
        "budget the stage": "amber",
        "settings turn": "amber",
        "settings registrations": "amber",
    }
    assert (view["event"]["id"], view["regions"]) == ("ev-1", ["local"])
    assert view["event"]["checked_at"] is not None, "that was the write"

    await set_policy(show, **TEN)
    found = line(await ask(show), "nodes edge@local")
    assert found["verdict"] == "red"
    assert "1 edge in service, 3 needed: 2 are lacking, and the policy does not prestage" in found["says"]

    await set_policy(show, **EVENTS, spend_cap=5)
    await until_edges(show, 3)
    await show.on_air()

    async def go() -> Any:
        view = await ask(show)
        return view if view["go"] else None

    view = await wait_for(go, 10, "nothing is red")
    assert lines(view)["budget edge@local"] == "green"
    assert "Mbps" in line(view, "publisher main")["says"]


async def test_a_deaf_database_a_thin_budget_and_what_is_set_are_told(tmp_path: Path) -> None:
    turn = {"url": "turn:turn.example.net", "username": "u", "credential": "c"}
    async with running(tmp_path, settings(ice={"servers": [turn]}, prices={"node_hour": 2.0})) as show:
        await add(show, start="+30s", expected=2000)
        await set_policy(show, **EVENTS, max=20, spend_cap=3)

        async def full(*_: object) -> None:
            raise StoreFull("database or disk is full")

        show.stage.manager.preflight._books.change = full  # type: ignore[method-assign,assignment]
        view = await ask(show)
        assert line(view, "database")["says"] == "it cannot be written: database or disk is full"
        assert line(view, "budget edge@local")["verdict"] == "red"
        assert "settings turn" not in lines(view)


async def test_the_budget_of_the_stage_has_to_pay_for_nodes_and_egress(tmp_path: Path) -> None:
    config = settings(budget={"per_hour": 3.0, "per_month": 10_000}, prices={"egress_free_tb": 0})
    async with running(tmp_path, config) as show:
        await show.until({"edge-1": "in_service", "origin-1": "in_service"})
        await add(show, start="+30s", expected=150)  # 303.75 GB an hour at 4.5 Mbps
        found = line(await ask(show), "budget the stage")
        assert found["verdict"] == "green", found
        assert "cost up to $2.64 an hour" in found["says"], "two nodes, and 303.75 GB at $0.0085"
        assert "within the budget of $3.00 an hour and the $10,000.00 of" in found["says"]
        status, _ = await send(show, "PATCH", "/cup", expected=200)
        assert status == 200
        found = line(view := await ask(show), "budget the stage")
        assert (found["verdict"], view["go"]) == ("red", False)
        assert "over the budget of $3.00 an hour" in found["says"]
        assert found["next"].startswith("raise [budget] per_hour to 3.51 in the manager's settings")
        await send(show, "POST", "/cup/cancel")
        assert "budget the stage" not in lines(await ask(show)), "it takes nothing more"


async def test_what_comes_later_is_not_red_yet(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until({"edge-1": "in_service", "origin-1": "in_service"})
        await add(show, start="+2h", expected=2000)
        await set_policy(show, **EVENTS, max=20)
        view = await ask(show)
        assert (view["go"], lines(view)["publisher main"]) == (True, "amber")
        nodes = line(view, "nodes edge@local")
        assert nodes["verdict"] == "amber"
        assert "as 1 launch took (95th percentile)" in nodes["says"]
        await send(show, "POST", "/cup/cancel")
        assert lines(await ask(show))["event ev-1"] == "red"
        response = await show.http.post("/api/v1/events/nobody/preflight", headers=AS_OPERATOR)
        assert response.status_code == 404


def sees(took_ms: float) -> Callable[[str], Awaitable[float]]:
    async def viewer(whep: str) -> float:
        assert whep.endswith("/whep/main")
        return took_ms

    return viewer


async def blind(_: str) -> float:
    raise NoPicture("ICE found no way")


async def test_a_viewers_first_picture_is_a_line_after_the_publishers(show: Show) -> None:
    await add(show, start="+30s")
    async with Client(show.url, OPERATOR) as client:

        async def viewers_line(viewer: Callable[[str], Awaitable[float]]) -> tuple[str, str, bool]:
            view = await preflight(client, "cup", viewer)
            names = [it.check for it in view.checks]
            assert names[names.index("publisher") + 1] == "viewer"
            found = view.checks[names.index("viewer")]
            assert found.subject == "local"
            return found.verdict.value, found.says, view.go

        assert (await viewers_line(blind))[:2] == ("red", "there is nothing to watch on main")
        await show.on_air()
        assert (await viewers_line(sees(700.0)))[:2] == (
            "green",
            "the first picture came after 700 ms, within 700 ms",
        )
        assert (await viewers_line(sees(701.0)))[0::2] == ("red", False)
        assert await viewers_line(blind) == ("red", "no picture: ICE found no way", False)
        assert "viewer" not in [it.check for it in (await preflight(client, "cup", None)).checks]


async def test_long_before_the_start_a_viewer_need_not_see_anything(show: Show) -> None:
    await add(show, start="+2h")
    async with Client(show.url, OPERATOR) as client:
        view = await preflight(client, "cup", blind)
    assert [it.verdict.value for it in view.checks if it.check == "viewer"] == ["amber"]


async def test_the_real_viewer_says_why_it_sees_nothing(show: Show) -> None:
    with pytest.raises(NoPicture, match=r"(?i)nothing is on air"):
        await synthetic_viewer(f"{show.url}/whep/main")


def test_what_a_viewer_printed_is_read_or_told() -> None:
    assert first_frame_ms(b'{"first_frame_ms": 312.5}', b"") == 312.5
    for said, errors, words in (
        (
            b"",
            b'noise\n{"error": {"what": "no picture within 10 s"}}\n',
            "no picture within 10 s",
        ),
        (b"{}", b"Traceback\nKeyError: x\n", "KeyError: x"),
        (b"[1]", b"", "ended without a word"),
    ):
        with pytest.raises(NoPicture, match=words):
            first_frame_ms(said, errors)
