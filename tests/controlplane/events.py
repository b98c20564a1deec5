"""Server-sent events of a page, read in the background."""

import asyncio
import json
from typing import Any

import httpx

from tests.controlplane.stage import Show
from tests.support.wait import wait_for


class Events:
    """Reads a server-sent event stream in the background."""

    def __init__(self, show: Show, path: str) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.closed = False
        self._task = asyncio.create_task(self._read(show, path))

    async def _read(self, show: Show, path: str) -> None:
        try:
            async with show.http.stream("GET", path, timeout=None) as response:
                assert response.headers["Content-Type"].startswith("text/event-stream")
                name = ""
                async for line in response.aiter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        self.seen.append((name, json.loads(value)))
        except httpx.RemoteProtocolError:
            pass
        self.closed = True

    async def until(self, name: str, **data: object) -> None:
        def there() -> bool:
            return any(seen == name and data.items() <= said.items() for seen, said in self.seen)

        await wait_for(there, 8, f"event {name} {data} in {self.seen}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def join(show: Show) -> tuple[str, Events]:
    response = await show.whep()
    assert response.status_code == 201, response.text
    path = response.headers["Location"]
    events = Events(show, f"{path}/events")
    await events.until("state")
    return path, events
