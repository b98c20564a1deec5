"""What groups used, by the hour."""

from sqlalchemy import and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements
from controlplane.domain.money.model import HourUsed, Used
from controlplane.ports.store import Taken
from controlplane.wire.nodes import Role

_COUNTS = ("node_ms", "egress", "measured_ms", "unknown_ms")  # of spending


class MoneyStatements(Statements):
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
