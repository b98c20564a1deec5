"""The live feed of a stream manager: one WebSocket that keeps itself alive.

    async with LiveSource(api, token) as source:
        async for item in source:
            if isinstance(item, LiveMessage):
                state = state.apply(item)
            else:                       # a Link: the connection changed
                show(item)

The source connects, resumes after the last message it handed out (epoch and number), and reconnects by itself
with a backoff for as long as it is iterated; it never gives up and never raises for a manager that has gone.

Where several managers are known, those that were named and those that a manager has told of, one that is lost
is tried once more and then the next one: there the feed opens with a snapshot that has all of the journal
since the last entry that was handed out, by the database's own numbers (see State for how they are joined).
It ends (`Rejected`) only when the manager refuses the token, which trying again does not mend. `age_s` says
how old the newest message is. A feed that says nothing for `SILENCE_S` is taken for dead: the manager sends
at least once a second.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urlsplit

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from console.core.calls import (
    MOST_APIS,
    check_api_url,
    check_token_transport,
    is_loopback,
    reason_of,
)
from console.core.errors import InsecureError, Rejected, UsageError
from controlplane.wire.api import LiveMessage
from controlplane.wire.base import Problem

SILENCE_S = 5.0
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0
OPEN_S = 2.0  # for a connection, where there is another one to try
MAX_MESSAGE_BYTES = 64 * 2**20  # a snapshot of hundreds of nodes and a long history


class LinkState(StrEnum):
    CONNECTING = "connecting"  # the first attempt
    UP = "up"
    DOWN = "down"  # lost or refused; another attempt comes by itself


@dataclass(frozen=True)
class Link:
    """How the console stands with its manager."""

    state: LinkState
    attempts: int = 0  # attempts in vain since the link was last up
    retry_in_s: float | None = None  # until the next one; None while connected or connecting
    error: str = ""  # why, in words
    api: str = ""  # the manager that is spoken to, or was


class LiveSource:
    """An endless async iterator of LiveMessage and Link. One reader at a time."""

    def __init__(
        self,
        api: str,
        token: str,
        *,
        others: Sequence[str] = (),
        local: bool = False,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`others`: more managers of the same stage, in the order in which they are tried."""
        self.api = check_api_url(api)
        self.apis = [self.api]
        check_token_transport(self.api, local=local)
        for other in others:
            check_token_transport(other, local=local)
            self._know(other)
        self._token = token
        self._local = local
        self._clock = clock
        self._jitter = jitter
        self._last_at: float | None = None
        self._stream: AsyncIterator[LiveMessage | Link] | None = None
        self.link = Link(LinkState.CONNECTING)
        self.epoch = ""
        self.n = 0
        self._journal: int | None = None  # the newest entry that was handed out

    def _know(self, api: str) -> None:
        if (known := check_api_url(api)) not in self.apis and len(self.apis) < MOST_APIS:
            self.apis.append(known)

    def _learn(self, message: LiveMessage) -> None:
        """What a manager tells of the others. One that could not be told the token safely is left out."""
        told, own = message.managers, ""
        if message.snapshot is not None:
            told, own = message.snapshot.managers, message.snapshot.api
        for api in told or ():
            if api != own:  # this one, perhaps by another name than it was called by
                with contextlib.suppress(InsecureError, UsageError):
                    check_token_transport(check_api_url(api))
                    self._know(api)

    @property
    def age_s(self) -> float | None:
        """Seconds since the last message came; None before the first."""
        return None if self._last_at is None else max(0.0, self._clock() - self._last_at)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. The reader must not be waiting in `async for` any more."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()  # type: ignore[attr-defined]

    def __aiter__(self) -> AsyncIterator[LiveMessage | Link]:
        if self._stream is None:
            self._stream = self._run()
        return self._stream

    def restart(self) -> None:
        """Forget the place in the feed: the next connection opens with a snapshot. What of the journal was
        handed out stays known."""
        self.epoch, self.n = "", 0

    async def _run(self) -> AsyncIterator[LiveMessage | Link]:
        attempts = 0
        self.link = Link(LinkState.CONNECTING, api=self.api)
        yield self.link
        while True:
            error = ""
            try:
                async with self._connect() as socket:
                    while (message := await self._next(socket)) is not None:
                        if self.link.state is not LinkState.UP:
                            attempts = 0
                            self.link = Link(LinkState.UP, api=self.api)
                            yield self.link
                        yield message
                    error = "the feed lost its place"
            except InvalidStatus as refused:
                status = refused.response.status_code
                if status in (401, 403):
                    raise Rejected(_refusal(status, refused.response.body)) from refused
                error = f"answered {status}"
            except TimeoutError:
                error = (
                    "no answer" if self.link.state is not LinkState.UP else f"silent for {SILENCE_S:.0f} s"
                )
            except ValidationError:
                error = "what it says makes no sense"
            except (OSError, WebSocketException) as lost:
                error = reason_of(lost)
            attempts += 1
            # Each has its turn before anybody waits longer.
            wait = retry_wait(1 + (attempts - 1) // len(self.apis), self._jitter())
            self.link = Link(LinkState.DOWN, attempts=attempts, retry_in_s=wait, error=error, api=self.api)
            yield self.link
            await asyncio.sleep(wait)
            if attempts > 1:
                self.api = self.apis[(self.apis.index(self.api) + 1) % len(self.apis)]

    def _connect(self) -> "connect":
        scheme, rest = self.api.split("://", 1)
        place: dict[str, int | str] = {"epoch": self.epoch, "since": self.n} if self.epoch else {}
        if self._journal is not None:
            place["journal"] = self._journal
        query = f"?{urlencode(place)}" if place else ""
        local = self._local or is_loopback(urlsplit(self.api).hostname or "")
        return connect(
            f"{'wss' if scheme == 'https' else 'ws'}://{rest}/api/v1/live{query}",
            additional_headers={"Authorization": f"Bearer {self._token}"},
            proxy=None if local else True,
            open_timeout=SILENCE_S if len(self.apis) == 1 else OPEN_S,
            close_timeout=1.0,
            max_size=MAX_MESSAGE_BYTES,
        )

    async def _next(self, socket: ClientConnection) -> LiveMessage | None:
        """The next message in turn; None when one is missing, and the feed must start over."""
        async with asyncio.timeout(SILENCE_S):
            text = await socket.recv()
        message = LiveMessage.model_validate_json(text)
        in_turn = message.epoch == self.epoch and message.n == self.n + 1
        if message.kind == "delta" and not in_turn:
            self.restart()
            return None
        self.epoch, self.n = message.epoch, message.n
        self._last_at = self._clock()
        self._learn(message)
        entries = message.journal if message.snapshot is None else message.snapshot.journal
        if entries:
            self._journal = entries[-1].id
        return message


def retry_wait(attempts: int, jitter: float) -> float:
    """Seconds before the next attempt: doubling, bounded, spread by up to a quarter."""
    wait = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts - 1, 10))
    return wait * (1.0 - 0.25 * jitter)


def _refusal(status: int, body: bytes | bytearray | None) -> Problem:
    with contextlib.suppress(ValidationError):
        return Problem.model_validate_json(body or b"")
    return Problem(code="unauthorized", title="the operator token is not accepted", status=status)
