"""The SQL of the store is MySQL's too: everything that is sent to SQLite compiles in MySQL's dialect.

No MySQL is asked here. What its compiler cannot see (text that was written by hand, functions of SQLite's, a
key longer than InnoDB takes) is looked for beside it.
"""

import inspect
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Index, String, Table, create_mock_engine, event
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import FunctionElement

from controlplane.adapters.store import migrate
from controlplane.adapters.store.sql.transaction import SqlTransaction
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.adapters.store.tables import metadata
from controlplane.domain.managers.model import ActKind, Lease, Told
from controlplane.domain.money.model import HourUsed, Used
from controlplane.domain.nodes.model import Group
from controlplane.domain.streams.model import EndReason, Party, Session
from controlplane.wire.nodes import Role, SessionKind
from tests.controlplane.domain.events.test_rules import EVENT
from tests.controlplane.domain.test_rules import NODE, STREAM

KEY_LIMIT = 3072  # bytes, of InnoDB's DYNAMIC rows
UTF8MB4 = 4  # bytes a character at most
FUNCTIONS = {
    "count",
    "max",
    "min",
    "sum",
    "coalesce",
    "database_now",
}  # both databases have them, and they mean the same

SESSION = Session(id="s", kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=1.0)

# Every method of a transaction, and where one has two ways, both; in an order that finds rows to work on.
Work = Callable[[SqlTransaction], Awaitable[Any]]
WORK: list[Work] = [
    lambda tx: tx.add_node(NODE),
    lambda tx: tx.node("edge-1"),
    lambda tx: tx.nodes(),
    lambda tx: tx.node_by_enrolment("x"),
    lambda tx: tx.node_by_credential("c"),
    lambda tx: tx.save_node(NODE),
    lambda tx: tx.rooms(Role.EDGE),
    lambda tx: tx.reserve("edge-1"),
    lambda tx: tx.release("edge-1"),
    lambda tx: tx.recount_reserved(),
    lambda tx: tx.fault_times(Role.EDGE, "local", 0.0),
    lambda tx: tx.forget_terminated(),
    lambda tx: tx.purge_nodes(1.0),
    lambda tx: tx.save_group(Group(role=Role.EDGE, region="local", desired=1)),  # made
    lambda tx: tx.save_group(Group(role=Role.EDGE, region="local", desired=2)),  # changed
    lambda tx: tx.groups(),
    lambda tx: tx.group(Role.EDGE, "local"),
    lambda tx: tx.save_stream(STREAM),
    lambda tx: tx.save_stream(STREAM),
    lambda tx: tx.stream("main"),
    lambda tx: tx.streams_to_join(["main"]),
    lambda tx: tx.streams_on_air(),
    lambda tx: tx.purge_streams(1.0),
    lambda tx: tx.add_session(SESSION),
    lambda tx: tx.take_move("s", 1.0),
    lambda tx: tx.session("s"),
    lambda tx: tx.sessions(),
    lambda tx: tx.sessions_on("edge-1"),
    lambda tx: tx.sessions_of("main"),
    lambda tx: tx.relays_to("edge-1"),
    lambda tx: tx.end_session("s", 2.0, EndReason.LEFT),
    lambda tx: tx.add_sessions([replace(SESSION, id=name, party="us") for name in ("t", "u")]),
    lambda tx: tx.begin_parties([("main", "us"), ("main", "them")]),
    lambda tx: tx.save_parties([Party(channel="main", party="us", node="edge-1")]),
    lambda tx: tx.parties_among([("main", "us")]),
    lambda tx: tx.parties(),
    lambda tx: tx.members([("main", "us")]),
    lambda tx: tx.forget_parties([("main", "them")]),
    lambda tx: tx.end_sessions(["t", "u"], 2.0, EndReason.LEFT),
    lambda tx: tx.purge_sessions(3.0),
    lambda tx: tx.add_event(EVENT),
    lambda tx: tx.save_event(replace(EVENT, id=1)),
    lambda tx: tx.event(1),
    lambda tx: tx.events(0.0),
    lambda tx: tx.events_on("main", 0.0),
    lambda tx: tx.purge_events(1.0),
    lambda tx: tx.append_journal(1.0, "a", "k", "s", "m", {}),
    lambda tx: tx.journal(0, 10),
    lambda tx: tx.latest_journal(10),
    lambda tx: tx.decisions("edge@local", 10),
    lambda tx: tx.prune_journal(0),
    lambda tx: tx.nodes_since(1.0),
    lambda tx: tx.counted_until(),
    lambda tx: tx.add_used(HourUsed(hour=0, used=Used(role=Role.EDGE, region="local"), until_ms=1), 0),
    lambda tx: tx.add_used(HourUsed(hour=0, used=Used(role=Role.EDGE, region="local"), until_ms=2), 1),
    lambda tx: tx.used(0, 3600),
    lambda tx: tx.revoke("j", "main", 1.0),
    lambda tx: tx.revoked("j"),
    lambda tx: tx.purge_revoked(2.0),
    lambda tx: tx.time(),
    lambda tx: tx.lease(),
    lambda tx: tx.take_lease(None, "a", 6.0),
    lambda tx: tx.take_lease(Lease(holder="a", token=1, expires=0.0, length_s=6.0), "b", 6.0),
    lambda tx: tx.renew_lease(2, 6.0),
    lambda tx: tx.give_lease_back(2),
    lambda tx: tx.add_act(ActKind.LAUNCH, "edge-1", 2, "r"),
    lambda tx: tx.open_acts(),
    lambda tx: tx.launch_of("edge-1"),
    lambda tx: tx.close_act(1, "runs"),
    lambda tx: tx.purge_acts(1.0),
    lambda tx: tx.append_change("a", "{}"),
    lambda tx: tx.last_change(),
    lambda tx: tx.first_change(),
    lambda tx: tx.changes(0, 10),
    lambda tx: tx.changes_among([1, 2]),
    lambda tx: tx.purge_changes(1.0),
    lambda tx: tx.nodes_among(["edge-1"]),
    lambda tx: tx.streams_among(["main"]),
    lambda tx: tx.sessions_among(["s"]),
    lambda tx: tx.journal_among([1]),
    lambda tx: tx.tell([Told(kind="node", id=name, manager="a", body="{}") for name in ("x", "y")]),
    lambda tx: tx.told_to_others("b"),
    lambda tx: tx.purge_told(1.0),
    lambda tx: tx.beat("a", "http://a", 1.0),
    lambda tx: tx.beat("a", "http://a", 1.0),
    lambda tx: tx.managers(0.0),
    lambda tx: tx.purge_managers(1.0),
    lambda tx: tx.begin_answer("k", "a"),
    lambda tx: tx.keep_answer("k", "{}"),
    lambda tx: tx.kept_answer("k"),
    lambda tx: tx.purge_answers(1.0),
]


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[tuple[SqliteStore, list[Any]]]:
    """A store on SQLite, and every statement that it executes."""
    database = tmp_path / "showcaller.db"
    migrate.prepare(database)
    store = SqliteStore(database)
    statements: list[Any] = []
    event.listen(store.engine, "before_execute", lambda _c, what, *_: statements.append(what))
    yield store, statements
    await store.close()


async def test_every_statement_of_the_store_compiles(
    recorded: tuple[SqliteStore, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, statements = recorded
    called: set[str] = set()
    for name, method in inspect.getmembers(SqlTransaction, inspect.iscoroutinefunction):

        async def noted(self: SqlTransaction, *words: Any, _name: str = name, _method: Any = method) -> Any:
            called.add(_name)
            return await _method(self, *words)

        if not name.startswith("_"):
            monkeypatch.setattr(SqlTransaction, name, noted)
    for work in WORK:
        before = len(statements)
        await store.write(work)
        assert len(statements) > before
    methods = {name for name, _ in inspect.getmembers(SqlTransaction, inspect.iscoroutinefunction)}
    assert {name for name in methods if not name.startswith("_")} == called

    verbs = set()
    for statement in statements:
        assert not isinstance(statement, str), f"text that nobody compiles: {statement}"
        text = str(statement.compile(dialect=mysql.dialect()))
        assert "RETURNING" not in text  # the dialect is MariaDB's too, which has it
        verbs.add(text.split()[0])
        parts = list(visitors.iterate(statement))
        assert [str(part) for part in parts if isinstance(part, TextClause)] == []
        assert {part.name for part in parts if isinstance(part, FunctionElement)} <= FUNCTIONS
    assert verbs == {"SELECT", "INSERT", "UPDATE", "DELETE"}


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_every_table_and_index_compiles_and_its_keys_are_short_enough(table: Table) -> None:
    assert f"CREATE TABLE {table.name} (" in str(CreateTable(table).compile(dialect=mysql.dialect()))
    keys: list[Any] = [*table.indexes, *(c for c in table.constraints if hasattr(c, "columns"))]
    for key in keys:
        if isinstance(key, Index):
            assert "INDEX" in str(CreateIndex(key).compile(dialect=mysql.dialect()))
        texts = [column.type for column in key.columns if isinstance(column.type, String)]
        assert all(kind.length is not None for kind in texts), f"{key.name}: MySQL has no key of a whole TEXT"
        assert sum(kind.length * UTF8MB4 for kind in texts) <= KEY_LIMIT


def parts(table: str) -> set[str]:
    """Columns and constraints of a CREATE TABLE, in whatever order."""
    lines = (line.strip().removesuffix(",").strip() for line in table.splitlines())
    return {line for line in lines if line not in ("", ")")}


def test_the_migrations_compile_and_make_the_same_tables() -> None:
    """Alembic's offline mode: all of them, from nothing to the newest, as MySQL would be told."""
    said = io.StringIO()
    config = Config(output_buffer=said)
    config.set_main_option("script_location", str(migrate.VERSIONS.parent))
    config.attributes["connection"] = create_mock_engine("mysql://", lambda *_: None)
    command.upgrade(config, "head", sql=True)
    script = said.getvalue()
    for revision in migrate.known_revisions():
        assert f"'{revision}'" in script
    for table in metadata.sorted_tables:
        made = script.partition(f"CREATE TABLE {table.name} (")[2].partition(");")[0]
        added = set(re.findall(rf"^ALTER TABLE {table.name} ADD COLUMN (.+);$", script, re.MULTILINE))
        assert parts(made) | added == parts(
            str(CreateTable(table).compile(dialect=mysql.dialect())).partition("(")[2]
        )
        for index in table.indexes:
            assert f"{CreateIndex(index).compile(dialect=mysql.dialect())};" in script
