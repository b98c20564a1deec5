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
from controlplane.wire.api import Snapshot

routes = APIRouter(tags=["live"])

GOING_AWAY = 1001


@routes.get("/snapshot", responses=documented(401))
async def snapshot(here: Here, _: Operator) -> Snapshot:
    """Everything a console shows, once."""
    return here.views.snapshot()


@routes.websocket("/live")
async def live(
    socket: WebSocket,
    epoch: Annotated[str | None, Query()] = None,
    since: Annotated[int | None, Query()] = None,
) -> None:
    """A snapshot, then numbered deltas (LiveMessage). `epoch` and `since` resume an earlier feed."""
    here = manager_of(socket)
    try:
        check_operator(socket)
        if "origin" in socket.headers:
            raise Forbidden("The live feed is for consoles, not for web pages.")
    except ControlError as error:
        await socket.send_denial_response(of_error(error, socket.url.path))
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, here, epoch, since))
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


async def _send(socket: WebSocket, here: Manager, epoch: str | None, since: int | None) -> None:
    async with contextlib.aclosing(here.feed.follow(epoch, since)) as messages:
        async for text in messages:
            await socket.send_text(text)


async def _until_gone(socket: WebSocket) -> None:
    """Consoles say nothing; this only notices that one has gone."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
