"""Stores on both databases: what the contract suite runs against."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.store import migrate
from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.store import MysqlStore
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.ports.store import Store

Opens = Callable[..., Awaitable[MysqlStore]]


@pytest.fixture(params=["sqlite", "mariadb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with its tables, and nothing in them."""
    made: Any
    if request.param == "mariadb":
        made = MysqlStore(request.getfixturevalue("database"))
    else:
        path = tmp_path / "showcaller.db"
        migrate.prepare(path)
        made = SqliteStore(path)
    yield made
    await made.close()


@pytest.fixture
async def opened() -> AsyncIterator[Opens]:
    """`await opened(address, ...)`: a MysqlStore, closed at the end."""
    async with AsyncExitStack() as closers:

        async def open_one(address: Address, **options: Any) -> MysqlStore:
            made = MysqlStore(address, **options)
            closers.push_async_callback(made.close)
            return made

        yield open_one
