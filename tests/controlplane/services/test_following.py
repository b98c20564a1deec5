"""Who follows other managers reads one thing at a time, whoever asks him to."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.domain.nodes.model import Group
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.following import Following
from controlplane.wire.nodes import Role
from tests.controlplane.clock import VirtualClock
from tests.controlplane.stage import fresh_database

EDGES = Group(role=Role.EDGE, region="local", desired=1)


class SlowStore:
    """ports.store.Store whose answers to a read come when `answer` is called, the first read first."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._answers: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.write = store.write

    async def read(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        result = await self._store.read(work)
        answered = asyncio.Event()
        self._answers.put_nowait(answered)
        await answered.wait()
        return result

    async def is_read(self) -> asyncio.Event:
        """Something was read; set it, and it is answered."""
        return await self._answers.get()


async def test_a_new_holder_of_the_lease_reads_everything_after_the_look_that_is_under_way(
    tmp_path: Path,
) -> None:
    database = tmp_path / "showcaller.db"
    database.write_bytes(fresh_database())
    file = SqliteStore(database)
    try:
        store = SlowStore(file)
        books = Books(cast(Any, store), Board(), VirtualClock(), shared_as="a")
        other = Books(file, Board(), VirtualClock(), shared_as="b")
        nobody = cast(Any, SimpleNamespace(wake=asyncio.Event()))
        following = Following(books, "a", nobody, nobody)
        await other.change(Change.save_group, EDGES)
        look = asyncio.create_task(following.look())
        looked = await store.is_read()
        begin = asyncio.create_task(following.begin())
        # committed here while that view is read: what it says of groups is older
        await books.change(Change.save_group, Group(role=Role.EDGE, region="local", desired=2))
        looked.set()
        await look
        assert books.board.groups[Role.EDGE, "local"].desired == 2
        (await store.is_read()).set()
        await begin
        assert books.board.groups[Role.EDGE, "local"].desired == 2
        await other.change(Change.save_group, Group(role=Role.EDGE, region="local", desired=3))
        again = asyncio.create_task(following.look())
        (await store.is_read()).set()
        await again
        assert books.board.groups[Role.EDGE, "local"].desired == 3
    finally:
        await file.close()
