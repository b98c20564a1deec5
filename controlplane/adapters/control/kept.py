"""HTTP/1.1 over connections that are kept, as a stream manager speaks it with its nodes.

Small requests, small whole answers, TLS under each: what a client for the whole web does beside that
(redirects, cookies, encodings, streams) costs a join more than all the rest of the hop (docs/decisions/0036).
The grammar is httptools', which reads the manager's own requests as well.

At most so many connections lead to one place, and who needs one waits for it as for an answer. They are made
one after the other, and who waits meanwhile takes one that comes back: a handshake costs more than twenty
requests, and at the beginning of a storm each place would get all the connections it may have. A place is an
address and the one certificate that is spoken to there, so no connection leads from one node's certificate to
another's address. What nobody needed for a while is closed.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

MOST_HEAD = 16 * 1024  # bytes of an answer's header fields
MOST = 16 * 1024 * 1024  # and of all of it


class Broken(ConnectionError):
    """The connection broke, or what came by it was no answer. The message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._head = 0
        self._body: list[bytes] = []
        self._length = 0
        self.usable = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none by class

    async def ask(self, request: bytes) -> Answer:
        """Raises Broken. Who gives up waiting has made it unusable: the answer may still come."""
        assert self._transport is not None
        self._waiting = self._loop.create_future()
        self._head = self._length = 0
        self._transport.write(request)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._length += len(data)
        if self._waiting is None or self._length > MOST:  # nothing was asked; or it has no end
            self._break("its answer has no end")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            self._break(str(cause) if isinstance(cause, Broken) else "what it says is no HTTP")

    def connection_lost(self, error: Exception | None) -> None:
        self._break("it hung up" if error is None else str(error) or type(error).__name__)

    def _break(self, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Broken(why))
        self.close()

    # called by the parser; what they raise ends it

    def on_message_begin(self) -> None:
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._head > MOST_HEAD:
            raise Broken("its answer has no end")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # the answer follows
            return
        waiting, self._waiting = self._waiting, None
        if not self._parser.should_keep_alive():
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(status, b"".join(self._body)))


@dataclass(slots=True, eq=False)
class _Place:
    host: str
    port: int
    name: bytes  # for Host
    context: ssl.SSLContext
    room: asyncio.Semaphore
    idle: list[_Connection] = field(default_factory=list)  # used last comes last
    using: int = 0  # requests that wait, or are answered
    opening: bool = False  # a connection is being made
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)  # until one is there, or may be made

    def wake(self, error: BaseException | None = None) -> None:
        """Who has waited longest looks again; or all are told that none can be made."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
                return
            waiter.set_exception(error)

    closing: asyncio.TimerHandle | None = None


class KeptConnections:
    """To any number of places. Made where an event loop runs."""

    def __init__(self, *, at_once: int, connect_s: float, idle_s: float) -> None:
        """`at_once`: connections to one place; `connect_s`: until TCP and TLS stand; `idle_s`: for how long
        one is kept that nobody needs."""
        self._loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._places: dict[
            tuple[str, int], _Place
        ] = {}  # by address, and the context's id: it is in the value

    async def ask(
        self,
        method: str,
        url: str,
        path: str,
        context: ssl.SSLContext,
        headers: dict[str, str],
        body: bytes,
        within: float,
    ) -> Answer:
        """Ask `path` of the server at `url` (https://HOST:PORT), `within` so many seconds in all.

        Raises TimeoutError, OSError (Broken among it, and what TLS finds wrong), ValueError for a place that
        cannot be one.
        """
        place = self._place(url, context)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            *(method.encode(), path.encode(), place.name, len(body), lines.encode("latin1")),
            body,
        )
        place.using += 1
        try:
            async with asyncio.timeout(within), place.room:
                connection = await self._connection(place)
                answer = await connection.ask(request)
                if connection.usable:
                    connection.idle_since = self._loop.time()
                    place.idle.append(connection)
                return answer
        finally:
            place.using -= 1
            place.wake()
            self._look_again(url, place)

    def _place(self, url: str, context: ssl.SSLContext) -> _Place:
        place = self._places.get((url, id(context)))
        if place is None:
            parts = urlsplit(url)
            if parts.hostname is None:
                raise ValueError(f"{url!r} names no host")
            room = asyncio.Semaphore(self._at_once)
            place = _Place(parts.hostname, parts.port or 443, parts.netloc.encode(), context, room)
            self._places[url, id(context)] = place
        return place

    async def _connection(self, place: _Place) -> _Connection:
        while (kept := self._kept(place)) is None:
            if not place.opening:
                return await self._open(place)
            waiter: asyncio.Future[None] = self._loop.create_future()
            place.waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    place.wake()  # it was this one's turn
                raise
        return kept

    def _kept(self, place: _Place) -> _Connection | None:
        while place.idle:
            connection = place.idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < self._idle_s:
                return connection
            connection.close()
        return None

    async def _open(self, place: _Place) -> _Connection:
        place.opening = True
        failed: BaseException | None = None
        try:
            async with asyncio.timeout(self._connect_s):
                _, made = await self._loop.create_connection(
                    lambda: _Connection(self._loop), place.host, place.port, ssl=place.context
                )
            return made
        except (OSError, TimeoutError) as error:
            failed = error
            raise
        finally:
            place.opening = False
            place.wake(failed)

    def _look_again(self, url: str, place: _Place) -> None:
        """Some time later, for what nobody has needed since."""
        if place.closing is None:
            place.closing = self._loop.call_later(self._idle_s, self._close_idle, url, place)

    def _close_idle(self, url: str, place: _Place) -> None:
        place.closing = None
        now = self._loop.time()
        for connection in place.idle:
            if now - connection.idle_since >= self._idle_s:
                connection.close()
        place.idle = [connection for connection in place.idle if connection.usable]
        if place.idle or place.using:
            self._look_again(url, place)
        else:
            self._places.pop((url, id(place.context)), None)

    async def close(self) -> None:
        for place in self._places.values():
            if place.closing is not None:
                place.closing.cancel()
            for connection in place.idle:
                connection.close()
        self._places.clear()
