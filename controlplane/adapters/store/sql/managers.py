"""Stream managers: which there are, which of them leads, and the acts outside that it began."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Double, bindparam, delete, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.dialects import database_now
from controlplane.adapters.store.sql.statements import Statements, clip
from controlplane.domain.managers.model import Act, ActKind, Lease, ManagerRow

_LEASE = "fleet"  # there is one: of the manager that leads

_SEE_LEASE = select(t.lease.c.holder, t.lease.c.token, t.lease.c.expires, t.lease.c.length_s).where(
    t.lease.c.name == _LEASE
)
_THE_LEASE = _SEE_LEASE.with_for_update()
_RENEW = (
    update(t.lease)
    .where(t.lease.c.name == _LEASE, t.lease.c.token == bindparam("of_token"))
    .values(expires=database_now() + bindparam("of_length", type_=Double()), length_s=bindparam("length_s"))
)


class ManagerStatements(Statements):
    async def beat(self, manager: str, api: str, started_at: float) -> None:
        values = {
            "api": clip(api, t.managers, "api"),
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
        values = {"outcome": clip(outcome, t.acts, "outcome")}
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


def _as_act(row: Row[Any]) -> Act:
    values = dict(row._mapping)
    return Act(**values | {"kind": ActKind(values["kind"])})
