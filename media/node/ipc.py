"""What agent and worker say to each other: one JSON object a line over a socket pair.

Agent -> worker (`op`)
    session      ref, id, kind, channel, offer, video_codec (or null)   answered by answer or problem
    patch        ref, id, fragment, if_match              answered by done, restarted or problem
    close        ref, id, reason                          answered by done or problem
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
    report       ref, ...                                 see figures.py
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
from collections.abc import AsyncIterator
from typing import Any

import orjson

Message = dict[str, Any]

MAX_LINE = 8 << 20  # a report of a thousand sessions is 300 kB


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "Channel":
        reader, writer = await asyncio.open_connection(sock=sock, limit=MAX_LINE)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Queue a message; dropped when the other end has gone."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """Until the other end closes, or says what is no message: then nothing it says can be believed.

        A process that is killed while it writes leaves half a line: its end all the same.
        """
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            try:
                message = orjson.loads(line)
            except ValueError:
                return
            if not isinstance(message, dict):
                return
            yield message

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            pass

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, BrokenPipeError):
            pass
