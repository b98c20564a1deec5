"""Seats for viewers, in batches: who joins at the same moment is seated by one transaction, and so is who
leaves.

    join, leave, join ... -> the batch -> one transaction (services.placement) -> COMMIT -> an answer to each
                             `-- one at a time, and one begun each 30 ms at most --'

Who comes alone does not wait. Where the database takes its time the next batch only grows, until
HANDED_S: then it is away, or nearly, and batches are handed to it all the same, so that nobody waits for
longer than the store lets a write wait (10 s). Who is cancelled meanwhile gives his seat back.

A batch that fails of something else than the database's absence fails of one of those in it: each is then
seated alone, and only who it was is told.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from controlplane.config import ViewersConfig
from controlplane.domain.nodes.seating import Join
from controlplane.domain.streams.model import EndReason, PartyKey, Session
from controlplane.errors import ControlError
from controlplane.ports.store import StoreBusy
from controlplane.services.books import Books, Change
from controlplane.services.placement import KnownRooms, seat_viewers

log = structlog.get_logger(__name__)

EVERY_S = 0.03
MOST = 200  # joins in one transaction
HANDED_S = 1.0


T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Asked(Generic[T]):
    """Somebody who waits for `answer`."""

    answer: asyncio.Future[T]

    def say(self, outcome: T | BaseException) -> bool:
        """False where nobody waits for it any more."""
        if self.answer.done():
            return False
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)
        return True


@dataclass(slots=True, eq=False)
class _Joining(_Asked[Session]):
    join: Join


@dataclass(slots=True, eq=False)
class _Leaving(_Asked[None]):
    session: Session
    reason: EndReason


class Seating:
    def __init__(self, books: Books, config: ViewersConfig, region: str) -> None:
        """`region`: the stage's own. `party_size`: of parties that do not say theirs."""
        self._books = books
        self._kept_s = config.party_kept_s
        self.party_size = config.party_size
        self._region = region
        self._rooms = KnownRooms(books.clock)
        self._joining: list[_Joining] = []
        self._leaving: list[_Leaving] = []
        self._runner: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._closed = False

    async def seat(self, join: Join) -> Session:
        """A session with its seat, written down. Raises NothingOnAir, NoRoom, StoreBusy."""
        asked = _Joining(self._wake(), join)
        self._joining.append(asked)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            if not asked.answer.cancelled():  # it was answered in the very same moment
                self.give_back(asked.answer.result())
            raise

    async def end(self, session: Session, reason: EndReason) -> None:
        """End a session and give its seat back, if that was not done before. It is done although the caller
        is cancelled. Raises StoreBusy."""
        asked = _Leaving(self._wake(), session, reason)
        self._leaving.append(asked)
        await asked.answer

    def give_back(self, session: Session) -> None:
        """Nobody waits for it any more. In the background."""
        if not self._closed:
            self._start(self._give_back([session]))

    def _wake(self) -> asyncio.Future[Any]:
        """Somebody comes into line: his answer. Raises StoreBusy where none can be given."""
        if self._closed:
            raise _ending()
        loop = asyncio.get_running_loop()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name="seating")
        return loop.create_future()

    async def close(self) -> None:
        """Who waits is told that the stream manager ends."""
        self._closed = True
        running = {*self._working, *({self._runner} if self._runner is not None else ())}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        waiting: list[_Asked[Any]] = [*self._joining, *self._leaving]
        for asked in waiting:
            asked.say(_ending())

    # batches

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._joining or self._leaving:
                began = loop.time()
                leaving, self._leaving = self._leaving[:MOST], self._leaving[MOST:]
                joining, self._joining = self._joining[:MOST], self._joining[MOST:]
                both = ([self._end(leaving)] if leaving else []) + ([self._seat(joining)] if joining else [])
                await asyncio.wait({self._start(work) for work in both}, timeout=HANDED_S)
                await asyncio.sleep(began + EVERY_S - loop.time())
        finally:
            self._runner = None

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="seats")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _seat(self, batch: list[_Joining]) -> None:
        """Each of them is answered."""
        batch = [asked for asked in batch if not asked.answer.done()]  # the others have gone
        if not batch:
            return
        joins = [asked.join for asked in batch]
        self._rooms.look_at(self._books.board)
        try:
            seated = await self._books.change_together(
                seat_viewers, joins, self._rooms, home=self._region, kept_s=self._kept_s
            )
        except asyncio.CancelledError:
            for asked in batch:
                asked.say(_ending())
            raise
        except (StoreBusy, ControlError) as error:
            for asked in batch:
                asked.say(error)
        except Exception as error:  # of one of them, or of all: that is seen when each is alone
            if len(batch) == 1:
                batch[0].say(error)
                return
            log.exception("viewers could not be seated together; each is seated alone", viewers=len(batch))
            for asked in batch:
                await self._seat([asked])
        else:
            self._rooms.seated(seated.seats)
            gone = [
                outcome
                for asked, outcome in zip(batch, seated.outcomes, strict=True)
                if not asked.say(outcome) and isinstance(outcome, Session)
            ]
            if gone:
                await self._give_back(gone)

    async def _end(self, batch: list[_Leaving]) -> None:
        """Each of them is answered."""
        sessions: dict[EndReason, list[Session]] = {}
        for asked in batch:
            sessions.setdefault(asked.reason, []).append(asked.session)
        try:
            await self._books.change_together(end_all, sessions)
        except asyncio.CancelledError:
            for asked in batch:
                asked.say(_ending())
            raise
        except Exception as error:  # there is nothing in it that one of them alone could have brought along
            for asked in batch:
                asked.say(error)
        else:
            for asked in batch:
                asked.say(None)

    async def _give_back(self, sessions: list[Session]) -> None:
        try:
            await self._books.change_together(Change.end_sessions, sessions, EndReason.LEFT)
        except StoreBusy as error:  # no node tells of them, so they end in a while
            log.warning("seats that nobody waits for stay reserved for a while", error=str(error))

    # room that is kept

    async def give_room_back(self) -> None:
        """Of parties whose time is over."""
        now = self._books.clock.now()
        late = [it.key for it in self._books.board.parties.values() if it.kept and it.kept_until < now]
        if late:
            await self._books.change(give_room_back, late)


async def end_all(change: Change, sessions: dict[EndReason, list[Session]]) -> None:
    for reason, ending in sessions.items():
        await change.end_sessions(ending, reason)


async def give_room_back(change: Change, keys: list[PartyKey]) -> None:
    """Seats that are kept for parties, and that nobody has come for in time."""
    late = [row for row in await change.tx.parties_among(keys) if row.kept and row.kept_until < change.now]
    await change.give_room_back(late)


def _ending() -> StoreBusy:
    return StoreBusy("the stream manager is ending")
