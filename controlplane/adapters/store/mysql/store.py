"""The store on MySQL or MariaDB, which several stream managers may share.

Writes wait in line and are done by one runner on one connection, so that those of a manager never lock each
other out, and the feed hears of them in the order of their commits. All that wait are done in one
transaction, one after the other, and committed together; nobody is answered before that, also not with an
error, as it may come of what a work before it has done.

    wait in line -> work, work, work ... -> number of the commit -> COMMIT -> `after` of each, answers
                    `------------------ one transaction ------------------'

A work that raises is undone alone, to a savepoint, which is only made where there is something to undo and
something before it to keep. Whatever else goes wrong undoes the transaction, and all of its works are run
again from the start in their order (faults.py tells what for): after a deadlock, after a lock that was waited
for too long, on another connection after this one was lost. While that goes on nobody is told anything, for
HELD_S: a database that comes back within that costs a delay and no error. Then whoever has waited for so long
gets StoreAway or StoreBusy, and nothing was changed for him.

A COMMIT whose answer was lost may have happened or not. So that this is known and not guessed, each store
has a row of its own in the table `writers`, where each of its transactions sets the number of the commit it
will be. On a new connection that row is read, and locked for it: as long as the server has not noticed that
the old connection is gone, the old transaction holds that lock, and the row can only be had when it has ended
one way or the other. If the number is the one, all that was in the transaction is there and is answered for;
if not, nothing is, and it is run again. Where even that cannot be found out within HELD_S the callers get
StoreUnknown; the runner finds it out nevertheless before it does anything else, and tells `after`.

Reads have connections of their own and are run again in the same way.
"""

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
from asyncmy.connection import Connection as Driver
from asyncmy.errors import MySQLError
from sqlalchemy import Executable, bindparam, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.line import Line, Waiting, Work
from controlplane.adapters.store.mysql import connections, faults
from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.direct import KEPT, Direct
from controlplane.adapters.store.mysql.faults import Fault
from controlplane.adapters.store.sql.transaction import SqlTransaction
from controlplane.ports.store import StoreAway, StoreBusy, StoreFull, StoreUnknown

T = TypeVar("T")
log = structlog.get_logger(__name__)

HELD_S = 10.0
TRY_S = 8.0  # one try, from its first statement to the answer of its COMMIT
LAST_TRY_S = 2.0  # what is left to one that begins when HELD_S is nearly over
TOGETHER = 50  # works in one transaction
READERS = 4
PAUSE_S = 0.1  # between two tries, give or take a half of it
PAUSE_AGAIN_S = 0.01  # after a deadlock: the other one is through by then
TAKEN_TRIES = 3
CLOSE_S = 3.0

_REACHES = update(t.writers).where(t.writers.c.id == bindparam("of_id"))
_FIRST = insert(t.writers)
_REACHED = select(t.writers.c.commits).where(t.writers.c.id == bindparam("of_id")).with_for_update()
_ERRORS = (DBAPIError, MySQLError, OSError)  # of SQLAlchemy, of the driver, of the system


@dataclass(slots=True, eq=False)
class _Waiting(Waiting[T]):
    """A write in line."""

    taken: int = 0  # how often a key that it wanted was there already
    told: bool = False  # that it has waited for too long, or how it ended

    def fail(self, error: BaseException) -> None:
        self.told = True
        Waiting.fail(self, error)


class _Session:
    """The writer's connection, as SqlTransaction wants one.

    A transaction begins with its first statement (autocommit is off). COMMIT, ROLLBACK and savepoints are
    said to the driver: SQLAlchemy knows of no transaction's end.
    """

    def __init__(self, connection: AsyncConnection, driver: Driver) -> None:
        self.connection = connection
        self.driver = driver
        self.direct = Direct(driver, connection.dialect)
        self.kept = False  # something is written by works that are done
        self.wrote = False  # something is written by the work that runs
        self.saved = False  # and there is a savepoint before it
        self.broken: BaseException | None = None  # what has ended the transaction

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        try:
            if statement.is_dml and not self.wrote:
                self.wrote = True
                if self.kept:
                    await self.driver.query("SAVEPOINT work")  # type: ignore[no-untyped-call]
                    self.saved = True
            if statement in KEPT:
                answer = await self.direct.execute(statement, parameters or {})
                return cast(CursorResult[Any], answer)
            return await self.connection.execute(statement, parameters)
        except _ERRORS as error:
            if faults.of(error) not in (None, Fault.TAKEN):
                self.broken = error
            raise

    def begin(self) -> None:
        self.kept = self.wrote = self.saved = False
        self.broken = None

    def keep(self) -> None:
        """What the work that ran has written."""
        self.kept |= self.wrote
        self.wrote = self.saved = False

    async def undo(self) -> None:
        """What the work that ran has written, and nothing else."""
        if self.saved:
            await self.driver.query("ROLLBACK TO SAVEPOINT work")  # type: ignore[no-untyped-call]
        elif self.wrote:  # the first to write: there is nothing else
            await self.driver.rollback()
        self.wrote = self.saved = False


class _Reader:
    """A connection that reads, likewise. It is in use by one work at a time, and lives on in the pool."""

    def __init__(self, connection: AsyncConnection, driver: Driver, direct: Direct) -> None:
        self._connection = connection
        self._driver = driver
        self._direct = direct

    @classmethod
    async def of(cls, connection: AsyncConnection) -> "_Reader":
        raw = await connection.get_raw_connection()
        driver = cast(Driver, raw.driver_connection)
        direct = raw.info.get(Direct) or raw.info.setdefault(Direct, Direct(driver, connection.dialect))
        return cls(connection, driver, direct)

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        if statement not in KEPT:
            return await self._connection.execute(statement, parameters)
        try:
            return cast(CursorResult[Any], await self._direct.execute(statement, parameters or {}))
        except BaseException:  # also who gives up: an answer may still come, and would be another's
            self._driver.close()
            await self._connection.invalidate()
            raise


class MysqlStore:
    """ports.store.Store."""

    def __init__(self, address: Address, *, held_s: float = HELD_S, together: int = TOGETHER) -> None:
        """`held_s`: how long nobody is told that the database is away. The database must be prepared."""
        self._address = address
        self._held_s = held_s
        self._together = together
        self._id = secrets.token_hex(16)
        self._commits = 0
        self._writing = connections.engine(address, writes=True, connections=1)
        self._reading = connections.engine(address, writes=False, connections=READERS)
        self._readers = asyncio.Semaphore(READERS)  # first come, first served; the pool's own queue is not
        self._session: _Session | None = None
        self._line: Line[_Waiting[Any]] = Line(_Waiting, self._transaction)
        self._reads: set[asyncio.Task[Any]] = set()
        self._away_since: float | None = None
        self._closed = False

    async def read(self, work: Work[T]) -> T:
        self._check_open()
        reading = asyncio.ensure_future(self._read(work))
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        return await asyncio.shield(reading)  # a statement that is given up costs its connection

    async def write(
        self, work: Work[T], *, after: Callable[[T], None] | None = None, first: bool = False
    ) -> T:
        self._check_open()
        return await self._line.write(work, after, first)

    async def close(self) -> None:
        """Whoever is in line has his turn, if the database is there."""
        self._closed = True
        runner = self._line.runner
        running = {*self._reads, *({runner} if runner is not None else ())}
        if running:
            _, late = await asyncio.wait(running, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        while self._line.waiting:
            self._line.waiting.popleft().fail(_ending())
        await self._drop()
        await self._writing.dispose()
        await self._reading.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise _ending()

    # reads

    async def _read(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            try:
                async with (
                    asyncio.timeout(self._try_s(since)),
                    self._readers,
                    self._reading.connect() as connection,
                ):
                    return await work(SqlTransaction(await _Reader.of(connection), locks=False))
            except _ERRORS as error:
                fault = faults.of(error)
                if fault is None or fault is Fault.TAKEN:
                    raise
                self._note(fault, error)
                if self._closed or fault is Fault.FULL or loop.time() - since >= self._held_s:
                    raise self._as_said(fault, error) from error
            await asyncio.sleep(_pause(fault))

    # writes

    def _next(self) -> list[_Waiting[Any]]:
        """Those at the head of the line who go together."""
        batch = [self._line.waiting.popleft()]
        while self._line.waiting and len(batch) < self._together and not self._line.waiting[0].first:
            batch.append(self._line.waiting.popleft())
        return batch

    async def _transaction(self) -> None:
        """Run and commit those at the head of the line; however it ends, each of them is told."""
        batch = self._next()
        try:
            while batch and not await self._try(batch):
                pass
        except Exception as error:  # no fault of the server's or the network's but a bug: who waits is told
            await self._drop()
            for waiting in batch:
                waiting.fail(error)
            return
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.fail(_ending())
            raise
        # No step of the loop between the commit and all of this: who listens hears of it in the order of the
        # commits, and before the next transaction begins.
        for waiting in batch:
            waiting.say()

    async def _try(self, batch: list[_Waiting[Any]]) -> bool:
        """True when they are committed, or there was nothing to commit. Those who have waited for too long
        are told so and taken out."""
        reached = self._commits + 1
        committing = False
        try:
            async with asyncio.timeout(self._try_s(batch[0].since)):
                session = await self._open()
                session.begin()
                for waiting in batch:
                    await self._perform(session, waiting)
                if not session.kept:
                    await session.driver.rollback()
                    return True
                await self._reach(session, reached)
                committing = True
                await session.driver.commit()
        except _ERRORS as error:
            fault = faults.of(error)
            if fault is None:
                raise
            self._note(fault, error)
            if committing and fault is not Fault.AGAIN:
                await self._drop()
                if not await self._settle(reached, batch):
                    batch[:] = [waiting for waiting in batch if not waiting.told]
                    return False
            else:
                await self._retreat(fault)
                self._give_up(batch, fault, error)
                await asyncio.sleep(_pause(fault))
                return False
        self._commits = reached
        return True

    async def _perform(self, session: _Session, waiting: _Waiting[Any]) -> None:
        """Run one of the works, and note how it ended. Raises what has ended the whole transaction."""
        waiting.result = waiting.error = None
        try:
            waiting.result = await waiting.work(SqlTransaction(session))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # it is us who are to stop
                raise
            waiting.error = error
        except Exception as error:
            waiting.error = error
        if session.broken is not None:  # whatever the work has made of it
            raise session.broken
        if waiting.error is None:
            session.keep()
            return
        if faults.of(waiting.error) is Fault.TAKEN:
            waiting.taken += 1
            if waiting.taken < TAKEN_TRIES:
                raise waiting.error
        await session.undo()

    async def _reach(self, session: _Session, commits: int) -> None:
        values = {"commits": commits, "at": time.time()}
        changed = await session.direct.execute(_REACHES, {"of_id": self._id, **values})
        if changed.rowcount == 0:
            await session.direct.execute(_FIRST, {"id": self._id, **values})

    async def _settle(self, reached: int, batch: list[_Waiting[Any]]) -> bool:
        """Whether a commit that got no answer has happened. Asks until that is known."""
        while True:
            try:
                async with asyncio.timeout(TRY_S):
                    session = await self._open()
                    found = await session.connection.execute(_REACHED, {"of_id": self._id})
                    commits = found.scalar()
                    await session.driver.rollback()
                happened = commits is not None and commits >= reached
                log.info("a commit that got no answer was looked up", happened=happened)
                return happened
            except asyncio.CancelledError as error:  # we are to end
                for waiting in batch:
                    waiting.fail(self._unknown(error))
                raise
            except _ERRORS as error:
                fault = faults.of(error)
                if fault is None:
                    raise
                self._note(fault, error)
                await self._retreat(fault)
                now = asyncio.get_running_loop().time()
                for waiting in batch:
                    if self._is_late(waiting, now):
                        waiting.fail(self._unknown(error))
                self._give_up([], fault, error)
            await asyncio.sleep(_pause(fault))

    def _give_up(self, batch: list[_Waiting[Any]], fault: Fault, error: BaseException) -> None:
        """Tell those who have waited for too long, here and in line. Where there is no room, waiting is in
        vain: those who tried are told at once."""
        now = asyncio.get_running_loop().time()
        for waiting in (*batch, *self._line.waiting):
            if self._is_late(waiting, now) or (fault is Fault.FULL and waiting in batch):
                waiting.fail(self._as_said(fault, error))
        batch[:] = [waiting for waiting in batch if not waiting.told]
        self._line.waiting = deque(it for it in self._line.waiting if not it.told)

    def _is_late(self, waiting: _Waiting[Any], now: float) -> bool:
        return self._closed or now - waiting.since >= self._held_s

    def _try_s(self, since: float) -> float:
        """How long a try may take of one who waits since then."""
        left = since + self._held_s - asyncio.get_running_loop().time()
        return min(TRY_S, max(LAST_TRY_S, left))

    # the connection

    async def _open(self) -> _Session:
        if self._session is None:
            connection = await self._writing.connect()
            raw = await connection.get_raw_connection()
            self._session = _Session(connection, cast(Driver, raw.driver_connection))
        self._back()
        return self._session

    async def _retreat(self, fault: Fault) -> None:
        """Leave a transaction that has failed."""
        if self._session is not None and fault in (Fault.AGAIN, Fault.TAKEN, Fault.FULL):
            try:
                async with asyncio.timeout(LAST_TRY_S):
                    await self._session.driver.rollback()
                return
            except _ERRORS as error:
                log.info(
                    "the database did not undo a transaction; the connection is left",
                    error=faults.words(error),
                )
        await self._drop()

    async def _drop(self) -> None:
        """The server undoes what was not committed when it sees that the connection has gone."""
        session, self._session = self._session, None
        if session is None:
            return
        session.driver.close()  # at once: there is no good-bye to one that may not answer
        await session.connection.invalidate()
        await session.connection.close()

    # what is said

    def _note(self, fault: Fault, error: BaseException) -> None:
        if fault in (Fault.AWAY, Fault.REFUSED) and self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            log.warning("the database is away", database=str(self._address), error=faults.words(error))

    def _back(self) -> None:
        if self._away_since is not None:
            away_s = round(asyncio.get_running_loop().time() - self._away_since, 1)
            self._away_since = None
            log.info("the database is back", database=str(self._address), away_s=away_s)

    def _as_said(self, fault: Fault, error: BaseException) -> StoreBusy:
        if fault is Fault.FULL:
            return StoreFull(faults.words(error))
        if fault in (Fault.AWAY, Fault.REFUSED):
            return StoreAway(f"{self._absence(error)}; nothing was changed")
        return StoreBusy(
            f"rows of the database {self._address} are held by others for longer than {self._held_s:.0f} s "
            f"({faults.words(error)}); nothing was changed"
        )

    def _unknown(self, error: BaseException) -> StoreUnknown:
        return StoreUnknown(
            f"{self._absence(error)}, since it was told to keep the change; whether it has is found out when "
            "it is back"
        )

    def _absence(self, error: BaseException) -> str:
        now = asyncio.get_running_loop().time()
        away_s = 0.0 if self._away_since is None else now - self._away_since
        return f"the database {self._address} is away since {away_s:.0f} s ({faults.words(error)})"


def _ending() -> StoreBusy:
    return StoreBusy("the stream manager is ending")


def _pause(fault: Fault) -> float:
    """Seconds until the next try; with chance in it, so that two who were in each other's way part."""
    length = PAUSE_AGAIN_S if fault in (Fault.AGAIN, Fault.TAKEN) else PAUSE_S
    return length * random.uniform(0.5, 1.5)
