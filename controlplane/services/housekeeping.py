"""What is done by the clock and belongs to nobody else: streams that waited, pages' counts, old rows."""

import asyncio

import structlog

from controlplane.config import JournalConfig
from controlplane.ports.store import StoreBusy
from controlplane.services.bitrates import Bitrates
from controlplane.services.books import Books, Change
from controlplane.services.pages import Pages
from controlplane.services.streams import Streams

log = structlog.get_logger(__name__)

SESSIONS_KEPT_S = 120.0  # an ended session can still tell its page why
STREAMS_KEPT_S = 86_400.0
NODES_KEPT_S = 86_400.0  # a node that has gone can still be looked up, and told so when it speaks
EVENTS_KEPT_S = 400 * 86_400.0
SWEEP_S = 60.0


class Housekeeping:
    def __init__(
        self, books: Books, streams: Streams, pages: Pages, bitrates: Bitrates, journal: JournalConfig
    ) -> None:
        self._books = books
        self._streams = streams
        self._pages = pages
        self._bitrates = bitrates
        self._keep = journal.keep

    async def run(self) -> None:
        clock = self._books.clock
        swept = clock.monotonic()
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._streams.tick()
                self._pages.second()
                self._bitrates.second()
                if clock.monotonic() - swept >= SWEEP_S:
                    swept = clock.monotonic()
                    await self._books.change(self.sweep)
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
        await change.tx.prune_journal(self._keep)
