"""What agent and worker say to each other: one JSON object a line over a socket pair.

Agent -> worker (`op`)
    session      ref, id, kind, channel, offer, video_codec (or null)   answered by answer or problem
    patch        ref, id, fragment, if_match              answered by done, restarted or problem
    close        ref, ids, reason                         answered by done; one that is not there has ended
    end          channel, reason                          every session of the channel ends
    resubscribe  channel, reason                          an edge's relay is made anew
    subscribed   channel, attempt, session, origin, answer   a subscribe went well
    refused      channel, attempt, problem                it did not
    report       ref, sessions (whether each is wanted)   answered by report
    counts       ref                                      answered by counts
    inspect      ref, id                                  answered by inspected or problem
    shutdown                                              close all sessions, then end

Worker -> agent (`ev`)
    ready        pid, port, fingerprint
    answer       ref, answer, video_codec (or null)
    done         ref
    restarted    ref, etag, fragment                      ICE has new credentials
    problem      ref, problem {status, code, title, detail}
    report       ref, ...                                 see engine.py, figures.py
    counts       ref, ...                                 see counts.py
    inspected    ref, session                             a wire.inside.SessionInside
    subscribe    channel, attempt, offer                  ask who has the channel
    ended        id, kind, channel, reason
    dropped      channel                              it is not on this worker any more
    failed       message                                  the worker cannot start

The worker ends when the socket closes: no worker outlives its agent.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import orjson

Message = dict[str, Any]

MAX_LINE = 8 << 20  # a report of a thousand sessions is 300 kB


class Channel(asyncio.Protocol):
    """One end of the pair; `open` makes it.

    The conversation ends when the other end closes, or says what is no message: then nothing it says can be
    believed. A process that is killed while it writes leaves half a line: its end all the same.
    """

    def __init__(self, take: Callable[[Message], None] | None) -> None:
        self._waiting: deque[Message] = deque()
        self._take = self._waiting.append if take is None else take
        self._parts: list[bytes] = []  # of a line that is not whole yet
        self._size = 0  # of those, bytes
        self._over = False
        self._news = asyncio.Event()  # a message is waiting, or it is over
        self._transport: asyncio.WriteTransport | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, sock: socket.socket, take: Callable[[Message], None] | None = None) -> "Channel":
        """`take` is called with each message as it comes; without one they are for `messages`."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(take), sock=sock)
        return channel

    @property
    def waiting(self) -> bool:
        """Whether `messages` has another one at once."""
        return bool(self._waiting)

    def send(self, message: Message) -> None:
        """Queue a message; dropped when the other end has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(orjson.dumps(message) + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """Until the conversation ends."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._over:
                return
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        """End it from here; returns when what was queued has been sent, or cannot be."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.shield(self._lost)

    async def ended(self) -> None:
        """Returns when the conversation has ended."""
        while not self._over:
            self._news.clear()
            await self._news.wait()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._parts, self._size = [], 0
        self._parts.append(rest)
        self._size += len(rest)
        for line in lines:
            try:
                message = orjson.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self._end()
                return
            self._take(message)
        if self._size > MAX_LINE:
            self._end()
        elif lines:
            self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        self._lost.set_result(None)

    def eof_received(self) -> None:
        self._end()

    def _end(self) -> None:
        self._over = True
        self._parts = []
        self._news.set()
