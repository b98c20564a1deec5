"""Glass to glass and first frame: the test pattern's time code, read from the pixels in Chromium."""

import asyncio

from bench.figures import Figure, percentile
from bench.rows._browser import chromium, playing
from tests.support.stage import running_stage

TITLE = "glass to glass and first frame in Chromium, 720p30 at 4.5 Mbps, origin -> edge -> browser"

JOINS = 8
SETTLE_S = 3.0
WATCH_S = 20.0
SAMPLE_S = 0.1


async def run() -> list[Figure]:
    with running_stage() as stage:
        stage.publish_test("main", "--bitrate", "4.5M")
        url = f"{stage.watch}/main"
        async with chromium() as browser:
            async with playing(browser, url):
                pass  # the browser's own first start is not the stream's
            first_frames = []
            for _ in range(JOINS):
                async with playing(browser, url) as page:
                    first_frames.append(float(await page.evaluate("window.showcaller.firstFrameMs")))
            async with playing(browser, url) as page:
                await asyncio.sleep(SETTLE_S)
                frozen_before = await page.evaluate("window.showcaller.frozenMs")
                pixels, reports = [], []
                for _ in range(int(WATCH_S / SAMPLE_S)):
                    await asyncio.sleep(SAMPLE_S)
                    facts = await page.evaluate("({...window.showcaller})")
                    if facts["latencyPixelMs"] is not None:
                        pixels.append(float(facts["latencyPixelMs"]))
                    if facts["latencyMs"] is not None:
                        reports.append(float(facts["latencyMs"]))
                frozen = await page.evaluate("window.showcaller.frozenMs") - frozen_before
    return [
        Figure("glass_to_glass_p50_ms", percentile(pixels, 50), "ms", "percentile"),
        Figure("glass_to_glass_p95_ms", percentile(pixels, 95), "ms", "percentile", at_most=200),
        Figure("by_sender_reports_p95_ms", percentile(reports, 95), "ms", "percentile"),
        Figure("browser_first_frame_p95_ms", percentile(first_frames, 95), "ms", "percentile", at_most=1000),
        Figure("frozen_share", frozen / (WATCH_S * 1000), "x", "ratio", at_most=0.01),
    ]
