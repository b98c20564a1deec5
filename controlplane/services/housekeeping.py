"""What is done by the clock and belongs to nobody else: streams that waited, room that was kept, pages'
counts, old rows, memory.

Each stream manager counts for its own pages; the rest is done by the one that leads.
"""

import asyncio

import structlog

from controlplane.config import JournalConfig, RepeatsConfig
from controlplane.ports.store import StoreBusy
from controlplane.services.bitrates import Bitrates
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.collector import Collector
from controlplane.services.joining import Joining
from controlplane.services.lease import Leading
from controlplane.services.pages import Pages
from controlplane.services.seating import Seating
from controlplane.services.streams import Streams

log = structlog.get_logger(__name__)

SESSIONS_KEPT_S = 120.0  # an ended session can still tell its page why
STREAMS_KEPT_S = 86_400.0
ACTS_KEPT_S = 86_400.0
NODES_KEPT_S = 86_400.0  # a node that has gone can still be looked up, and told so when it speaks
EVENTS_KEPT_S = 400 * 86_400.0
CHANGES_KEPT_S = 60.0  # who is further behind reads everything anew
MANAGERS_KEPT_S = 3600.0
SWEEP_S = 60.0


class Housekeeping:
    def __init__(
        self,
        books: Books,
        streams: Streams,
        pages: Pages,
        bitrates: Bitrates,
        seating: Seating,
        journal: JournalConfig,
        repeats: RepeatsConfig,
        lease: Leading,
        joining: Joining,
    ) -> None:
        self._joining = joining
        self._collector = Collector(books.clock)
        self._lease = lease
        self._books = books
        self._streams = streams
        self._pages = pages
        self._bitrates = bitrates
        self._seating = seating
        self._keep = journal.keep
        self._answers_kept_s = repeats.kept_h * 3600.0

    async def run(self) -> None:
        clock = self._books.clock
        swept = clock.monotonic()
        while True:
            await asyncio.sleep(1.0)
            try:
                self._pages.second()
                self._bitrates.second()
                self._collector.look(
                    watching=self._books.board.sessions_watching(), joining=self._joining.people()
                )
                if not self._lease.acts:
                    continue
                with self._lease.acting():
                    await self._streams.tick()
                    await self._seating.give_room_back()
                    if clock.monotonic() - swept >= SWEEP_S:
                        swept = clock.monotonic()
                        await self._books.change(self.sweep)
            except LeaseLost:
                log.info("another stream manager keeps house")
            except StoreBusy as error:
                log.warning("the database is busy; housekeeping waits", error=str(error))
            except Exception:
                log.exception("housekeeping failed; it is repeated in a second")

    async def sweep(self, change: Change) -> None:
        """Forget what nobody asks for any more."""
        await change.tx.purge_sessions(change.now - SESSIONS_KEPT_S)
        await change.tx.purge_streams(change.now - STREAMS_KEPT_S)
        await change.tx.purge_nodes(change.now - NODES_KEPT_S)
        await change.tx.purge_revoked(change.now)
        await change.tx.purge_events(change.now - EVENTS_KEPT_S)
        now = await change.tx.time()
        await change.tx.purge_acts(now - ACTS_KEPT_S)
        await change.tx.purge_changes(now - CHANGES_KEPT_S)
        await change.tx.purge_told(now - CHANGES_KEPT_S)
        await change.tx.purge_managers(now - MANAGERS_KEPT_S)
        await change.tx.purge_answers(now - self._answers_kept_s)
        await change.tx.prune_journal(self._keep)
