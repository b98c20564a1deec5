"""Writes that share a commit, on a real file: their order, what each leaves behind, and whom they hold up."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.store import migrate
from controlplane.adapters.store.sql.transaction import SqlTransaction
from controlplane.adapters.store.sqlite import STATEMENTS, SqliteStore
from controlplane.ports.store import StoreBusy, StoreFull
from tests.controlplane.domain.test_rules import NODE
from tests.support.wait import wait_for

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "showcaller.db"
    migrate.prepare(path)
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteStore]:
    """Open already, so that nothing but writes is handed to its thread."""
    made = SqliteStore(database, busy_s=1.0)
    await made.write(lambda tx: tx.add_node(NODE))
    yield made
    await made.close()


def note(subject: str, times: int = 1) -> Callable[[SqlTransaction], Awaitable[str]]:
    """A work of so many statements that writes as many entries."""

    async def work(tx: SqlTransaction) -> str:
        for _ in range(times):
            await tx.append_journal(1.0, "a", "k", subject, "m", {})
        return subject

    return work


async def noted(store: SqliteStore) -> list[str]:
    return [entry.subject for entry in await store.read(lambda tx: tx.journal(0, 10_000))]


def trace(store: SqliteStore) -> list[str]:
    """What its writing connection is told from now on."""
    told: list[str] = []
    assert store._writer is not None
    store._writer.raw.set_trace_callback(told.append)
    return told


def commits(told: list[str]) -> int:
    return told.count("COMMIT")


@contextmanager
def slow_disk(store: SqliteStore) -> Iterator[Callable[[], None]]:
    """Nothing is committed until it is let go (the call that this gives), or at the end."""
    go = threading.Event()
    store._thread._executor.submit(go.wait)
    try:
        yield go.set
    finally:
        go.set()


async def begin(*works: Awaitable[Any]) -> list["asyncio.Future[Any]"]:
    """Ask for all of them in this order; they are in line when this returns."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.sleep(0)
    return tasks


async def test_writes_of_the_same_moment_share_a_commit_in_their_order(store: SqliteStore) -> None:
    told, after = trace(store), list[str]()
    names = [f"n{number:02}" for number in range(40)]
    answers = await asyncio.gather(*(store.write(note(name), after=after.append) for name in names))
    assert answers == after == names == await noted(store)
    assert commits(told) == 1


async def test_what_comes_during_a_commit_goes_into_the_next(store: SqliteStore) -> None:
    told = trace(store)
    with slow_disk(store) as let_go:
        first = await begin(store.write(note("a")))
        await wait_for(lambda: "RELEASE work" in told, 5, "the first has been run")
        rest = await begin(*(store.write(note(name)) for name in "bcd"))
        assert await noted(store) == []  # read beside the open transaction, of which nothing is seen
        assert not any(task.done() for task in first + rest)
        let_go()
        assert await asyncio.gather(*first, *rest) == ["a", "b", "c", "d"]
    assert commits(told) == 2


async def test_one_that_raises_is_undone_alone(store: SqliteStore) -> None:
    async def fails(tx: SqlTransaction) -> None:
        await note("never")(tx)
        await tx.release("edge-1")
        raise LookupError("its own affair")

    told = trace(store)
    tasks = await begin(
        store.write(lambda tx: tx.reserve("edge-1")),
        store.write(note("a")),
        store.write(fails),
        store.write(note("b")),
    )
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [True, "a", "b"]
    assert isinstance(results[2], LookupError)
    assert commits(told) == 1
    assert await noted(store) == ["a", "b"]
    node = (await store.read(lambda tx: tx.rooms(NODE.role)))[0]
    assert node.reserved == 1


async def test_if_all_raise_nothing_is_committed(store: SqliteStore) -> None:
    async def fails(tx: SqlTransaction) -> None:
        await note("never")(tx)
        raise LookupError

    told = trace(store)
    for task in await begin(store.write(fails), store.write(fails)):
        with pytest.raises(LookupError):
            await task
    assert commits(told) == 0
    assert await store.write(note("a")) == "a"
    assert await noted(store) == ["a"]


async def test_a_commit_that_fails_fails_all_and_leaves_nothing(store: SqliteStore, database: Path) -> None:
    async def refused(tx: SqlTransaction) -> None:
        raise LookupError("because of what it saw, which has not come to be")

    told, after = trace(store), list[str]()
    wal = database.with_name(f"{database.name}-wal")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, most))  # the disk is full
    try:
        tasks = await begin(
            store.write(note("a"), after=after.append),
            store.write(refused),
            store.write(note("b"), after=after.append),
        )
        results = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert [type(result) for result in results] == [StoreFull] * 3
    assert commits(told) == 1  # it came so far
    assert after == []
    assert await noted(store) == []
    assert await store.write(note("c")) == "c"
    assert await noted(store) == ["c"]


async def test_where_a_full_disk_undoes_the_transaction_those_behind_go_on(store: SqliteStore) -> None:
    async def large(tx: SqlTransaction) -> None:
        await tx.append_journal(1.0, "a", "k", "large", "m" * 100_000, {})

    assert store._writer is not None
    (pages,) = store._writer.raw.execute("PRAGMA page_count").fetchone()
    store._writer.raw.execute(f"PRAGMA max_page_count={pages}")
    tasks = await begin(store.write(note("a")), store.write(large), store.write(note("b")))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreFull, StoreFull, str]
    assert await noted(store) == ["b"]


async def test_whoever_is_cancelled_hurts_nobody_and_his_write_is_done(store: SqliteStore) -> None:
    after: list[str] = []
    with slow_disk(store) as let_go:
        running = await begin(store.write(note("a"), after=after.append))
        waiting = await begin(*(store.write(note(name), after=after.append) for name in "bcd"))
        running[0].cancel()
        waiting[1].cancel()
        await asyncio.wait([running[0], waiting[1]])
        let_go()
        assert await asyncio.gather(waiting[0], waiting[2]) == ["b", "d"]
    assert running[0].cancelled()
    assert waiting[1].cancelled()
    assert after == ["a", "b", "c", "d"] == await noted(store)


async def test_closing_lets_those_in_line_have_their_turn(store: SqliteStore, database: Path) -> None:
    with slow_disk(store) as let_go:
        tasks = await begin(store.write(note("a")))
        tasks += await begin(store.write(note("b")), store.write(note("c")))
        closing_it = await begin(store.close())
        with pytest.raises(StoreBusy, match="is ending"):
            await store.write(note("late"))
        with pytest.raises(StoreBusy, match="is ending"):
            await store.read(lambda tx: tx.nodes())
        assert not closing_it[0].done()
        let_go()
        assert await asyncio.gather(*tasks) == ["a", "b", "c"]
        await closing_it[0]
    assert not database.with_name(f"{database.name}-wal").exists()  # all of it is in the database
    again = SqliteStore(database)
    assert await noted(again) == ["a", "b", "c"]
    await again.close()


async def test_closing_while_it_is_being_opened_leaves_nothing_open(database: Path) -> None:
    store = SqliteStore(database)
    with slow_disk(store) as let_go:
        (reading,) = await begin(store.read(lambda tx: tx.nodes()))
        (closing_it,) = await begin(store.close())
        let_go()
        with pytest.raises(StoreBusy, match="is ending"):
            await reading
        await closing_it
    assert store._reader is None
    assert not database.with_name(f"{database.name}-wal").exists()


async def test_closing_waits_for_another_programs_lock_no_longer_than_a_write_does(database: Path) -> None:
    store = SqliteStore(database, busy_s=0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        tasks = await begin(store.write(note("a")), store.write(note("b")))
        await store.close()
    assert [type(task.exception()) for task in tasks] == [StoreBusy] * 2


async def test_each_waits_for_another_programs_lock_for_a_time_of_its_own(
    store: SqliteStore, database: Path
) -> None:
    told = trace(store)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        early = await begin(store.write(note("early")))
        # By the pauses between, half a second; the first is told after one.
        await wait_for(lambda: told.count("BEGIN IMMEDIATE") >= 14, 5, "the lock is asked for again")
        late = await begin(store.write(note("late")))
        with pytest.raises(StoreBusy):
            await early[0]
        assert not late[0].done()
        other.execute("ROLLBACK")
    assert await late[0] == "late"
    assert await noted(store) == ["late"]


async def test_a_database_that_cannot_be_opened_is_said_so_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "later" / "showcaller.db"
    store = SqliteStore(path)
    tasks = await begin(store.write(note("a")), store.write(note("b")), store.read(lambda tx: tx.nodes()))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreFull] * 3
    path.parent.mkdir()
    migrate.prepare(path)
    assert await store.write(note("c")) == "c"
    assert await noted(store) == ["c"]
    await store.close()


async def test_a_connection_that_is_of_no_use_any_more_is_opened_anew(store: SqliteStore) -> None:
    assert store._writer is not None
    store._writer.raw.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await store.write(note("a"))
    assert await store.write(note("b")) == "b"
    assert await noted(store) == ["b"]


async def test_a_write_that_has_to_be_first_runs_when_all_before_it_is_told(store: SqliteStore) -> None:
    told, after, seen = trace(store), list[str](), dict[str, list[str]]()

    def looking(name: str) -> Callable[[SqlTransaction], Awaitable[str]]:
        async def work(tx: SqlTransaction) -> str:
            seen[name] = list(after)
            return await note(name)(tx)

        return work

    tasks = await begin(
        *(store.write(looking(name), after=after.append, first=name.isupper()) for name in "abCdE")
    )
    await asyncio.gather(*tasks)
    assert seen == {"a": [], "b": [], "C": ["a", "b"], "d": ["a", "b"], "E": ["a", "b", "C", "d"]}
    assert commits(told) == 3
    assert await noted(store) == list("abCdE")


async def test_who_cannot_be_told_fails_alone(store: SqliteStore) -> None:
    def after(_: str) -> None:
        raise LookupError("the listener's own")

    told: list[str] = []
    tasks = await begin(store.write(note("a"), after=after), store.write(note("b"), after=told.append))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], LookupError)
    assert results[1:] == told == ["b"]
    assert await noted(store) == ["a", "b"]


# what a work may not do


async def nothing(_: SqlTransaction) -> None:
    await asyncio.sleep(0)


async def something(_: SqlTransaction) -> None:
    await asyncio.Event().wait()


async def something_again(_: SqlTransaction) -> None:
    try:
        await asyncio.sleep(60)
    except RuntimeError:
        await asyncio.sleep(60)


async def quietly(_: SqlTransaction) -> None:
    try:
        await asyncio.sleep(60)
    except RuntimeError:
        return


@pytest.mark.parametrize("wait", [nothing, something, something_again, quietly])
async def test_a_work_awaits_nothing_but_its_transaction(
    store: SqliteStore, wait: Callable[[SqlTransaction], Awaitable[None]]
) -> None:
    async def work(tx: SqlTransaction) -> None:
        await note("never")(tx)
        await wait(tx)

    refused, other = await begin(store.write(work), store.write(note("a")))
    with pytest.raises(RuntimeError, match="may await nothing but its transaction") as told:
        await refused
    if wait in (nothing, something):
        assert any(frame.name == wait.__name__ for frame in traceback.extract_tb(told.tb))
    assert await other == "a"
    with pytest.raises(RuntimeError, match="may await nothing but its transaction"):
        await store.read(wait)
    assert await noted(store) == ["a"]


async def test_a_work_that_is_cancelled_by_what_it_looks_at_fails_alone(store: SqliteStore) -> None:
    async def work(tx: SqlTransaction) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await note("never")(tx)
        await gone

    cancelled, other = await begin(store.write(work), store.write(note("a")))
    assert await other == "a"
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await noted(store) == ["a"]


async def test_reading_does_not_write(store: SqliteStore) -> None:
    with pytest.raises(StoreFull, match="readonly"):
        await store.read(note("never"))
    assert await noted(store) == []


# the loop has its turn


async def _longest(told: list[str], work: Awaitable[Any]) -> int:
    """The most statements of works that ran without anybody else having the loop."""

    async def others() -> None:
        while True:
            told.append("a turn of somebody else")
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(others())
    await work
    beside.cancel()
    longest = run = 0
    for line in told:
        run = 0 if line == "a turn of somebody else" else run + (not line.startswith(CONTROL))
        longest = max(longest, run)
    return longest


async def test_many_writes_do_not_hold_the_loop_for_long(store: SqliteStore) -> None:
    told = trace(store)
    works = [store.write(note(str(number), times=3)) for number in range(300)]
    # Whoever is begun is run to its end.
    assert STATEMENTS <= await _longest(told, asyncio.gather(*works)) < STATEMENTS + 3
    assert commits(told) == -(-300 // -(-STATEMENTS // 3))
    assert Counter(await noted(store)) == {str(number): 3 for number in range(300)}


async def test_nor_does_a_long_one(store: SqliteStore) -> None:
    told = trace(store)
    tasks = [store.write(note("long", times=10 * STATEMENTS + 1)), store.write(note("b"))]
    assert await _longest(told, asyncio.gather(*tasks)) == STATEMENTS
    assert commits(told) == 2
    assert Counter(await noted(store)) == {"long": 10 * STATEMENTS + 1, "b": 1}


async def test_while_a_long_one_runs_its_half_is_not_seen_and_others_wait(store: SqliteStore) -> None:
    told = trace(store)
    tasks = await begin(store.write(note("long", times=3 * STATEMENTS)))
    assert sum(line.startswith("INSERT") for line in told) < 3 * STATEMENTS  # it is the loop's turn
    tasks += await begin(store.write(lambda tx: tx.add_node(replace(NODE, id="edge-2", enrol_hash="y"))))
    assert await noted(store) == []
    await asyncio.gather(*tasks)
    assert len(await noted(store)) == 3 * STATEMENTS


# death

_WRITERS = """
import asyncio, sys
from pathlib import Path
from controlplane.adapters.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))

    async def writer(name):
        number = 0
        while True:
            number += 1
            async def work(tx):
                await tx.append_journal(1.0, "a", "k", f"{name}-{number}", "one", {})
                await tx.append_journal(1.0, "a", "k", f"{name}-{number}", "two", {})
            await store.write(work)
            print(f"{name}-{number}", flush=True)

    await asyncio.gather(*(writer(name) for name in sys.argv[2:]))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [10, 47, 150])
def test_what_was_answered_of_a_shared_commit_survives_kill_9(database: Path, lines: int) -> None:
    names = [f"w{number}" for number in range(20)]
    writers = subprocess.Popen(
        [sys.executable, "-c", _WRITERS, str(database), *names], stdout=subprocess.PIPE, text=True
    )
    assert writers.stdout is not None
    answered = [writers.stdout.readline().strip() for _ in range(lines)]
    os.kill(writers.pid, signal.SIGKILL)
    answered += [line.strip() for line in writers.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
    writers.stdout.close()
    writers.wait()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT subject, message FROM journal ORDER BY id").fetchall()
    kept = Counter(subject for subject, _ in rows)
    assert set(kept.values()) == {2}  # each whole
    assert set(answered) <= kept.keys()
