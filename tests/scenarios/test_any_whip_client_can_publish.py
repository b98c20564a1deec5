"""A WHIP client that is not ours publishes with a token made by hand, and viewers see it.

Two independent implementations: aiortc with its own encoders, and Chromium with its fake camera.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiortc
import httpx
import numpy as np
import pytest
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from av import VideoFrame
from playwright.async_api import async_playwright

from console.core.browser import find_browser
from tests.support.chromium import ARGS, OpenPage
from tests.support.stage import Stage
from tests.support.wait import wait_for

PATIENCE_S = 20.0


class MovingBar(VideoStreamTrack):
    """A bright bar that moves down over noise: something to encode."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = np.random.default_rng(pts).integers(16, 90, (360, 640, 3), dtype=np.uint8)
        row = (pts // 3000 * 4) % 340
        picture[row : row + 20] = 235
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


async def plays(page: Any, frames: int = 45) -> None:
    async def enough() -> bool:
        facts = await page.facts()
        return bool(facts["state"] == "playing" and facts["frames"] >= frames)

    await wait_for(enough, PATIENCE_S, "the watch page plays what was published")


@pytest.mark.browser
@pytest.mark.stage
async def test_aiortc_publishes_by_whip(stage: Stage, watch_page: OpenPage) -> None:
    token = stage.json("token", "create", "--publish", "guest")
    assert token["whip"] == f"{stage.api}/whip/guest"
    assert {"whip", "token", "expires"} == set(token)
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    peer.addTrack(MovingBar())
    peer.addTrack(AudioStreamTrack())
    authorization = {"Authorization": f"Bearer {token['token']}"}
    async with httpx.AsyncClient(timeout=20) as http:
        try:
            await peer.setLocalDescription(await peer.createOffer())
            answer = await http.post(
                token["whip"],
                content=peer.localDescription.sdp,
                headers={"Content-Type": "application/sdp", **authorization},
            )
            assert answer.status_code == 201, answer.text
            assert answer.headers["content-type"].startswith("application/sdp")
            resource = httpx.URL(token["whip"]).join(answer.headers["location"])
            await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=answer.text, type="answer"))

            watch = await watch_page(f"{stage.watch}/guest")
            await plays(watch)
            (stream,) = stage.json("streams")
            assert stream["channel"] == "guest"
            assert stream["state"] == "live"
            assert stream["viewers"] == 1
            assert stream["bitrate_bps"] > 100_000

            gone = await http.delete(resource, headers=authorization)
            assert gone.status_code == 200
            assert await wait_for(lambda: stage.json("streams") == [], PATIENCE_S, "the stream is gone")
        finally:
            await peer.close()


@pytest.fixture
async def camera_browser() -> AsyncIterator[Any]:
    """A Chromium whose camera and microphone are its own test devices."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_browser(),
            headless=False,
            args=[
                "--headless=new",
                *ARGS,
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        try:
            yield browser
        finally:
            await browser.close()


PUBLISH = """
async ({whip, token, codec}) => {
  const media = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 360}, audio: true});
  const peer = window.peer = new RTCPeerConnection();
  for (const track of media.getTracks()) peer.addTransceiver(track, {direction: 'sendonly'});
  const video = peer.getTransceivers().find((t) => t.sender.track.kind === 'video');
  const codecs = RTCRtpSender.getCapabilities('video').codecs;
  video.setCodecPreferences(codecs.filter((c) => [`video/${codec}`, 'video/rtx'].includes(c.mimeType)));
  await peer.setLocalDescription();
  const answer = await fetch(whip, {
    method: 'POST', body: peer.localDescription.sdp,
    headers: {'Content-Type': 'application/sdp', Authorization: `Bearer ${token}`},
  });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  return new URL(answer.headers.get('Location'), whip).href;
}
"""


@pytest.mark.browser
@pytest.mark.stage
@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_chromium_publishes_by_whip(
    stage: Stage, camera_browser: Any, watch_page: OpenPage, codec: str
) -> None:
    token = stage.json("token", "create", "--publish", "camera")
    page = await camera_browser.new_page()
    await page.goto(f"{stage.api}/api/v1/health")  # any page that may use a camera
    resource = await page.evaluate(PUBLISH, {"whip": token["whip"], "token": token["token"], "codec": codec})
    assert resource.startswith(token["whip"])
    watch = await watch_page(f"{stage.watch}/camera")
    await plays(watch)
    assert (await watch.facts())["codec"] == codec
    (stream,) = stage.get("streams")
    assert (stream["video_codec"], stream["width"]) == (codec, 640)

    # An operator's stop ends it wherever it was started, and its token is worth nothing any more.
    stage.stop("camera")
    async with httpx.AsyncClient(timeout=20) as http:
        refused = await http.post(
            token["whip"],
            content="v=0\r\n",
            headers={"Content-Type": "application/sdp", "Authorization": f"Bearer {token['token']}"},
        )
    assert refused.status_code in (401, 403)

    async def waiting() -> bool:
        return await watch.state() in ("waiting", "ended")

    await wait_for(waiting, PATIENCE_S, "the page knows that the broadcast has ended")
    await asyncio.wait_for(page.close(), 5)
