"""A machine behind 1:1 NAT, as in a cloud: no interface has its public address, and its metadata tells it.

The nodes are told `--announce metadata`; the service is asked at its own path on the machine. Chromium comes
through the NAT, over UDP and over TCP.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.far import far_browser, page_address, playing, transports
from tests.support.chromium import OpenPage
from tests.support.metadata import PATH, Metadata, bound, metadata_service, vnic
from tests.support.netns import Networks, inside, networks
from tests.support.stage import Stage, running_stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]


@pytest.fixture(scope="module")
def net() -> Iterator[Networks]:
    with networks(ipv6=False) as made:
        made.translate()
        yield made


@pytest.fixture(scope="module")
def cloud(net: Networks) -> Iterator[Metadata]:
    service = Metadata([vnic(publicIp=net.public4, privateIp=net.stage4)])
    with metadata_service(service, inside(net.stage, lambda: bound(service))):
        yield service


@pytest.fixture(scope="module")
def stage(net: Networks, cloud: Metadata) -> Iterator[Stage]:
    under = (*net.at(net.stage), "env", f"OCI_METADATA_BASE_URL={cloud.base}")
    with running_stage(*under, options=("--listen", "0.0.0.0", "--announce", "metadata")) as stage:
        stage.publish_test("main")
        yield stage


@pytest.fixture
async def chromium(net: Networks, stage: Stage, tmp_path: Path) -> AsyncIterator[Browser]:
    async with far_browser(net, stage, tmp_path) as browser:
        yield browser


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_it_plays_at_the_address_that_no_interface_has(
    net: Networks,
    cloud: Metadata,
    stage: Stage,
    watch_page: OpenPage,
    transport: str,
) -> None:
    net.drop(*[f"ip saddr {net.viewer4} meta l4proto udp"] * (transport == "TCP"))
    watch = await watch_page(page_address(stage, net.public4))
    facts = await playing(watch)
    assert facts["transport"] == f"{transport}, IPv4"
    await wait_for(
        lambda: transports(stage, net) == [f"{transport.lower()}4"], 5, "the edge reports its viewer"
    )
    assert set(cloud.asked) == {("GET", PATH)}
