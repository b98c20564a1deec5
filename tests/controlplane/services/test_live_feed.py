"""The live feed over a real WebSocket: a snapshot, numbered deltas, resuming, refusing, keeping up."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from controlplane.adapters.clock import SystemClock
from controlplane.services import feed as feed_module
from controlplane.services.board import Board
from controlplane.services.books import Changed
from controlplane.services.feed import Feed
from controlplane.services.views import Addresses, Views
from controlplane.wire.api import GroupView, JournalEntry, LiveMessage
from tests.controlplane.stage import AS_OPERATOR, Show, running


def listening(show: Show, query: str = "", headers: dict[str, str] | None = None) -> connect:
    url = show.url.replace("http", "ws") + f"/api/v1/live{query}"
    return connect(url, additional_headers=AS_OPERATOR if headers is None else headers, proxy=None)


async def receive(socket: ClientConnection) -> LiveMessage:
    return LiveMessage.model_validate_json(await asyncio.wait_for(socket.recv(), 5))


async def test_it_begins_with_a_snapshot_and_goes_on_with_numbered_deltas(show: Show) -> None:
    async with listening(show) as socket:
        first = await receive(socket)
        assert first.kind == "snapshot"
        assert first.snapshot is not None
        assert {node.id for node in first.snapshot.nodes} == {"origin-1", "edge-1"}
        assert first.snapshot.watch == f"{show.url}/watch"
        assert first.snapshot.journal
        expected, history = first.n, 0
        while history < 2:  # a point of the chart a second
            delta = await receive(socket)
            expected += 1
            assert (delta.kind, delta.n, delta.epoch) == ("delta", expected, first.epoch)
            history += len(delta.history)


async def test_a_report_is_passed_on_without_waiting_for_the_next_second(show: Show) -> None:
    async with listening(show) as socket:
        await receive(socket)
        ages: dict[str, list[float]] = {"origin-1": [], "edge-1": []}
        while min(len(seen) for seen in ages.values()) < 3:
            for node in (await receive(socket)).nodes:
                assert node.age_s is not None
                ages[node.id].append(node.age_s)
    assert all(min(seen) < 0.5 for seen in ages.values()), ages


async def test_what_happens_is_told_at_once(show: Show) -> None:
    async with listening(show) as socket:
        snapshot = await receive(socket)
        assert snapshot.snapshot is not None
        await show.whip()
        while True:
            message = await receive(socket)
            if message.streams:
                break
        assert message.streams[0].channel == "main"
        assert "stream.connecting" in {entry.kind for entry in message.journal}
        await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
        while not (message := await receive(socket)).removed_streams:
            pass
        assert message.removed_streams == ["main"]
        await show.crash("edge-1")
        while not (message := await receive(socket)).removed_nodes:
            pass
        assert message.removed_nodes == ["edge-1"]


async def test_a_feed_is_resumed_where_it_was_lost(show: Show) -> None:
    async with listening(show) as socket:
        await receive(socket)
        last = await receive(socket)
    await show.whip()  # while nobody listens
    async with listening(show, f"?epoch={last.epoch}&since={last.n}") as socket:
        seen: list[JournalEntry] = []
        number = last.n
        while not any(entry.kind == "stream.connecting" for entry in seen):
            message = await receive(socket)
            number += 1
            assert (message.kind, message.n) == ("delta", number)
            seen += message.journal


@pytest.mark.parametrize("query", ["?epoch=another&since=1", "?epoch={epoch}&since=999999", "?since=0"])
async def test_a_feed_that_cannot_be_resumed_begins_anew(show: Show, query: str) -> None:
    query = query.replace("{epoch}", show.stage.manager.feed.epoch)
    async with listening(show, query) as socket:
        assert (await receive(socket)).kind == "snapshot"


async def test_strangers_and_web_pages_are_refused_in_the_handshake(show: Show) -> None:
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        (AS_OPERATOR | {"Origin": "https://elsewhere.example"}, 403),
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with listening(show, headers=headers):
                pass
        assert refused.value.response.status_code == status


async def test_a_manager_that_ends_closes_its_feeds(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        socket = await listening(show)
        await receive(socket)
    await asyncio.wait_for(socket.wait_closed(), 5)
    assert socket.close_code == 1001


def make_feed() -> tuple[Feed, Board]:
    board, clock = Board(), SystemClock()
    views = Views(board, clock, Addresses("http://x", "http://x/watch"), version="0", started_at=0.0)
    return Feed(board, views, clock), board


def entry(number: int) -> Changed:
    changed = Changed()
    changed.journal.append(
        JournalEntry(id=number, at=0.0, actor="a", kind="k", subject="s", message="m", data={})
    )
    return changed


async def test_a_console_that_does_not_keep_up_gets_a_fresh_snapshot(monkeypatch: Any) -> None:
    monkeypatch.setattr(feed_module, "QUEUE", 5)
    feed, _ = make_feed()
    messages = feed.follow()
    first = LiveMessage.model_validate_json(await anext(messages))
    for number in range(20):
        feed.changed(entry(number))
        feed.flush()
    fresh = LiveMessage.model_validate_json(await anext(messages))
    assert (fresh.kind, fresh.n) == ("snapshot", first.n + 20)
    feed.changed(entry(21))
    feed.flush()
    after = LiveMessage.model_validate_json(await anext(messages))
    assert (after.kind, after.n, after.journal[0].id) == ("delta", fresh.n + 1, 21)
    await messages.aclose()


async def test_a_snapshot_holds_what_was_pending_and_it_does_not_come_again() -> None:
    feed, _ = make_feed()
    first = feed.follow()
    await anext(first)
    feed.changed(entry(1))
    second = feed.follow()
    snapshot = LiveMessage.model_validate_json(await anext(second))
    delta = LiveMessage.model_validate_json(await anext(first))
    assert (delta.n, [e.id for e in delta.journal]) == (snapshot.n, [1])
    feed.changed(entry(2))
    feed.flush()
    assert [e.id for e in LiveMessage.model_validate_json(await anext(second)).journal] == [2]
    await first.aclose()
    await second.aclose()


async def test_a_message_that_cannot_be_made_costs_a_snapshot_and_not_the_feed(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = show.stage.manager.feed._views
    whole = views.groups

    def broken_once() -> list[GroupView]:
        monkeypatch.setattr(views, "groups", whole)
        raise ZeroDivisionError

    async with listening(show) as socket:
        first = await receive(socket)
        monkeypatch.setattr(views, "groups", broken_once)
        while (message := await receive(socket)).kind != "snapshot":
            pass
        assert message.n > first.n
        while not (message := await receive(socket)).nodes:
            pass
        assert message.kind == "delta"
