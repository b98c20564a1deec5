"""Debian's Firefox on a whole stage. It has no H.264 in WebRTC until a plug-in was fetched: it needs VP8."""

import pytest

from tests.support.figures import Figure
from tests.support.firefox import FirefoxPage, OpenFirefox
from tests.support.show import FRAMES_AGAIN, PATIENCE_S, kill
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.firefox, pytest.mark.stage]


async def plays_on(page: FirefoxPage, what: str) -> None:
    """New frames are shown: a second and a half of them, counted from now."""
    before = (await page.facts())["frames"]

    async def more() -> bool:
        facts = await page.facts()
        return bool(facts["state"] == "playing" and facts["frames"] >= before + FRAMES_AGAIN)

    await wait_for(more, PATIENCE_S, f"the page plays on after {what}")


async def said(page: FirefoxPage, words: str) -> None:
    async def there() -> bool:
        return any(words in status for _, status in await page.history())

    await wait_for(there, PATIENCE_S, f"the status line says, or said, {words!r}")


async def test_firefox_plays_a_vp8_broadcast(stage: Stage, firefox_page: OpenFirefox, figure: Figure) -> None:
    stage.publish_test("main", "--codec", "vp8", "--bitrate", "1.5M")
    page = await firefox_page(f"{stage.watch}/main")
    await plays_on(page, "it was opened")
    facts = await page.facts()
    assert facts["codec"] == "VP8"
    assert facts["sessions"] == 1
    assert facts["firstFrameMs"] < 5000
    assert await page.evaluate("document.querySelector('video.front').videoWidth") == 1280

    async def measured() -> bool:
        facts = await page.facts()
        return facts["latencyPixelMs"] is not None and facts["bitrateBps"] is not None

    await wait_for(measured, PATIENCE_S, "latency, read from the picture, and a bitrate")
    await plays_on(page, "it was measured")
    facts = await page.facts()
    assert 0 <= facts["latencyPixelMs"] < 1000
    assert facts["bitrateBps"] == pytest.approx(1.5e6, rel=0.25)
    figure(
        f"first picture after {facts['firstFrameMs']:.0f} ms, {facts['latencyPixelMs']:.0f} ms behind live"
    )

    async def counted() -> bool:
        (stream,) = stage.json("streams")
        return bool(stream["viewers"] == 1 and stream["state"] == "live")

    await wait_for(counted, PATIENCE_S, "it is counted")
    (detail,) = stage.get("streams")
    assert (detail["video_codec"], detail["width"], detail["height"]) == ("VP8", 1280, 720)

    # Another process of the same publisher: where its picture ids and clock begin is no matter.
    kill(stage.process("publisher-main"))
    await plays_on(page, "its publisher was killed")


async def test_firefox_without_h264_is_told_so_and_plays_the_next_broadcast_that_it_can(
    stage: Stage, firefox_page: OpenFirefox
) -> None:
    stage.publish_test("main", "--size", "640x360", "--bitrate", "800k")
    page = await firefox_page(f"{stage.watch}/main")
    codecs = await page.evaluate("RTCRtpReceiver.getCapabilities('video').codecs.map((it) => it.mimeType)")
    assert "video/H264" not in codecs
    await said(page, "This broadcast is H.264 and this browser has none")
    facts = await page.facts()
    assert (facts["state"], facts["sessions"]) == ("waiting", 0)
    stage.stop("main")
    await said(page, "Waiting for the broadcast")
    stage.publish_test("main", "--codec", "vp8", "--size", "640x360", "--bitrate", "800k")
    await plays_on(page, "there was a broadcast in VP8")
