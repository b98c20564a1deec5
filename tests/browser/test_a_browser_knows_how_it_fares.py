"""A real browser is told its round trip by DLRR, and the node is told how the browser fares.

A receiver sends no reports that anybody could answer, so it asks by a reference time (RFC 3611 section 4.4).
Chromium does where the answer has the feedback `rrtr`; a page has to write that into its offer.
"""

from typing import Any

import pytest
from playwright.async_api import Browser

from tests.media.node.stand import Publisher, Stand
from tests.support.wait import wait_for

pytestmark = pytest.mark.browser

SESSION = "of-the-browser"
PAGE = """
async () => {
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.addTransceiver('audio', {direction: 'recvonly'});
  const offer = await pc.createOffer();
  const sdp = offer.sdp.replace(/(a=rtcp-fb:(\\d+) nack pli\\r\\n)/g, '$1a=rtcp-fb:$2 rrtr\\r\\n');
  await pc.setLocalDescription({type: 'offer', sdp});
  window.answer = await window.ask(pc.localDescription.sdp);
  await pc.setRemoteDescription({type: 'answer', sdp: window.answer});
}
"""
ROUND_TRIP = """
async () => {
  const stats = [...(await window.pc.getStats()).values()];
  const remote = stats.filter((it) => it.type === 'remote-outbound-rtp' && it.kind === 'video');
  return remote.map((it) => ({count: it.roundTripTimeMeasurements ?? 0, seconds: it.totalRoundTripTime}))[0];
}
"""


async def test_chromium_is_told_its_round_trip_and_the_node_what_it_can_take(
    chromium: Browser, nodes: Stand
) -> None:
    await nodes.node("origin", "origin-1")
    origin = nodes.manager.nodes["origin-1"]
    publisher, page = Publisher(), await chromium.new_page()

    async def ask(offer: str) -> str:
        return await nodes.manager.session("origin-1", "whep", "main", offer, SESSION)

    await page.expose_function("ask", ask)
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await page.evaluate(PAGE)
        answer = await page.evaluate("window.answer")
        assert " rrtr\r\n" in answer
        assert "transport-cc" not in answer

        async def measured() -> Any:
            trip = await page.evaluate(ROUND_TRIP)
            return trip if trip and trip["count"] >= 2 else None

        trip = await wait_for(measured, 15, "the browser has measured its round trip twice")
        assert 0 < trip["seconds"] / trip["count"] < 1

        def told() -> Any:
            row = next((row for row in origin.sessions if row.id == SESSION), None)
            return row if row and row.estimate_bps is not None and row.rtt_ms is not None else None

        row = await wait_for(told, 10, "the node knows what the browser can take")
        assert (row.kind.value, row.loss) == ("whep", 0)
        assert row.jitter_ms is not None
        answered = await nodes.manager.call("origin-1", "GET", f"/v1/sessions/{SESSION}")
        rtcp = answered.json()["rtcp"]
        assert rtcp["reference_times"] >= 2
        assert rtcp["last_report"]["fraction_lost"] == 0
        assert rtcp["estimate_bps"] > 100_000
    finally:
        await page.close()
        await publisher.close()
