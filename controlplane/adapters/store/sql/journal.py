"""The journal's entries."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements, among, clip
from controlplane.ports.store import DECISIONS
from controlplane.wire.api import JournalEntry

_APPEND_JOURNAL = insert(t.journal)
_JOURNAL_AMONG = among(select(t.journal), t.journal.c.id)


class JournalStatements(Statements):
    async def append_journal(
        self, at: float, actor: str, kind: str, subject: str, message: str, data: Mapping[str, Any]
    ) -> JournalEntry:
        values = {
            "at": at,
            "actor": clip(actor, t.journal, "actor"),
            "kind": kind,
            "subject": clip(subject, t.journal, "subject"),
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

    async def journal_among(self, ids: Collection[int]) -> list[JournalEntry]:
        rows = await self._among(_JOURNAL_AMONG, ids)
        return sorted((_as_entry(row) for row in rows), key=lambda entry: entry.id)

    async def decisions(self, subject: str | None, limit: int) -> list[JournalEntry]:
        j = t.journal.c
        about = [j.kind.in_(DECISIONS)] + ([] if subject is None else [j.subject == subject])
        statement = select(t.journal).where(*about).order_by(j.id.desc()).limit(limit)
        return [_as_entry(row) for row in await self._rows(statement)]

    async def prune_journal(self, keep: int) -> None:
        newest = (await self._c.execute(select(func.max(t.journal.c.id)))).scalar()
        if newest is not None and newest > keep:
            await self._c.execute(delete(t.journal).where(t.journal.c.id <= newest - keep))


def _as_entry(row: Row[Any]) -> JournalEntry:
    values = dict(row._mapping)
    return JournalEntry(**values | {"data": json.loads(values["data"])})
