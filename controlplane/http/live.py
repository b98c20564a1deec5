"""The live feed (a WebSocket) and the snapshot it begins with.

The token is in the handshake's Authorization header, which no browser page can set: a page of another origin
has no way in. One that sends an Origin is refused all the same.
"""

import asyncio
import contextlib
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from controlplane.errors import ControlError, Forbidden
from controlplane.http.auth import Operator, check_operator
from controlplane.http.context import Here, Manager, manager_of
from controlplane.http.problems import documented, of_error
from controlplane.ports.store import StoreBusy, Transaction
from controlplane.wire.api import JournalEntry, Snapshot

routes = APIRouter(tags=["live"])

GOING_AWAY = 1001
MOST_EARLIER = 1000  # entries of the journal: as many as a console keeps


@routes.get("/snapshot", responses=documented(401))
async def snapshot(here: Here, _: Operator) -> Snapshot:
    """Everything a console shows, once."""
    return here.views.snapshot()


@routes.websocket("/live")
async def live(
    socket: WebSocket,
    epoch: Annotated[str | None, Query()] = None,
    since: Annotated[int | None, Query()] = None,
    journal: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> None:
    """A snapshot, then numbered deltas (LiveMessage). `epoch` and `since` resume an earlier feed of this
    manager, `journal` one of any: the snapshot has all entries since that one."""
    here = manager_of(socket)
    try:
        check_operator(socket)
        if "origin" in socket.headers:
            raise Forbidden("The live feed is for consoles, not for web pages.")
    except ControlError as error:
        await socket.send_denial_response(of_error(error, socket.url.path))
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, here, epoch, since, journal))
    listening = asyncio.create_task(_until_gone(socket))
    try:
        await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, listening):
            task.cancel()
        results = await asyncio.gather(sending, listening, return_exceptions=True)
    if isinstance(results[0], Exception) and not isinstance(results[0], WebSocketDisconnect | RuntimeError):
        raise results[0]
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(GOING_AWAY)


async def _send(
    socket: WebSocket, here: Manager, epoch: str | None, since: int | None, journal: int | None
) -> None:
    earlier: list[JournalEntry] = []
    if journal is not None and not here.feed.resumes(epoch, since):
        with contextlib.suppress(StoreBusy):  # what is in memory has to do
            earlier = await here.books.store.read(lambda tx: _since(tx, journal))
    async with contextlib.aclosing(here.feed.follow(epoch, since, earlier)) as messages:
        async for text in messages:
            await socket.send_text(text)


async def _since(tx: Transaction, journal: int) -> list[JournalEntry]:
    """All entries since that one; where they are more than a console keeps, the latest."""
    entries = await tx.journal(journal, MOST_EARLIER)
    return entries if len(entries) < MOST_EARLIER else await tx.latest_journal(MOST_EARLIER)


async def _until_gone(socket: WebSocket) -> None:
    """Consoles say nothing; this only notices that one has gone."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
