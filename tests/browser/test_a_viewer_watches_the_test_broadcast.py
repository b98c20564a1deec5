"""Chromium opens the watch page of a whole stage and watches the test broadcast for 20 seconds.

Publisher, origin, edge, stream manager: all real processes. What the page measures is held against what was
asked for, and against the time code in the picture, which is glass to glass with nothing estimated.
"""

import statistics
import time

import pytest

from tests.support.chromium import OpenPage
from tests.support.figures import Figure
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]

WATCHED_S = 20
ASKED_BPS = 4_500_000


async def test_twenty_seconds_of_the_test_broadcast(
    stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    stage.publish_test("main", "--bitrate", "4.5M")
    watch = await watch_page(f"{stage.watch}/main")

    async def playing() -> bool:
        facts = await watch.facts()
        return facts["state"] == "playing" and facts["bitrateBps"] is not None

    await wait_for(playing, 15, "the page plays")
    samples = [await watch.facts()]
    end = time.monotonic() + WATCHED_S
    while time.monotonic() < end:
        seen = samples[-1]["frames"]

        async def a_second_of_pictures(seen: int = seen) -> bool:
            return bool((await watch.facts())["frames"] >= seen + 25)

        await wait_for(a_second_of_pictures, 3, "25 new pictures within 3 s")
        samples.append(await watch.facts())

    # The first reading of the bitrate holds the key frame of the join; the later ones a window of 5 s each.
    bitrate = statistics.mean(sample["bitrateBps"] for sample in samples[5:])
    reported = [sample["latencyMs"] for sample in samples[2:] if sample["latencyMs"] is not None]
    pixels = [sample["latencyPixelMs"] for sample in samples if sample["latencyPixelMs"] is not None]
    frozen = samples[-1]["frozenMs"] - samples[0]["frozenMs"]
    figure(
        f"first frame {samples[0]['firstFrameMs']} ms, {samples[-1]['frames']} frames, frozen {frozen} ms, "
        f"bitrate {bitrate / 1e6:.2f} Mbps"
    )
    figure(
        f"latency by the picture: median {statistics.median(pixels):.0f}, worst {max(pixels):.0f} ms; "
        f"by sender reports: {statistics.median(reported) if reported else float('nan'):.0f} ms"
    )
    assert {sample["state"] for sample in samples} == {"playing"}
    assert samples[0]["firstFrameMs"] < 5000
    assert len(pixels) >= len(samples) - 1, "the time code is read all the time"
    assert max(pixels) < 1000
    assert frozen < 1000
    assert samples[-1]["sessions"] == 1
    assert bitrate == pytest.approx(ASKED_BPS, rel=0.10)
    assert reported, "the browser knows the latency from sender reports"
    assert abs(statistics.median(reported) - statistics.median(pixels)) < 60

    # What the viewer posted is what the stage tells.
    (stream,) = stage.json("streams")
    assert stream["viewers"] == 1
    assert min(reported) - 60 < stream["latency_ms"]["p50"] < max(reported) + 60
