"""An edge is drained: its viewers are moved party by party, to seats kept for them and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane import listen
from controlplane.services import moving
from tests.controlplane.events import Events
from tests.controlplane.fake_node import OFFER, FakeNode
from tests.controlplane.stage import AS_OPERATOR, SDP, Show, running, settings
from tests.support.wait import wait_for

BOTH = {"origin-1": "in_service", "edge-1": "in_service", "edge-2": "in_service"}


class Page:
    """A viewer with a page that follows moves as ours does, or only when it is told to."""

    def __init__(self, show: Show, path: str, *, follows: bool = True) -> None:
        self.show = show
        self.path = path
        self.moves = 0
        self.follows = follows
        self.events = Events(show, f"{path}/events")
        self._task = asyncio.create_task(self._run())

    @classmethod
    async def open(cls, show: Show, party: str = "", size: int = 4, **more: Any) -> "Page":
        joined = await show.whep(query=f"?party={party}&size={size}" if party else "")
        assert joined.status_code == 201, joined.text
        page = cls(show, joined.headers["Location"], **more)
        await page.events.until("state")
        return page

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def edge(self) -> str:
        return str(self.show.board.sessions[self.id].node)

    def invitations(self) -> list[str]:
        return [data["url"] for name, data in self.events.seen if name == "move" and "url" in data]

    async def invited(self, times: int = 1) -> str:
        await wait_for(lambda: len(self.invitations()) >= times, 8, f"{times} invitations")
        return self.invitations()[times - 1]

    async def come(self, url: str) -> httpx.Response:
        return await self.show.http.post(url, headers=SDP, content=OFFER)

    async def switch(self, path: str) -> None:
        """The new session has a picture: the old one is left."""
        old, self.path = self.path, path
        events, self.events = self.events, Events(self.show, f"{path}/events")
        await self.show.http.delete(old)
        await events.close()
        self.moves += 1

    async def _run(self) -> None:
        while self.follows:
            if not self.invitations():
                await asyncio.sleep(0.01)
                continue
            answer = await self.come(self.invitations()[0])
            if answer.status_code == 201:
                await self.switch(answer.headers["Location"])
            else:
                self.events.seen.clear()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.events.close()


@asynccontextmanager
async def two_edges(folder: Path, **fleet: Any) -> AsyncIterator[Show]:
    async with running(folder, settings(fleet={"edges": 2} | fleet)) as show:
        await show.until(BOTH)
        await show.on_air()
        yield show


async def drain(show: Show, node: str, deadline_s: float = 60, **more: Any) -> httpx.Response:
    body = {"deadline_s": deadline_s} | more
    return await show.http.post(f"/api/v1/nodes/{node}/drain", headers=AS_OPERATOR, json=body)


async def undo(show: Show, node: str) -> httpx.Response:
    return await show.http.delete(f"/api/v1/nodes/{node}/drain", headers=AS_OPERATOR)


async def progress(show: Show, node: str) -> dict[str, Any]:
    found = {it["id"]: it["drain"] for it in await show.get("/nodes")}[node]
    return dict(found or {})


async def told(show: Show, kind: str) -> list[str]:
    return [it["message"] for it in await show.get("/journal?limit=1000") if it["kind"] == kind]


def load(show: Show) -> int:
    """As the autoscaler counts it."""
    scaling = show.stage.manager.scaling
    return sum(it.seats for it in scaling.figures(show.board.groups["edge", "local"]))


async def close(*pages: Page) -> None:
    await asyncio.gather(*(page.close() for page in pages))


async def test_viewers_are_moved_at_once_and_the_edge_ends_long_before_its_deadline(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as show:
        pages = [await Page.open(show) for _ in range(6)]
        assert {page.edge for page in pages} == {"edge-1", "edge-2"}
        there = [page for page in pages if page.edge == "edge-1"]
        assert (await drain(show, "edge-1", 600)).json()["viewers"] == len(there)
        await show.until_gone("edge-1")
        assert {page.edge for page in pages} == {"edge-2"}
        assert [page.moves for page in there] == [1] * len(there)
        assert sum(page.moves for page in pages) == len(there)
        (drained,) = [it for it in await show.get("/journal?limit=1000") if it["kind"] == "fleet.drained"]
        assert drained["message"].startswith(f"edge-1 drained: {len(there)} viewers moved in ")
        assert drained["data"] | {"took_s": 0} == {
            "viewers": len(there), "moved": len(there), "left": 0, "took_s": 0,
        }  # fmt: skip
        assert show.board.seats_on("edge-2") == 6
        await close(*pages)


async def test_a_party_stays_together_and_is_moved_together(tmp_path: Path) -> None:
    async with two_edges(tmp_path, edge_capacity=8) as show:
        friends = [await Page.open(show, "us", follows=False) for _ in range(5)]
        assert {page.edge for page in friends} == {"edge-1"}, "the others of a party are where it is"
        alone = [await Page.open(show, follows=False) for _ in range(3)]
        assert {page.edge for page in alone} == {"edge-2"}
        await drain(show, "edge-1")
        urls = [await page.invited() for page in friends]
        reserved = [show.board.successor(page.id) for page in friends]
        assert {it.node for it in reserved} == {"edge-2"}
        assert {it.party for it in reserved} == {"us"}
        answers = [await page.come(url) for page, url in zip(friends, urls, strict=True)]
        assert {answer.status_code for answer in answers} == {201}
        assert {it.party for it in show.nodes["edge-2"].sessions.values()} == {"us", None}
        await close(*friends, *alone)


async def test_a_party_that_fits_nowhere_whole_waits_and_the_drain_says_what_would_help(
    tmp_path: Path,
) -> None:
    async with two_edges(tmp_path, edge_capacity=5) as show:
        friends = [await Page.open(show, "us", 3) for _ in range(3)]
        alone = [await Page.open(show, follows=False) for _ in range(4)]
        assert [page.edge for page in alone].count("edge-2") == 3
        await drain(show, "edge-1")
        # The one who is alone on edge-1 fits; the three do not any more, and are not torn apart.
        lonely = next(page for page in alone if page.edge == "edge-1")
        await lonely.invited()

        async def waits() -> bool:
            return bool((await progress(show, "edge-1"))["waits"])

        await wait_for(waits, 5, "it says that it waits")
        assert (await progress(show, "edge-1"))["waits"] == (
            "waits for room: 4 of 4 left, no edge has 3 seats together; add one (showcaller fleet add edge), "
            "or take it back (showcaller fleet undo edge-1)"
        )
        assert {page.edge for page in friends} == {"edge-1"}
        assert [page.moves for page in friends] == [0, 0, 0]
        await wait_for(lambda: told(show, "fleet.waiting"), 5, "the journal has it")
        await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
        await wait_for(lambda: {page.moves for page in friends} == {1}, 8, "there is room, and they go")
        assert {page.edge for page in friends} == {"edge-3"}
        assert len(await told(show, "fleet.waiting")) == 1, "once a minute is enough"
        await close(*friends, *alone)


def shown(show: Show) -> dict[str, int]:
    """How many watch, wherever it is said. All of one moment."""
    manager = show.stage.manager
    views = manager.views
    (stream,) = views.streams()
    (group,) = [it for it in views.groups() if it.id == "edge@local"]
    return {
        "the autoscaler": load(show),
        "streams": stream.viewers,
        "groups": group.connections,
        "pages": show.board.viewers("main"),
        "history": next(it.connections for it in views.history_now() if it.role == "edge"),
        "rows": show.board.watchers("main"),
    }


ONE = {"the autoscaler": 1, "streams": 1, "groups": 1, "pages": 1, "history": 1, "rows": 1}


async def test_who_is_moved_counts_once(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as show:
        page = await Page.open(show, follows=False)
        edge = page.edge

        async def counted() -> bool:
            return bool(show.board.heard[edge].report.connections == 1)

        await wait_for(counted, 5, "its node counts it")
        assert shown(show) == ONE
        await drain(show, edge)
        url = await page.invited()
        assert sum(show.board.seats_on(name) for name in ("edge-1", "edge-2")) == 2
        assert shown(show) == ONE
        answer = await page.come(url)
        await wait_for(
            lambda: sum(it.report.connections for it in show.board.heard.values()) == 3,
            5, "both nodes report it, and the publisher",
        )  # fmt: skip
        assert shown(show) == ONE
        other = {"edge-1": "edge-2", "edge-2": "edge-1"}[edge]
        for drill, struck in (("kill-manager?", 1), (f"kill-edge?node={other}&", 0)):
            found = await show.get(f"/drills/{drill}force=true")
            assert found["blast"]["viewers"] == struck, "until it leaves it, it watches by its old session"
        show.nodes[edge].silent = True  # it still counts the connection in its last report
        await page.switch(answer.headers["Location"])
        assert shown(show) == ONE
        show.nodes[edge].silent = False
        await show.until_gone(edge)
        assert shown(show) == ONE
        await page.close()


async def test_a_move_is_taken_once_in_time_and_by_whoever_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_edges(tmp_path, move_kept_s=0.6) as show:
        page = await Page.open(show, follows=False)
        edge, other = page.edge, {"edge-1": "edge-2", "edge-2": "edge-1"}[page.edge]
        await drain(show, edge)
        url = await page.invited()
        reserved = show.board.successor(page.id)
        token = url.partition("=")[2]

        async def answer(token: str, channel: str = "main") -> tuple[int, str]:
            response = await show.http.post(f"/whep/{channel}?move={token}", headers=SDP, content=OFFER)
            return response.status_code, response.json().get("code", "") if response.is_error else ""

        for forged in ("", "x", reserved.id, f"{reserved.id}.", f"{reserved.id}.{'0' * 40}", f"{page.id}.é"):
            assert (await answer(forged)) == (403, "bad_move"), forged
        own = show.stage.manager.tokens.move_token
        assert (await answer(own("never-there"))) == (404, "move_over")
        assert (await answer(own(page.id))) == (404, "move_over"), "no session but a reserved one"
        assert (await answer(token, "another")) == (404, "move_over")
        assert len(show.nodes[other].sessions) == 0

        # Nobody came in time: the seat is given back, and kept anew for the next try.
        await wait_for(lambda: show.board.sessions.get(reserved.id) is None, 5, "given back")
        assert (await answer(token)) == (404, "move_over")
        again = (await page.invited(2)).partition("=")[2]
        assert show.board.seats_on(other) == 1
        assert (await answer(again))[0] == 201
        assert (await answer(again)) == (409, "move_taken")
        assert len(show.nodes[other].sessions) == 1
        assert (await progress(show, edge))["failed"] == 1
        await page.close()


async def test_an_offer_that_its_node_does_not_take_leaves_the_viewer_where_it_is(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as show:
        page = await Page.open(show, follows=False)
        edge, other = page.edge, {"edge-1": "edge-2", "edge-2": "edge-1"}[page.edge]
        show.nodes[other].failure = (503, "too_many")
        await drain(show, edge)
        assert (await page.come(await page.invited())).status_code == 503
        assert show.board.seats_on(other) == 0
        assert page.id in show.nodes[edge].sessions
        show.nodes[other].failure = None
        answer = await page.come(await page.invited(2))
        assert answer.status_code == 201
        await page.switch(answer.headers["Location"])
        await show.until_gone(edge)
        await page.close()


async def test_a_drain_is_taken_back_and_who_has_not_gone_stays(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as show:
        pages = []
        while len(pages) < 3:
            page = await Page.open(show, follows=False)
            if page.edge == "edge-1":
                pages.append(page)
            else:
                await page.close()
        gone, going, staying = pages
        await drain(show, "edge-1")
        urls = [await page.invited() for page in pages]
        await gone.switch((await gone.come(urls[0])).headers["Location"])
        answer = await going.come(urls[1])
        before = show.board.seats_on("edge-2")
        assert (await undo(show, "edge-1")).json()["state"] == "in_service"
        assert show.board.seats_on("edge-2") == before - 1, "the seat of who stays is given back"
        refused = await staying.come(urls[2])
        assert (refused.status_code, refused.json()["code"]) == (404, "move_over")
        await going.switch(answer.headers["Location"])  # who is under way arrives
        assert (gone.edge, going.edge, staying.edge) == ("edge-2", "edge-2", "edge-1")
        messages = await told(show, "node.in_service")
        assert "edge-1 is in service: operator took the drain back, with 1 viewer moved." in messages
        assert await progress(show, "edge-1") == {}
        assert (await undo(show, "edge-1")).status_code == 409
        await close(*pages)


async def test_who_cannot_be_told_is_ended_at_the_deadline(tmp_path: Path) -> None:
    async with two_edges(tmp_path, drain_grace_s=0.2) as show:
        page = await Page.open(show)
        edge, other = page.edge, {"edge-1": "edge-2", "edge-2": "edge-1"}[page.edge]
        deaf = []
        while len(deaf) < 2:
            path = (await show.whep()).headers["Location"]
            if path.rpartition("/")[2] in show.nodes[edge].sessions:
                deaf.append(path)
        before = show.board.seats_on(other)
        await drain(show, edge, 2)
        await wait_for(lambda: page.moves == 1, 5, "who listens is moved")
        assert show.board.seats_on(other) == before + 1, "no seat is kept for who could not know of it"
        await show.until_gone(edge)
        (said,) = await told(show, "fleet.drained")
        assert said.startswith(f"{edge} drained: 1 viewer moved in ")
        assert said.endswith("seconds, 2 ended at the deadline.")
        late = Events(show, f"{deaf[0]}/events")
        await late.until("move")
        assert "url" not in late.seen[0][1]
        await close(page)
        await late.close()


async def test_moves_are_paced(tmp_path: Path) -> None:
    async with two_edges(tmp_path, moves_at_once=2) as show:
        pages = [await Page.open(show, follows=False) for _ in range(10)]
        there = [page for page in pages if page.edge == "edge-1"]
        assert len(there) == 5
        await drain(show, "edge-1")
        done: list[Page] = []
        while len(done) < 5:
            invited = [page for page in there if page.invitations() and page not in done]
            assert len(show.board.moves()) <= 2
            for page in invited:
                answer = await page.come(page.invitations()[0])
                await page.switch(answer.headers["Location"])
                done.append(page)
            await asyncio.sleep(0)
        await show.until_gone("edge-1")
        await close(*pages)


async def test_a_viewer_that_came_and_did_not_leave_the_old_session_is_helped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "FINISH_S", 0.5)
    async with two_edges(tmp_path) as show:
        forgetful, lost = await Page.open(show, follows=False), await Page.open(show, follows=False)
        while forgetful.edge != lost.edge:
            await lost.close()
            lost = await Page.open(show, follows=False)
        edge, other = lost.edge, {"edge-1": "edge-2", "edge-2": "edge-1"}[lost.edge]
        await drain(show, edge)
        answer = await forgetful.come(await forgetful.invited())
        new = answer.headers["Location"].rpartition("/")[2]
        await wait_for(lambda: forgetful.id not in show.nodes[edge].sessions, 5, "its old session is ended")
        assert new in show.nodes[other].sessions
        # The other one's new session is never connected: it is that one which ends.
        show.nodes[other].connects = False
        first = (await lost.come(await lost.invited())).headers["Location"].rpartition("/")[2]
        await wait_for(lambda: first not in show.nodes[other].sessions, 5, "its new session is ended")
        assert lost.id in show.nodes[edge].sessions
        await close(forgetful, lost)


async def test_a_restarted_manager_goes_on_with_a_drain(tmp_path: Path) -> None:
    first = listen.bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    first.close()
    nodes: dict[str, FakeNode] = {}
    config = settings(fleet={"edges": 2})
    try:
        bound = listen.bind("127.0.0.1", port)
        async with running(tmp_path, config, nodes=nodes, bound=bound) as show:
            await show.until(BOTH)
            await show.on_air()
            pages = [await Page.open(show, follows=False) for _ in range(4)]
            there = [page for page in pages if page.edge == "edge-1"]
            await drain(show, "edge-1", 600)
            url = await there[0].invited()
            await there[0].switch((await there[0].come(url)).headers["Location"])
            paths = [page.path for page in pages]
            kept = {page.path: show.board.successor(page.id).id for page in there[1:]}
            await close(*pages)
        bound = listen.bind("127.0.0.1", port)
        provisioner = show.provisioner
        async with running(tmp_path, config, nodes=nodes, provisioner=provisioner, bound=bound) as show:
            assert (await progress(show, "edge-1"))["moved"] == 1
            again = [Page(show, path, follows=False) for path in paths]
            rest = [page for page in again if page.path in kept]
            for page in rest:  # the same seat is kept for it, and it is told once more
                answer = await page.come(await page.invited())
                assert answer.headers["Location"].rpartition("/")[2] == kept[page.path]
                await page.switch(answer.headers["Location"])
            await show.until_gone("edge-1")
            (said,) = await told(show, "fleet.drained")
            assert said.startswith("edge-1 drained: 2 viewers moved")
            await close(*again)
    finally:
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in nodes.values()))


async def test_the_last_edge_of_what_is_on_air_is_drained_only_by_name(show: Show) -> None:
    await show.on_air("main")
    await show.on_air("side")
    await show.whep()
    refused = await drain(show, "edge-1")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_edge")
    assert "main and side would have none" in refused.json()["detail"]
    assert (await drain(show, "edge-1", channels=["side"])).json()["code"] == "last_edge"
    assert (await show.node_states())["edge-1"] == "in_service"
    assert (await drain(show, "edge-1", channels=["main", "side"])).json()["state"] == "draining"
    assert (await drain(show, "edge-1", 600)).status_code == 200  # its deadline may be moved without a name


async def test_where_an_event_is_on_its_name_is_asked_for(show: Show) -> None:
    await show.on_air("main")
    now = datetime.now(UTC)
    event = {
        "title": "The show",
        "start": now.isoformat(),
        "end": (now + timedelta(hours=1)).isoformat(),
        "zone": "UTC",
        "channel": "main",
        "expected": 10,
    }
    for changes in ({}, {"channel": "side"}):
        added = await show.http.post("/api/v1/events", headers=AS_OPERATOR, json=event | changes)
        assert added.status_code == 201, added.text
    detail = (await drain(show, "edge-1")).json()["detail"]
    assert "main (The show) would have none" in detail
    assert detail.endswith("showcaller fleet drain edge-1 --yes ev-1")
    assert (await drain(show, "edge-1", channels=["ev-2"])).json()["code"] == "last_edge"
    assert (await drain(show, "edge-1", channels=["ev-1"])).json()["state"] == "draining"


async def test_the_last_origin_with_a_broadcast_is_drained_only_by_name(show: Show) -> None:
    await show.on_air("main")
    refused = await drain(show, "origin-1")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_origin")
    assert "origin-1 is the last origin, and main would have none" in refused.json()["detail"]
    assert (await drain(show, "origin-1", channels=["main"])).json()["state"] == "draining"


async def test_a_drain_without_a_deadline_has_that_of_the_policy(show: Show) -> None:
    path = "/api/v1/groups/edge@local/policy"
    said = {"drain_deadline_s": 90, "max": 1, "min": 0}
    usual = {it["id"]: it for it in await show.get("/groups")}["edge@local"]
    assert (usual["drain_s"], usual["most"]) == (60, None)
    assert (await show.http.patch(path, headers=AS_OPERATOR, json=said)).status_code == 200
    shown = {it["id"]: it for it in await show.get("/groups")}["edge@local"]
    assert (shown["drain_s"], shown["most"]) == (90, 1)
    answer = await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR)
    assert 80 < answer.json()["deadline_s"] <= 90


async def test_the_last_edge_needs_no_name_while_nothing_is_on_air(show: Show) -> None:
    assert (await drain(show, "edge-1")).status_code == 200


async def test_with_a_policy_the_group_is_scaled_out_where_there_is_no_room(tmp_path: Path) -> None:
    """By seats there is room for all under the alarm, but for no party of four together."""
    async with two_edges(tmp_path, edge_capacity=6) as show:
        friends = [await Page.open(show, "us") for _ in range(4)]
        alone = [await Page.open(show, follows=False) for _ in range(3)]
        assert {page.edge for page in friends} == {"edge-1"}
        assert show.board.seats_on("edge-2") == 3
        policy = {"capacity": 6, "alarm": "1", "in_fraction": "0.1", "min": 0, "max": 4, "up_periods": 1}
        policy |= {"up_cooldown_s": 0}
        path = "/api/v1/groups/edge@local/policy"
        answer = await show.http.patch(path, headers=AS_OPERATOR, json=policy)
        assert answer.status_code == 200, answer.text
        await drain(show, "edge-1")
        await wait_for(lambda: {page.moves for page in friends} == {1}, 10, "another edge came for them")
        assert {page.edge for page in friends} == {"edge-3"}
        await show.until_gone("edge-1")
        await close(*friends, *alone)
