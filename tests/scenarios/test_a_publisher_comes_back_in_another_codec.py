"""A publisher comes back with another codec: pages that watched make a session that fits, by themselves."""

import asyncio
import time

import aiortc
import httpx
import pytest

from tests.media.node.stand import offer_only
from tests.support.chromium import OpenPage, WatchPage
from tests.support.clients import MovingBar
from tests.support.figures import Figure
from tests.support.show import PATIENCE_S, mark, never_reloaded, plays_on
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]


async def publish(http: httpx.AsyncClient, token: dict[str, str], codec: str) -> aiortc.RTCPeerConnection:
    """A WHIP client that offers this codec alone."""
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    peer.addTrack(MovingBar())
    offer_only(peer.getTransceivers()[0], codec)
    await peer.setLocalDescription(await peer.createOffer())
    answer = await http.post(
        token["whip"],
        content=peer.localDescription.sdp,
        headers={"Content-Type": "application/sdp", "Authorization": f"Bearer {token['token']}"},
    )
    assert answer.status_code == 201, answer.text
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=answer.text, type="answer"))
    return peer


async def plays_in(watch: WatchPage, codec: str) -> None:
    async def there() -> bool:
        facts = await watch.facts()
        return bool(facts["state"] == "playing" and facts["codec"] == codec)

    await wait_for(there, PATIENCE_S, f"the page plays {codec}")


async def test_a_page_that_watched_h264_goes_on_in_vp8_and_back(
    stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    token = stage.json("token", "create", "--publish", "guest")
    peers: list[aiortc.RTCPeerConnection] = []
    async with httpx.AsyncClient(timeout=20) as http:
        try:
            peers.append(await publish(http, token, "H264"))
            watch = await watch_page(f"{stage.watch}/guest")
            await plays_in(watch, "H264")
            await mark(watch)
            for number, codec in enumerate(("VP8", "H264"), start=2):
                began = time.monotonic()
                peers.append(await publish(http, token, codec))
                await plays_in(watch, codec)
                figure(
                    f"{codec} is on the screen {time.monotonic() - began:.2f} s after the publisher's return"
                )
                await plays_on(watch, f"the publisher came back in {codec}")
                facts = await watch.facts()
                assert facts["sessions"] >= number

                async def told(codec: str = codec) -> bool:
                    (stream,) = await asyncio.to_thread(stage.get, "streams")  # the publisher is in this loop
                    said = (stream["state"], stream["video_codec"], stream["viewers"])
                    return bool(said == ("live", codec, 1))

                await wait_for(told, PATIENCE_S, f"the stage says that {codec} is watched by one")
            assert await never_reloaded(watch)
        finally:
            for peer in peers:
                await peer.close()
