"""The store on SQLite, for an embedded stage: WAL mode with synchronous=FULL.

A statement on this small database takes some 25 us, less than handing it to another thread and back. So
statements run where they are asked for, on the event loop's thread, and only what waits for the disk is
handed to a thread, one of its own: opening, COMMIT (with its fsync, and now and then a checkpoint), closing.
The lock of another program is not waited for in SQLite (its busy_timeout is 0) but here, by asking again.

Writes are committed together. While one transaction is being committed those that come wait in line; then
all of them run in the next one, in their order, each inside a savepoint of its own: one that raises is undone
alone. Nobody is answered before the COMMIT, also not with an error, as it may come of what a work before it
has done. A COMMIT that fails fails all of them and leaves nothing behind.

    on the loop      BEGIN IMMEDIATE, then of each in line: SAVEPOINT, its work, RELEASE
    in the thread    COMMIT
    on the loop      `after` of each, and the answers

The loop serves everybody else too. A transaction takes no further work once STATEMENTS have run, and within a
long work the loop has its turn after each STATEMENTS of them. Works are driven by hand, not by a task of
their own: whatever they await but their transaction is refused, as it would hold up all who wait.

Reads have a connection of their own, where the writer's transaction is not seen and keeps nobody waiting, and
run from BEGIN to the end in one go.
"""

import asyncio
import functools
import sqlite3
import time
import types
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from sqlalchemy import URL, Executable, create_engine
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from controlplane.adapters.store.line import Line, Waiting
from controlplane.adapters.store.sql.transaction import SqlTransaction
from controlplane.ports.store import StoreBusy, StoreFull

T = TypeVar("T")

STATEMENTS = 64  # that run before somebody else has the loop: 2 to 4 ms
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL")
PAUSES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # between asking for a lock of another program's

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
# IOERR: also where the shared memory of the WAL, or the WAL itself, cannot grow
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_PRIMARY = 0xFF  # of an extended result code
_ERRORS = (sqlite3.Error, DBAPIError)

_TURN = object()  # what a work yields when it is the loop's turn


@types.coroutine
def _turn() -> Generator[object, None, None]:
    yield _TURN


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code: int | None = getattr(original, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def _said(error: BaseException) -> BaseException:
    """An error as ports.store says it, or as it is."""
    code = _code(error)
    kind = StoreBusy if code in _BUSY else StoreFull if code in _NO_ROOM else None
    if kind is None:
        return error
    said = kind(str(error.orig if isinstance(error, DBAPIError) else error))
    said.__cause__ = error
    return said


class _Direct:
    """A connection of this thread, as SqlTransaction wants one: nothing in here waits."""

    def __init__(self, connection: Connection, turns: bool) -> None:
        self.connection = connection
        self.raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        self.ran = 0  # statements of this transaction
        self._turns = turns

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        if self._turns and self.ran and self.ran % STATEMENTS == 0:
            await _turn()
        self.ran += 1
        return self.connection.execute(statement, parameters)


def _refuse(steps: Generator[Any, None, Any]) -> NoReturn:
    """A work has awaited something else: it is told so where it stands, and the traceback names the line."""
    error = RuntimeError("a work of the store may await nothing but its transaction")
    try:
        steps.throw(error)
    except StopIteration:
        raise error from None
    steps.close()
    raise error


class _Waiting(Waiting[T]):
    """A write in line, that says SQLite's errors as ports.store does."""

    def fail(self, error: BaseException) -> None:
        super().fail(_said(error))


class _Thread:
    """Runs calls one after the other, away from the loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "store")

    async def run(self, call: Callable[[], T]) -> T:
        """Whoever is cancelled meanwhile goes; the call goes on."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def wake() -> None:
            if not over.done():
                over.set_result(None)

        def ended(_: Future[T]) -> None:
            loop.call_soon_threadsafe(wake)

        running = self._executor.submit(call)
        running.add_done_callback(ended)
        await over
        return running.result()

    def end(self) -> None:
        self._executor.shutdown()


class SqliteStore:
    """ports.store.Store."""

    def __init__(self, database: Path, busy_s: float = 5.0, clock: Callable[[], float] = time.time) -> None:
        """`busy_s`: how long another program's lock is waited for. `clock`: the database's, as SQLite has
        none of its own; all who share the file are on this machine."""
        self._busy_s = busy_s
        self._clock = clock
        self.engine = create_engine(
            URL.create("sqlite", database=str(database)),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",  # BEGIN, COMMIT and savepoints are said here
            connect_args={"check_same_thread": False, "timeout": busy_s},
        )
        self._thread = _Thread()
        self._writer: _Direct | None = None
        self._reader: _Direct | None = None
        self._line: Line[_Waiting[Any]] = Line(_Waiting, self._transaction)
        self._closed = False

    async def read(self, work: Callable[[SqlTransaction], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._busy_s
        tries = 0
        while True:
            try:
                self._check_open()
                if self._reader is not None:
                    return _read(self._reader, work)
                await self._thread.run(self._connect)
                continue
            except _ERRORS as error:
                if _code(error) not in _BUSY or loop.time() >= give_up:
                    raise _said(error) from None
            await asyncio.sleep(_pause(tries))
            tries += 1

    async def write(
        self,
        work: Callable[[SqlTransaction], Awaitable[T]],
        *,
        after: Callable[[T], None] | None = None,
        first: bool = False,
    ) -> T:
        self._check_open()
        return await self._line.write(work, after, first)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._line.runner is not None:
            await asyncio.wait({self._line.runner})  # whoever is in line has his turn
        await self._thread.run(int)  # and whoever is just opening it has done so
        await self._disconnect()
        self._thread.end()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreBusy("the stream manager is ending")

    # connections

    def _connect(self) -> None:
        """In the thread: this may wait for another program, and read the log of a predecessor that died."""
        if self._reader is not None:
            return  # somebody else asked for it as well
        opened: list[Connection] = []
        try:
            for pragmas in (PRAGMAS, (*PRAGMAS, "query_only=ON")):
                connection = self.engine.connect()
                opened.append(connection)
                for pragma in (*pragmas, "busy_timeout=0"):  # from here on it is waited for on the loop
                    connection.exec_driver_sql(f"PRAGMA {pragma}")
                raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
                raw.create_function("database_now", 0, self._clock)
        except BaseException:
            for connection in opened:
                connection.close()
            raise
        writer, reader = opened
        self._writer = _Direct(writer, turns=True)
        self._reader = _Direct(reader, turns=False)

    async def _disconnect(self) -> None:
        """Closing brings the log into the database."""
        open_now = [direct.connection for direct in (self._reader, self._writer) if direct is not None]
        self._reader = self._writer = None
        for connection in open_now:
            await self._thread.run(connection.invalidate)  # closes it, in whatever state it is
            connection.close()

    # the line

    async def _transaction(self) -> None:
        """Those at the head of the line, in one transaction."""
        taken: list[_Waiting[Any]] = []
        try:
            if not await self._begin():
                return
            assert self._writer is not None
            await self._perform(self._writer, taken)
            if any(waiting.error is None for waiting in taken):
                await self._thread.run(functools.partial(self._writer.raw.execute, "COMMIT"))
            else:
                self._writer.raw.execute("ROLLBACK")
        except Exception as error:  # whatever it is: they wait for an answer
            if not taken:  # it could not even begin: what is true of the first is true of all
                taken.extend(self._line.waiting)
                self._line.waiting.clear()
            try:
                await self._undo()
            finally:
                for waiting in taken:
                    waiting.fail(error)
            return
        # No step of the loop between the commit and all of this: who listens hears of it in the order of the
        # commits, and before the next transaction begins.
        for waiting in taken:
            waiting.say()

    async def _begin(self) -> bool:
        """Take the lock. False when everybody in line has waited for another program's for long enough."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        tries = 0
        if self._writer is None:
            await self._thread.run(self._connect)
            assert self._writer is not None
        self._writer.ran = 0
        while True:
            try:
                self._writer.raw.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY:
                    raise
                now = loop.time()
                while self._line.waiting and now - max(began, self._line.waiting[0].since) >= self._busy_s:
                    self._line.waiting.popleft().fail(error)
                if not self._line.waiting:
                    return False
            await asyncio.sleep(_pause(tries))
            tries += 1

    async def _perform(self, writer: _Direct, taken: list[_Waiting[Any]]) -> None:
        while (
            self._line.waiting and (not taken or not self._line.waiting[0].first) and writer.ran < STATEMENTS
        ):
            waiting = self._line.waiting.popleft()
            taken.append(waiting)
            writer.raw.execute("SAVEPOINT work")
            await _drive(waiting, writer)
            if waiting.error is not None:
                if isinstance(waiting.error, _ERRORS) and not writer.raw.in_transaction:
                    raise waiting.error  # SQLite has undone everything, as it may when the disk is full
                writer.raw.execute("ROLLBACK TO work")
            writer.raw.execute("RELEASE work")

    async def _undo(self) -> None:
        """After a failure: nothing of the transaction is left, and the next one can begin."""
        if self._writer is not None:
            try:
                if self._writer.raw.in_transaction:
                    self._writer.raw.execute("ROLLBACK")
            except sqlite3.Error:  # of no use any more: it is opened anew, and what it held is undone
                await self._disconnect()


def _pause(tries: int) -> float:
    return PAUSES_S[min(tries, len(PAUSES_S) - 1)]


def _read(reader: _Direct, work: Callable[[SqlTransaction], Awaitable[T]]) -> T:
    """From BEGIN to its end in one go: nobody else is on this connection meanwhile."""
    reader.raw.execute("BEGIN")
    try:
        steps = work(SqlTransaction(reader, locks=False)).__await__()
        try:
            steps.send(None)
        except StopIteration as result:
            return cast(T, result.value)
        _refuse(steps)
    finally:
        if reader.raw.in_transaction:
            reader.raw.execute("ROLLBACK")


async def _drive(waiting: _Waiting[Any], writer: _Direct) -> None:
    """Run a work to its end, and note how it ended. The loop has its turn wherever the work says so."""
    steps: Generator[Any, None, Any] | None = None
    while True:
        try:
            steps = steps or waiting.work(SqlTransaction(writer)).__await__()
            if steps.send(None) is not _TURN:
                _refuse(steps)
        except StopIteration as over:
            waiting.result = over.value
            return
        except (Exception, asyncio.CancelledError) as error:  # its caller's, with the answers
            waiting.error = error
            return
        await asyncio.sleep(0)
