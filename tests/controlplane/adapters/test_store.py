"""The store on a real SQLite file: seats, rollback, durability, and what a start makes of a bad database."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from controlplane.adapters.store import migrate
from controlplane.adapters.store.sql import SqlTransaction
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.adapters.store.tables import metadata
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.streams.model import EndReason, Session, Stream, StreamState
from controlplane.errors import StartError
from controlplane.ports.store import StoreBusy, Taken
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role, SessionKind
from tests.controlplane.domain.events.test_rules import EVENT
from tests.controlplane.domain.test_rules import NODE, STREAM


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


async def test_seats_are_never_overfilled_by_concurrent_reservations(store: SqliteStore) -> None:
    await _add(store, replace(NODE, capacity=7))
    taken = await asyncio.gather(*(store.write(lambda tx: tx.reserve("edge-1")) for _ in range(40)))
    assert sum(taken) == 7
    rooms = await store.read(lambda tx: tx.rooms(Role.EDGE))
    assert (rooms[0].reserved, rooms[0].capacity) == (7, 7)
    await store.write(lambda tx: tx.release("edge-1"))
    assert await store.write(lambda tx: tx.reserve("edge-1"))
    await store.write(lambda tx: tx.save_node(replace(NODE, capacity=7, state=NodeState.DRAINING)))
    assert not await store.write(lambda tx: tx.reserve("edge-1"))
    await store.write(lambda tx: tx.release("edge-1", 100))  # never below zero


async def test_a_write_that_raises_leaves_nothing_behind(store: SqliteStore) -> None:
    async def fails(tx: SqlTransaction) -> None:
        await tx.add_node(NODE)
        await tx.append_journal(1.0, "a", "k", "s", "m", {})
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.read(lambda tx: tx.nodes()) == []
    assert await store.read(lambda tx: tx.journal(0, 10)) == []


async def test_rows_come_back_as_they_were_written(store: SqliteStore) -> None:
    node = replace(NODE, credential_hash="c", pid=5, start_time=12345.0, drain_deadline=9.5)
    stream = Stream(
        channel="main",
        state=StreamState.LIVE,
        state_since=1.5,
        state_reason="r",
        since=1.0,
        origin="origin-1",
        session="s",
        jti="j",
        publisher="p",
        was_live=True,
        video_codec="VP8",
    )
    session = Session(id="a" * 40, kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=2.0)
    group = Group(role=Role.EDGE, region="local", desired=2, last_number=4)

    async def write(tx: SqlTransaction) -> None:
        await tx.add_node(node)
        await tx.save_stream(stream)
        await tx.save_stream(replace(stream, state_reason="again"))
        await tx.add_session(session)
        await tx.save_group(group)

    await store.write(write)

    async def read(tx: SqlTransaction) -> None:
        assert await tx.node("edge-1") == node
        assert await tx.node_by_credential("c") == node
        assert await tx.node_by_enrolment("x") == node
        assert await tx.stream("main") == replace(stream, state_reason="again")
        assert await tx.streams_on_air() == [replace(stream, state_reason="again")]
        assert await tx.session(session.id) == session
        assert await tx.group(Role.EDGE, "local") == group
        assert await tx.group(Role.ORIGIN, "local") is None

    await store.read(read)
    with pytest.raises(Taken):
        await store.write(lambda tx: tx.add_node(replace(node, enrol_hash="y", credential_hash="d")))


async def test_events_come_back_as_they_were_written_and_get_names_of_their_own(store: SqliteStore) -> None:
    other = replace(
        EVENT, starts_at=EVENT.starts_at - 60, channel="second", cancel_reason="r", checked_at=1.5
    )

    async def write(tx: SqlTransaction) -> None:
        assert [(await tx.add_event(it)).id for it in (EVENT, other)] == [1, 2]
        await tx.save_event(replace(other, id=2, cancelled_at=2.5))

    await store.write(write)
    first, second = replace(EVENT, id=1), replace(other, id=2, cancelled_at=2.5)

    async def read(tx: SqlTransaction) -> None:
        assert await tx.event(2) == second
        assert await tx.event(3) is None
        assert await tx.events(EVENT.ends_at - 1) == [second, first], "the first to start comes first"
        assert await tx.events(EVENT.ends_at) == []
        assert await tx.events_on("second", 0.0) == [second]

    await store.read(read)
    await store.write(lambda tx: tx.purge_events(EVENT.ends_at + 1))
    assert await store.read(lambda tx: tx.events(0.0)) == []
    assert (await store.write(lambda tx: tx.add_event(EVENT))).id == 3


async def test_nodes_that_terminated_long_ago_are_forgotten_and_no_others(store: SqliteStore) -> None:
    gone = replace(NODE, state=NodeState.TERMINATED)
    for name, node, since in (("edge-1", gone, 5.0), ("edge-2", gone, 50.0), ("edge-3", NODE, 5.0)):
        await _add(store, replace(node, id=name, enrol_hash=name, state_since=since))
    await store.write(lambda tx: tx.purge_nodes(10.0))
    assert await store.read(lambda tx: tx.node("edge-1")) is None
    assert await store.read(lambda tx: tx.node("edge-2")) is not None
    assert await store.read(lambda tx: tx.node("edge-3")) is not None


async def test_channels_that_went_off_the_air_long_ago_are_forgotten_and_no_others(
    store: SqliteStore,
) -> None:
    ended, live = StreamState.ENDED, StreamState.LIVE
    for channel, state, since in (("old", ended, 5.0), ("late", ended, 50.0), ("on-air", live, 5.0)):
        stream = replace(STREAM, channel=channel, state=state, state_since=since)
        await store.write(lambda tx, stream=stream: tx.save_stream(stream))
    await store.write(lambda tx: tx.purge_streams(10.0))
    assert await store.read(lambda tx: tx.stream("old")) is None
    assert await store.read(lambda tx: tx.stream("late")) is not None
    assert await store.read(lambda tx: tx.stream("on-air")) is not None


async def test_a_session_ends_once(store: SqliteStore) -> None:
    session = Session(id="s", kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=2.0)
    await store.write(lambda tx: tx.add_session(session))
    ends = [await store.write(lambda tx: tx.end_session("s", 3.0, EndReason.MOVED)) for _ in range(2)]
    assert ends == [True, False]
    kept = await store.read(lambda tx: tx.session("s"))
    assert kept is not None
    assert (kept.ended_at, kept.end_reason) == (3.0, EndReason.MOVED)
    await store.write(lambda tx: tx.purge_sessions(3.5))
    assert await store.read(lambda tx: tx.session("s")) is None


async def test_journal_numbers_are_never_given_twice(store: SqliteStore) -> None:
    async def three(tx: SqlTransaction) -> list[int]:
        return [(await tx.append_journal(1.0, "a", "k", "s", "m", {"x": 1})).id for _ in range(3)]

    assert await store.write(three) == [1, 2, 3]
    await store.write(lambda tx: tx.prune_journal(1))
    assert [entry.id for entry in await store.read(lambda tx: tx.journal(0, 10))] == [3]
    await store.write(lambda tx: tx.prune_journal(0))
    assert await store.write(three) == [4, 5, 6]
    assert [entry.id for entry in await store.read(lambda tx: tx.latest_journal(2))] == [5, 6]


async def test_decisions_are_what_policies_did_newest_first_of_all_groups_or_one(store: SqliteStore) -> None:
    async def some(tx: SqlTransaction) -> None:
        for kind, subject in (
            ("scale.add", "edge@a"),
            ("fleet.add", "edge@a"),
            ("scale.held", "edge@b"),
            ("scale.drain", "edge@a"),
        ):
            await tx.append_journal(1.0, "autoscaler", kind, subject, "because", {})

    await store.write(some)
    for subject, ids in ((None, [4, 3, 1]), ("edge@a", [4, 1]), ("edge@c", [])):
        found = await store.read(lambda tx, about=subject: tx.decisions(about, 10))  # type: ignore[misc]
        assert [entry.id for entry in found] == ids
    assert [entry.id for entry in await store.read(lambda tx: tx.decisions(None, 1))] == [4]


async def test_a_groups_policy_comes_back_as_it_was(store: SqliteStore) -> None:
    policy = Policy.model_validate({"alarm": 0.58, "spend_cap": 1.25, "prestage": {"nodes": 2}})
    group = Group(role=Role.EDGE, region="local", desired=1, policy=policy, scaled_up_at=5.0)
    await store.write(lambda tx: tx.save_group(group))
    assert await store.read(lambda tx: tx.group(Role.EDGE, "local")) == group
    bare = replace(group, policy=None, scaled_up_at=None)
    await store.write(lambda tx: tx.save_group(bare))
    assert await store.read(lambda tx: tx.groups()) == [bare]


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
