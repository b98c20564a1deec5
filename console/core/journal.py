"""The journal as it grows: nothing missed, nothing twice, over restarts of the stream manager."""

from collections.abc import AsyncIterator

from console.core.client import Client
from console.core.live import Link, LinkState, LiveSource
from controlplane.wire.api import JournalEntry

PAGE = 200
KEPT = 1000


async def follow(
    client: Client, source: LiveSource, *, latest: int = 20
) -> AsyncIterator[JournalEntry | Link]:
    """The `latest` entries, then each new one as it happens; Link when the connection is lost or comes back.

    The feed says when something is new; what may have been missed while it was away is fetched by number. An
    entry that was committed later than one with a higher number comes after it, and is not passed over.
    Raises Rejected when the token is refused.
    """
    last: int | None = None
    seen: set[int] = set()  # the newest numbers, at most KEPT
    async for item in source:
        if isinstance(item, Link):
            if item.state is not LinkState.CONNECTING:
                yield item
            continue
        entries = item.snapshot.journal if item.snapshot is not None else item.journal
        if last is None:
            last = entries[-1].id if entries else 0
            seen = {entry.id for entry in entries}
            for entry in entries[-latest:] if latest else []:
                yield entry
            continue
        if item.snapshot is not None and entries and entries[0].id > last + 1:
            entries = await _since(client, last)
        oldest = min(seen, default=0)
        for entry in entries:
            if entry.id > oldest and entry.id not in seen:
                seen.add(entry.id)
                last = max(last, entry.id)
                yield entry
        if len(seen) > KEPT:
            seen = set(sorted(seen)[-KEPT:])


async def _since(client: Client, last: int) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    while page := await client.journal(after=last, limit=PAGE):
        entries += page
        last = page[-1].id
    return entries
