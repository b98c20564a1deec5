"""The store on a real SQLite file: other programs, durability, and what a start makes of a bad database."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from controlplane.adapters.store import migrate
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.adapters.store.tables import metadata
from controlplane.domain.nodes.model import Node
from controlplane.errors import StartError
from controlplane.ports.store import StoreBusy
from tests.controlplane.domain.test_rules import NODE


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "showcaller.db"
    migrate.prepare(path)
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(database, busy_s=0.2)
    yield made
    await made.close()


async def _add(store: SqliteStore, node: Node) -> None:
    await store.write(lambda tx: tx.add_node(node))


async def test_a_database_held_by_another_program_is_said_to_be_busy(
    store: SqliteStore, database: Path
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await _add(store, NODE)
        assert await store.read(lambda tx: tx.nodes()) == []  # reading goes on
    await _add(store, NODE)


async def test_it_is_durable_as_configured(store: SqliteStore) -> None:
    await _add(store, NODE)
    assert store._writer is not None
    raw = store._writer.raw
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA synchronous").fetchone() == (2,)


_WRITER = """
import asyncio, sys
from pathlib import Path
from controlplane.adapters.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    while True:
        entry = await store.write(lambda tx: tx.append_journal(1.0, "a", "k", "s", "m", {}))
        print(entry.id, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(database: Path) -> None:
    acknowledged = 0
    for round_number in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(database)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(20 + 17 * round_number):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        acknowledged = max([acknowledged, *map(int, rest[:-1])])
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            count, last = connection.execute("SELECT count(*), max(id) FROM journal").fetchone()
        assert last >= acknowledged
        assert count == last  # none lost in between


# the start


def test_the_migrations_make_exactly_the_tables_of_the_program(database: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_newest_revision_is_alembics_head() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrate.VERSIONS.parent))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == migrate.known_revisions()[-1]
    assert {s.revision for s in scripts.walk_revisions()} == set(migrate.known_revisions())


def test_a_database_of_the_version_before_is_brought_on_with_what_is_in_it(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    path = tmp_path / "showcaller.db"
    config = Config()
    config.set_main_option("script_location", str(migrate.VERSIONS.parent))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO streams (channel, state, state_since, state_reason, since, jti, was_live) "
            "VALUES ('main', 'live', 1.0, '', 1.0, 'j', 1)"
        )
    engine.dispose()
    migrate.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT channel, state, video_codec FROM streams").fetchall()
    assert rows == [("main", "live", None)]


def test_the_database_is_private_and_preparing_it_again_changes_nothing(database: Path) -> None:
    assert database.stat().st_mode & 0o777 == 0o600
    before = database.read_bytes()
    migrate.prepare(database)
    assert database.read_bytes() == before


def test_a_locked_database_says_what_to_do(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartError, match=r"locked by another program.*start again"):
            migrate.prepare(database, busy_s=0.1)


def test_a_newer_database_is_left_alone(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartError, match=r"newer Showcaller.*9999.*Run that version"):
        migrate.prepare(database)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "showcaller.db"
    path.write_text("these are not the rows you are looking for " * 100)
    with pytest.raises(StartError, match="damaged or not a database"):
        migrate.prepare(path)


def test_a_lock_that_cannot_be_used_says_so(database: Path) -> None:
    lock = database.with_name(database.name + ".lock")
    lock.mkdir()
    with pytest.raises(StartError, match=f"{lock}, cannot be used: is a directory.*remove it"):
        migrate.ManagerLock(database).acquire()


def test_only_one_manager_uses_a_database(database: Path) -> None:
    with migrate.ManagerLock(database):
        other = migrate.ManagerLock(database)
        with pytest.raises(StartError, match=f"process {os.getpid()}.*--data-dir"):
            other.acquire(wait_s=0.1)
    with migrate.ManagerLock(database):
        pass


def test_a_database_from_before_certificates_keeps_its_nodes(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    path = tmp_path / "showcaller.db"
    config = Config()
    config.set_main_option("script_location", str(migrate.VERSIONS.parent))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO nodes (id, role, region, state, state_since, state_reason, created_at, capacity, "
            "managed, enrol_hash, enrol_expires, control_url) VALUES ('edge-1', 'edge', 'local', "
            "'in_service', 1.0, '', 1.0, 400, 1, 'x', 2.0, 'http://127.0.0.1:1')"
        )
    engine.dispose()
    migrate.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, reserved, control_fingerprint FROM nodes").fetchall()
    assert rows == [("edge-1", 0, None)]
