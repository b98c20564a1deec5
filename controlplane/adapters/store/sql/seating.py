"""Seats that are taken on nodes, and those that are kept there for parties."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.engine import Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.dialects import or_keep, or_replace
from controlplane.adapters.store.sql.statements import Statements, filled, parts
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import Party, PartyKey
from controlplane.wire.nodes import NodeState, Role, SessionKind

_SEATED = (SessionKind.WHIP.value, SessionKind.WHEP.value)
_IN_SERVICE = NodeState.IN_SERVICE.value

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


class SeatStatements(Statements):
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

    async def begin_parties(self, keys: Collection[PartyKey]) -> list[Party]:
        fresh = [asdict(Party(channel=channel, party=party, node="")) for channel, party in sorted(keys)]
        await self._c.execute(_BEGIN_PARTIES, fresh)
        return await self.parties_among(keys)

    async def parties_among(self, keys: Collection[PartyKey]) -> list[Party]:
        statement = _LOCKED_PARTIES if self._locks else _PARTIES
        wanted = set(keys)
        found = []
        for part in parts(sorted(wanted)):
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
        for part in parts(sorted(wanted)):
            rows = await self._rows(_MEMBERS, of_parties=_words(part)["of_parties"])
            found += [tuple(row) for row in rows if (row.channel, row.party) in wanted]
        return found


def _as_party(row: Row[Any]) -> Party:
    return Party(**row._mapping)


def _words(keys: Sequence[PartyKey]) -> dict[str, list[str]]:
    """Of the statements that look for parties."""
    return {
        "of_channels": filled(sorted({channel for channel, _ in keys})),
        "of_parties": filled(sorted({party for _, party in keys})),
    }
