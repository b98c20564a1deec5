"""The watch page on a whole stage where nothing is on air: it waits, and plays when the show begins."""

import pytest

from tests.support.chromium import OpenPage, WatchPage
from tests.support.figures import Figure
from tests.support.show import viewers
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]


async def reaches(watch: WatchPage, state: str, deadline: float) -> None:
    async def there() -> bool:
        return await watch.state() == state

    await wait_for(there, deadline, f"the page is {state} ({await watch.facts()})")


async def test_it_waits_and_plays_each_show_by_itself(
    stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    watch = await watch_page(f"{stage.watch}/main")
    await reaches(watch, "waiting", 10)
    assert "Waiting for the broadcast" in await watch.status()
    assert (await watch.facts())["sessions"] == 0, "nobody is asked while there is nothing to see"

    for shows in (1, 2):
        stage.publish_test("main")
        await reaches(watch, "playing", 5)
        assert stage.get("streams")[0]["state"] == "live"
        await wait_for(lambda: viewers(stage) == [1], 5, "the viewer is counted")
        facts = await watch.facts()
        assert facts["sessions"] == shows
        stage.stop("main")
        await reaches(watch, "waiting", 10)
    figure(f"waited through two shows; {facts['frames']} frames of the second")
