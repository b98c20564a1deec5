"""A simple picture in VP8: what its frames leave of the bitrate is filler, which real decoders pass over."""

from pathlib import Path

import pytest

from tests.media.publisher.clips import make_clip
from tests.support.chromium import OpenPage, WatchPage
from tests.support.firefox import FirefoxPage, OpenFirefox
from tests.support.show import PATIENCE_S
from tests.support.stage import Stage
from tests.support.wait import wait_for

ASKED_BPS = 1.2e6


@pytest.mark.browser
@pytest.mark.firefox
@pytest.mark.stage
async def test_both_browsers_play_it_and_get_the_bitrate_that_was_asked_for(
    stage: Stage, watch_page: OpenPage, firefox_page: OpenFirefox, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "stripes.mp4", seconds=4, size=(640, 360))
    stage.json(
        "publish", str(clip), "--channel", "main", "--loop", "--codec", "vp8", "--bitrate", "1.2M", "--detach"
    )
    chromium = await watch_page(f"{stage.watch}/main")
    firefox = await firefox_page(f"{stage.watch}/main")

    async def settled(page: WatchPage | FirefoxPage) -> bool:
        facts = await page.facts()
        rate = facts["bitrateBps"] or 0
        return bool(facts["frames"] > 150 and rate == pytest.approx(ASKED_BPS, rel=0.15))

    for page in (chromium, firefox):
        await wait_for(lambda page=page: settled(page), PATIENCE_S, f"it plays at its bitrate in {page}")
        assert (await page.facts())["codec"] == "VP8"
    (stream,) = stage.json("streams")
    assert stream["viewers"] == 2
