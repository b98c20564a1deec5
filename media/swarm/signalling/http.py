"""HTTP/1.1 as a swarm of thousands can afford it, on both sides: the grammar is httptools', the rest is here.

A `Server` is one stream manager, asked over connections that are kept; `Answering` is a node's side of one of
its manager's. A request and its answer cost 30 to 50 us of CPU so, a fifth of what a library of more comfort
takes. Bodies are small and whole; nothing is streamed, and no redirect followed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson

from media.publisher.errors import PublishError, Refused

REASONS = {200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content"}
ANSWER_S = 10.0
CONNECT_S = 2.0


class Away(Exception):
    """No whole answer came: nobody listens, the connection broke, or it took too long."""


class _Message(asyncio.Protocol):
    """What both sides have in common: a connection from which messages are read, one after the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is none by class

    # called by the parser

    def on_message_begin(self) -> None:
        self.headers, self.body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body


class Answer:
    """Of a server. `at` is when it came, on the loop's clock."""

    __slots__ = ("at", "body", "headers", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes, at: float) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.at = at

    def json(self) -> dict[str, object]:
        """The body, an object. Raises Away when it is none: a proxy's, or half of one."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise Away("the answer is not JSON") from error
        if not isinstance(found, dict):
            raise Away("the answer is not an object")
        return found

    def refusal(self, what: str) -> PublishError:
        """What the server said instead of doing `what`."""
        try:
            said = self.json()
        except Away:
            said = {}
        detail = said.get("detail") or said.get("title") or f"it answered {self.status}"
        return Refused(
            f"{what}: {detail}".rstrip("."), "See its log.", self.status, str(said.get("code", ""))
        )


class _Asking(_Message):
    """A connection of ours to a server: one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self.used = False
        self.reusable = True

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        assert self.transport is not None
        self._waiting = self._loop.create_future()
        self.transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._break("it does not speak HTTP")

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self.used = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(status, self.headers, self.body, self._loop.time()))

    def connection_lost(self, error: Exception | None) -> None:
        self._break("the connection was closed")

    def _break(self, why: str) -> None:
        self.reusable = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Away(why))
        if self.transport is not None:
            self.transport.close()


class Server:
    """One stream manager. As many connections as there are requests at once, and each is used again."""

    def __init__(self, url: str, trust: ssl.SSLContext | None = None) -> None:
        """`url` begins with http:// or https://; `trust` is needed for the latter."""
        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self._trust = trust if parts.scheme == "https" else None
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n".encode()
        self._prefix = parts.path.rstrip("/").encode()
        self._idle: list[_Asking] = []

    async def ask(
        self,
        method: bytes,
        path: bytes,
        body: bytes = b"",
        headers: bytes = b"",
        within: float = ANSWER_S,
    ) -> Answer:
        """`headers` are whole lines. Raises Away."""
        request = b"%b %b%b%b%bContent-Length: %d\r\n\r\n%b" % (
            *(method, self._prefix, path, self._head, headers, len(body)),
            body,
        )
        try:
            async with asyncio.timeout(within):
                while True:
                    connection = await self._connection()
                    used = connection.used
                    try:
                        answer = await connection.ask(request)
                    except Away:
                        if used:  # it was closed while nobody used it: nothing was said of this request
                            continue
                        raise
                    except asyncio.CancelledError:
                        connection.reusable = False
                        assert connection.transport is not None
                        connection.transport.abort()
                        raise
                    if connection.reusable:
                        self._idle.append(connection)
                    return answer
        except TimeoutError:
            raise Away(f"no answer within {within:g} s") from None
        except OSError as error:
            raise Away(error.strerror or str(error)) from error

    async def _connection(self) -> _Asking:
        while self._idle:
            connection = self._idle.pop()  # what was used last: the others may close
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: _Asking(loop),
            self.host,
            self.port,
            ssl=self._trust,
            server_hostname=self.host if self._trust is not None else None,
        )
        return made

    def close(self) -> None:
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()


#: method, path, headers (names in lower case), body -> status, body, its type
Handler = Callable[[str, str, dict[bytes, bytes], bytes], tuple[int, bytes]]


class Answering(_Message):
    """A connection to a server of ours, whose `handler` answers at once."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # an upgrade is one to it as well
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        assert self.transport is not None
        path = httptools.parse_url(self._url).path.decode("latin1")
        status, body = self._handler(self._parser.get_method().decode(), path, self.headers, self.body)
        kind = b"application/json" if status < 400 else b"application/problem+json"
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (status, REASONS.get(status, b"-"), kind, len(body), body)
            if status != 204
            else b"HTTP/1.1 204 No Content\r\n\r\n"
        )
        if not self._parser.should_keep_alive():
            self.transport.close()
