"""A database server that is away, killed, in the way or silent: what a write comes to, and how we know it."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from controlplane.adapters.store.mysql import connections, faults
from controlplane.adapters.store.mysql import store as mysql_store
from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.faults import Fault
from controlplane.config import LeaseConfig
from controlplane.domain.managers.model import KeptAnswer
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import Session
from controlplane.ports.store import Store, StoreAway, StoreBusy, StoreUnknown, Taken, Transaction
from controlplane.wire.nodes import Role
from tests.controlplane.domain.events.test_rules import EVENT
from tests.controlplane.store.conftest import Opens
from tests.controlplane.store.proxy import At, Proxy
from tests.controlplane.store.test_contract import SESSION, add, node
from tests.support.mariadb import PASSWORD, Mariadb
from tests.support.wait import wait_for


def note(text: str) -> Any:
    return lambda tx: tx.append_journal(1.0, "a", "k", text, "m", {})


async def noted(store: Store) -> list[str]:
    return [entry.subject for entry in await store.read(lambda tx: tx.journal(0, 1000))]


def is_asked(mariadb: Mariadb, like: str) -> bool:
    """Whether somebody waits for the answer to such a statement."""
    found = mariadb.sql(f"SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{like}'")
    return bool(found[0][0])


@pytest.fixture
async def proxy(mariadb: Mariadb) -> AsyncIterator[Proxy]:
    async with Proxy(mariadb.port).running() as made:
        yield made


@pytest.fixture
async def through(proxy: Proxy, database: Address, opened: Opens) -> mysql_store.MysqlStore:
    """A store that speaks to its database through the proxy, and has done so."""
    store = await opened(replace(database, port=proxy.port), held_s=1.5)
    await store.write(note("first"))
    return store


# two managers


async def test_two_managers_never_overfill_a_node(database: Address, opened: Opens) -> None:
    one, other = await opened(database), await opened(database)
    await add(one, *(node(f"n{n}", capacity=7) for n in range(3)))

    async def join(store: Store, number: int) -> bool:
        async def work(tx: Transaction) -> bool:
            for name in (f"n{(number + k) % 3}" for k in range(3)):
                if await tx.reserve(name):
                    await tx.add_session(replace(SESSION, id=f"s{number}", node=name))
                    return True
            return False

        return await store.write(work)

    joined = await asyncio.gather(*(join((one, other)[n % 2], n) for n in range(60)))
    assert sum(joined) == 21
    assert await other.read(lambda tx: tx.rooms(Role.EDGE)) == [Room(f"n{n}", 7, 7) for n in range(3)]
    sessions = await one.read(lambda tx: tx.sessions())
    assert {s.id for s in sessions} == {f"s{n}" for n, seated in enumerate(joined) if seated}


async def test_of_two_managers_one_alone_adds_an_event_to_a_channel(database: Address, opened: Opens) -> None:
    """Each looks whether the channel is free, and adds one if so: no row is there yet to be locked."""
    stores = [await opened(database) for _ in range(2)]

    async def book(tx: Transaction) -> bool:
        if await tx.events_on("main", 0.0):
            return False
        await tx.add_event(EVENT)
        return True

    booked = await asyncio.gather(*(stores[n % 2].write(book) for n in range(10)))
    assert sum(booked) == 1
    assert len(await stores[0].read(lambda tx: tx.events(0.0))) == 1


async def test_a_deadlock_runs_the_whole_transaction_again(database: Address, opened: Opens) -> None:
    one, other = await opened(database), await opened(database)
    await add(one, node("a"), node("b"))
    runs: list[str] = []
    at_first = asyncio.Barrier(2)

    async def work(tx: Transaction, name: str, first: str, second: str) -> str:
        runs.append(name)
        assert await tx.reserve(first)
        if runs.count(name) == 1:
            await at_first.wait()  # both hold what the other one wants
        await tx.append_journal(1.0, "a", "k", name, "m", {})
        assert await tx.reserve(second)
        return name

    answers = await asyncio.gather(
        one.write(lambda tx: work(tx, "one", "a", "b")),
        other.write(lambda tx: work(tx, "other", "b", "a")),
    )
    assert answers == ["one", "other"]
    assert sorted(runs) in (["one", "one", "other"], ["one", "other", "other"])
    assert await one.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 400, 2), Room("b", 400, 2)]
    assert sorted(await noted(one)) == ["one", "other"]


async def test_those_who_went_together_are_all_run_again_in_their_order(
    database: Address, opened: Opens
) -> None:
    one, other = await opened(database), await opened(database)
    await add(one, node("a"), node("b"))
    tries = 0
    both = asyncio.Barrier(2)
    holds = asyncio.Event()

    async def holder(tx: Transaction) -> None:
        await tx.reserve("b")
        holds.set()
        await both.wait()
        for _ in range(50):  # the other has more to lose: the server gives up who has changed the fewest rows
            await tx.append_journal(1.0, "a", "k", "holder", "m", {})
        await tx.reserve("a")

    async def last(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        await tx.reserve("a")
        if tries == 1:
            await both.wait()
        await tx.reserve("b")

    blocker = asyncio.Event()

    async def wait(tx: Transaction) -> None:
        await blocker.wait()

    first = asyncio.ensure_future(one.write(wait))  # the others gather behind it
    group = [asyncio.ensure_future(one.write(note(str(n)))) for n in range(5)]
    group.append(asyncio.ensure_future(one.write(last)))
    holding = asyncio.ensure_future(other.write(holder))
    await holds.wait()
    blocker.set()
    await asyncio.gather(first, *group, holding)
    assert tries == 2
    assert [text for text in await noted(one) if text != "holder"] == ["0", "1", "2", "3", "4"]
    assert {room.reserved for room in await one.read(lambda tx: tx.rooms(Role.EDGE))} == {2}


async def test_a_row_that_another_manager_has_just_made_is_found_when_the_work_is_run_again(
    mariadb: Mariadb, database: Address, opened: Opens
) -> None:
    one, other = await opened(database), await opened(database)
    made, let_go = asyncio.Event(), asyncio.Event()
    runs = 0

    async def revoke(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        await tx.revoke("j", "main", 5.0)  # looks, and inserts what is not there
        return "revoked"

    async def quicker(tx: Transaction) -> None:
        await tx.revoke("j", "main", 5.0)
        made.set()
        await let_go.wait()

    first = asyncio.ensure_future(other.write(quicker))
    await made.wait()
    writing = asyncio.ensure_future(one.write(revoke))
    await wait_for(lambda: is_asked(mariadb, "INSERT INTO revoked_tokens%"), 5.0, "it waits for the key")
    let_go.set()
    await first
    assert await writing == "revoked"
    assert runs == 2


async def test_a_lock_that_others_hold_for_too_long_is_said_and_waited_for(
    database: Address, opened: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOCK_WAIT_S", 1)
    one, other = await opened(database, held_s=0.5), await opened(database)
    await add(one, node("a"))
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await tx.reserve("a")
        held.set()
        await let_go.wait()

    holding = asyncio.ensure_future(other.write(hold))
    await held.wait()
    with pytest.raises(StoreBusy, match=r"held by others for longer than .*; nothing was changed"):
        await one.write(lambda tx: tx.reserve("a"))
    assert await one.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 400, 0)]  # reading goes on
    let_go.set()
    await holding
    assert await one.write(lambda tx: tx.reserve("a"))
    assert await one.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 400, 2)]


# the connection


async def test_a_connection_that_was_cut_while_idle_is_not_noticed(
    through: mysql_store.MysqlStore, proxy: Proxy
) -> None:
    assert await noted(through) == ["first"]
    for text in ("second", "third"):
        proxy.cut()
        assert (await through.write(note(text))).subject == text
        proxy.cut()
        assert (await noted(through))[-1] == text
    assert await noted(through) == ["first", "second", "third"]


async def test_a_transaction_that_is_cut_in_the_middle_is_run_again(
    through: mysql_store.MysqlStore, proxy: Proxy
) -> None:
    runs = 0

    async def work(tx: Transaction) -> int:
        nonlocal runs
        runs += 1
        await tx.append_journal(1.0, "a", "k", "before", "m", {})
        if runs == 1:
            proxy.cut()
        await tx.append_journal(1.0, "a", "k", "after", "m", {})
        return runs

    assert await through.write(work) == 2
    assert await noted(through) == ["first", "before", "after"]


async def test_a_commit_that_never_arrived_is_done_once(
    through: mysql_store.MysqlStore, proxy: Proxy
) -> None:
    runs = 0

    async def work(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        return (await tx.append_journal(1.0, "a", "k", "cut", "m", {})).subject

    proxy.commit = At.NEVER_ARRIVES
    assert await through.write(work) == "cut"
    assert (runs, await noted(through)) == (2, ["first", "cut"])


async def test_a_commit_whose_answer_was_lost_is_known_to_have_happened(
    through: mysql_store.MysqlStore, proxy: Proxy
) -> None:
    runs = 0
    told: list[str] = []

    async def work(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        return (await tx.append_journal(1.0, "a", "k", "kept", "m", {})).subject

    proxy.commit = At.GETS_NO_ANSWER
    assert await through.write(work, after=told.append) == "kept"
    assert (runs, told, await noted(through)) == (1, ["kept"], ["first", "kept"])
    assert await through.write(work) == "kept"  # and the count goes on
    assert await noted(through) == ["first", "kept", "kept"]


async def test_the_very_first_commit_of_a_manager_is_known_too(
    proxy: Proxy, database: Address, opened: Opens
) -> None:
    for at, runs in ((At.GETS_NO_ANSWER, 1), (At.NEVER_ARRIVES, 2)):
        store = await opened(replace(database, port=proxy.port))
        ran = 0

        async def work(tx: Transaction, name: str) -> None:
            nonlocal ran
            ran += 1
            await tx.append_journal(1.0, "a", "k", name, "m", {})

        proxy.commit = at
        await store.write(lambda tx, name=at.name: work(tx, name))  # type: ignore[misc]
        assert ran == runs
    assert await noted(store) == [At.GETS_NO_ANSWER.name, At.NEVER_ARRIVES.name]


async def test_a_commit_that_is_still_on_its_way_is_waited_for_and_not_guessed(
    mariadb: Mariadb, proxy: Proxy, database: Address, opened: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We have given it up, the server has not: its transaction is open, and ends well later."""
    monkeypatch.setattr(connections, "LOCK_WAIT_S", 1)
    monkeypatch.setattr(mysql_store, "TRY_S", 0.5)
    runs = 0

    async def work(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        return (await tx.append_journal(1.0, "a", "k", "late", "m", {})).subject

    store = await opened(replace(database, port=proxy.port))
    await store.write(note("first"))
    proxy.commit = At.LINGERS
    writing = asyncio.ensure_future(store.write(work))
    await proxy.last_word.wait()
    # One that asked for it and did not wait for the lock would find the old number now.
    await wait_for(lambda: is_asked(mariadb, "%writers%FOR UPDATE"), 5.0, "the commit is looked up")
    proxy.arrive.set()
    assert await writing == "late"
    assert (runs, await noted(store)) == (1, ["first", "late"])


@pytest.mark.parametrize(("at", "kept"), [(At.GETS_NO_ANSWER, True), (At.NEVER_ARRIVES, False)])
async def test_where_nobody_can_be_asked_that_is_said_and_found_out_later(
    through: mysql_store.MysqlStore, proxy: Proxy, at: At, kept: bool
) -> None:
    told: list[str] = []

    async def work(tx: Transaction) -> str:
        return (await tx.append_journal(1.0, "a", "k", "torn", "m", {})).subject

    proxy.commit = at
    writing = asyncio.ensure_future(through.write(work, after=told.append))
    await proxy.last_word.wait()
    proxy.shut = True
    behind = asyncio.ensure_future(through.write(note("behind")))
    with pytest.raises(StoreUnknown, match=r"away since .* whether it has is found out"):
        await writing
    with pytest.raises(StoreAway, match=r"is away since \d+ s .*; nothing was changed"):
        await behind
    assert told == []
    proxy.shut = False
    await through.write(note("later"))
    assert told == (["torn"] if kept else [])
    assert await noted(through) == ["first", *(["torn"] if kept else []), "later"]


@pytest.mark.parametrize(("at", "kept"), [(At.GETS_NO_ANSWER, True), (At.NEVER_ARRIVES, False)])
async def test_what_became_of_an_unknown_commit_stands_under_its_key(
    through: mysql_store.MysqlStore, proxy: Proxy, database: Address, opened: Opens, at: At, kept: bool
) -> None:
    """Whoever was not told asks another manager: there is the answer, or it is done now."""
    other = await opened(database)

    async def work(tx: Transaction) -> None:
        await tx.begin_answer("key", "asked")
        await tx.append_journal(1.0, "a", "k", "asked for", "m", {})
        await tx.keep_answer("key", "answer")

    proxy.commit = at
    writing = asyncio.ensure_future(through.write(work))
    await proxy.last_word.wait()
    proxy.shut = True
    with pytest.raises(StoreUnknown):
        await writing
    if kept:
        with pytest.raises(Taken):
            await other.write(work)
    else:
        await other.write(work)
    assert await other.read(lambda tx: tx.kept_answer("key")) == KeptAnswer(asked="asked", answer="answer")
    assert (await noted(other)).count("asked for") == 1


async def test_a_server_that_is_silent_is_given_up_in_time(
    database: Address, opened: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections, and says nothing."""
    monkeypatch.setattr(mysql_store, "TRY_S", 0.3)
    monkeypatch.setattr(mysql_store, "LAST_TRY_S", 0.2)
    said_nothing: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said_nothing.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        store = await opened(replace(database, port=server.sockets[0].getsockname()[1]), held_s=0.5)
        for asked in (store.write(note("x")), store.read(lambda tx: tx.nodes())):
            with pytest.raises(StoreAway, match="does not answer in time"):
                await asked
        assert said_nothing
        for writer in said_nothing:
            writer.transport.abort()


# the server's death


async def test_a_server_that_is_away_is_said_and_gone_on_with(own_mariadb: Mariadb, opened: Opens) -> None:
    name = own_mariadb.fresh()
    store = await opened(own_mariadb.address(name), held_s=0.4)
    patient = await opened(own_mariadb.address(name), held_s=30.0)
    await store.write(note("before"))
    await patient.write(note("before"))
    own_mariadb.kill()
    for asked in (store.write(note("lost")), store.read(lambda tx: tx.nodes())):
        with pytest.raises(
            StoreAway, match=rf"{name} at 127.0.0.1:\d+ is away since \d+ s .*nothing was changed"
        ):
            await asked
    held = [asyncio.ensure_future(patient.write(note(f"held {n}"))) for n in range(3)]
    reading = asyncio.ensure_future(patient.read(lambda tx: tx.journal(0, 1)))
    with pytest.raises(StoreAway):  # while those wait
        await store.write(note("lost"))
    assert not any(one.done() for one in (*held, reading))
    own_mariadb.start()
    assert [entry.subject for entry in await asyncio.gather(*held)] == ["held 0", "held 1", "held 2"]
    assert len(await reading) == 1
    await store.write(note("after"))
    assert await noted(store) == ["before", "before", "held 0", "held 1", "held 2", "after"]


async def test_a_server_killed_during_joins_has_kept_all_that_was_answered(
    own_mariadb: Mariadb, opened: Opens
) -> None:
    address = own_mariadb.address(own_mariadb.fresh())
    stores = [await opened(address, held_s=30.0) for _ in range(2)]
    await add(stores[0], *(node(f"n{n}", capacity=10_000) for n in range(3)))
    answered: set[str] = set()
    stop = False

    async def join(store: Store, session: Session) -> None:
        async def work(tx: Transaction) -> str:
            assert await tx.reserve(session.node)
            await tx.add_session(session)
            await tx.append_journal(1.0, "a", "k", session.id, "m", {})
            return session.id

        answered.add(await store.write(work))

    async def viewer(number: int) -> None:
        joins = 0
        while not stop:
            joins += 1
            session = replace(SESSION, id=f"s{number}-{joins}", node=f"n{joins % 3}")
            await join(stores[number % 2], session)

    viewers = [asyncio.ensure_future(viewer(number)) for number in range(16)]
    for _ in range(3):
        before = len(answered)
        await wait_for(lambda enough=before + 150: len(answered) >= enough, 20.0, "joins")  # type: ignore[misc]
        own_mariadb.kill()
        own_mariadb.start()
    stop = True
    await asyncio.gather(*viewers)
    there = [session.id for session in await stores[0].read(lambda tx: tx.sessions())]
    assert set(there) == answered  # none is lost, and none is there that nobody was told of
    assert sorted(await noted_all(stores[0])) == sorted(answered)  # each once
    rooms = await stores[0].read(lambda tx: tx.rooms(Role.EDGE))
    assert sum(room.reserved for room in rooms) == len(answered)


async def noted_all(store: Store) -> list[str]:
    return [entry.subject for entry in await store.read(lambda tx: tx.journal(0, 1_000_000))]


# the rest


async def test_a_big_number_is_still_a_number(database: Address, opened: Opens, mariadb: Mariadb) -> None:
    mariadb.sql(f"ALTER TABLE {database.database}.journal AUTO_INCREMENT = {2**53 + 1}")
    store = await opened(database)
    assert (await store.write(note("x"))).id == 2**53 + 1
    assert (await store.read(lambda tx: tx.journal(2**53, 10)))[0].id == 2**53 + 1


async def test_a_read_may_not_write(database: Address, opened: Opens) -> None:
    store = await opened(database)
    with pytest.raises(Exception, match="READ ONLY"):
        await store.read(lambda tx: tx.add_node(node("a")))
    assert await store.read(lambda tx: tx.nodes()) == []


async def test_more_readers_than_connections_all_have_their_turn(database: Address, opened: Opens) -> None:
    store = await opened(database)
    found = await asyncio.gather(*(store.read(lambda tx: tx.nodes()) for _ in range(100)))
    assert found == [[]] * 100


async def test_what_a_writer_has_is_what_it_was_told(database: Address, opened: Opens) -> None:
    store = await opened(database)

    async def look(tx: Any) -> list[Any]:
        words = "@@innodb_lock_wait_timeout, @@wait_timeout, @@tx_isolation, @@tx_read_only"
        words += ", @@collation_connection, @@idle_transaction_timeout"
        found = await tx._c.connection.exec_driver_sql(f"SELECT {words}, @@max_statement_time + 0.0")
        return list(found.one())

    lock_s, wait_s, isolation, read_only, collation, held_s, statement_s = await store.write(look)
    assert (lock_s, wait_s) == (connections.LOCK_WAIT_S, connections.IDLE_S)
    assert held_s == connections.HELD_S < LeaseConfig().length_s, "or nobody could lead for longer"
    assert (isolation, read_only) == ("READ-COMMITTED", 0)
    assert collation.startswith("utf8mb4")
    assert float(statement_s) == connections.STATEMENT_S


async def test_a_bug_in_a_statement_is_no_fault_of_the_servers(database: Address, opened: Opens) -> None:
    """It comes back at once as what it is, and the store goes on."""
    store = await opened(database)

    async def wrong(tx: Any) -> None:
        await tx._c.connection.exec_driver_sql("SELECT * FROM no_such_table")

    with pytest.raises(Exception, match="no_such_table"):
        await store.write(wrong)
    await store.write(note("after"))
    assert await noted(store) == ["after"]


async def test_nothing_that_is_said_has_the_password_in_it(
    mariadb: Mariadb, opened: Opens, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    address = mariadb.address("show_nowhere")
    store = await opened(address, held_s=0.2)
    with pytest.raises(StoreAway) as caught:
        await store.write(note("x"))
    said = [
        repr(address),
        str(address),
        str(caught.value),
        repr(caught.value.__cause__),
        repr(store._writing.url),
    ]
    gc.collect()
    said += [caplog.text, *capsys.readouterr()]
    for text in said:
        assert PASSWORD not in text
        assert PASSWORD[:4] not in text
    assert "show_nowhere" in str(caught.value)


async def test_a_store_that_is_closed_takes_nothing_more(database: Address, opened: Opens) -> None:
    store = await opened(database)
    writing = [asyncio.ensure_future(store.write(note(str(n)))) for n in range(5)]
    await asyncio.sleep(0)  # they are in line
    await store.close()
    assert [entry.subject for entry in await asyncio.gather(*writing)] == ["0", "1", "2", "3", "4"]
    for asked in (store.write(note("x")), store.read(lambda tx: tx.nodes())):
        with pytest.raises(StoreBusy, match="is ending"):
            await asked


async def test_a_store_can_be_closed_while_its_database_is_away(
    through: mysql_store.MysqlStore, proxy: Proxy
) -> None:
    proxy.shut = True
    proxy.cut()
    waiting = [asyncio.ensure_future(through.write(note("x"))), asyncio.ensure_future(noted(through))]
    await asyncio.sleep(0)
    await through.close()
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(answer, StoreBusy)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (TimeoutError(), Fault.AWAY),
        (ConnectionResetError(), Fault.AWAY),
        (KeyError(), None),
    ],
)
def test_what_errors_of_the_system_stand_for(error: BaseException, fault: Fault | None) -> None:
    assert faults.of(error) is fault
