"""HTTPS from the client's side: whose certificates are believed, and how it is said when they are not."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from console.core.client import Client
from console.core.errors import Unreachable, UsageError
from console.core.live import LinkState, LiveSource
from media.publisher import whip
from media.publisher.errors import UsageError as PublisherUsage
from tests.support.certificates import Files, self_signed

Serve = Callable[[Files | None], Awaitable[str]]


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves an empty list of nodes; its address."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None], socket.socket]] = []

    async def nodes(_: Request) -> JSONResponse:
        return JSONResponse([])

    async def start(files: Files | None) -> str:
        bound = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            Starlette(routes=[Route("/api/v1/nodes", nodes)]),
            log_level="critical",
            lifespan="off",
            ssl_certfile=files and str(files.cert),
            ssl_keyfile=files and str(files.key),
        )
        server = uvicorn.Server(config)
        running.append((server, asyncio.create_task(server._serve(sockets=[bound])), bound))
        return f"http{'s' if files else ''}://127.0.0.1:{bound.getsockname()[1]}"

    yield start
    for server, task, bound in running:
        server.should_exit = True
        await task
        bound.close()


async def refused(api: str) -> Unreachable:
    async with Client(api, "t") as client:
        with pytest.raises(Unreachable) as failed:
            await client.nodes()
    return failed.value


async def test_a_certificate_nobody_knows_is_said_with_the_way_to_trust_it(
    serve: Serve, tmp_path: Path
) -> None:
    error = await refused(await serve(self_signed(tmp_path)))
    assert re.search("its certificate is not trusted: self.signed certificate", error.what)
    assert "SSL_CERT_FILE=cert.pem" in error.next_step
    assert "permitted" not in str(error)


async def test_a_certificate_that_is_named_is_trusted_on_loopback_too(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = self_signed(tmp_path)
    api = await serve(files)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.cert))
    async with Client(api, "t") as client:
        assert await client.nodes() == []
    async with whip.http_client(f"{api}/whip/main", "t") as http:
        assert (await http.get(f"{api}/api/v1/nodes")).json() == []


async def test_a_certificate_for_another_address_is_said(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = self_signed(tmp_path, "192.0.2.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(files.cert))
    error = await refused(await serve(files))
    assert "not valid for '127.0.0.1'" in error.what
    assert "made for" in error.next_step


async def test_a_certificate_that_is_over_is_said(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = self_signed(tmp_path, expired=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.cert))
    assert "certificate has expired" in (await refused(await serve(files))).what


async def test_https_to_a_server_that_has_none_is_said(serve: Serve) -> None:
    api = (await serve(None)).replace("http://", "https://")
    error = await refused(api)
    assert "no TLS" in error.what
    assert "http://" in error.next_step


async def test_the_live_feed_says_it_too(serve: Serve, tmp_path: Path) -> None:
    api = await serve(self_signed(tmp_path))
    async with LiveSource(api, "t") as source:
        async for item in source:
            if getattr(item, "state", None) is LinkState.DOWN:
                assert "its certificate is not trusted" in item.error  # type: ignore[union-attr]
                break


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("not PEM\n", "not a certificate")], ids=["none", "other"]
)
def test_certificates_that_cannot_be_read_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UsageError, match=said) as wrong:
        Client("https://stage.example", "t")
    assert str(path) in str(wrong.value)
    with pytest.raises(PublisherUsage):
        whip.http_client("https://stage.example/whip/main", "t")
    Client("http://127.0.0.1:1", "t")  # of no matter there
