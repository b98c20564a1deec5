"""Statements that go straight to the driver: none of the kept ones is left out, and each means the same."""

from dataclasses import replace

import pytest
from sqlalchemy import event

from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.direct import KEPT
from controlplane.adapters.store.sql import nodes, seating, sessions, streams
from controlplane.domain.streams.model import EndReason, Party
from controlplane.ports.store import Transaction
from controlplane.wire.nodes import Role
from tests.controlplane.domain.test_rules import NODE, STREAM
from tests.controlplane.store.conftest import Opens
from tests.controlplane.store.test_contract import SESSION, add

JOINS = {"_STREAMS_TO_JOIN", "_BEGIN_PARTIES", "_LOCKED_PARTIES", "_ROOMS", "_MEMBERS", "_RESERVE"}
JOINS |= {"_ADD_SESSION", "_SAVE_PARTIES"}
LEAVINGS = {"_END_SESSION", "_LOCKED_NOT_ENDED", "_END_SESSIONS", "_FORGET_PARTIES", "_RELEASE"}
US = ("main", "us")


async def test_nothing_of_a_join_and_a_leaving_passes_through_sqlalchemy(
    database: Address, opened: Opens
) -> None:
    store = await opened(database)
    await add(store, NODE)
    await store.write(lambda tx: tx.save_stream(STREAM))
    through: list[object] = []
    event.listen(store._writing.sync_engine, "before_execute", lambda _c, what, *_: through.append(what))

    members = [replace(SESSION, id=name, party="us") for name in ("s", "t", "u")]

    async def join(tx: Transaction) -> None:
        assert await tx.streams_to_join(["main"]) == [STREAM]
        (party,) = await tx.begin_parties([US])
        assert [room.node for room in await tx.rooms(Role.EDGE)] == ["edge-1"]
        assert await tx.reserve("edge-1", 3)
        await tx.add_sessions(members)
        await tx.save_parties([replace(party, node="edge-1", kept=1, kept_until=0.1 + 0.2)])

    async def leave(tx: Transaction) -> None:
        assert await tx.end_session("s", 5.0, EndReason.LEFT)
        assert await tx.members([US]) == [(*US, "edge-1", 2)]
        assert await tx.end_sessions(["s", "t", "u", "v"], 5.0, EndReason.LEFT) == {"t", "u"}
        assert await tx.parties_among([US]) == [
            Party(channel="main", party="us", node="edge-1", kept=1, kept_until=0.1 + 0.2)
        ]
        await tx.forget_parties([US])
        await tx.release("edge-1", 3)

    await store.write(join)
    await store.write(leave)
    assert through == []
    assert {
        name
        for subject in (nodes, seating, sessions, streams)
        for name, value in vars(subject).items()
        if any(value is kept for kept in KEPT)
    } >= JOINS | LEAVINGS


async def test_a_statement_that_is_kept_and_refused_says_so_as_any_other(
    database: Address, opened: Opens
) -> None:
    store = await opened(database)
    await store.write(lambda tx: tx.add_session(SESSION))
    with pytest.raises(Exception, match="Duplicate entry"):
        await store.write(lambda tx: tx.add_session(SESSION))
    assert await store.read(lambda tx: tx.sessions()) == [SESSION]
