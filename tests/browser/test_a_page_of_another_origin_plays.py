"""A player embedded in a page of another origin: the browser itself judges what the stream manager allows it.

The page comes from a server of its own, on a port of its own, and knows nothing but the address of the API.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Error

from tests.support.elsewhere import page_elsewhere
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.stage]

PATIENCE_S = 20

WATCH = """
async (endpoint) => {
  const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const stream = new MediaStream();
  peer.addEventListener('track', ({ track }) => stream.addTrack(track));
  for (const kind of ['video', 'audio']) peer.addTransceiver(kind, { direction: 'recvonly' });
  const video = document.querySelector('video');
  video.srcObject = stream;
  const frame = new Promise((shown) => video.requestVideoFrameCallback(shown));

  await peer.setLocalDescription();
  const offer = peer.localDescription.sdp;
  const headers = { 'Content-Type': 'application/sdp' };
  const answer = await fetch(endpoint, { method: 'POST', headers, body: offer });
  const { status } = answer;
  const [location, etag, link] = ['Location', 'ETag', 'Link'].map((name) => answer.headers.get(name));
  if (status !== 201 || !location || !etag || !link) return { status, location, etag, link };
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });

  const address = (text) => new URL(text, answer.url).href;
  const linked = (end) => address(link.match(new RegExp(`<([^>]+/${end})>`))[1]);
  const events = new EventSource(linked('events'));
  const told = await new Promise((resolve, reject) => {
    events.addEventListener('state', ({ data }) => resolve(JSON.parse(data)));
    events.addEventListener('error', () => reject(new Error('the events are not heard')));
  });
  await frame;

  const credentials = offer.split('\\r\\n').filter((line) => /^a=ice-(ufrag|pwd)/.test(line)).slice(0, 2);
  const fragment = [...credentials, 'm=video 9 UDP/TLS/RTP/SAVPF 0', 'a=mid:0', 'a=end-of-candidates', ''];
  const trickled = await fetch(address(location), {
    method: 'PATCH',
    headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': etag },
    body: fragment.join('\\r\\n'),
  });
  const posted = await fetch(linked('latency'), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ latency_ms: 100, first_frame_ms: 200, frozen_ms: 0, bitrate_bps: 1e6 }),
  });
  window.leave = async () => (await fetch(address(location), { method: 'DELETE' })).status;
  return {
    status,
    state: told.state,
    width: video.videoWidth,
    trickled: trickled.status,
    order: await posted.json(),
  };
}
"""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a page of another origin."""
    with page_elsewhere() as address:
        yield address


async def test_it_plays_follows_the_events_and_leaves(
    stage: Stage, chromium: Browser, elsewhere: str
) -> None:
    stage.publish_test("main", "--bitrate", "1M")
    page = await chromium.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(elsewhere)
    assert not stage.api.startswith(elsewhere.rstrip("/"))

    async def ask(script: str, *words: Any) -> Any:
        try:
            return await asyncio.wait_for(page.evaluate(script, *words), PATIENCE_S)
        except (Error, TimeoutError) as error:
            raise AssertionError(f"{error}; the browser says {complaints}") from error

    watched = await ask(WATCH, f"{stage.api}/whep/main")
    order = watched.pop("order", {})
    assert watched == {"status": 201, "state": "live", "width": 1280, "trickled": 204}
    assert order["interval_s"] > 0

    async def viewers(wanted: int) -> bool:
        streams = await asyncio.to_thread(stage.json, "streams")
        return [stream["viewers"] for stream in streams] == [wanted]

    await wait_for(lambda: viewers(1), PATIENCE_S, "the viewer is counted")
    assert await ask("leave()") == 200
    await wait_for(lambda: viewers(0), PATIENCE_S, "and has left")
