"""Events: the shows that are planned."""

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements
from controlplane.domain.events.model import Event


class EventStatements(Statements):
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


def _as_event(row: Row[Any]) -> Event:
    return Event(**row._mapping)
