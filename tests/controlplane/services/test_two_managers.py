"""Two stream managers on one database: any call on any, one of them acts, what one writes the other shows."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from console.core.client import Client
from console.core.live import Link, LinkState, LiveSource
from console.core.model import State
from controlplane.ports.store import Transaction
from controlplane.wire.nodes import Role, SessionKind
from tests.controlplane.events import Events
from tests.controlplane.fake_node import FakeNode
from tests.controlplane.stage import AS_OPERATOR, OPERATOR, SDP, Show, running, settings
from tests.support.wait import wait_for

LEASE = {"lease": {"length_s": 1.0}}
EVENT = {"title": "The final", "start": "+2h", "end": "+4h", "expected": 100}


@dataclass
class Pair:
    a: Show  # leads
    b: Show
    closing_a: AsyncExitStack

    async def end_a(self) -> None:
        """It ends in order, and gives the lease back."""
        await self.closing_a.aclose()


@pytest.fixture
async def pair(tmp_path: Path, _kept: None) -> AsyncIterator[Pair]:
    """A, which leads, with an origin and an edge that report to it; B beside it."""
    nodes: dict[str, FakeNode] = {}
    async with AsyncExitStack() as last, AsyncExitStack() as closing_a:
        a = await closing_a.enter_async_context(
            running(tmp_path, settings(**LEASE), nodes=nodes, manager="a")
        )
        last.push_async_callback(_end, nodes)
        await a.until({"origin-1": "in_service", "edge-1": "in_service"})
        b = await last.enter_async_context(
            running(tmp_path, settings(**LEASE), nodes=nodes, provisioner=a.provisioner, manager="b")
        )
        yield Pair(a, b, closing_a)


async def _end(nodes: dict[str, FakeNode]) -> None:
    for node in list(nodes.values()):
        await asyncio.to_thread(node.stop)


async def until_feed(show: Show, what: Any) -> None:
    """A console's feed says it: of any message, the whole of it as JSON."""
    async with asyncio.timeout(10), aclosing(show.stage.manager.feed.follow()) as messages:
        async for text in messages:
            if what(json.loads(text)):
                return
    raise AssertionError("the feed ended")


async def test_one_leads_and_the_other_shows_the_same(pair: Pair) -> None:
    assert (pair.a.stage.lease.acts, pair.b.stage.lease.acts) == (True, False)
    assert await pair.b.node_states() == await pair.a.node_states()
    await wait_for(lambda: pair.b.board.report_of("edge-1"), 5, "B knows what A was told")
    assert pair.b.board.heard["edge-1"].elsewhere
    assert (await pair.b.get("/nodes/edge-1"))["node"]["connections"] == 0
    assert len(await pair.a.journal()) == len({entry.id for entry in pair.b.board.journal})


async def test_a_broadcast_on_one_is_watched_through_the_other(pair: Pair) -> None:
    heard = asyncio.ensure_future(
        until_feed(pair.b, lambda it: any(row["viewers"] == 1 for row in it.get("streams", ())))
    )
    await pair.a.on_air()
    await pair.b.until_stream("main", "live")
    response = await pair.b.whep()
    assert response.status_code == 201
    path = response.headers["Location"]
    await heard
    await wait_for(lambda: pair.a.board.seats_on("edge-1") == 1, 5, "A shows the viewer of B")
    events = Events(pair.a, f"{path}/events")  # a page may listen anywhere
    await events.until("state", state="live")
    assert (await pair.a.http.delete(path)).status_code == 200
    await wait_for(lambda: pair.b.board.seats_on("edge-1") == 0, 5, "B shows that he left")
    await events.close()
    stopped = await pair.b.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    assert stopped.status_code == 200, stopped.text
    await pair.a.until_stream("main", None)


async def test_room_that_one_keeps_for_a_party_is_known_to_the_other(pair: Pair) -> None:
    await pair.a.on_air()
    await pair.b.until_stream("main", "live")
    path = (await pair.a.whep(query="?party=us&size=6")).headers["Location"]
    assert pair.a.board.reserved_on("edge-1") == 6
    await wait_for(lambda: pair.b.board.reserved_on("edge-1") == 6, 5, "B shows what is kept")
    other = (await pair.b.whep(query="?party=us&size=6")).headers["Location"]
    await wait_for(lambda: len(pair.a.board.sessions_on("edge-1")) == 2, 5, "A shows who came by B")
    assert pair.a.board.reserved_on("edge-1") == pair.b.board.reserved_on("edge-1") == 6
    for show, left in ((pair.b, path), (pair.a, other)):
        assert (await show.http.delete(left)).status_code == 200
    for show in (pair.a, pair.b):
        await wait_for(lambda it=show: it.board.reserved_on("edge-1") == 0, 5, "and that all have gone")  # type: ignore[misc]
        assert show.board.parties == {}


async def test_what_is_asked_of_one_is_carried_out_by_the_one_that_leads(pair: Pair) -> None:
    added = await pair.b.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
    assert added.json()["node"] == "edge-2"
    await pair.b.until({"edge-2": "in_service"})
    assert pair.a.provisioner is pair.b.provisioner
    drained = await pair.b.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR)
    assert drained.status_code == 200, drained.text
    await pair.a.until_gone("edge-1")
    await pair.b.until_gone("edge-1")
    acts = await pair.a.stage.manager.books.store.read(lambda tx: tx.open_acts())
    assert acts == []
    assert (await pair.b.node_states()).keys() == {"origin-1", "edge-2"}


async def test_who_does_not_lead_says_that_the_lease_is_elsewhere(pair: Pair) -> None:
    """Whom the policy would make act is said by both; that it does, by the one that leads."""
    policy = {"capacity": 10, "max": 3, "up_periods": 60}  # nothing is done while this test looks
    made = await pair.b.http.patch("/api/v1/groups/edge/policy", headers=AS_OPERATOR, json=policy)
    assert made.status_code == 200, made.text
    await wait_for(lambda: pair.a.board.groups["edge", "local"].policy, 5, "A knows the policy")
    for show, elsewhere in ((pair.a, False), (pair.b, True)):
        asked = await show.http.post("/api/v1/groups/edge/evaluate", headers=AS_OPERATOR, json={"waiting": 8})
        answer = asked.json()
        assert answer["actions"] == [{"kind": "add", "count": 1, "node": None}], asked.text
        assert ("Lease elsewhere: the stream manager a acts on it." in answer["because"]) is elsewhere
    assert not [kind for kind in await pair.b.journal() if kind.startswith("scale.")]


async def test_a_viewer_seated_in_the_same_moment_elsewhere_is_moved_when_the_edge_dies(pair: Pair) -> None:
    """The board of the one that writes it down lacks him: the rows do not."""
    await pair.a.on_air()
    await pair.b.until_stream("main", "live")
    pair.a.stage.manager.books.publish = lambda changed: None  # type: ignore[method-assign]  # A hears nothing
    path = (await pair.b.whep()).headers["Location"]
    assert pair.a.board.seats_on("edge-1") == 0
    await pair.b.vanish("edge-1")
    await pair.a.stage.manager.fleet._losses.lost("edge-1", "a test", gone=True)
    events = Events(pair.b, f"{path}/events")
    await events.until("move")
    await events.close()
    session = path.rpartition("/")[2]
    row = await pair.b.stage.manager.books.store.read(lambda tx: tx.session(session))
    assert row is not None
    assert (row.kind, row.ended_at is not None) == (SessionKind.WHEP, True)


async def test_when_the_one_that_leads_ends_the_other_leads_and_goes_on(pair: Pair) -> None:
    added = await pair.b.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})
    assert added.status_code == 200
    await pair.b.until({"edge-2": "in_service"})
    await pair.end_a()
    await wait_for(lambda: pair.b.stage.lease.acts, 5, "B leads")
    assert "manager.leads" in await pair.b.journal()
    for edge in ("edge-1", "edge-2"):
        assert (await pair.b.node_states())[edge] == "in_service"
    pair.b.provisioner.vanish("edge-2")
    await pair.b.until_gone("edge-2")
    await pair.b.until({"edge-3": "booting"})  # the process that stands for it speaks to A, which is no more


async def test_nodes_report_to_the_other_manager_when_theirs_has_died(pair: Pair) -> None:
    await pair.b.on_air()
    await wait_for(lambda: len(pair.b.nodes["edge-1"]._others) == 1, 5, "the edge was told of both managers")
    await wait_for(lambda: pair.b.board.heard["edge-1"].elsewhere, 5, "B knows what A was told")
    await pair.end_a()
    await wait_for(lambda: not pair.b.board.heard["edge-1"].elsewhere, 3, "the edge reports to B")
    await wait_for(lambda: not pair.b.board.heard["origin-1"].elsewhere, 3, "so does the origin")
    assert pair.b.board.nodes["edge-1"].state == "in_service"
    assert (await pair.b.whep()).status_code == 201
    assert not [order for order in pair.b.nodes["edge-1"].orders if order.startswith("terminate")]


async def test_a_console_that_changes_its_manager_misses_no_entry_and_sees_none_twice(pair: Pair) -> None:
    for number in range(3):
        show = (pair.a, pair.b)[number % 2]
        headers = AS_OPERATOR
        made = await show.http.post("/api/v1/tokens", headers=headers, json={"channel": f"c{number}"})
        assert made.status_code == 200
    last = (await pair.a.get("/journal?limit=1000"))[-1]["id"]
    await wait_for(lambda: pair.b.board.journal[-1].id == last, 5, "B has the entries of A")
    numbers = [entry.id for entry in pair.b.board.journal]
    assert numbers == [entry["id"] for entry in await pair.a.get("/journal?limit=200")]
    feed_a, feed_b = pair.a.stage.manager.feed, pair.b.stage.manager.feed
    async with aclosing(feed_b.follow(feed_a.epoch, 5)) as messages:
        first = json.loads(await anext(messages))
    assert first["kind"] == "snapshot"
    assert [entry["id"] for entry in first["snapshot"]["journal"]] == numbers


async def test_who_was_behind_for_longer_than_changes_are_kept_reads_everything(pair: Pair) -> None:
    following = next(loop.__self__ for loop in pair.b.stage._loops if loop.__qualname__ == "Following.run")  # type: ignore[attr-defined]
    following._reached = 0  # as it was long ago
    await pair.a.stage.manager.books.store.write(lambda tx: tx.purge_changes(4e9))
    await pair.a.on_air()
    response = await pair.b.http.post("/whep/main", headers=SDP, content="v=0\r\n")
    assert response.status_code in (201, 400, 409)
    await pair.b.until_stream("main", "live")
    assert await pair.b.node_states() == await pair.a.node_states()


async def test_a_console_follows_to_the_other_manager_when_its_own_dies(pair: Pair) -> None:
    """It was told of one. What happens before, meanwhile and after is in its journal, each entry once."""
    told: list[int] = []
    state = State()
    links: list[Link] = []

    async def read(source: LiveSource) -> None:
        nonlocal state
        async for item in source:
            if isinstance(item, Link):
                links.append(item)
            else:
                first = not state.ready
                state = state.apply(item)
                told.extend(entry.id for entry in (state.journal if first else state.news))

    async def token(show: Show, channel: str) -> None:
        made = await show.http.post("/api/v1/tokens", headers=AS_OPERATOR, json={"channel": channel})
        assert made.status_code == 200

    async with LiveSource(pair.a.url, OPERATOR) as source, Client(pair.a.url, OPERATOR) as client:
        reading = asyncio.create_task(read(source))
        await wait_for(lambda: source.apis == [pair.a.url, pair.b.url], 5, "it was told of the other one")
        for number in range(4):
            await token((pair.a, pair.b)[number % 2], f"before-{number}")
        await pair.end_a()
        for number in range(3):
            await token(pair.b, f"meanwhile-{number}")
        began = asyncio.get_running_loop().time()
        await wait_for(
            lambda: links[-1].state is LinkState.UP and links[-1].api == pair.b.url, 5, "it follows"
        )
        assert asyncio.get_running_loop().time() - began < 4
        client.prefer(links[-1].api)
        await client.create_token("after")

        async def all_told() -> bool:
            return sorted(told) == [entry["id"] for entry in await pair.b.get("/journal?limit=1000")]

        await wait_for(all_told, 5, "it hears of all that happens, and of nothing twice")
        reading.cancel()
        await asyncio.wait([reading])
    assert [entry.id for entry in state.journal] == sorted(told)
    assert (state.api, state.nodes.keys()) == (pair.b.url, {"origin-1", "edge-1"})
    assert [link.api for link in links if link.state is LinkState.UP] == [pair.a.url, pair.b.url]


async def test_a_feed_that_comes_from_elsewhere_has_all_entries_since_the_one_it_knows(pair: Pair) -> None:
    """Also where they are more than a manager keeps in memory."""
    store = pair.a.stage.manager.books.store

    async def write(tx: Transaction) -> None:
        for number in range(300):
            await tx.append_journal(1.0 * number, "a test", "note", "nothing", f"{number}", {})

    first = (await pair.b.get("/journal?limit=1000"))[0]["id"]
    await store.write(write)
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    address = f"{pair.b.url.replace('http', 'ws')}/api/v1/live"
    async with connect(
        f"{address}?epoch=other&since=7&journal={first}", additional_headers=headers
    ) as socket:
        opened = json.loads(await socket.recv())
    numbers = [entry["id"] for entry in opened["snapshot"]["journal"]]
    since = [entry["id"] for entry in await pair.b.get("/journal?limit=1000")][1:]
    assert len(since) > 300
    assert [number for number in numbers if number > first] == since
    async with connect(address, additional_headers=headers) as socket:
        opened = json.loads(await socket.recv())
    assert len(opened["snapshot"]["journal"]) <= 200


async def test_what_one_has_done_the_other_answers_and_does_not_do_again(pair: Pair) -> None:
    headers = AS_OPERATOR | {"Idempotency-Key": '"one"'}
    add = {"role": "edge"}
    first = await pair.a.http.post("/api/v1/fleet", headers=headers, json=add)
    again = await pair.b.http.post("/api/v1/fleet", headers=headers, json=add)
    assert (again.status_code, again.json()) == (200, first.json())
    other = await pair.b.http.post("/api/v1/fleet", headers=headers, json={"role": "origin"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    await pair.end_a()
    again = await pair.b.http.post("/api/v1/fleet", headers=headers, json=add)
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await pair.b.journal()).count("fleet.add") == 1


async def test_what_comes_to_both_at_once_is_done_by_one(pair: Pair) -> None:
    """Rounds of calls with one key each, half of them to each: one of a round is done, and all that are
    answered are answered alike."""
    for number in range(5):
        headers = AS_OPERATOR | {"Idempotency-Key": f'"round {number}"'}
        calls = [
            show.http.post("/api/v1/events", headers=headers, json=EVENT | {"channel": f"c{number}"})
            for show in (pair.a, pair.b) * 2
        ]
        answers = await asyncio.gather(*calls)
        done = [it.json()["id"] for it in answers if it.status_code == 201]
        late = [it for it in answers if it.status_code != 201]
        assert len(done) >= 1
        assert set(done) == {f"ev-{number + 1}"}
        assert {(it.status_code, it.json()["code"]) for it in late} <= {(409, "key_under_way")}
    assert (await pair.a.journal()).count("event.added") == 5


async def test_a_command_learns_of_the_other_and_goes_on_there(pair: Pair) -> None:
    """It was given one address. That manager does what it is asked, its answer is lost, and it is gone."""
    both = sorted([pair.a.url, pair.b.url])
    for show in (pair.a, pair.b):
        await wait_for(lambda it=show: sorted(it.stage.manager.views.managers()) == both, 5, "both live")  # type: ignore[misc]
    assert (await pair.a.get("/managers"))["api"] == pair.a.url
    lost: list[str] = []

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To A; the answer to what changes something is never passed on."""
        far_reader, far_writer = await asyncio.open_connection(*pair.a.url.removeprefix("http://").split(":"))
        asked = b""
        while data := await reader.read(65_536):
            asked += data
            far_writer.write(data)
            if b"POST /api/v1/fleet" in asked:
                lost.append((await far_reader.readuntil(b"}")).decode().partition("\r\n")[0])
                break
            writer.write(await far_reader.readuntil(b"]}"))
        for it in (writer, far_writer):
            it.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", OPERATOR) as client:
            added = await client.fleet_add(Role.EDGE)
            assert client.api in both
    assert lost == ["HTTP/1.1 200 OK"]
    assert added.node == "edge-2"
    assert (await pair.b.journal()).count("fleet.add") == 1


async def test_a_look_inside_a_node_is_the_same_at_the_manager_it_does_not_report_to(pair: Pair) -> None:
    await pair.a.on_air()
    viewer = (await pair.a.whep()).headers["Location"].rpartition("/")[2]
    edge = pair.a.nodes["edge-1"]
    edge.relays = ["relay-0123456789.in", "between-its-workers"]

    async def told() -> Any:
        inside = await pair.a.get("/nodes/edge-1")
        return len(inside["sessions"]) == 3 and inside

    here = await wait_for(told, 5, "A was told of all three")
    await wait_for(lambda: pair.b.board.sessions.get(viewer), 5, "B shows the viewer")
    await wait_for(lambda: pair.b.board.report_of("edge-1"), 5, "B knows what A was told")
    assert pair.b.board.heard["edge-1"].elsewhere
    there = await pair.b.get("/nodes/edge-1")
    assert there["sessions"] == here["sessions"]
    assert abs(there["reported_at"] - time.time()) < 10

    for path in ("/sessions/between-", "/sessions/relay-01.in", "/nodes/edge-1/sessions/relay-01"):
        found = [await show.get(path) for show in (pair.a, pair.b)]
        assert found[0] == found[1]
        assert (found[0]["kind"], found[0]["node"]) == ("relay_in", "edge-1")
    unknown = await pair.b.http.get("/api/v1/sessions/nobody-at-all", headers=AS_OPERATOR)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_session")
    assert "between-" in unknown.json()["detail"]
    scraped = await pair.b.http.get("/api/v1/nodes/edge-1/metrics", headers=AS_OPERATOR)
    assert scraped.text == 'showcaller_node_info{node="edge-1"} 1\n'

    edge.tells_sessions = False  # of an earlier version: what there is of it is not known here
    there = await pair.b.get("/nodes/edge-1")
    assert (there["reported_at"], there["sessions"]) == (None, [])
    assert (await pair.b.get(f"/sessions/{viewer[:8]}"))["node"] == "edge-1"


async def test_a_node_that_does_not_answer_the_other_manager_is_said(pair: Pair) -> None:
    await wait_for(lambda: pair.b.board.report_of("edge-1"), 5, "B knows what A was told")
    await pair.a.vanish("edge-1")
    refused = await pair.b.http.get("/api/v1/nodes/edge-1", headers=AS_OPERATOR)
    assert (refused.status_code, refused.json()["code"]) == (503, "node_unreachable")
    unknown = await pair.b.http.get("/api/v1/sessions/nobody-at-all", headers=AS_OPERATOR)
    assert unknown.status_code == 404
    assert unknown.json()["detail"].endswith("edge-1 did not answer.")
