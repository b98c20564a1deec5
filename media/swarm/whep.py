"""WHEP, the client's side: how a viewer of a swarm, or the probe, gets its session and gives it back."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
import orjson

from media.core.errors import NegotiationError
from media.core.sdp import Agreed, LocalDescription, accept_answer, make_relay_offer, parse_answer
from media.publisher.errors import NoConnection, PublishError, Refused, TimedOut
from media.publisher.redirects import send
from media.publisher.whip import http_client, refusal, unreachable

POST_S = 10.0
DELETE_S = 2.0
SILENCE_S = 45.0  # of events: a comment comes well within this


@dataclass(frozen=True)
class Answered:
    """A WHEP session: where it lives, and the server's answer."""

    resource: str
    sdp: str


async def ask(http: httpx.AsyncClient, url: str, offer: str) -> Answered:
    """POST an offer. Raises Refused, NoConnection or TimedOut."""
    headers = {"Content-Type": "application/sdp"}
    try:
        response = await send(http, "POST", url, content=offer, headers=headers, timeout=POST_S)
    except httpx.TimeoutException:
        raise TimedOut(
            f"{url} did not answer within {POST_S:g} s", "Look at the stream manager's log."
        ) from None
    except httpx.TransportError as error:
        raise unreachable(url, error) from None
    except (httpx.TooManyRedirects, httpx.InvalidURL):
        raise Refused(f"{url} redirects without end, or to nowhere", "Check the address.") from None
    if response.status_code != 201:
        raise _refused(response)
    return Answered(urljoin(str(response.url), str(response.headers.get("Location", ""))), response.text)


async def leave(http: httpx.AsyncClient, resource: str) -> None:
    """DELETE the session; whatever comes of it, it is over for us."""
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
        await send(http, "DELETE", resource, timeout=DELETE_S)


class WhepDoor:
    """Where a crowd comes in: media.swarm.crowd.Door by WHEP."""

    def __init__(self, url: str, token: str = "", party: int | None = None) -> None:
        """`token` is the operator's, for who asks for more than watching. `party`: so many who come one after
        the other say one word of their own, and how many they are."""
        self.url = url
        self._party = party
        self._word = secrets.token_hex(4)
        self._came = 0
        self._http = http_client(url, token)
        self._listening = http_client(url, token, most=None)  # an event stream a viewer

    async def enter(self, local: LocalDescription) -> tuple[Agreed, str]:
        """What was agreed, and the resource to leave by. Raises PublishError."""
        return await self._enter(self._address(), local)

    def _address(self) -> str:
        """For the next who comes."""
        if self._party is None:
            return self.url
        word = f"{self._word}-{self._came // self._party}"
        self._came += 1
        return str(httpx.URL(self.url).copy_merge_params({"party": word, "size": self._party}))

    async def _enter(self, url: str, local: LocalDescription) -> tuple[Agreed, str]:
        answered = await ask(self._http, url, make_relay_offer(local))
        try:
            return accept_answer(parse_answer(answered.sdp)), answered.resource
        except NegotiationError as error:
            await leave(self._http, answered.resource)
            raise Refused(
                f"the answer cannot be used: {error.detail}", "It must offer H.264 or VP8."
            ) from None

    async def told(self, ticket: str) -> AsyncGenerator[str, None]:
        """media.swarm.crowd.Moves: the session's `move` events. A seat may be kept at the address of one; one
        without is to the door. Comes back when the connection is lost; ends when there is no such session."""
        while True:
            try:
                async with contextlib.aclosing(self.events(ticket)) as events:
                    async for name, data in events:
                        if name == "move":
                            url = data.get("url")
                            yield urljoin(ticket, url) if isinstance(url, str) else self.url
            except Refused:
                return
            except (NoConnection, TimedOut):
                pass
            await asyncio.sleep(random.uniform(0.75, 1.25))  # not all of a crowd in the same moment

    async def enter_at(self, address: str, local: LocalDescription) -> tuple[Agreed, str]:
        """media.swarm.crowd.Moves: `enter`, at the address of a move."""
        return await self._enter(address, local)

    async def leave(self, ticket: str) -> None:
        await leave(self._http, ticket)

    async def events(self, ticket: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """What its server tells a session (server-sent events): name and data, until it hangs up.

        Raises Refused for an answer that is no event stream, NoConnection and TimedOut.
        """
        url = f"{ticket}/events"
        timeout = httpx.Timeout(5.0, read=SILENCE_S)
        try:
            async with self._listening.stream("GET", url, timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refused(response)
                name = ""
                async for line in response.aiter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data" and isinstance(data := _object(value), dict):
                        yield name, data
        except httpx.TimeoutException:
            raise TimedOut(f"{url} says nothing", "Look at the stream manager's log.") from None
        except httpx.TransportError as error:
            raise unreachable(url, error) from None

    async def close(self) -> None:
        await self._listening.aclose()
        await self._http.aclose()


def _object(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _refused(response: httpx.Response) -> PublishError:
    error = refusal(response)
    said = error.what.partition(": ")[2]
    detail = f" ({said})" if said else ""
    retry = response.headers.get("Retry-After")
    again = f"Try again in {retry} s." if retry else "Try again in a moment."
    if response.status_code in (404, 409):  # 409 as the WHEP draft asks for
        what = f"nothing is on air at {response.url}{detail}"
        return Refused(what, f"Start a broadcast. {again}", response.status_code, error.code)
    if response.status_code == 503:
        return Refused(
            f"no edge has room for a viewer{detail}", f"Add an edge, or wait. {again}", 503, error.code
        )
    if response.status_code == 429:
        return Refused(
            f"the server takes no more joins from this address at once{detail}", again, 429, error.code
        )
    return Refused(
        f"{response.url} answered {response.status_code}{detail}",
        "Check the address: it ends in /whep/CHANNEL.",
        response.status_code,
        error.code,
    )
