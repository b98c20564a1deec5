"""What stream managers tell each other: which rows were changed, and what each was told last."""

from collections.abc import Collection, Sequence
from dataclasses import asdict

from sqlalchemy import Integer, bindparam, delete, func, insert, select

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.dialects import database_now
from controlplane.adapters.store.sql.statements import Statements, among, filled, parts
from controlplane.domain.managers.model import ChangeRow, Told

_APPEND_CHANGE = insert(t.changes).values(at=database_now())
_CHANGES = (
    select(t.changes)
    .where(t.changes.c.id > bindparam("of_after"))
    .order_by(t.changes.c.id)
    .limit(bindparam("most", type_=Integer()))
)
_FORGET_TOLD = delete(t.told).where(
    t.told.c.kind == bindparam("of_kind"), t.told.c.id.in_(bindparam("of_ids", expanding=True))
)
_TELL = insert(t.told)
_TOLD_TO_OTHERS = select(t.told).where(t.told.c.manager != bindparam("of_manager"))
_FIRST_CHANGE = select(func.min(t.changes.c.id).label("number"))
_LAST_CHANGE = select(func.max(t.changes.c.id).label("number"))
_CHANGES_AMONG = among(select(t.changes), t.changes.c.id)


class ChangeStatements(Statements):
    async def append_change(self, manager: str, body: str) -> None:
        await self._c.execute(_APPEND_CHANGE, {"manager": manager, "body": body})

    async def last_change(self) -> int:
        row = await self._one(_LAST_CHANGE)
        return 0 if row is None else row.number or 0

    async def first_change(self) -> int:
        row = await self._one(_FIRST_CHANGE)
        return 0 if row is None else row.number or 0

    async def changes(self, after: int, limit: int) -> list[ChangeRow]:
        return [ChangeRow(**row._mapping) for row in await self._rows(_CHANGES, of_after=after, most=limit)]

    async def changes_among(self, numbers: Collection[int]) -> list[ChangeRow]:
        rows = await self._among(_CHANGES_AMONG, numbers)
        return [ChangeRow(**row._mapping) for row in rows]

    async def purge_changes(self, before: float) -> None:
        await self._c.execute(delete(t.changes).where(t.changes.c.at < before))

    async def tell(self, said: Sequence[Told]) -> None:
        # Away and in again: the one way to replace many rows at once that both databases have.
        by_kind: dict[str, list[str]] = {}
        for told in said:
            by_kind.setdefault(told.kind, []).append(told.id)
        for kind, ids in by_kind.items():
            for part in parts(ids):
                await self._c.execute(_FORGET_TOLD, {"of_kind": kind, "of_ids": filled(part)})
        now = await self.time()
        for rows in parts([{**asdict(told), "at": now} for told in said]):
            await self._c.execute(_TELL, rows)

    async def told_to_others(self, manager: str) -> list[Told]:
        return [Told(**row._mapping) for row in await self._rows(_TOLD_TO_OTHERS, of_manager=manager)]

    async def purge_told(self, before: float) -> None:
        await self._c.execute(delete(t.told).where(t.told.c.at < before))
