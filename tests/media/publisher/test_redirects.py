"""A publisher and a viewer are sent elsewhere: they go, and the token goes only where it may."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from media.publisher import whip
from media.publisher.errors import Refused
from media.publisher.redirects import MOST, may_know
from media.swarm import whep

ANSWER = "v=0\r\n"
OFFER = "v=0\r\nthe offer\r\n"
TOKEN = "a-publish-token"


@dataclass
class Door:
    """A server that answers a POST with what `to` says: a status and an address, or a session."""

    port: int
    to: dict[str, tuple[int, str]] = field(default_factory=dict)  # path -> status and Location
    asked: list[tuple[str, str, str, str | None]] = field(default_factory=list)  # method, path, body, token

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, request: Request) -> Response:
        path, token = request.url.path, request.headers.get("authorization")
        self.asked.append((request.method, path, (await request.body()).decode(), token))
        if request.method == "DELETE":
            return Response()
        status, where = self.to.get(path, (201, f"{path}/session"))
        return Response(ANSWER if status == 201 else "", status, {"Location": where})


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    listening = socket.create_server(("127.0.0.1", 0))
    made = Door(listening.getsockname()[1])
    app = Starlette(routes=[Route("/{path:path}", made.serve, methods=["POST", "DELETE"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield made
    finally:
        server.should_exit = True
        await serving


async def publish(url: str) -> whip.Published:
    async with whip.http_client(url, TOKEN) as http:
        published = await whip.publish(http, url, OFFER, 5.0)
        await whip.end(http, published, 5.0)
        return published


BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [307, 308])
async def test_the_offer_and_the_token_go_along_to_the_same_host(status: int) -> None:
    async with door() as front, door() as back:
        front.to["/whip/main"] = (status, "/whip/other")
        front.to["/whip/other"] = (status, back.url("/whip/main"))
        published = await publish(front.url("/whip/main"))
        assert [entry[:2] for entry in front.asked] == [("POST", "/whip/main"), ("POST", "/whip/other")]
        assert back.asked == [
            ("POST", "/whip/main", OFFER, BEARER),
            ("DELETE", "/whip/main/session", "", BEARER),
        ]
        assert {entry[3] for entry in front.asked} == {BEARER}
        assert published.resource == back.url("/whip/main/session")


async def test_another_host_gets_the_offer_without_the_token() -> None:
    async with door() as front, door() as back:
        front.to["/whip/main"] = (307, back.url("/whip/main", "localhost"))
        await publish(front.url("/whip/main"))
        assert [entry[3] for entry in back.asked] == [None, None]
        assert back.asked[0][2] == OFFER


async def test_a_session_on_another_host_is_ended_without_the_token() -> None:
    async with door() as front, door() as back:
        front.to["/whip/main"] = (201, back.url("/sessions/1", "localhost"))
        published = await publish(front.url("/whip/main"))
        assert published.resource == back.url("/sessions/1", "localhost")
        assert back.asked == [("DELETE", "/sessions/1", "", None)]


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_make_another_request_of_it_is_not_followed(status: int) -> None:
    """RFC 9725, 4.5: they are not to be used."""
    async with door() as front, door() as back:
        front.to["/whip/main"] = (status, back.url("/whip/main"))
        with pytest.raises(Refused, match=str(status)):
            await publish(front.url("/whip/main"))
        assert back.asked == []


async def test_there_is_an_end_to_it() -> None:
    async with door() as front:
        front.to["/whip/main"] = (307, "/whip/main")
        with pytest.raises(Refused, match="without end"):
            await publish(front.url("/whip/main"))
        assert len(front.asked) == MOST + 1
        front.to["/whip/main"] = (307, "gopher://elsewhere/")
        with pytest.raises(Refused, match="307"):
            await publish(front.url("/whip/main"))
        front.to["/whep/main"] = (307, "/whep/main")
        async with whip.http_client(front.url("/whep/main"), "") as http:
            with pytest.raises(Refused, match="without end"):
                await whep.ask(http, front.url("/whep/main"), OFFER)


async def test_a_viewer_is_sent_elsewhere_too() -> None:
    async with door() as front, door() as back:
        front.to["/whep/main"] = (307, back.url("/whep/main", "localhost"))
        async with whip.http_client(front.url("/whep/main"), "") as http:
            answered = await whep.ask(http, front.url("/whep/main"), OFFER)
            await whep.leave(http, answered.resource)
        assert answered.resource == back.url("/whep/main/session", "localhost")
        assert [entry[:2] for entry in back.asked] == [
            ("POST", "/whep/main"),
            ("DELETE", "/whep/main/session"),
        ]


@pytest.mark.parametrize(
    ("home", "url", "may"),
    [
        ("https://a.example/whip/x", "https://a.example:8443/whip/y", True),
        ("http://a.example/whip/x", "https://a.example/whip/x", True),
        ("http://a.example/whip/x", "http://A.EXAMPLE:81/", True),
        ("https://a.example/whip/x", "http://a.example/whip/x", False),
        ("https://a.example/whip/x", "https://b.a.example/whip/x", False),
        ("https://a.example/whip/x", "https://a.example.evil.example/", False),
        ("https://a.example/whip/x", "https://a.example@evil.example/", False),
    ],
)
def test_where_a_token_may_be_sent(home: str, url: str, may: bool) -> None:
    assert may_know(httpx.URL(home), httpx.URL(url)) is may
