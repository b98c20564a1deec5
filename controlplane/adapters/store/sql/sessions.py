"""Sessions of viewers, publishers and relays."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, select, update
from sqlalchemy.engine import Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements, among, filled, parts
from controlplane.domain.streams.model import EndReason, Session
from controlplane.wire.nodes import SessionKind

_SESSION_COLUMNS = [column.name for column in t.sessions.c]

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
_SESSIONS_AMONG = among(select(t.sessions), t.sessions.c.id)


class SessionStatements(Statements):
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

    async def sessions_among(self, ids: Collection[str]) -> list[Session]:
        return [_as_session(row) for row in await self._among(_SESSIONS_AMONG, ids)]

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
        for part in parts(sorted(ids)):
            present = [row.id for row in await self._rows(statement, of_ids=filled(part))]
            if present:
                values = {"ended_at": at, "end_reason": reason.value}
                await self._c.execute(_END_SESSIONS, {"of_ids": filled(present), **values})
            found.update(present)
        return found

    async def take_move(self, session_id: str, at: float) -> bool:
        s = t.sessions.c
        kept = and_(s.id == session_id, s.ended_at.is_(None), s.move_until >= at)
        statement = update(t.sessions).where(kept).values(created_at=at, move_until=None)
        return await self._changed(statement) == 1

    async def purge_sessions(self, ended_before: float) -> None:
        await self._c.execute(delete(t.sessions).where(t.sessions.c.ended_at < ended_before))


def _as_session(row: Row[Any]) -> Session:
    values = dict(row._mapping)
    reason = values["end_reason"]
    return Session(
        **values
        | {"kind": SessionKind(values["kind"]), "end_reason": None if reason is None else EndReason(reason)}
    )


def _session_values(session: Session) -> dict[str, Any]:
    """As asdict has them, which costs ten times as much: of every join."""
    values: dict[str, Any] = {name: getattr(session, name) for name in _SESSION_COLUMNS}
    values["kind"] = session.kind.value
    return values
