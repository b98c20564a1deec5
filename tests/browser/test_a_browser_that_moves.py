"""Chromium keeps watching when its address changes: by an ICE restart, and behind a NAT that forgets.

A page of nothing but an RTCPeerConnection, on real nodes. The signalling passes through the test, as a stream
manager would pass it on, so that the way to the node can be led through the NAT.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from controlplane.wire.nodes import ice_etag
from tests.media.node.stand import Publisher, Stand
from tests.support.figures import Figure
from tests.support.nat import Nat
from tests.support.wait import wait_for

pytestmark = pytest.mark.browser

SESSION = "of-the-browser"
FOLLOWED_WITHIN = 6.0  # seconds a test waits; the figures say what it took

PAGE = """
async () => {
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  window.states = [];
  pc.addEventListener('connectionstatechange', () => window.states.push(pc.connectionState));
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.addTransceiver('audio', {direction: 'recvonly'});
  const video = document.createElement('video');
  video.muted = video.autoplay = true;
  pc.ontrack = ({track}) => { if (track.kind === 'video') video.srcObject = new MediaStream([track]); };
  document.body.append(video);
  await pc.setLocalDescription(await pc.createOffer());
  await pc.setRemoteDescription({type: 'answer', sdp: await window.ask(pc.localDescription.sdp)});
}
"""

RESTART = """
async () => {
  const pc = window.pc;
  pc.restartIce();
  await pc.setLocalDescription(await pc.createOffer());
  const lines = pc.localDescription.sdp.split('\\r\\n');
  const first = (name) => lines.find((line) => line.startsWith(name));
  const fragment = ['m=', 'a=mid:', 'a=ice-ufrag:', 'a=ice-pwd:'].map(first).join('\\r\\n') + '\\r\\n';
  const answer = (await window.patch(fragment)).split('\\r\\n');
  const theirs = (name) => answer.find((line) => line.startsWith(name));
  const sdp = pc.currentRemoteDescription.sdp.split('\\r\\n').map((line) =>
    line.startsWith('a=ice-ufrag:') ? theirs('a=ice-ufrag:') :
    line.startsWith('a=ice-pwd:') ? theirs('a=ice-pwd:') : line);
  await pc.setRemoteDescription({type: 'answer', sdp: sdp.join('\\r\\n')});
}
"""

STATS = """
async () => {
  const stats = [...(await window.pc.getStats()).values()];
  const video = stats.find((it) => it.type === 'inbound-rtp' && it.kind === 'video');
  const transport = stats.find((it) => it.type === 'transport');
  return {frames: video?.framesDecoded ?? 0, bytes: video?.bytesReceived ?? 0,
          ufrag: transport?.iceLocalUsernameFragment, dtls: transport?.dtlsState,
          pairs: transport?.selectedCandidatePairChanges, states: window.states};
}
"""


class Viewer:
    """The page, and what the node said to it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.etags: list[str] = []

    async def stats(self) -> Any:
        return await self.page.evaluate(STATS)

    async def sees(self, frames: int, what: str, within: float = 15.0) -> Any:
        before = (await self.stats())["frames"]

        async def more() -> Any:
            stats = await self.stats()
            return stats if stats["frames"] >= before + frames else None

        return await wait_for(more, within, what, interval=0.05)


@asynccontextmanager
async def watching(chromium: Browser, nodes: Stand) -> AsyncIterator[tuple[Viewer, Nat]]:
    """A browser that watches what aiortc publishes, through a NAT."""
    await nodes.node("origin", "origin-1")
    publisher = Publisher()
    page = await chromium.new_page()
    viewer = Viewer(page)
    async with Nat(nodes.manager.nodes["origin-1"].enrol.workers[0].udp_port) as nat:

        async def ask(offer: str) -> str:
            return nat.behind(await nodes.manager.session("origin-1", "whep", "main", offer, SESSION))

        async def patch(fragment: str) -> str:
            response = await nodes.manager.call(
                "origin-1",
                "PATCH",
                f"/v1/sessions/{SESSION}",
                content=fragment,
                headers={"If-Match": "*"},
            )
            assert response.status_code == 200, response.text
            restarted = response.json()
            viewer.etags.append(restarted["etag"])
            return nat.behind(restarted["fragment"])

        await page.expose_function("ask", ask)
        await page.expose_function("patch", patch)
        try:
            await publisher.publish(nodes.manager, "origin-1", "main")
            await page.evaluate(PAGE)
            await viewer.sees(10, "the browser plays")
            yield viewer, nat
            assert SESSION not in nodes.manager.nodes["origin-1"].ended
        finally:
            await page.close()
            await publisher.close()


async def test_an_ice_restart_by_patch_keeps_the_session(chromium: Browser, nodes: Stand) -> None:
    async with watching(chromium, nodes) as (viewer, _):
        before = await viewer.stats()
        for generation in (1, 2):
            ufrag = (await viewer.stats())["ufrag"]
            await viewer.page.evaluate(RESTART)
            assert viewer.etags[-1] == ice_etag(SESSION, generation)

            async def changed(ufrag: str = ufrag) -> bool:
                stats = await viewer.stats()
                return bool(stats["ufrag"] != ufrag and stats["dtls"] == "connected")

            await wait_for(changed, 10, "the browser uses its new credentials")
            await viewer.sees(45, "pictures under the new credentials")
        after = await viewer.stats()
        assert after["pairs"] > before["pairs"]
        assert after["states"] == before["states"], "it was connected all the time"


async def test_a_nat_that_forgets_is_followed(
    chromium: Browser,
    nodes: Stand,
    figure: Figure,
) -> None:
    async with watching(chromium, nodes) as (viewer, nat):
        before = await viewer.stats()
        took = []
        for _ in range(4):
            nat.rebind()
            took.append(await wait_for(lambda: nat.answered_after, FOLLOWED_WITHIN, "media at the new port"))
            await viewer.sees(30, "pictures through the new port")
        figure(f"media again after {', '.join(f'{seconds:.2f}' for seconds in took)} s")
        assert (await viewer.stats())["states"] == before["states"], "the browser noticed nothing"


async def test_an_ice_restart_finds_the_way_when_the_old_one_is_dead(
    chromium: Browser,
    nodes: Stand,
) -> None:
    async with watching(chromium, nodes) as (viewer, nat):
        nat.block()

        async def noticed() -> bool:
            return "disconnected" in (await viewer.stats())["states"]

        await wait_for(noticed, 20, "the browser notices that nothing comes")
        nat.unblock_others()
        await viewer.page.evaluate(RESTART)
        await viewer.sees(30, "pictures after the restart")
        assert (await viewer.stats())["states"][-1] == "connected"
