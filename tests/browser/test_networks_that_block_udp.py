"""Chromium behind a router that drops UDP plays over TCP; behind one that drops both it says so, and retries.

The stage, the router and the browser are in network namespaces of their own. What is dropped is dropped in
silence, as firewalls do it: nobody is told.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.browser.far import far_browser, page_address, playing, transports
from tests.support.chromium import OpenPage
from tests.support.figures import Figure
from tests.support.netns import Networks, networks
from tests.support.stage import Stage, running_stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]

UDP = ("udp dport 20000-29999", "udp sport 20000-29999")  # the workers' own ports
TCP = ("tcp dport 20000-29999",)
SHARED = ("tcp dport 443",)


@pytest.fixture(scope="module")
def net() -> Iterator[Networks]:
    with networks() as made:
        yield made


@pytest.fixture(scope="module")
def stage(net: Networks) -> Iterator[Stage]:
    """In its namespace, with a broadcast; the browser reaches it at `net.stage4`."""
    options = ("--listen", "0.0.0.0", "--announce", net.stage4)
    with running_stage(*net.at(net.stage), options=options, settings="[fleet]\ntcp_port = 443\n") as stage:
        stage.publish_test("main")
        yield stage


@pytest.fixture
async def chromium(net: Networks, stage: Stage, tmp_path: Path) -> AsyncIterator[Browser]:
    async with far_browser(net, stage, tmp_path) as browser:
        yield browser


async def test_it_plays_over_udp_where_it_may(
    net: Networks, stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    net.drop()
    watch = await watch_page(page_address(stage, net.stage4))
    facts = await playing(watch)
    assert facts["transport"] == "UDP, IPv4"
    await wait_for(lambda: transports(stage, net) == ["udp4"], 5, "the edge reports it")
    figure(f"first frame over UDP {facts['firstFrameMs']} ms")


async def test_it_plays_over_tcp_where_udp_is_dropped(
    net: Networks, stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    net.drop(*UDP)
    watch = await watch_page(page_address(stage, net.stage4))
    facts = await playing(watch)
    assert facts["transport"] == "TCP, IPv4"
    assert facts["sessions"] == 1, "at the first attempt"
    assert net.dropped() > 0, "UDP was tried, and dropped"
    await wait_for(lambda: transports(stage, net) == ["tcp4"], 5, "the edge reports it")
    before = facts["frames"]

    async def more() -> dict[str, Any] | None:
        facts = await watch.facts()
        return facts if facts["frames"] > before + 90 else None

    later = await wait_for(more, 10, "three more seconds of pictures")
    assert later is not None
    assert later["frozenMs"] < 1000
    await watch.page.keyboard.press("i")
    assert await watch.page.text_content("#figure-transport") == "TCP, IPv4"
    figure(f"first frame over TCP {facts['firstFrameMs']} ms, then {later['bitrateBps'] / 1e6:.2f} Mbps")


async def test_it_plays_through_port_443_where_nothing_else_passes(
    net: Networks, stage: Stage, watch_page: OpenPage, figure: Figure
) -> None:
    """The origin of this stage has port 443 as well: what the kernel hands to its worker is passed on."""
    net.drop(*UDP, *TCP)
    url = page_address(stage, net.stage4)
    first_frames = []
    for viewers in range(1, 5):
        facts = await playing(await watch_page(url))
        assert facts["transport"] == "TCP, IPv4"
        first_frames.append(facts["firstFrameMs"])
        await wait_for(lambda n=viewers: transports(stage, net) == ["tcp4"] * n, 5, "the edge has them all")
    figure(f"first frames over TCP port 443 {first_frames} ms")


PUBLISH = """
async ({whip, token}) => {
  const canvas = document.createElement('canvas');
  const brush = canvas.getContext('2d');
  setInterval(() => { brush.fillStyle = `hsl(${performance.now() / 10}, 80%, 50%)`; brush.fillRect(0, 0, 300, 150); }, 33);
  const peer = window.peer = new RTCPeerConnection();
  const video = peer.addTransceiver(canvas.captureStream(30).getVideoTracks()[0], {direction: 'sendonly'});
  const codecs = RTCRtpSender.getCapabilities('video').codecs;
  video.setCodecPreferences(codecs.filter((c) => /H264|rtx/i.test(c.mimeType)));
  await peer.setLocalDescription();
  const answer = await fetch(whip, {
    method: 'POST', body: peer.localDescription.sdp,
    headers: {'Content-Type': 'application/sdp', Authorization: `Bearer ${token}`},
  });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
}
"""  # noqa: E501


async def test_a_browser_publishes_over_tcp_where_udp_is_dropped(
    net: Networks, stage: Stage, chromium: Browser
) -> None:
    net.drop(*UDP)
    token = stage.json("token", "create", "--publish", "canvas")["token"]
    root = page_address(stage, net.stage4).removesuffix("/watch/main")
    page = await chromium.new_page()
    await page.goto(f"{root}/api/v1/health")
    await page.evaluate(PUBLISH, {"whip": f"{root}/whip/canvas", "token": token})

    def live() -> bool:
        streams = {row["channel"]: row["state"] for row in stage.json("streams")}
        return streams.get("canvas") == "live" and "tcp4" in transports(stage, net, "whip", "origin-1")

    await wait_for(live, 15, "its picture comes over TCP")
    stage.stop("canvas")


async def test_it_says_so_where_neither_passes_and_plays_when_one_does(
    net: Networks, stage: Stage, watch_page: OpenPage
) -> None:
    net.drop(*UDP, *TCP, *SHARED)
    watch = await watch_page(page_address(stage, net.stage4))

    async def told() -> bool:
        return bool((await watch.facts())["reason"] == "blocked")

    await wait_for(told, 15, "the page says that the network blocks the video")
    status = await watch.status()
    assert "This network blocks the video" in status
    helps = rf"allow UDP port (\d+), or TCP port \1 or 443, to {re.escape(net.stage4)}\."
    assert re.search(helps, status), status

    async def again() -> bool:
        return bool((await watch.facts())["sessions"] > 1)

    await wait_for(again, 25, "it tries again by itself")
    assert "This network blocks the video" in await watch.status(), "and says the same meanwhile"
    net.drop(*UDP)
    assert (await playing(watch, 30))["transport"] == "TCP, IPv4"
    told_of = [words for _, words in await watch.history()]
    assert sum("blocks the video" in words for words in told_of) == 1, "said once, not again and again"
