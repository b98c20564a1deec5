"""Real clients of four makers, all alike to a test: each publishes by WHIP and watches by WHEP.

aiortc runs in the test's own event loop, GStreamer's webrtcbin in a process of its own, Chromium and Firefox
run the same few lines of JavaScript in a page of another origin. What is published is really encoded (a
camera that the browser fakes, a moving test picture), and what is watched is really decoded: `Seen` counts
pictures, not packets.
"""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import aiortc
import httpx
import numpy as np
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack, VideoStreamTrack
from av import AudioFrame, VideoFrame
from playwright.async_api import async_playwright

from tests.support import chromium, firefox
from tests.support.elsewhere import page_elsewhere
from tests.support.need import need

WEBRTCBIN = Path(__file__).parent / "webrtcbin.py"
PATIENCE_S = 30.0
WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True)
class Seen:
    """What a viewer has decoded so far."""

    frames: int = 0
    sounds: int = 0  # blocks or samples: more than none
    width: int = 0
    height: int = 0


Look: TypeAlias = Callable[[], Awaitable[Seen]]


class Client(Protocol):
    name: str
    version: str
    codecs: tuple[str, ...]  # of the picture

    def publishes(self, whip: str, token: str, codec: str) -> AbstractAsyncContextManager[None]:
        """On air until the end of the block, which gives the session back."""

    def watches(self, whep: str, codec: str) -> AbstractAsyncContextManager[Look]:
        """Watching until the end of the block, which gives the session back."""


# -- aiortc


class MovingBar(VideoStreamTrack):
    """A bright bar that moves down over noise: something to encode."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = np.random.default_rng(pts).integers(16, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        row = (pts // 3000 * 4) % 340
        picture[row : row + 20] = 235
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Aiortc:
    name = "aiortc"
    version = f"aiortc {aiortc.__version__}"
    codecs = ("H264", "VP8")

    @contextlib.asynccontextmanager
    async def publishes(self, whip: str, token: str, codec: str) -> AsyncIterator[None]:
        async with self._session(whip, token) as (peer, negotiate):
            peer.addTrack(MovingBar())
            peer.addTrack(AudioStreamTrack())
            capabilities = aiortc.RTCRtpSender.getCapabilities("video").codecs
            peer.getTransceivers()[0].setCodecPreferences(
                [one for one in capabilities if one.mimeType in (f"video/{codec}", "video/rtx")]
            )
            await negotiate()
            yield

    @contextlib.asynccontextmanager
    async def watches(self, whep: str, codec: str) -> AsyncIterator[Look]:
        seen = Seen()

        async def decode(track: MediaStreamTrack) -> None:
            nonlocal seen
            with contextlib.suppress(MediaStreamError):  # it has ended
                while True:
                    frame = await track.recv()
                    if isinstance(frame, VideoFrame):
                        seen = Seen(seen.frames + 1, seen.sounds, frame.width, frame.height)
                    elif isinstance(frame, AudioFrame):
                        seen = Seen(seen.frames, seen.sounds + 1, seen.width, seen.height)

        async def look() -> Seen:
            return seen

        async with self._session(whep) as (peer, negotiate), asyncio.TaskGroup() as tasks:
            for kind in ("video", "audio"):
                peer.addTransceiver(kind, direction="recvonly")
            await negotiate()
            for receiver in peer.getReceivers():
                tasks.create_task(decode(receiver.track))
            yield look
            await peer.close()  # which ends the tracks

    @contextlib.asynccontextmanager
    async def _session(
        self, address: str, token: str = ""
    ) -> AsyncIterator[tuple[aiortc.RTCPeerConnection, Callable[[], Awaitable[None]]]]:
        """A peer, and what makes its offer and takes the answer."""
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        resource: httpx.URL | None = None

        async def negotiate() -> None:
            nonlocal resource
            await peer.setLocalDescription(await peer.createOffer())
            answer = await http.post(
                address,
                content=peer.localDescription.sdp,
                headers={"Content-Type": "application/sdp"},
            )
            assert answer.status_code == 201, answer.text
            assert answer.headers["content-type"].startswith("application/sdp")
            resource = answer.url.join(answer.headers["location"])
            await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=answer.text, type="answer"))

        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, headers=headers) as http:
            try:
                yield peer, negotiate
            finally:
                if resource is not None:
                    assert (await http.delete(resource)).status_code == 200
                await peer.close()


# -- GStreamer


class GStreamer:
    name = "GStreamer"
    codecs = ("H264", "VP8")

    def __init__(self) -> None:
        self._python = str(need("gstreamer"))
        said = subprocess.run(
            [self._python, "-I", WEBRTCBIN, "--check"], capture_output=True, check=True, text=True
        )
        self.version = said.stdout.strip()

    @contextlib.asynccontextmanager
    async def publishes(self, whip: str, token: str, codec: str) -> AsyncIterator[None]:
        async with self._running("publish", whip, "--codec", codec, "--token", token):
            yield

    @contextlib.asynccontextmanager
    async def watches(self, whep: str, codec: str) -> AsyncIterator[Look]:
        async with self._running("watch", whep, "--codec", codec) as facts:

            async def look() -> Seen:
                width, height = facts["size"]
                return Seen(facts["frames"], facts["sounds"], width, height)

            yield look

    @contextlib.asynccontextmanager
    async def _running(self, *words: str) -> AsyncIterator[dict[str, Any]]:
        """The program, and what it says of itself, which is kept as it is now."""
        process = await asyncio.create_subprocess_exec(
            *(self._python, "-I", str(WEBRTCBIN), *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        output = process.stdout
        facts: dict[str, Any] = {}

        async def read() -> None:
            while line := await output.readline():
                facts.update(json.loads(line))

        reading = asyncio.create_task(read())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while facts.get("state") != "connected":
                    assert process.returncode is None, f"it has ended: {facts}"
                    assert not reading.done(), f"it has ended: {facts}"
                    await asyncio.sleep(0.02)
            yield facts
            assert not facts["problem"], facts["problem"]
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await reading


# -- browsers

PUBLISH = """
async (whip, token, codec, width, height) => {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width, height }, audio: true });
  const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  for (const track of media.getTracks()) peer.addTransceiver(track, { direction: 'sendonly' });
  const video = peer.getTransceivers().find(({ sender }) => sender.track.kind === 'video');
  const { codecs } = RTCRtpSender.getCapabilities('video');
  video.setCodecPreferences(
    codecs.filter(({ mimeType }) => [`video/${codec}`, 'video/rtx'].includes(mimeType)),
  );
  await peer.setLocalDescription();
  const headers = { 'Content-Type': 'application/sdp', Authorization: `Bearer ${token}` };
  const answer = await fetch(whip, { method: 'POST', headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  const resource = new URL(answer.headers.get('Location'), whip);
  window.leave = async () => {
    const { status } = await fetch(resource, { method: 'DELETE', headers });
    peer.close();
    for (const track of media.getTracks()) track.stop();
    return status;
  };
}
"""

WATCH = """
async (whep) => {
  const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const video = document.querySelector('video');
  video.srcObject = new MediaStream();
  peer.addEventListener('track', ({ track }) => video.srcObject.addTrack(track));
  for (const kind of ['video', 'audio']) peer.addTransceiver(kind, { direction: 'recvonly' });
  await peer.setLocalDescription();
  const headers = { 'Content-Type': 'application/sdp' };
  const answer = await fetch(whep, { method: 'POST', headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  const resource = new URL(answer.headers.get('Location'), whep);
  window.seen = async () => {
    const inbound = [...(await peer.getStats()).values()].filter(({ type }) => type === 'inbound-rtp');
    const [picture, sound] = ['video', 'audio'].map((kind) => inbound.find((one) => one.kind === kind));
    return {
      frames: picture?.framesDecoded ?? 0,
      sounds: (sound?.totalSamplesReceived ?? 0) - (sound?.concealedSamples ?? 0),
      width: video.videoWidth,
      height: video.videoHeight,
    };
  };
  window.leave = async () => {
    const { status } = await fetch(resource, { method: 'DELETE' });
    peer.close();
    return status;
  };
}
"""

Evaluate: TypeAlias = Callable[[str], Awaitable[Any]]
OpenTab: TypeAlias = Callable[..., AbstractAsyncContextManager[Evaluate]]


def called(script: str, *words: Any) -> str:
    """The expression that calls a function of JavaScript."""
    return f"({script})({', '.join(map(json.dumps, words))})"


class Browser:
    """`tab` opens a window until the end of the block: the page elsewhere, or the address it is given."""

    def __init__(self, version: str, codecs: tuple[str, ...], tab: OpenTab) -> None:
        self.name, self.version = version.split()[0], version
        self.codecs, self.tab = codecs, tab

    @contextlib.asynccontextmanager
    async def publishes(self, whip: str, token: str, codec: str) -> AsyncIterator[None]:
        async with self._session(PUBLISH, whip, token, codec, WIDTH, HEIGHT):
            yield

    @contextlib.asynccontextmanager
    async def watches(self, whep: str, codec: str) -> AsyncIterator[Look]:
        async with self._session(WATCH, whep) as evaluate:

            async def look() -> Seen:
                return Seen(**await evaluate("window.seen()"))

            yield look

    @contextlib.asynccontextmanager
    async def _session(self, script: str, address: str, *words: Any) -> AsyncIterator[Evaluate]:
        async with self.tab() as evaluate:
            await asyncio.wait_for(evaluate(called(script, address, *words)), PATIENCE_S)
            yield evaluate
            assert await asyncio.wait_for(evaluate("window.leave()"), PATIENCE_S) == 200


@contextlib.asynccontextmanager
async def every_client() -> AsyncIterator[dict[str, Client]]:
    """All four by name, until the end of the block. No page may complain of anything."""
    async with contextlib.AsyncExitStack() as running:
        address = running.enter_context(page_elsewhere())
        playwright = await running.enter_async_context(async_playwright())
        browser = await running.enter_async_context(
            await chromium.launch(playwright, more=chromium.FAKE_CAMERA)
        )
        steering = await running.enter_async_context(firefox.running_firefox(firefox.FAKE_CAMERA))
        complaints: list[str] = []

        @contextlib.asynccontextmanager
        async def chromium_tab(url: str = address) -> AsyncIterator[Evaluate]:
            page = await browser.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            try:
                await page.goto(url)
                yield page.evaluate
            finally:
                await page.close()

        @contextlib.asynccontextmanager
        async def firefox_tab(url: str = address) -> AsyncIterator[Evaluate]:
            async with firefox.firefox_window(steering, url) as page:
                yield page.evaluate

        every: tuple[Client, ...] = (
            Aiortc(),
            GStreamer(),
            Browser(f"Chromium {browser.version}", ("H264", "VP8"), chromium_tab),
            Browser(f"Firefox {steering.version}", ("VP8",), firefox_tab),
        )
        yield {client.name: client for client in every}
        complaints += steering.complaints
        assert not complaints, f"a page complained: {complaints}"
