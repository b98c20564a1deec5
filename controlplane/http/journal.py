"""What happened and who did it."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.wire.api import JournalEntry

routes = APIRouter(tags=["journal"])

# Above this SQL has no integer; nobody has as many entries.
LAST = 2**63 - 1


@routes.get("/journal", responses=documented(401, 422, 503))
async def journal(
    here: Here,
    _: Operator,
    after: Annotated[int | None, Query(ge=0, le=LAST)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[JournalEntry]:
    """Entries after a number, oldest first; without `after` the latest ones."""
    if after is None:
        return await here.books.store.read(lambda tx: tx.latest_journal(limit))
    return await here.books.store.read(lambda tx: tx.journal(after, limit))
