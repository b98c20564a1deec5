"""The store on SQLAlchemy Core: SQLite in WAL mode with synchronous=FULL for an embedded stage.

Writes on SQLite take the write lock when they begin (BEGIN IMMEDIATE), one at a time within this process, so
that they never fail half-way for want of it. Nothing in the statements is SQLite's own: MySQL speaks them
too, and will only need its own engine options and the retry of whole transactions.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Table, and_, delete, event, func, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from controlplane.adapters.store import tables as t
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import EndReason, Session, Stream, StreamState
from controlplane.ports.store import DECISIONS, StoreBusy, StoreFull, Taken
from controlplane.wire.api import JournalEntry
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role, SessionKind

T = TypeVar("T")

_NODE_COLUMNS = [column for column in t.nodes.c if column.name != "reserved"]
_SEATED = (SessionKind.WHIP.value, SessionKind.WHEP.value)
# SQLITE_FULL, SQLITE_IOERR (the shared memory of the WAL cannot grow), SQLITE_READONLY, SQLITE_CANTOPEN
_NO_ROOM = ("disk is full", "disk I/O error", "readonly database", "unable to open database")
_TERMINATED = NodeState.TERMINATED.value


def sqlite_engine(database: Path, busy_s: float = 5.0) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}", pool_size=2, max_overflow=1)

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(busy_s * 1000)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class SqlStore:
    """ports.store.Store."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def read(self, work: Callable[["SqlTransaction"], Awaitable[T]]) -> T:
        return await self._whole(self._run(work, writes=False))

    async def write(self, work: Callable[["SqlTransaction"], Awaitable[T]]) -> T:
        return await self._whole(self._write(work))

    async def _whole(self, running: Coroutine[Any, Any, T]) -> T:
        """To its end, also when the caller is cancelled: a connection given up in the middle of a statement
        would leave its thread behind, and the process could not end."""
        if self._closed:
            running.close()
            raise StoreBusy("the stream manager is ending")
        task = asyncio.ensure_future(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _write(self, work: Callable[["SqlTransaction"], Awaitable[T]]) -> T:
        async with self._writer:
            return await self._run(work, writes=True)

    async def _run(self, work: Callable[["SqlTransaction"], Awaitable[T]], *, writes: bool) -> T:
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(writes=writes)
                async with connection.begin():
                    return await work(SqlTransaction(connection))
        except OperationalError as error:
            if "locked" in str(error.orig) or "busy" in str(error.orig):
                raise StoreBusy(str(error.orig)) from error
            if any(words in str(error.orig) for words in _NO_ROOM):
                raise StoreFull(str(error.orig)) from error
            raise

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._engine.dispose()


def _as_node(row: Row[Any]) -> Node:
    values = dict(row._mapping)
    return Node(**values | {"role": Role(values["role"]), "state": NodeState(values["state"])})


def _as_group(row: Row[Any]) -> Group:
    values = dict(row._mapping)
    policy = None if values["policy"] is None else Policy.model_validate_json(values["policy"])
    return Group(**values | {"role": Role(values["role"]), "policy": policy})


def _as_stream(row: Row[Any]) -> Stream:
    values = dict(row._mapping)
    return Stream(**values | {"state": StreamState(values["state"])})


def _as_session(row: Row[Any]) -> Session:
    values = dict(row._mapping)
    reason = values["end_reason"]
    return Session(
        **values
        | {"kind": SessionKind(values["kind"]), "end_reason": None if reason is None else EndReason(reason)}
    )


def _as_entry(row: Row[Any]) -> JournalEntry:
    values = dict(row._mapping)
    return JournalEntry(**values | {"data": json.loads(values["data"])})


def _clip(text: str, table: Table, column: str) -> str:
    """Names and reasons come from outside: MySQL refuses what SQLite would take."""
    length: int | None = getattr(table.c[column].type, "length", None)
    return text if length is None else text[:length]


class SqlTransaction:
    """ports.store.Transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._c = connection

    async def _rows(self, statement: Any) -> list[Row[Any]]:
        return list((await self._c.execute(statement)).all())

    async def _one(self, statement: Any) -> Row[Any] | None:
        return (await self._c.execute(statement)).first()

    async def _changed(self, statement: Any) -> int:
        return (await self._c.execute(statement)).rowcount

    # nodes

    async def node(self, node_id: str) -> Node | None:
        row = await self._one(select(*_NODE_COLUMNS).where(t.nodes.c.id == node_id))
        return None if row is None else _as_node(row)

    async def nodes(self) -> list[Node]:
        statement = (
            select(*_NODE_COLUMNS)
            .where(t.nodes.c.state != _TERMINATED)
            .order_by(t.nodes.c.created_at, t.nodes.c.id)
        )
        return [_as_node(row) for row in await self._rows(statement)]

    async def node_by_enrolment(self, token_hash: str) -> Node | None:
        row = await self._one(select(*_NODE_COLUMNS).where(t.nodes.c.enrol_hash == token_hash))
        return None if row is None else _as_node(row)

    async def node_by_credential(self, credential_hash: str) -> Node | None:
        row = await self._one(select(*_NODE_COLUMNS).where(t.nodes.c.credential_hash == credential_hash))
        return None if row is None else _as_node(row)

    async def add_node(self, node: Node) -> None:
        try:
            await self._c.execute(insert(t.nodes).values(**_node_values(node), reserved=0))
        except IntegrityError as error:
            raise Taken(node.id) from error

    async def save_node(self, node: Node) -> None:
        await self._c.execute(update(t.nodes).where(t.nodes.c.id == node.id).values(**_node_values(node)))

    async def rooms(self, role: Role) -> list[Room]:
        n = t.nodes.c
        statement = select(n.id, n.capacity, n.reserved).where(
            n.role == role.value, n.state == NodeState.IN_SERVICE.value
        )
        return [Room(row.id, row.capacity, row.reserved) for row in await self._rows(statement)]

    async def reserve(self, node_id: str) -> bool:
        n = t.nodes.c
        statement = (
            update(t.nodes)
            .where(n.id == node_id, n.state == NodeState.IN_SERVICE.value, n.reserved < n.capacity)
            .values(reserved=n.reserved + 1)
        )
        return await self._changed(statement) == 1

    async def release(self, node_id: str, seats: int = 1) -> None:
        n = t.nodes.c
        statement = update(t.nodes).where(n.id == node_id, n.reserved >= seats)
        await self._c.execute(statement.values(reserved=n.reserved - seats))

    async def recount_reserved(self) -> None:
        s = t.sessions.c
        held = (
            select(func.count())
            .select_from(t.sessions)
            .where(s.node == t.nodes.c.id, s.ended_at.is_(None), s.kind.in_(_SEATED))
            .scalar_subquery()
        )
        await self._c.execute(update(t.nodes).values(reserved=held))

    async def forget_terminated(self) -> None:
        await self._c.execute(delete(t.nodes).where(t.nodes.c.state == _TERMINATED))

    async def purge_nodes(self, terminated_before: float) -> None:
        n = t.nodes.c
        await self._c.execute(
            delete(t.nodes).where(n.state == _TERMINATED, n.state_since < terminated_before)
        )

    async def fault_times(self, role: Role, region: str, since: float) -> list[float]:
        n = t.nodes.c
        statement = select(n.faulted_at).where(
            and_(n.role == role.value, n.region == region, n.managed.is_(True), n.faulted_at > since)
        )
        return [row.faulted_at for row in await self._rows(statement)]

    # groups

    async def groups(self) -> list[Group]:
        statement = select(t.node_groups).order_by(t.node_groups.c.role, t.node_groups.c.region)
        return [_as_group(row) for row in await self._rows(statement)]

    async def group(self, role: Role, region: str) -> Group | None:
        g = t.node_groups.c
        row = await self._one(select(t.node_groups).where(g.role == role.value, g.region == region))
        return None if row is None else _as_group(row)

    async def save_group(self, group: Group) -> None:
        g = t.node_groups.c
        policy = None if group.policy is None else group.policy.model_dump_json()
        values = {column.name: getattr(group, column.name) for column in g}
        values |= {"role": group.role.value, "policy": policy}
        where = and_(g.role == group.role.value, g.region == group.region)
        if await self._changed(update(t.node_groups).where(where).values(**values)) == 0:
            await self._c.execute(insert(t.node_groups).values(**values))

    # streams

    async def stream(self, channel: str) -> Stream | None:
        row = await self._one(select(t.streams).where(t.streams.c.channel == channel))
        return None if row is None else _as_stream(row)

    async def streams_on_air(self) -> list[Stream]:
        statement = select(t.streams).where(t.streams.c.state != StreamState.ENDED.value)
        return [_as_stream(row) for row in await self._rows(statement.order_by(t.streams.c.channel))]

    async def save_stream(self, stream: Stream) -> None:
        values = asdict(stream) | {"state": stream.state.value}
        values["state_reason"] = _clip(stream.state_reason, t.streams, "state_reason")
        for column in ("publisher", "video_codec"):
            if values[column] is not None:
                values[column] = _clip(values[column], t.streams, column)
        where = t.streams.c.channel == stream.channel
        if await self._changed(update(t.streams).where(where).values(**values)) == 0:
            await self._c.execute(insert(t.streams).values(**values))

    async def purge_streams(self, ended_before: float) -> None:
        s = t.streams.c
        ended = s.state == StreamState.ENDED.value
        await self._c.execute(delete(t.streams).where(ended, s.state_since < ended_before))

    # sessions

    async def session(self, session_id: str) -> Session | None:
        row = await self._one(select(t.sessions).where(t.sessions.c.id == session_id))
        return None if row is None else _as_session(row)

    async def sessions(self) -> list[Session]:
        statement = select(t.sessions).where(t.sessions.c.ended_at.is_(None))
        return [_as_session(row) for row in await self._rows(statement)]

    async def add_session(self, session: Session) -> None:
        values = asdict(session) | {"kind": session.kind.value}
        await self._c.execute(insert(t.sessions).values(**values))

    async def end_session(self, session_id: str, at: float, reason: EndReason) -> bool:
        s = t.sessions.c
        statement = update(t.sessions).where(s.id == session_id, s.ended_at.is_(None))
        return await self._changed(statement.values(ended_at=at, end_reason=reason.value)) == 1

    async def purge_sessions(self, ended_before: float) -> None:
        await self._c.execute(delete(t.sessions).where(t.sessions.c.ended_at < ended_before))

    # journal

    async def append_journal(
        self, at: float, actor: str, kind: str, subject: str, message: str, data: Mapping[str, Any]
    ) -> JournalEntry:
        values = {
            "at": at,
            "actor": _clip(actor, t.journal, "actor"),
            "kind": kind,
            "subject": _clip(subject, t.journal, "subject"),
            "message": message,
            "data": json.dumps(data, separators=(",", ":")),
        }
        result = await self._c.execute(insert(t.journal).values(**values))
        key = result.inserted_primary_key
        assert key is not None
        return JournalEntry(**values | {"id": key[0], "data": dict(data)})

    async def journal(self, after: int, limit: int) -> list[JournalEntry]:
        j = t.journal
        statement = select(j).where(j.c.id > after).order_by(j.c.id).limit(limit)
        return [_as_entry(row) for row in await self._rows(statement)]

    async def latest_journal(self, limit: int) -> list[JournalEntry]:
        statement = select(t.journal).order_by(t.journal.c.id.desc()).limit(limit)
        return [_as_entry(row) for row in reversed(await self._rows(statement))]

    async def decisions(self, subject: str | None, limit: int) -> list[JournalEntry]:
        j = t.journal.c
        about = [j.kind.in_(DECISIONS)] + ([] if subject is None else [j.subject == subject])
        statement = select(t.journal).where(*about).order_by(j.id.desc()).limit(limit)
        return [_as_entry(row) for row in await self._rows(statement)]

    async def prune_journal(self, keep: int) -> None:
        newest = (await self._c.execute(select(func.max(t.journal.c.id)))).scalar()
        if newest is not None and newest > keep:
            await self._c.execute(delete(t.journal).where(t.journal.c.id <= newest - keep))

    # tokens

    async def revoke(self, jti: str, channel: str, expires: float) -> None:
        if not await self.revoked(jti):
            await self._c.execute(insert(t.revoked_tokens).values(jti=jti, channel=channel, expires=expires))

    async def revoked(self, jti: str) -> bool:
        statement = select(t.revoked_tokens.c.jti).where(t.revoked_tokens.c.jti == jti)
        return await self._one(statement) is not None

    async def purge_revoked(self, expired_before: float) -> None:
        await self._c.execute(delete(t.revoked_tokens).where(t.revoked_tokens.c.expires < expired_before))


def _node_values(node: Node) -> dict[str, Any]:
    values = asdict(node) | {"role": node.role.value, "state": node.state.value}
    values["state_reason"] = _clip(node.state_reason, t.nodes, "state_reason")
    return values
