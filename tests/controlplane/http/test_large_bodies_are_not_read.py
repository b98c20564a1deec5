"""A body that is too large is refused by its announced length: before a byte of it has been sent."""

import asyncio

import httpx
import pytest

from tests.controlplane.stage import Show


async def exchange(url: str, head: str, body: bytes = b"") -> str:
    """The status line and headers that come for a request whose body is held back, or cut off."""
    parts = httpx.URL(url)
    reader, writer = await asyncio.open_connection(parts.host, parts.port)
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        return (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    finally:
        writer.close()


@pytest.mark.parametrize("size", [65_537, 1_000_000, 10**15])
@pytest.mark.parametrize("path", ["/whep/main", "/whip/main"])
async def test_an_sdp_of_a_megabyte(show: Show, path: str, size: int) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: {size}\r\n"
        f"Authorization: Bearer {await show.token()}\r\n\r\n"
    )
    assert (await exchange(show.url, head)).startswith("HTTP/1.1 413 ")


async def test_one_of_no_announced_length_is_read_no_further_than_its_limit(show: Show) -> None:
    head = (
        "POST /whep/main HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert (await exchange(show.url, head, piece * 3)).startswith("HTTP/1.1 413 ")


async def test_one_of_a_length_that_is_none_is_refused(show: Show) -> None:
    head = (
        "POST /whep/main HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: -1\r\n\r\n"
    )
    assert (await exchange(show.url, head)).startswith("HTTP/1.1 4")
