"""A stage and networks with IPv6 and nothing else: Chromium plays, over UDP and over TCP.

The relay between origin and edge crosses IPv6 too: they announce nothing else.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.far import far_browser, page_address, playing, transports
from tests.support.chromium import OpenPage
from tests.support.figures import Figure
from tests.support.netns import Networks, networks
from tests.support.stage import Stage, running_stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]


@pytest.fixture(scope="module")
def net() -> Iterator[Networks]:
    with networks(ipv4=False) as made:
        yield made


@pytest.fixture(scope="module")
def stage(net: Networks) -> Iterator[Stage]:
    options = ("--listen", "::", "--announce", net.stage6)
    with running_stage(*net.at(net.stage), options=options) as stage:
        stage.publish_test("main")
        yield stage


@pytest.fixture
async def chromium(net: Networks, stage: Stage, tmp_path: Path) -> AsyncIterator[Browser]:
    async with far_browser(net, stage, tmp_path) as browser:
        yield browser


@pytest.mark.parametrize(("blocked", "transport"), [((), "UDP"), (("meta l4proto udp",), "TCP")])
async def test_it_plays(
    net: Networks,
    stage: Stage,
    watch_page: OpenPage,
    figure: Figure,
    blocked: tuple[str, ...],
    transport: str,
) -> None:
    net.drop(*blocked)
    facts = await playing(await watch_page(page_address(stage, net.stage6)))
    assert facts["transport"] == f"{transport}, IPv6"
    await wait_for(
        lambda: transports(stage, net) == [f"{transport.lower()}6"], 5, "the edge reports its viewer"
    )
    assert transports(stage, net, "relay_in") == ["udp6"]
    figure(f"first frame {facts['firstFrameMs']} ms over {facts['transport']}")
