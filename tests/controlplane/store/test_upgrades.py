"""A database of every earlier version, with rows in all of its tables, is brought to the present.

None is lost, none is changed, and the program reads them.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from controlplane.adapters.store import migrate
from controlplane.adapters.store.mysql import connections, prepare
from controlplane.adapters.store.mysql.store import MysqlStore
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.ports.store import Store, Transaction
from tests.support.mariadb import Mariadb

# By column, in any table that has it. What is not named here is made up by its type.
SAID: dict[str, Any] = {
    "role": "edge",
    "region": "local",
    "kind": "whep",
    "channel": "main",
    "node": "edge-1",
    "ended_at": None,
    "end_reason": None,
    "move_until": None,
    "moved_from": None,
    "policy": '{"capacity": 100, "max": 7}',
    "data": '{"a": "ü", "n": 5}',
    "zone": "Europe/Berlin",
    "cancelled_at": None,
    "cancel_reason": None,
    "reserved": 1,
    "capacity": 400,
    "body": "{}",
}
OF_TABLE: dict[str, dict[str, Any]] = {
    "nodes": {"id": "edge-1", "state": "in_service"},
    "streams": {"state": "live"},
    "acts": {"kind": "launch", "outcome": None},
    "lease": {"name": "fleet"},
    "writers": {"at": 4e9},  # who has not written for a week is forgotten
}


def made_up(table: str, column: sa.Column[Any]) -> Any:
    for said in (OF_TABLE.get(table, {}), SAID):
        if column.name in said:
            return said[column.name]
    if isinstance(column.type, sa.String):
        return f"{column.name} ü"
    if isinstance(column.type, sa.Float):
        return 1_700_000_000.25
    return 1


def to(revision: str) -> Callable[[Connection], None]:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(migrate.VERSIONS.parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    return upgrade


def fill(connection: Connection) -> None:
    """A row in each table there is, and in each of its columns something."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        if table.name != "alembic_version":
            row = {column.name: made_up(table.name, column) for column in table.columns}
            connection.execute(table.insert().values(row))


def rows(connection: Connection) -> dict[str, dict[str, Any]]:
    """By table, of the one row there is."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    found = {}
    for table in metadata.sorted_tables:
        for row in connection.execute(table.select()).mappings():
            assert table.name not in found
            found[table.name] = dict(row)
    return found


Work = Callable[[Connection], Any]


@dataclass(frozen=True)
class Database:
    """Of one kind, empty as yet. `run` does works in one transaction, and returns what each has returned."""

    run: Callable[..., Awaitable[list[Any]]]
    upgrades: Callable[[], Awaitable[None]]
    store: Callable[[], Store]


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        path = tmp_path / "showcaller.db"

        async def run_on_sqlite(*works: Work) -> list[Any]:
            with sa.create_engine(f"sqlite:///{path}", poolclass=NullPool).begin() as connection:
                return [work(connection) for work in works]

        async def upgrades() -> None:
            migrate.prepare(path)

        yield Database(run_on_sqlite, upgrades, lambda: SqliteStore(path))
        return
    server: Mariadb = request.getfixturevalue("mariadb")
    name = server.empty()
    address = server.address(name)
    server.sql(f"ALTER DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin")

    async def run_on_mariadb(*works: Work) -> list[Any]:
        url, words = connections.url_of(address), connections.arguments_of(address)
        engine = create_async_engine(url, connect_args=words, poolclass=NullPool)
        async with engine.begin() as connection:
            return [await connection.run_sync(work) for work in works]

    yield Database(run_on_mariadb, lambda: prepare.prepare(address), lambda: MysqlStore(address))
    server.drop(name)


@pytest.mark.parametrize("revision", migrate.known_revisions()[:-1])
async def test_an_upgrade_keeps_every_row_of_an_earlier_version(database: Database, revision: str) -> None:
    *_, before = await database.run(to(revision), fill, rows)
    assert before.pop("alembic_version") == {"version_num": revision}
    await database.upgrades()
    (after,) = await database.run(rows)
    assert after.pop("alembic_version") == {"version_num": migrate.known_revisions()[-1]}
    assert after.keys() == before.keys(), "nothing was lost, and nothing made up"
    for table, row in before.items():
        assert {name: after[table][name] for name in row} == row
    store = database.store()

    async def read(tx: Transaction) -> None:
        (node,), (group,), (stream,) = await tx.nodes(), await tx.groups(), await tx.streams_on_air()
        assert (node.id, node.drain_moved, node.capacity) == (
            "edge-1",
            1 if "drain_moved" in before["nodes"] else 0,
            400,
        )
        assert (group.id, group.policy is not None) == ("edge@local", "policy" in before["node_groups"])
        assert stream.channel == "main"
        (session,), (entry,) = await tx.sessions(), await tx.latest_journal(10)
        assert (session.node, session.party) == ("edge-1", before["sessions"].get("party"))
        assert entry.data == {"a": "ü", "n": 5}
        assert len(await tx.events(0.0)) == ("events" in before)
        assert len(await tx.open_acts()) == ("acts" in before)

    await store.read(read)
    await store.close()
