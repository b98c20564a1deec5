"""Who joins at the same moment is seated by one transaction, on both databases: whole parties, each its own
answer, seats given back, and two stream managers who never tear a party apart."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.store import MysqlStore
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import ViewersConfig
from controlplane.domain.nodes.rules import Room
from controlplane.domain.nodes.seating import Join
from controlplane.domain.streams.model import EndReason, Party, Session, StreamState
from controlplane.errors import NothingOnAir
from controlplane.ports.store import StoreBusy, Transaction
from controlplane.services import placement
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.placement import KnownRooms, NoRoom
from controlplane.services.seating import Seating
from controlplane.wire.nodes import NodeState, Role
from tests.controlplane.domain.test_rules import NODE, STREAM
from tests.controlplane.stage import fresh_database
from tests.support.wait import wait_for

ALONE = Join(channel="main")


class House:
    """Seating, and what is under it, of one stream manager."""

    def __init__(self, store: Any, name: str | None = None, **viewers: Any) -> None:
        self.board = Board()
        self.store = store
        self.books = Books(store, self.board, SystemClock(), name)
        self.seating = Seating(self.books, ViewersConfig(**viewers), "local")
        self.commits = 0
        self.books.written = self._written

    def _written(self, changed: object) -> None:
        self.commits += 1

    async def build(self, **capacities: int) -> None:
        async def work(tx: Transaction) -> None:
            for name, capacity in capacities.items():
                await tx.add_node(replace(NODE, id=name, capacity=capacity, enrol_hash=name))
            await tx.save_stream(STREAM)
            await tx.save_stream(replace(STREAM, channel="over", state=StreamState.ENDED))

        await self.store.write(work)
        await self.books.load()

    async def seat(self, *joins: Join) -> list[Any]:
        """All at the same moment: sessions and errors."""
        return await asyncio.gather(*(self.seating.seat(it) for it in joins), return_exceptions=True)

    async def end(self, *sessions: Session) -> None:
        await self.books.change_together(Change.end_sessions, sessions, EndReason.LEFT)

    async def reserved(self) -> dict[str, int]:
        """By the rows; and the board shows the same."""
        rooms = await self.store.read(lambda tx: tx.rooms(Role.EDGE))
        assert {it.node: self.board.reserved_on(it.node) for it in rooms} == {
            it.node: it.reserved for it in rooms
        }
        return {it.node: it.reserved for it in rooms if it.reserved}

    async def parties(self) -> dict[str, tuple[str, int]]:
        rows = await self.store.read(lambda tx: tx.parties())
        assert {it.key: it for it in rows} == self.board.parties
        return {it.party: (it.node, it.kept) for it in rows}

    async def close(self) -> None:
        await self.seating.close()
        await self.store.close()


def of(party: str, size: int = 4, **more: Any) -> Join:
    return Join(channel="main", party=party, size=size, **more)


@pytest.fixture(params=["sqlite", "mariadb"])
async def house(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    made: Any
    if request.param == "mariadb":
        made = House(MysqlStore(request.getfixturevalue("database")), "a")
    else:
        (tmp_path / "house.db").write_bytes(fresh_database())
        made = House(SqliteStore(tmp_path / "house.db"))
    await made.build(a=12, b=6)
    monkeypatch.setattr(KnownRooms, "LASTS_S", 60.0)  # what is known is old for a reason, not by chance
    yield made
    await made.close()


async def test_who_joins_at_the_same_moment_is_seated_by_one_transaction(house: House) -> None:
    found = await house.seat(ALONE, of("us"), of("us"), ALONE, of("us"))
    assert {it.party for it in found} == {None, "us"}
    assert len({it.node for it in found if it.party == "us"}) == 1
    assert house.commits == 1
    assert sum((await house.reserved()).values()) == 6
    assert set(house.board.sessions) == {it.id for it in found}


async def test_each_join_has_an_answer_of_its_own(house: House) -> None:
    off_air = (replace(ALONE, channel="over"), replace(ALONE, channel="nothing"))
    nowhere = replace(ALONE, avoid=frozenset("ab"))
    found = await house.seat(ALONE, *off_air, nowhere, of("us", avoid=frozenset("ab")))
    assert isinstance(found[0], Session)
    assert [type(it) for it in found[1:]] == [NothingOnAir, NothingOnAir, NoRoom, NoRoom]
    assert [it.retry_after_s for it in found[3:]] == [1, 1]
    assert await house.parties() == {}
    assert sum((await house.reserved()).values()) == 1


async def test_a_party_has_room_for_all_of_it_until_its_time_is_over(house: House) -> None:
    (first,) = await house.seat(of("us", 8))
    assert first.node == "a"
    assert await house.parties() == {"us": ("a", 7)}
    crowd = await house.seat(*[ALONE] * 11)
    assert Counter(getattr(it, "node", "none") for it in crowd) == {"a": 4, "b": 6, "none": 1}
    assert {it.node for it in await house.seat(*[of("us", 8)] * 3)} == {"a"}
    assert await house.parties() == {"us": ("a", 4)}
    await house.seating.give_room_back()
    assert await house.parties() == {"us": ("a", 4)}, "its time is not over"
    await house.books.change(
        Change.save_parties, [replace(it, kept_until=1.0) for it in house.board.parties.values()]
    )
    await house.seating.give_room_back()
    assert await house.parties() == {"us": ("a", 0)}
    assert await house.reserved() == {"a": 8, "b": 6}
    assert {it.node for it in await house.seat(*[of("us", 8)] * 4)} == {"a"}, "as there is room again"
    (late,) = await house.seat(of("us", 8))
    assert isinstance(late, NoRoom)


async def test_who_leaves_as_others_come_leaves_with_the_others_that_leave(house: House) -> None:
    found = await house.seat(*[of("us")] * 4, *[ALONE] * 14)
    assert sum((await house.reserved()).values()) == 18
    house.commits = 0
    leaving = [house.seating.end(it, EndReason.LEFT) for it in (*found[:4], *found[:2])]
    leaving.append(house.seating.end(found[4], EndReason.REFUSED))
    joining = [house.seating.seat(of("them", 3)) for _ in range(3)]
    sessions = (await asyncio.gather(*leaving, *joining))[-3:]
    assert len({it.node for it in sessions if it is not None}) == 1, "there was room for them again"
    assert house.commits == 2
    rows = await house.store.read(lambda tx: tx.sessions_among([it.id for it in found[:5]]))
    assert {it.end_reason for it in rows} == {EndReason.LEFT, EndReason.REFUSED}
    assert list(await house.parties()) == ["them"]
    assert sum((await house.reserved()).values()) == 16


async def test_a_leaving_that_is_cancelled_happens_nevertheless(house: House) -> None:
    (session,) = await house.seat(ALONE)
    leaving = asyncio.ensure_future(house.seating.end(session, EndReason.LEFT))
    await asyncio.sleep(0)
    leaving.cancel()
    await wait_for(lambda: not house.board.sessions, 5, "it has left")
    assert await house.reserved() == {}


async def test_with_the_last_of_a_party_its_room_goes(house: House) -> None:
    found = await house.seat(*[of("us")] * 3)
    assert await house.reserved() == {found[0].node: 4}
    await house.end(found[0])
    assert await house.reserved() == {found[0].node: 3}
    await asyncio.gather(house.end(found[1]), house.end(found[1], found[2]))
    assert (await house.reserved(), await house.parties()) == ({}, {})
    assert house.board.sessions == {}


async def test_who_found_no_seat_with_his_party_is_no_part_of_its_room(house: House) -> None:
    found = await house.seat(*[of("us", 14)] * 14)
    assert Counter(it.node for it in found) == {"a": 12, "b": 2}
    here = [it for it in found if it.node == "a"]
    await house.end(*here)
    assert (await house.reserved(), await house.parties()) == ({"b": 2}, {})
    (back,) = await house.seat(of("us", 3))
    assert back.node == "b", "where others of it are"
    assert (await house.reserved(), await house.parties()) == ({"b": 3}, {"us": ("b", 0)})


async def test_one_that_cannot_be_written_fails_alone(house: House) -> None:
    good, bad = of("us"), replace(ALONE, channel="main", party="x" * 65, edge="b")
    refuse = house.store.write

    async def write(work: Any, **words: Any) -> Any:
        async def checked(tx: Transaction) -> Any:
            result = await work(tx)
            if any(len(it.party or "") > 64 for it in await tx.sessions()):
                raise ValueError("too long")  # SQLite does not mind by itself
            return result

        return await refuse(checked, **words)

    house.store.write = write
    found = await house.seat(good, bad, ALONE, good)
    assert [isinstance(it, Session) for it in found] == [True, False, True, True]
    assert sum((await house.reserved()).values()) == 5
    assert len(house.board.sessions) == 3


async def test_the_seat_of_one_who_has_gone_meanwhile_is_given_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    publish = house.books.publish
    write = house.store.write

    async def slow(work: Any, **words: Any) -> Any:
        result = await write(work, **words)
        reached.set()
        await go_on.wait()
        return result

    monkeypatch.setattr(house.store, "write", slow)
    gone, stays = (asyncio.ensure_future(house.seating.seat(of("us", 2))) for _ in range(2))
    await reached.wait()
    gone.cancel()
    too_late = asyncio.ensure_future(house.seating.seat(ALONE))
    await asyncio.sleep(0)
    too_late.cancel()  # before it had its turn
    go_on.set()
    session = await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    await wait_for(lambda: set(house.board.sessions) == {session.id}, 5, "the other is over")
    assert await house.reserved() == {session.node: 1}
    assert publish == house.books.publish


async def test_one_who_is_cancelled_as_he_is_answered_gives_his_seat_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake = house.seating._wake

    def woken() -> asyncio.Future[Any]:
        answer = wake()
        answer.add_done_callback(lambda _: joining.cancel())  # before the task that waits has its turn
        return answer

    monkeypatch.setattr(house.seating, "_wake", woken)
    joining = asyncio.ensure_future(house.seating.seat(ALONE))
    with pytest.raises(asyncio.CancelledError):
        await joining
    await wait_for(lambda: not house.board.sessions and house.commits == 2, 5, "it is over")
    assert await house.reserved() == {}


async def test_who_waits_while_the_database_is_away_is_told_so_and_not_kept_longer_by_those_before(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are handed to the store one by one; of one that takes its time the next does not wait long."""
    held: list[asyncio.Future[Any]] = []

    async def away(work: Any, **words: Any) -> Any:
        held.append(asyncio.get_running_loop().create_future())
        return await held[-1]

    monkeypatch.setattr("controlplane.services.seating.HANDED_S", 0.05)
    monkeypatch.setattr(house.store, "write", away)
    first = asyncio.ensure_future(house.seating.seat(ALONE))
    await wait_for(lambda: len(held) == 1, 5, "the first is handed over")
    others = [asyncio.ensure_future(house.seating.seat(ALONE)) for _ in range(3)]
    await wait_for(lambda: len(held) == 2, 5, "the others together")
    for future in held:
        future.set_exception(StoreBusy("away"))
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(it) for it in found] == ["away"] * 4


async def test_whoever_waits_at_the_end_is_told_so(house: House) -> None:
    joining = asyncio.ensure_future(house.seating.seat(ALONE))
    await asyncio.sleep(0)
    await house.seating.close()
    with pytest.raises(StoreBusy, match="ending"):
        await joining
    with pytest.raises(StoreBusy, match="ending"):
        await house.seating.seat(ALONE)


async def test_seats_that_somebody_else_was_quicker_at_are_looked_for_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is old by the time that it is written: the UPDATE tells."""
    await house.seat(*[replace(ALONE, edge="a")] * 9)
    looks = await _looks(house, monkeypatch)
    house.seating._rooms.learn([Room("a", 12, 0), Room("b", 6, 0)])  # as before they came
    found = await house.seat(*[of("us", 6)] * 6, ALONE)
    assert len(looks) == 1
    assert {it.node for it in found[:6]} == {"b"}
    assert found[6].node == "a"
    assert await house.reserved() == {"a": 10, "b": 6}


async def test_nobody_is_refused_and_no_party_is_split_for_what_was_read_before(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a = await house.seat(*[replace(ALONE, edge="a")] * 9)
    on_b = await house.seat(*[replace(ALONE, edge="b")] * 5)
    looks = await _looks(house, monkeypatch)
    await house.end(*on_b)  # that is not known to who seats
    found = await house.seat(*[of("us", 6)] * 6)
    assert ({it.node for it in found}, len(looks)) == ({"b"}, 1)
    await house.end(*on_a[:2])
    found = await house.seat(*[ALONE] * 5)
    assert ([it.node for it in found], len(looks)) == (["a"] * 5, 2)
    assert await house.reserved() == {"a": 12, "b": 6}


async def test_where_nothing_changes_it_is_not_asked_again_how_full_the_nodes_are(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = await _looks(house, monkeypatch)
    for _ in range(12):
        await house.seat(ALONE)
    assert len(looks) == 1
    monkeypatch.setattr(KnownRooms, "LASTS_S", 0.0)
    await house.seat(ALONE)
    assert len(looks) == 2
    assert sum((await house.reserved()).values()) == 13


async def test_a_party_is_joined_on_a_node_that_was_not_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another stream manager has placed it on a node that has just come into service."""
    await house.seat(of("us"))
    ((there, _),) = (await house.parties()).values()
    looks = await _looks(house, monkeypatch)
    house.seating._rooms.learn([Room("other", 10, 0)])
    (found,) = await house.seat(of("us"))
    assert (found.node, len(looks)) == (there, 1)


async def _looks(house: House, monkeypatch: pytest.MonkeyPatch) -> list[Role]:
    """How often it is asked how full the nodes are."""
    cls = type(await house.store.write(_itself))
    real, looks = cls.rooms, list[Role]()

    async def noted(tx: Any, role: Role) -> Any:
        looks.append(role)
        return await real(tx, role)

    monkeypatch.setattr(cls, "rooms", noted)
    return looks


async def _itself(tx: Transaction) -> Transaction:
    return tx


async def test_who_is_beaten_again_and_again_is_refused_and_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = type(await house.store.write(_itself))

    async def beaten(tx: Any, node: str, seats: int = 1) -> bool:
        return False

    monkeypatch.setattr(cls, "reserve", beaten)
    found = await house.seat(of("us"), ALONE)
    assert [type(it) for it in found] == [NoRoom, NoRoom]
    assert (await house.reserved(), await house.parties()) == ({}, {})


async def test_a_party_that_its_node_no_longer_takes_is_placed_anew(house: House) -> None:
    found = await house.seat(*[of("us")] * 2)
    here = found[0].node

    async def drain(change: Change) -> None:
        node = await change.tx.node(here)
        assert node is not None
        await change.move_node(node, NodeState.DRAINING, "a test")

    await house.books.change(drain)
    (third,) = await house.seat(of("us"))
    assert third.node != here
    assert await house.parties() == {"us": (third.node, 3)}, "room for the two who are still to be moved"
    assert house.board.reserved_on(here) == 2
    assert house.board.reserved_on(third.node) == 4


async def test_two_managers_seating_the_same_parties_keep_each_of_them_whole(database: Address) -> None:
    """The nodes fit exactly: one seat taken wrongly tears the last party apart, or refuses somebody."""
    chance = random.Random(7)
    async with AsyncExitStack() as closing:
        pair = []
        for name in ("a", "b"):
            pair.append(House(MysqlStore(database), name))
            closing.push_async_callback(pair[-1].close)
        await pair[0].build(**{f"edge-{number}": 96 for number in range(5)})
        joins = [of(f"party-{number}", 8) for number in range(60) for _ in range(8)]
        chance.shuffle(joins)
        coming = []
        for number, join in enumerate(joins):
            coming.append(asyncio.ensure_future(pair[number % 2].seating.seat(join)))
            if chance.random() < 0.1:
                await asyncio.sleep(0.004)  # batches of all sizes
        sessions = await asyncio.gather(*coming)
        at: dict[str, set[str]] = {}
        for session in sessions:
            at.setdefault(session.party or "", set()).add(session.node)
        assert {len(nodes) for nodes in at.values()} == {1}
        rooms = await pair[0].store.read(lambda tx: tx.rooms(Role.EDGE))
        assert [room.reserved for room in rooms] == [96] * 5
        stored = await pair[1].store.read(lambda tx: tx.sessions())
        assert {it.id for it in stored} == {it.id for it in sessions}
        rows: list[Party] = await pair[1].store.read(lambda tx: tx.parties())
        assert {(it.node, it.kept) for it in rows} == {(f"edge-{number}", 0) for number in range(5)}
        (late,) = await pair[1].seat(of("party-0", 8))
        assert isinstance(late, NoRoom)


def test_chance_draws_two_or_whatever_there_is() -> None:
    rooms: list[Any] = ["a", "b", "c"]
    drawn = {frozenset(placement.two_of(rooms)) for _ in range(200)}
    assert drawn == {frozenset("ab"), frozenset("bc"), frozenset("ac")}
    assert placement.two_of(rooms[:1]) == ["a"]
