"""Server-sent events (WHATWG HTML, 9.2) over a response that ends with the client or the manager."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
from fastapi.responses import StreamingResponse

from controlplane.services.event_streams import Event

KEEP_ALIVE_S = 15.0  # a comment: proxies keep the connection, and a client that has gone is noticed

MEDIA_TYPE = "text/event-stream"
OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


def _encode(event: Event) -> bytes:
    name, data = event
    return f"event: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


async def _lines(events: AsyncGenerator[Event, None]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    upcoming: asyncio.Task[Event] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_S)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                event = upcoming.result()
            except _Ended:
                return
            upcoming = None
            yield _encode(event)
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
        await events.aclose()


async def _next(events: AsyncGenerator[Event, None]) -> Event:
    try:
        return await events.__anext__()
    except StopAsyncIteration:
        raise _Ended from None


class _Ended(Exception):
    """The events are over: a task cannot carry StopAsyncIteration."""


def response(events: AsyncGenerator[Event, None], headers: dict[str, str] | None = None) -> StreamingResponse:
    more = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"} | (headers or {})
    return StreamingResponse(_lines(events), media_type=MEDIA_TYPE, headers=more)
