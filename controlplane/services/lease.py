"""The lease: which of the stream managers on a database acts on the fleet.

    take      where nobody has it, or it has expired by the DATABASE's clock: with the next token
    renew     three times in its length; the token stays
    act       `with lease.acting():` every change made within carries the token, and fails with LeaseLost once
              the lease has another one (services.books); before anything is done outside, `held` is asked
    give back at a clean end, so that nobody waits for it to expire

How long it is still ours we know by our own steady clock, counted from before the database was asked: never
longer than the database says. That clock also runs while we are stopped (SIGSTOP), so whoever wakes up after
that finds it over before he does anything.

A manager goes by an id of its own, and one process at a time goes by it. So one that was killed takes its own
lease over as soon as it is started again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import structlog

from controlplane.domain.managers.model import Lease
from controlplane.domain.managers.rules import RENEWALS, may_take
from controlplane.ports.clock import Clock
from controlplane.ports.store import Store, StoreBusy, Transaction
from controlplane.services.books import LeaseLost, acting_under

log = structlog.get_logger(__name__)

LOOK_S = 1.0  # at most between two looks: so soon an expired lease is taken


class Leading:
    def __init__(self, store: Store, clock: Clock, manager: str, length_s: float) -> None:
        self._store = store
        self._clock = clock
        self.manager = manager
        self.length_s = length_s
        self.seen: Lease | None = None  # as it was looked at last
        self._token: int | None = None
        self._until = float("-inf")  # monotonic
        self._ready = False  # what a new holder does first is done

    @property
    def held(self) -> bool:
        """Whether this manager leads at this moment."""
        return self._token is not None and self._clock.monotonic() < self._until

    @property
    def acts(self) -> bool:
        """Whether it leads, and has seen to what the holder before has left behind."""
        return self._ready and self.held

    def elsewhere(self) -> str:
        """Why this manager does not act, in a sentence; "" where it does."""
        if self.acts:
            return ""
        holder = self.seen.holder if self.seen is not None else ""
        if holder in ("", self.manager):
            return "No stream manager leads just now: nothing is acted on until one does."
        return f"Lease elsewhere: the stream manager {holder} acts on it."

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What is changed within is changed under the lease. Raises LeaseLost where it is not held."""
        if self._token is None or not self.held:
            raise LeaseLost("this stream manager does not lead")
        with acting_under(self._token):
            yield

    async def look(self) -> bool:
        """Renew the lease, or take it if it can be had. Whether it is held. Raises StoreBusy.

        True with `acts` False: it was just taken, and `begin` is due.
        """
        asked_at = self._clock.monotonic()
        token = self._token
        if token is not None:
            if await self._store.write(lambda tx: tx.renew_lease(token, self.length_s)):
                self._until = asked_at + self.length_s
                return True
            log.warning("the lease is another stream manager's by now")
            self._lose()

        async def take(tx: Transaction) -> tuple[Lease | None, Lease | None]:
            seen = await tx.lease()
            if not may_take(seen, self.manager, await tx.time()):
                return seen, None
            return seen, await tx.take_lease(seen, self.manager, self.length_s)

        self.seen, taken = await self._store.write(take)
        if taken is None:
            return False
        self._token, self._until, self.seen = taken.token, asked_at + self.length_s, taken
        log.info("this stream manager leads", token=taken.token)
        return True

    async def begin(self, take_over: Callable[[], Awaitable[None]]) -> None:
        """What a new holder does first, under the lease. Raises LeaseLost, StoreBusy."""
        with self.acting():
            await take_over()
        self._ready = True

    def _lose(self) -> None:
        self._token, self._until, self._ready = None, float("-inf"), False

    async def run(self, take_over: Callable[[], Awaitable[None]]) -> None:
        """Keep it, or wait for it; until cancelled."""
        while True:
            await asyncio.sleep(min(self.length_s / RENEWALS, LOOK_S))
            try:
                if await self.look() and not self.acts:
                    await self.begin(take_over)
            except StoreBusy as error:
                log.warning("the database is busy; the lease is looked at again", error=str(error))
            except LeaseLost as error:
                log.warning("the lease was lost at once", error=str(error))
            except Exception:  # whatever it is: the lease is kept, or another manager may have it
                log.exception("the lease could not be looked at; it is again in a moment")

    async def give_back(self) -> None:
        """Whoever waits for it may have it. Nothing is done in its name any more."""
        token = self._token
        self._lose()
        if token is not None:
            with contextlib.suppress(StoreBusy):  # it expires by itself
                await self._store.write(lambda tx: tx.give_lease_back(token))
