"""The statements of the store, in SQLAlchemy Core and in SQL that SQLite and MySQL both speak.

What is asked for with every join, leaving, report or publisher's report is built once, here, and given its
values when it is executed: building a statement anew costs three to five times what executing it does.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import (
    Double,
    Executable,
    Insert,
    Integer,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import CursorResult, Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from controlplane.adapters.store import tables as t
from controlplane.domain.events.model import Event
from controlplane.domain.managers.model import Act, ActKind, ChangeRow, Lease, ManagerRow, Told
from controlplane.domain.money.model import HourUsed, Used
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import EndReason, Party, PartyKey, Session, Stream, StreamState
from controlplane.ports.store import DECISIONS, Taken
from controlplane.wire.api import JournalEntry
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role, SessionKind

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_NODE_COLUMNS = [column for column in t.nodes.c if column.name != "reserved"]
_SESSION_COLUMNS = [column.name for column in t.sessions.c]
_SEATED = (SessionKind.WHIP.value, SessionKind.WHEP.value)
_TERMINATED = NodeState.TERMINATED.value
_IN_SERVICE = NodeState.IN_SERVICE.value
_COUNTS = ("node_ms", "egress", "measured_ms", "unknown_ms")  # of spending
AT_ONCE = 500  # keys in one statement
T = TypeVar("T")
_LEASE = "fleet"  # there is one: of the manager that leads


class database_now(FunctionElement[float]):
    """Unix time by the database's clock. SQLite has none: there the store answers it (sqlite.py)."""

    name = "database_now"
    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _of_sqlite(element: object, compiler: object, **words: Any) -> str:
    return "database_now()"


@compiles(database_now, "mysql", "mariadb")
def _of_mysql(element: object, compiler: object, **words: Any) -> str:
    # Of this moment, not of the statement's begin. Our connections' zone is UTC, which has no hour twice.
    return "UNIX_TIMESTAMP(SYSDATE(6))"


class insert_or(Insert):
    """An INSERT of rows of which some may exist: `or_keep` leaves those as they are, `or_replace` does not.

    Either way they are locked, and exclusively so: with MySQL's INSERT IGNORE two who then write a row that
    was there would wait for each other.
    """

    inherit_cache = True


class or_keep(insert_or):
    inherit_cache = True


class or_replace(insert_or):
    inherit_cache = True


@compiles(or_keep, "sqlite")
def _keep_of_sqlite(element: or_keep, compiler: Any, **words: Any) -> str:
    return f"{compiler.visit_insert(element, **words)} ON CONFLICT DO NOTHING"


@compiles(or_keep, "mysql", "mariadb")
def _keep_of_mysql(element: or_keep, compiler: Any, **words: Any) -> str:
    column = next(iter(element.table.primary_key)).name
    return f"{compiler.visit_insert(element, **words)} ON DUPLICATE KEY UPDATE {column} = {column}"


@compiles(or_replace, "sqlite")
def _replace_of_sqlite(element: or_replace, compiler: Any, **words: Any) -> str:
    keys = ", ".join(column.name for column in element.table.primary_key)
    values = ", ".join(f"{name} = excluded.{name}" for name in _replaced(element))
    return f"{compiler.visit_insert(element, **words)} ON CONFLICT ({keys}) DO UPDATE SET {values}"


@compiles(or_replace, "mysql", "mariadb")
def _replace_of_mysql(element: or_replace, compiler: Any, **words: Any) -> str:
    values = ", ".join(f"{name} = VALUES({name})" for name in _replaced(element))
    return f"{compiler.visit_insert(element, **words)} ON DUPLICATE KEY UPDATE {values}"


def _replaced(element: or_replace) -> list[str]:
    return [column.name for column in element.table.c if not column.primary_key]


# Parameters of a WHERE are called of_...: the names of columns are taken, by what is SET.
_NODE = select(*_NODE_COLUMNS).where(t.nodes.c.id == bindparam("of_id"))
_LOCKED_NODE = _NODE.with_for_update()
_SAVE_NODE = update(t.nodes).where(t.nodes.c.id == bindparam("of_id"))
_ROOMS = select(t.nodes.c.id, t.nodes.c.capacity, t.nodes.c.reserved, t.nodes.c.region).where(
    t.nodes.c.role == bindparam("of_role"), t.nodes.c.state == _IN_SERVICE
)
_RESERVE = (
    update(t.nodes)
    .where(
        t.nodes.c.id == bindparam("of_id"),
        t.nodes.c.state == _IN_SERVICE,
        t.nodes.c.reserved + bindparam("seats") <= t.nodes.c.capacity,
    )
    .values(reserved=t.nodes.c.reserved + bindparam("seats"))
)
_RELEASE = (
    update(t.nodes)
    .where(t.nodes.c.id == bindparam("of_id"), t.nodes.c.reserved >= bindparam("seats"))
    .values(reserved=t.nodes.c.reserved - bindparam("seats"))
)
_STREAM = select(t.streams).where(t.streams.c.channel == bindparam("of_channel"))
_LOCKED_STREAM = _STREAM.with_for_update()
_STREAMS = select(t.streams).where(t.streams.c.channel.in_(bindparam("of_channels", expanding=True)))
_STREAMS_TO_JOIN = _STREAMS.order_by(t.streams.c.channel).with_for_update(read=True)
_SAVE_STREAM = update(t.streams).where(t.streams.c.channel == bindparam("of_channel"))
_SESSION = select(t.sessions).where(t.sessions.c.id == bindparam("of_id"))
_LOCKED_SESSION = _SESSION.with_for_update()
_PRESENT = select(t.sessions).where(t.sessions.c.ended_at.is_(None))
_SESSIONS_ON = _PRESENT.where(t.sessions.c.node == bindparam("of_node"))
_SESSIONS_OF = _PRESENT.where(t.sessions.c.channel == bindparam("of_channel"))
_RELAYS_TO = _PRESENT.where(t.sessions.c.peer == bindparam("of_peer"))
_ADD_SESSION = insert(t.sessions)
_END_SESSION = update(t.sessions).where(
    t.sessions.c.id == bindparam("of_id"), t.sessions.c.ended_at.is_(None)
)
_AMONG = t.sessions.c.id.in_(bindparam("of_ids", expanding=True))
_NOT_ENDED = select(t.sessions.c.id).where(_AMONG, t.sessions.c.ended_at.is_(None)).order_by(t.sessions.c.id)
_LOCKED_NOT_ENDED = _NOT_ENDED.with_for_update()
_END_SESSIONS = update(t.sessions).where(_AMONG)
# Of parties all that have one of the channels and one of the words: a few too many, where there are several
# channels, and nothing that an index cannot find in either database.
_PARTIES = (
    select(t.parties)
    .where(
        t.parties.c.channel.in_(bindparam("of_channels", expanding=True)),
        t.parties.c.party.in_(bindparam("of_parties", expanding=True)),
    )
    .order_by(t.parties.c.channel, t.parties.c.party)
)
_LOCKED_PARTIES = _PARTIES.with_for_update()
_BEGIN_PARTIES = or_keep(t.parties)
_SAVE_PARTIES = or_replace(t.parties)
_FORGET_PARTIES = delete(t.parties).where(
    t.parties.c.channel == bindparam("of_channel"), t.parties.c.party == bindparam("of_party")
)
_MEMBERS = (
    select(t.sessions.c.channel, t.sessions.c.party, t.sessions.c.node, func.count().label("number"))
    .where(t.sessions.c.party.in_(bindparam("of_parties", expanding=True)), t.sessions.c.ended_at.is_(None))
    .group_by(t.sessions.c.channel, t.sessions.c.party, t.sessions.c.node)
)
_APPEND_JOURNAL = insert(t.journal)
_TIME = select(database_now().label("now"))
_APPEND_CHANGE = insert(t.changes).values(at=database_now())
_CHANGES = (
    select(t.changes)
    .where(t.changes.c.id > bindparam("of_after"))
    .order_by(t.changes.c.id)
    .limit(bindparam("most", type_=Integer()))
)
_SEE_LEASE = select(t.lease.c.holder, t.lease.c.token, t.lease.c.expires, t.lease.c.length_s).where(
    t.lease.c.name == _LEASE
)
_THE_LEASE = _SEE_LEASE.with_for_update()
_RENEW = (
    update(t.lease)
    .where(t.lease.c.name == _LEASE, t.lease.c.token == bindparam("of_token"))
    .values(expires=database_now() + bindparam("of_length", type_=Double()), length_s=bindparam("length_s"))
)
_REVOKED = select(t.revoked_tokens.c.jti).where(t.revoked_tokens.c.jti == bindparam("of_jti"))


class Executes(Protocol):
    """What a transaction needs of its connection."""

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]: ...


if TYPE_CHECKING:

    def _fits(connection: AsyncConnection) -> Executes:
        """SQLAlchemy's own has it, for databases that are asked over the network."""
        return connection


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


def _as_party(row: Row[Any]) -> Party:
    return Party(**row._mapping)


def _as_event(row: Row[Any]) -> Event:
    return Event(**row._mapping)


def _as_act(row: Row[Any]) -> Act:
    values = dict(row._mapping)
    return Act(**values | {"kind": ActKind(values["kind"])})


def _as_entry(row: Row[Any]) -> JournalEntry:
    values = dict(row._mapping)
    return JournalEntry(**values | {"data": json.loads(values["data"])})


def _clip(text: str, table: Table, column: str) -> str:
    """Names and reasons come from outside: MySQL refuses what SQLite would take."""
    length: int | None = getattr(table.c[column].type, "length", None)
    return text if length is None else text[:length]


class SqlTransaction:
    """ports.store.Transaction."""

    def __init__(self, connection: Executes, *, locks: bool = True) -> None:
        """`locks`: what is read by its key is locked, as it is about to be written. SQLite locks anyway."""
        self._c = connection
        self._locks = locks

    async def _rows(self, statement: Executable, **values: Any) -> list[Row[Any]]:
        return list((await self._c.execute(statement, values)).all())

    async def _one(self, statement: Executable, **values: Any) -> Row[Any] | None:
        return (await self._c.execute(statement, values)).first()

    async def _changed(self, statement: Executable, **values: Any) -> int:
        return (await self._c.execute(statement, values)).rowcount

    async def _lock(self, what: str) -> None:
        """Keep out everybody else who locks this, until the transaction has ended. On SQLite a write is alone
        anyway; a database that several managers share locks rows, and none that is not there yet."""
        locked = update(t.locks).where(t.locks.c.name == what).values(taken=t.locks.c.taken + 1)
        if await self._changed(locked) == 0:
            await self._c.execute(insert(t.locks).values(name=what, taken=1))

    # nodes

    async def node(self, node_id: str) -> Node | None:
        row = await self._one(_LOCKED_NODE if self._locks else _NODE, of_id=node_id)
        return None if row is None else _as_node(row)

    async def nodes(self) -> list[Node]:
        statement = (
            select(*_NODE_COLUMNS)
            .where(t.nodes.c.state != _TERMINATED)
            .order_by(t.nodes.c.created_at, t.nodes.c.id)
        )
        return [_as_node(row) for row in await self._rows(statement)]

    async def node_by_enrolment(self, token_hash: str) -> Node | None:
        statement = select(*_NODE_COLUMNS).where(t.nodes.c.enrol_hash == token_hash)
        row = await self._one(statement.with_for_update() if self._locks else statement)
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
        await self._changed(_SAVE_NODE, of_id=node.id, **_node_values(node))

    async def rooms(self, role: Role) -> list[Room]:
        return [
            Room(row.id, row.capacity, row.reserved, row.region)
            for row in await self._rows(_ROOMS, of_role=role.value)
        ]

    async def reserve(self, node_id: str, seats: int = 1) -> bool:
        return await self._changed(_RESERVE, of_id=node_id, seats=seats) == 1

    async def release(self, node_id: str, seats: int = 1) -> None:
        await self._changed(_RELEASE, of_id=node_id, seats=seats)

    async def recount_reserved(self) -> None:
        s, p = t.sessions.c, t.parties.c
        there = select(s.id).where(
            s.channel == p.channel, s.party == p.party, s.node == p.node, s.ended_at.is_(None)
        )
        await self._c.execute(delete(t.parties).where(~there.exists()))
        held = (
            select(func.count())
            .select_from(t.sessions)
            .where(s.node == t.nodes.c.id, s.ended_at.is_(None), s.kind.in_(_SEATED))
            .scalar_subquery()
        )
        kept = select(func.coalesce(func.sum(p.kept), 0)).where(p.node == t.nodes.c.id).scalar_subquery()
        await self._c.execute(update(t.nodes).values(reserved=held + kept))

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
        statement = select(t.node_groups).where(g.role == role.value, g.region == region)
        row = await self._one(statement.with_for_update() if self._locks else statement)
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
        row = await self._one(_LOCKED_STREAM if self._locks else _STREAM, of_channel=channel)
        return None if row is None else _as_stream(row)

    async def streams_to_join(self, channels: Collection[str]) -> list[Stream]:
        statement = _STREAMS_TO_JOIN if self._locks else _STREAMS
        return [_as_stream(row) for row in await self._rows(statement, of_channels=_filled(list(channels)))]

    async def streams_on_air(self) -> list[Stream]:
        statement = select(t.streams).where(t.streams.c.state != StreamState.ENDED.value)
        return [_as_stream(row) for row in await self._rows(statement.order_by(t.streams.c.channel))]

    async def save_stream(self, stream: Stream) -> None:
        values = asdict(stream) | {"state": stream.state.value}
        values["state_reason"] = _clip(stream.state_reason, t.streams, "state_reason")
        for column in ("publisher", "video_codec"):
            if values[column] is not None:
                values[column] = _clip(values[column], t.streams, column)
        if await self._changed(_SAVE_STREAM, of_channel=stream.channel, **values) == 0:
            await self._c.execute(insert(t.streams).values(**values))

    async def purge_streams(self, ended_before: float) -> None:
        s = t.streams.c
        ended = s.state == StreamState.ENDED.value
        await self._c.execute(delete(t.streams).where(ended, s.state_since < ended_before))

    # sessions

    async def session(self, session_id: str) -> Session | None:
        row = await self._one(_LOCKED_SESSION if self._locks else _SESSION, of_id=session_id)
        return None if row is None else _as_session(row)

    async def sessions(self) -> list[Session]:
        statement = select(t.sessions).where(t.sessions.c.ended_at.is_(None))
        return [_as_session(row) for row in await self._rows(statement)]

    async def sessions_on(self, node_id: str) -> list[Session]:
        return [_as_session(row) for row in await self._rows(_SESSIONS_ON, of_node=node_id)]

    async def sessions_of(self, channel: str) -> list[Session]:
        return [_as_session(row) for row in await self._rows(_SESSIONS_OF, of_channel=channel)]

    async def relays_to(self, node_id: str) -> list[Session]:
        return [_as_session(row) for row in await self._rows(_RELAYS_TO, of_peer=node_id)]

    async def add_session(self, session: Session) -> None:
        await self._c.execute(_ADD_SESSION, _session_values(session))

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        if sessions:
            await self._c.execute(_ADD_SESSION, [_session_values(session) for session in sessions])

    async def end_session(self, session_id: str, at: float, reason: EndReason) -> bool:
        return await self._changed(_END_SESSION, of_id=session_id, ended_at=at, end_reason=reason.value) == 1

    async def end_sessions(self, ids: Collection[str], at: float, reason: EndReason) -> set[str]:
        found: set[str] = set()
        statement = _LOCKED_NOT_ENDED if self._locks else _NOT_ENDED
        for part in _parts(sorted(ids)):
            present = [row.id for row in await self._rows(statement, of_ids=_filled(part))]
            if present:
                values = {"ended_at": at, "end_reason": reason.value}
                await self._c.execute(_END_SESSIONS, {"of_ids": _filled(present), **values})
            found.update(present)
        return found

    async def take_move(self, session_id: str, at: float) -> bool:
        s = t.sessions.c
        kept = and_(s.id == session_id, s.ended_at.is_(None), s.move_until >= at)
        statement = update(t.sessions).where(kept).values(created_at=at, move_until=None)
        return await self._changed(statement) == 1

    async def purge_sessions(self, ended_before: float) -> None:
        await self._c.execute(delete(t.sessions).where(t.sessions.c.ended_at < ended_before))

    # parties

    async def begin_parties(self, keys: Collection[PartyKey]) -> list[Party]:
        fresh = [asdict(Party(channel=channel, party=party, node="")) for channel, party in sorted(keys)]
        await self._c.execute(_BEGIN_PARTIES, fresh)
        return await self.parties_among(keys)

    async def parties_among(self, keys: Collection[PartyKey]) -> list[Party]:
        statement = _LOCKED_PARTIES if self._locks else _PARTIES
        wanted = set(keys)
        found = []
        for part in _parts(sorted(wanted)):
            rows = await self._rows(statement, **_words(part))
            found += [party for party in map(_as_party, rows) if party.key in wanted]
        return found

    async def parties(self) -> list[Party]:
        return [_as_party(row) for row in await self._rows(select(t.parties))]

    async def save_parties(self, parties: Sequence[Party]) -> None:
        if parties:
            ordered = sorted(parties, key=lambda party: party.key)
            await self._c.execute(_SAVE_PARTIES, [asdict(party) for party in ordered])

    async def forget_parties(self, keys: Collection[PartyKey]) -> None:
        for channel, party in sorted(keys):
            await self._c.execute(_FORGET_PARTIES, {"of_channel": channel, "of_party": party})

    async def members(self, keys: Collection[PartyKey]) -> list[tuple[str, str, str, int]]:
        wanted = set(keys)
        found = []
        for part in _parts(sorted(wanted)):
            rows = await self._rows(_MEMBERS, of_parties=_words(part)["of_parties"])
            found += [tuple(row) for row in rows if (row.channel, row.party) in wanted]
        return found

    # events

    async def events(self, ends_after: float) -> list[Event]:
        e = t.events.c
        statement = select(t.events).where(e.ends_at > ends_after).order_by(e.starts_at, e.id)
        return [_as_event(row) for row in await self._rows(statement)]

    async def event(self, event_id: int) -> Event | None:
        row = await self._one(select(t.events).where(t.events.c.id == event_id))
        return None if row is None else _as_event(row)

    async def events_on(self, channel: str, ends_after: float) -> list[Event]:
        e = t.events.c
        await self._lock("events")
        statement = select(t.events).where(e.channel == channel, e.ends_at > ends_after)
        statement = statement.order_by(e.starts_at, e.id)
        return [_as_event(row) for row in await self._rows(statement)]

    async def add_event(self, event: Event) -> Event:
        values = asdict(event)
        del values["id"]
        result = await self._c.execute(insert(t.events).values(**values))
        key = result.inserted_primary_key
        assert key is not None
        return replace(event, id=key[0])

    async def save_event(self, event: Event) -> None:
        await self._c.execute(update(t.events).where(t.events.c.id == event.id).values(**asdict(event)))

    async def purge_events(self, ended_before: float) -> None:
        await self._c.execute(delete(t.events).where(t.events.c.ends_at < ended_before))

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
        result = await self._c.execute(_APPEND_JOURNAL, values)
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

    # money

    async def nodes_since(self, at: float) -> list[Node]:
        n = t.nodes.c
        found = or_(n.state != _TERMINATED, n.state_since > at)
        return [_as_node(row) for row in await self._rows(select(*_NODE_COLUMNS).where(found))]

    async def counted_until(self) -> int | None:
        until: int | None = (await self._c.execute(select(func.max(t.spending.c.until_ms)))).scalar()
        return until

    async def add_used(self, part: HourUsed, since_ms: int) -> None:
        s, used = t.spending.c, part.used
        key = {"hour": part.hour, "role": used.role.value, "region": used.region}
        counts = {name: getattr(used, name) for name in _COUNTS}
        more = {name: s[name] + number for name, number in counts.items()} | {"until_ms": part.until_ms}
        where = and_(*(s[name] == value for name, value in key.items()), s.until_ms <= since_ms)
        if await self._changed(update(t.spending).where(where).values(**more)) == 0:
            try:
                await self._c.execute(insert(t.spending).values(**key, **counts, until_ms=part.until_ms))
            except IntegrityError as error:
                raise Taken(f"{used.group} {part.hour}") from error

    async def used(self, start: int, end: int) -> list[Used]:
        s = t.spending.c
        sums = [func.sum(s[name]).label(name) for name in _COUNTS]
        statement = (
            select(s.role, s.region, *sums)
            .where(s.hour >= start, s.hour < end)
            .group_by(s.role, s.region)
            .order_by(s.role, s.region)
        )
        return [  # the sum of integers is a decimal to MySQL
            Used(
                role=Role(row.role), region=row.region, **{name: int(getattr(row, name)) for name in _COUNTS}
            )
            for row in await self._rows(statement)
        ]

    # tokens

    async def revoke(self, jti: str, channel: str, expires: float) -> None:
        if not await self.revoked(jti):
            await self._c.execute(insert(t.revoked_tokens).values(jti=jti, channel=channel, expires=expires))

    async def revoked(self, jti: str) -> bool:
        return await self._one(_REVOKED, of_jti=jti) is not None

    async def purge_revoked(self, expired_before: float) -> None:
        await self._c.execute(delete(t.revoked_tokens).where(t.revoked_tokens.c.expires < expired_before))

    # stream managers

    async def time(self) -> float:
        row = await self._one(_TIME)
        assert row is not None
        return float(row.now)

    async def lease(self) -> Lease | None:
        row = await self._one(_THE_LEASE if self._locks else _SEE_LEASE)
        return None if row is None else Lease(**row._mapping)

    async def take_lease(self, seen: Lease | None, holder: str, length_s: float) -> Lease | None:
        now = await self.time()
        taken = Lease(
            holder=holder,
            token=1 if seen is None else seen.token + 1,
            expires=now + length_s,
            length_s=length_s,
        )
        if seen is None:
            try:
                await self._c.execute(insert(t.lease).values(name=_LEASE, **asdict(taken)))
            except IntegrityError:
                return None
            return taken
        c = t.lease.c
        as_seen = (c.name == _LEASE, c.token == seen.token, c.holder == seen.holder)
        changed = await self._changed(update(t.lease).where(*as_seen).values(**asdict(taken)))
        return taken if changed == 1 else None

    async def renew_lease(self, token: int, length_s: float) -> bool:
        return await self._changed(_RENEW, of_token=token, of_length=length_s, length_s=length_s) == 1

    async def give_lease_back(self, token: int) -> None:
        mine = (t.lease.c.name == _LEASE, t.lease.c.token == token)
        await self._c.execute(update(t.lease).where(*mine).values(holder="", expires=0.0))

    async def add_act(self, kind: ActKind, node: str, token: int, retry: str) -> Act:
        values = {"kind": kind.value, "node": node, "token": token, "retry": retry, "at": await self.time()}
        result = await self._c.execute(insert(t.acts).values(**values))
        key = result.inserted_primary_key
        assert key is not None
        return Act(id=key[0], kind=kind, node=node, token=token, retry=retry, at=float(values["at"]))

    async def close_act(self, act_id: int, outcome: str) -> None:
        still_open = (t.acts.c.id == act_id, t.acts.c.outcome.is_(None))
        values = {"outcome": _clip(outcome, t.acts, "outcome")}
        await self._c.execute(update(t.acts).where(*still_open).values(**values))

    async def open_acts(self) -> list[Act]:
        statement = select(t.acts).where(t.acts.c.outcome.is_(None)).order_by(t.acts.c.id)
        return [_as_act(row) for row in await self._rows(statement)]

    async def launch_of(self, node_id: str) -> Act | None:
        a = t.acts.c
        of_node = select(t.acts).where(a.node == node_id, a.kind == ActKind.LAUNCH.value)
        row = await self._one(of_node.order_by(a.id.desc()).limit(1))
        return None if row is None else _as_act(row)

    async def purge_acts(self, before: float) -> None:
        await self._c.execute(delete(t.acts).where(t.acts.c.outcome.is_not(None), t.acts.c.at < before))

    # what stream managers tell each other

    async def append_change(self, manager: str, body: str) -> None:
        await self._c.execute(_APPEND_CHANGE, {"manager": manager, "body": body})

    async def last_change(self) -> int:
        return int((await self._c.execute(select(func.max(t.changes.c.id)))).scalar() or 0)

    async def first_change(self) -> int:
        return int((await self._c.execute(select(func.min(t.changes.c.id)))).scalar() or 0)

    async def changes(self, after: int, limit: int) -> list[ChangeRow]:
        return [ChangeRow(**row._mapping) for row in await self._rows(_CHANGES, of_after=after, most=limit)]

    async def changes_among(self, numbers: Collection[int]) -> list[ChangeRow]:
        rows = await self._among(select(t.changes), t.changes.c.id, numbers)
        return [ChangeRow(**row._mapping) for row in rows]

    async def purge_changes(self, before: float) -> None:
        await self._c.execute(delete(t.changes).where(t.changes.c.at < before))

    async def nodes_among(self, ids: Collection[str]) -> list[Node]:
        return [_as_node(row) for row in await self._among(select(*_NODE_COLUMNS), t.nodes.c.id, ids)]

    async def streams_among(self, channels: Collection[str]) -> list[Stream]:
        rows = await self._among(select(t.streams), t.streams.c.channel, channels)
        return [_as_stream(row) for row in rows]

    async def sessions_among(self, ids: Collection[str]) -> list[Session]:
        return [_as_session(row) for row in await self._among(select(t.sessions), t.sessions.c.id, ids)]

    async def journal_among(self, ids: Collection[int]) -> list[JournalEntry]:
        rows = await self._among(select(t.journal), t.journal.c.id, ids)
        return sorted((_as_entry(row) for row in rows), key=lambda entry: entry.id)

    async def tell(self, said: Sequence[Told]) -> None:
        # Away and in again: the one way to replace many rows at once that both databases have.
        by_kind: dict[str, list[str]] = {}
        for told in said:
            by_kind.setdefault(told.kind, []).append(told.id)
        for kind, ids in by_kind.items():
            for part in _parts(ids):
                await self._c.execute(delete(t.told).where(t.told.c.kind == kind, t.told.c.id.in_(part)))
        now = await self.time()
        for rows in _parts([{**asdict(told), "at": now} for told in said]):
            await self._c.execute(insert(t.told).values(rows))

    async def told_to_others(self, manager: str) -> list[Told]:
        statement = select(t.told).where(t.told.c.manager != manager)
        return [Told(**row._mapping) for row in await self._rows(statement)]

    async def purge_told(self, before: float) -> None:
        await self._c.execute(delete(t.told).where(t.told.c.at < before))

    async def beat(self, manager: str, api: str, started_at: float) -> None:
        values = {
            "api": _clip(api, t.managers, "api"),
            "started_at": started_at,
            "seen_at": await self.time(),
        }
        if await self._changed(update(t.managers).where(t.managers.c.id == manager).values(**values)) == 0:
            await self._c.execute(insert(t.managers).values(id=manager, **values))

    async def managers(self, since: float) -> list[ManagerRow]:
        m = t.managers
        statement = select(m).where(m.c.seen_at >= since).order_by(m.c.id)
        return [ManagerRow(**row._mapping) for row in await self._rows(statement)]

    async def purge_managers(self, before: float) -> None:
        await self._c.execute(delete(t.managers).where(t.managers.c.seen_at < before))

    async def _among(self, statement: Any, column: Any, keys: Collection[Any]) -> list[Row[Any]]:
        rows: list[Row[Any]] = []
        for part in _parts(list(keys)):
            rows += await self._rows(statement.where(column.in_(part)))
        return rows


def _parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at once that no statement is too long for either database."""
    for first in range(0, len(keys), AT_ONCE):
        yield keys[first : first + AT_ONCE]


def _filled(keys: Sequence[T]) -> list[T]:
    """As many of them as a power of two, the last one again and again: so a statement that is kept is put
    together for ten lengths of its list and not for five hundred."""
    return [*keys, *([keys[-1]] * ((1 << (len(keys) - 1).bit_length()) - len(keys)))]


def _words(keys: Sequence[PartyKey]) -> dict[str, list[str]]:
    """Of the statements that look for parties."""
    return {
        "of_channels": _filled(sorted({channel for channel, _ in keys})),
        "of_parties": _filled(sorted({party for _, party in keys})),
    }


def _session_values(session: Session) -> dict[str, Any]:
    """As asdict has them, which costs ten times as much: of every join."""
    values: dict[str, Any] = {name: getattr(session, name) for name in _SESSION_COLUMNS}
    values["kind"] = session.kind.value
    return values


def _node_values(node: Node) -> dict[str, Any]:
    values = asdict(node) | {"role": node.role.value, "state": node.state.value}
    values["state_reason"] = _clip(node.state_reason, t.nodes, "state_reason")
    return values
