"""What a change may rely on: the board inside it, in which order it is told of, that it is finished."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.store import migrate
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.domain.streams.model import EndReason, Session
from controlplane.services.board import Board
from controlplane.services.books import Books, Change, Changed
from controlplane.wire.nodes import SessionKind
from tests.controlplane.domain.test_rules import NODE, STREAM
from tests.controlplane.fake_node import OFFER
from tests.controlplane.stage import Show
from tests.support.wait import wait_for

SESSION = Session(id="", kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=1.0)


class Told:
    """services.books.Listener: what it was told of sessions, and what the board showed of them then."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.of: list[tuple[str, bool]] = []

    def changed(self, changed: Changed) -> None:
        self.of += [(name, name in self._board.sessions) for name in changed.sessions]


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    database = tmp_path / "showcaller.db"
    migrate.prepare(database)
    made = Books(SqliteStore(database), Board(), SystemClock())

    async def work(change: Change) -> None:
        await change.tx.add_node(NODE)
        await change.update_node(NODE)
        await change.update_stream(STREAM)

    await made.change(work)
    yield made
    await made.store.close()


async def seat(change: Change, name: str) -> str:
    assert await change.tx.reserve("edge-1")
    await change.add_session(replace(SESSION, id=name))
    return name


async def leave(change: Change, name: str) -> bool:
    return await change.end_session(replace(SESSION, id=name), EndReason.LEFT)


async def reserved(books: Books) -> int:
    return (await books.store.read(lambda tx: tx.rooms(NODE.role)))[0].reserved


async def test_listeners_hear_in_the_order_of_the_commits_and_the_board_shows_it(books: Books) -> None:
    told = Told(books.board)
    books.listen(told)
    names = [f"s{number}" for number in range(40)]
    works: list[Awaitable[Any]] = []
    for name in names:
        works += [books.change_together(seat, name), books.change_together(leave, name)]
    assert await asyncio.gather(*works) == [answer for name in names for answer in (name, True)]
    assert told.of == [said for name in names for said in ((name, True), (name, False))]
    assert books.board.sessions == {}
    assert await reserved(books) == 0


async def test_in_a_change_the_board_shows_exactly_what_is_committed(books: Books) -> None:
    """Whoever is seated in the same moment is seen by the one who clears the house."""

    async def clear(change: Change) -> list[str]:
        rows = {session.id for session in await change.tx.sessions()}
        board = sorted(books.board.sessions)
        assert set(board) == rows
        for name in board:
            await leave(change, name)
        return board

    answers = await asyncio.gather(
        books.change_together(seat, "a"),
        books.change_together(seat, "b"),
        books.change(clear),
        books.change_together(seat, "c"),
        books.change(clear),
        books.change(clear),
    )
    assert answers == ["a", "b", ["a", "b"], "c", ["c"], []]
    assert await reserved(books) == 0


@pytest.mark.parametrize("together", [False, True])
async def test_a_change_whose_caller_is_cancelled_is_finished_and_shown(books: Books, together: bool) -> None:
    told = Told(books.board)
    books.listen(told)
    ask: Callable[..., Awaitable[str]] = books.change_together if together else books.change
    asking = asyncio.ensure_future(ask(seat, "a"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await books.change(seat, "b") == "b"
    assert told.of == [("a", True), ("b", True)]
    assert await reserved(books) == 2


async def test_a_change_that_raises_is_not_shown(books: Books) -> None:
    async def fails(change: Change) -> None:
        await seat(change, "a")
        raise LookupError

    for ask in (books.change, books.change_together):
        with pytest.raises(LookupError):
            await ask(fails)
    assert books.board.sessions == {}
    assert await reserved(books) == 0


class Watched:
    """Notes what of the board is read while a change runs that said it would not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works = 0
        self.looked_at: list[str] = []
        self._working = False
        write, look = SqliteStore.write, Board.__getattribute__

        async def written(store: SqliteStore, work: Any, *, after: Any = None, first: bool = False) -> Any:
            async def noted(tx: Any) -> Any:
                self._working, self.works = True, self.works + 1
                try:
                    return await work(tx)
                finally:
                    self._working = False

            changes = after is not None  # what the books do; the lease is renewed beside that
            return await write(store, noted if changes and not first else work, after=after, first=first)

        def looked(board: Board, name: str) -> Any:
            if self._working:
                self.looked_at.append(name)
            return look(board, name)

        monkeypatch.setattr(SqliteStore, "write", written)
        monkeypatch.setattr(Board, "__getattribute__", looked)


async def test_what_shares_a_transaction_does_not_look_at_the_board(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await show.on_air()
    watched = Watched(monkeypatch)

    async def costs(most: int, asked: Awaitable[httpx.Response], status: int) -> httpx.Response:
        before = watched.works
        response = await asked
        assert response.status_code == status, response.text
        assert 1 <= watched.works - before <= most
        return response

    # A join and a leaving, a join that the node refuses, one that finds nothing on air.
    location = (await costs(1, show.whep(), 201)).headers["Location"]
    await costs(1, show.http.delete(location), 200)
    await costs(2, show.whep(offer=OFFER + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"), 406)
    await costs(1, show.whep("other"), 409)

    # What nodes report: a viewer and a publisher that have vanished.
    viewer = (await show.whep()).headers["Location"].rpartition("/")[2]
    for node, session in (("edge-1", viewer), ("origin-1", publisher)):
        show.nodes[node].end_session(session)
    await wait_for(lambda: not show.board.sessions.keys() & {viewer, publisher}, 5, "both are over")
    await show.until_stream("main", "reconnecting")
    assert watched.looked_at == []
