"""The pages over HTTP: safe headers, nothing from elsewhere, names checked, static files that stay fresh."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from controlplane.web import pages
from controlplane.wire.api import CHANNEL_RULE, LatencyView, StreamView


def on_air(channel: str, viewers: int = 3) -> StreamView:
    return StreamView(
        channel=channel,
        state="live",
        origin="origin-1",
        publisher=None,
        bitrate_bps=4.5e6,
        fps=30.0,
        viewers=viewers,
        watch=f"http://stage.test/watch/{channel}",
        latency_ms=LatencyView(),
    )


STREAMS = [on_air("second-angle", 1), on_air("main")]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    pages.serve(app, lambda: STREAMS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stage.test") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/watch/main", "/watch/NOT%20A%20CHANNEL"])
async def test_a_page_runs_only_what_this_server_sends(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    # Nothing inline, nothing from another host.
    assert not re.findall(r"<script(?![^>]*\ssrc=)[^>]*>", page.text)
    assert not re.findall(r"<style|\sstyle=|\son\w+=", page.text)
    for link in re.findall(r'(?:href|src)="([^"]*)"', page.text):
        assert link.startswith("/"), link


async def test_every_file_that_a_page_names_is_served(client: httpx.AsyncClient) -> None:
    seen: set[str] = set()
    queue = ["/", "/watch/main"]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await client.get(path)
        assert answer.status_code == 200, path
        if path.endswith(".js"):
            assert answer.headers["Content-Type"].startswith("text/javascript")
            queue += [f"/static/{name}" for name in re.findall(r"from '\./([^']+)'", answer.text)]
        queue += re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)
    assert {"/static/watch.js", "/static/player.js", "/static/whep.js", "/static/showcaller.css"} <= seen


async def test_the_first_page_lists_what_is_on_air(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    assert page.index("/watch/main") < page.index("/watch/second-angle")
    assert "3 watching" in page


async def test_a_name_that_no_channel_can_have_is_refused(client: httpx.AsyncClient) -> None:
    for name in ["Main", "%3Cscript%3E", "a" * 64, "-x", "main%0A"]:
        page = await client.get(f"/watch/{name}")
        assert page.status_code == 404, name
        assert "<script>" not in page.text


async def test_an_address_cut_short_leads_to_what_is_on_air(client: httpx.AsyncClient) -> None:
    for path in ("/watch", "/watch/"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    app = FastAPI()
    pages.serve(app, lambda: STREAMS)
    prefixed = httpx.ASGITransport(app, root_path="/show")
    async with httpx.AsyncClient(transport=prefixed, base_url="http://stage.test") as behind:
        assert (await behind.get("/show/watch/")).headers["Location"] == "/show/"


async def test_a_browser_gets_a_page_where_there_is_no_channel(client: httpx.AsyncClient) -> None:
    for path in ("/watch/x/y", "/watch/x/y/z", "/watch/Main", f"/watch/{'a' * 64}"):
        page = await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 404
        assert CHANNEL_RULE in page.text
        assert page.headers["Content-Security-Policy"]
    assert (
        (await client.get("/watch/x/y", headers={"Accept": "application/json"}))
        .headers["Content-Type"]
        .startswith("application/")
    )


async def test_what_is_printed_is_escaped() -> None:
    app = FastAPI()
    pages.serve(app, lambda: [on_air("<b>bold</b>")])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stage.test") as client:
        page = (await client.get("/")).text
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page


async def test_a_static_file_is_asked_for_again_and_sent_only_when_new(client: httpx.AsyncClient) -> None:
    first = await client.get("/static/watch.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get("/static/watch.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpages.py", "%2e%2e%2fpages.py"])
async def test_nothing_else_is_a_static_file(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status_code == 404


async def test_behind_a_path_prefix_links_keep_it() -> None:
    app = FastAPI()
    pages.serve(app, lambda: STREAMS)
    transport = httpx.ASGITransport(app, root_path="/show")
    async with httpx.AsyncClient(transport=transport, base_url="http://stage.test") as client:
        page = (await client.get("/show/watch/main")).text
    assert 'src="/show/static/watch.js"' in page
