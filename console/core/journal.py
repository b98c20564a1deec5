"""The journal as it grows: nothing missed, nothing twice, over restarts of the stream manager."""

from collections.abc import AsyncIterator

from console.core.client import Client
from console.core.live import Link, LinkState, LiveSource
from controlplane.wire.api import JournalEntry

PAGE = 200


async def follow(
    client: Client, source: LiveSource, *, latest: int = 20
) -> AsyncIterator[JournalEntry | Link]:
    """The `latest` entries, then each new one as it happens; Link when the connection is lost or comes back.

    The feed says when something is new; what may have been missed while it was away is fetched by number.
    Raises Rejected when the token is refused.
    """
    last: int | None = None
    async for item in source:
        if isinstance(item, Link):
            if item.state is not LinkState.CONNECTING:
                yield item
            continue
        entries = item.snapshot.journal if item.snapshot is not None else item.journal
        if last is None:
            shown = entries[-latest:] if latest else []
            last = entries[-1].id if entries else 0
            for entry in shown:
                yield entry
            continue
        if item.snapshot is not None and entries and entries[0].id > last + 1:
            entries = await _since(client, last)
        for entry in entries:
            if entry.id > last:
                last = entry.id
                yield entry


async def _since(client: Client, last: int) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    while page := await client.journal(after=last, limit=PAGE):
        entries += page
        last = page[-1].id
    return entries
