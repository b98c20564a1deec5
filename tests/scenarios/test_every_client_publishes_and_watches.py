"""Chromium, Firefox, aiortc and GStreamer's webrtcbin: each publishes by WHIP what all of them watch by WHEP.

One stage for all. What a viewer is said to see are pictures that it decoded, and sound.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.clients import (
    HEIGHT,
    PUBLISH,
    WIDTH,
    Browser,
    Client,
    Look,
    Seen,
    called,
    every_client,
)
from tests.support.figures import Figure
from tests.support.stage import Stage, running_stage
from tests.support.wait import wait_for

pytestmark = [
    *(pytest.mark.browser, pytest.mark.firefox, pytest.mark.gstreamer, pytest.mark.stage),
    pytest.mark.asyncio(loop_scope="module"),
]

PATIENCE_S = 30.0
FRAMES = 30  # more than a key frame and what was buffered: what comes on is decoded too


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients() -> AsyncIterator[dict[str, Client]]:
    """By name. The browsers run from the first test to the last."""
    async with every_client() as every:
        yield every


async def streams(stage: Stage, channel: str) -> list[dict[str, Any]]:
    """What the stage says of a channel: one stream, or none."""
    told = await asyncio.to_thread(stage.get, "streams")
    return [stream for stream in told if stream["channel"] == channel]


async def on_air(stage: Stage, channel: str, viewers: int = 0) -> dict[str, Any]:
    """The live stream of a channel, once its picture is known and so many viewers are counted."""

    async def live() -> dict[str, Any] | None:
        for stream in await streams(stage, channel):
            if stream["state"] == "live" and stream["width"] and stream["viewers"] == viewers:
                return stream
        return None

    stream = await wait_for(live, PATIENCE_S, f"{channel} is on air, {viewers} watch")
    assert stream is not None
    return stream


async def watched(look: Look, viewer: str) -> Seen:
    """What a viewer has seen once pictures and sound come."""

    async def enough() -> Seen | None:
        seen = await look()
        return seen if seen.frames >= FRAMES and seen.sounds > 0 and seen.width > 0 else None

    seen = await wait_for(enough, PATIENCE_S, f"{viewer} sees and hears it")
    assert seen is not None
    return seen


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("aiortc", "H264"), ("aiortc", "VP8"), ("GStreamer", "H264"), ("GStreamer", "VP8")),
        *(("Chromium", "H264"), ("Chromium", "VP8"), ("Firefox", "VP8")),
    ],
)
async def test_what_it_publishes_is_watched_by_every_client(
    stage: Stage, clients: dict[str, Client], name: str, codec: str, figure: Figure
) -> None:
    channel = f"{name}-{codec}".lower()
    token = await asyncio.to_thread(stage.json, "token", "create", "--publish", channel)
    assert token["whip"] == f"{stage.api}/whip/{channel}"
    assert {"whip", "token", "expires"} == set(token)
    audience = [client for client in clients.values() if codec in client.codecs]

    async with contextlib.AsyncExitStack() as sessions:
        await sessions.enter_async_context(clients[name].publishes(token["whip"], token["token"], codec))
        stream = await on_air(stage, channel)
        assert stream["video_codec"] == codec
        looks = {
            one.name: await sessions.enter_async_context(one.watches(f"{stage.api}/whep/{channel}", codec))
            for one in audience
        }
        seen = {viewer: await watched(look, viewer) for viewer, look in looks.items()}
        stream = await on_air(stage, channel, viewers=len(audience))
        assert {(one.width, one.height) for one in seen.values()} == {(stream["width"], stream["height"])}
        shown = ", ".join(f"{viewer} {one.frames}" for viewer, one in seen.items())
        figure(f"{clients[name].version}: {stream['width']}x{stream['height']}, pictures decoded by {shown}")

    async def gone() -> bool:
        return await streams(stage, channel) == []

    await wait_for(gone, PATIENCE_S, "with its publisher's session the stream has ended")


async def test_an_operator_ends_what_another_client_publishes(
    stage: Stage, clients: dict[str, Client]
) -> None:
    token = await asyncio.to_thread(stage.json, "token", "create", "--publish", "camera")
    browser = clients["Chromium"]
    assert isinstance(browser, Browser)
    async with browser.tab() as camera, browser.tab(f"{stage.watch}/camera") as page:
        await camera(called(PUBLISH, token["whip"], token["token"], "H264", WIDTH, HEIGHT))

        async def playing() -> bool:
            facts = await page("({...window.showcaller})")
            return bool(facts["state"] == "playing" and facts["frames"] >= FRAMES)

        await wait_for(playing, PATIENCE_S, "the watch page plays it")
        await asyncio.to_thread(stage.stop, "camera")
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            refused = await http.post(
                token["whip"],
                content="v=0\r\n",
                headers={"Content-Type": "application/sdp", "Authorization": f"Bearer {token['token']}"},
            )
        assert refused.status_code in (401, 403), "its token is worth nothing any more"

        async def over() -> bool:
            return await page("window.showcaller.state") in ("waiting", "ended")

        await wait_for(over, PATIENCE_S, "the page knows that the broadcast has ended")
