"""The probe: one real WebRTC viewer (WHEP, aiortc) that decodes what it is sent and says what it saw.

Latency is read from the picture itself: the wall clock when a picture is ready to be shown, less the time
code drawn into it at its capture. Where publisher and probe run on two machines, their clocks must agree.
"""

import asyncio
import contextlib
import math
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy

from media import timecode
from media.publisher.errors import Refused, TimedOut
from media.publisher.peer import offer_loopback
from media.publisher.whip import http_client
from media.swarm import whep

_PICTURE_S = 10.0
_SETTLING_S = 2.0  # left out of the bitrate: the first seconds of a rate control


@dataclass(frozen=True)
class Latency:
    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class Figures:
    """What one viewer saw. Times in milliseconds; an unknown figure is None."""

    whep: str
    seconds: float  # from the first picture on
    connected_ms: float | None
    first_frame_ms: float  # from asking for the session to a decoded picture
    frames: int
    fps: float
    width: int
    height: int
    bitrate_bps: float  # RTP payload and header, picture and sound, without the first two seconds
    video_bps: float
    timecodes: int  # pictures whose time code could be read
    latency_ms: Latency | None
    freezes: int  # gaps longer than three pictures, and than one picture and 150 ms
    frozen_ms: float
    longest_gap_ms: float
    packets: int
    lost: int
    loss: float
    sound_frames: int
    sound_peak: float  # 0..1
    ended: str | None  # why it was over before its time


class _AtOnce(JitterBuffer):
    """Hands a picture on with its last packet. aiortc's own waits for the first one of the next picture."""

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        packets: list[Any] = []
        buffer = cast(Any, self)
        for count in range(self.capacity):
            packet = buffer._packets[(buffer._origin + count) % self.capacity]
            if packet is None:
                return None
            if packets and packet.timestamp != packets[0].timestamp:
                self.remove(count)
                break
            packets.append(packet)
            if packet.marker:
                self.remove(count + 1)
                break
        else:
            return None
        return JitterFrame(data=b"".join(p._data for p in packets), timestamp=packets[0].timestamp)


class Probe:
    def __init__(self, address: str, seconds: float) -> None:
        self._whep, self._seconds = address, seconds
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._first = asyncio.Event()
        self._over = 0.0
        self._ended: str | None = None
        self._shown: list[float] = []  # monotonic times of pictures
        self._ages: list[float] = []
        self._size = (0, 0)
        self._rtp: list[tuple[float, int, bool]] = []  # when, bytes, whether picture
        self._sound_frames = 0
        self._sound_peak = 0.0
        self._asked = self._connected = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Figures:
        """Watches for so many seconds from the first picture on. Raises PublishError."""
        async with http_client(self._whep, "") as http:
            resource = None
            try:
                resource = await self._connect(http)
                await self._watch()
            finally:
                if resource is not None:
                    await whep.leave(http, resource)
                for task in self._tasks:
                    task.cancel()
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(self._pc.close(), 2.0)
        return self._figures()

    async def _connect(self, http: httpx.AsyncClient) -> str:
        pc = self._pc
        for kind in ("video", "audio"):
            receiver = cast(Any, pc.addTransceiver(kind, direction="recvonly").receiver)
            self._count(receiver, kind == "video")
            if kind == "video":
                receiver._RTCRtpReceiver__jitter_buffer = _AtOnce(capacity=512, is_video=True)
        pc.on("track", self._on_track)
        pc.on("connectionstatechange", self._on_state)
        offer_loopback(pc)
        await pc.setLocalDescription(await pc.createOffer())
        self._asked = time.monotonic()
        answered = await whep.ask(http, self._whep, pc.localDescription.sdp)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp=answered.sdp, type="answer"))
        except Exception as error:  # aiortc raises whatever its parser stumbled over
            raise Refused(
                f"the answer cannot be used ({error})", "It must offer H.264 or VP8, and Opus."
            ) from None
        return answered.resource

    def _count(self, receiver: Any, video: bool) -> None:
        handle = receiver._handle_rtp_packet

        async def handle_rtp(packet: Any, arrival_time_ms: int) -> None:
            self._rtp.append((time.monotonic(), 12 + len(packet.payload), video))
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = handle_rtp

    def _on_track(self, track: MediaStreamTrack) -> None:
        task = asyncio.create_task(self._look(track) if track.kind == "video" else self._listen(track))
        self._tasks.add(task)

    def _on_state(self) -> None:
        state = self._pc.connectionState
        if state == "connected":
            self._connected = time.monotonic()
        elif state in ("failed", "closed") and not self._failed.done():
            self._failed.set_result(
                "the node closed the connection" if self._connected else "ICE found no way"
            )

    async def _look(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(Any, await track.recv())
                now, wall = time.monotonic(), time.time()
                plane = frame.planes[0]
                luma = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                code = timecode.read(luma[:, : plane.width])
                if code is not None:
                    self._ages.append(timecode.age_ms(code, wall))
                self._size = (frame.width, frame.height)
                self._shown.append(now)
                self._first.set()

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(Any, await track.recv())
                peak = float(np.abs(frame.to_ndarray().astype(np.int32)).max()) / 32768
                self._sound_peak = max(self._sound_peak, peak)
                self._sound_frames += 1

    async def _watch(self) -> None:
        first = asyncio.ensure_future(self._first.wait())
        either: list[asyncio.Future[Any]] = [first, self._failed]
        try:
            await asyncio.wait(either, timeout=_PICTURE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            first.cancel()
        if not self._shown:
            why = self._failed.result() if self._failed.done() else f"no picture within {_PICTURE_S:g} s"
            raise TimedOut(
                f"the session was made, but nothing could be watched: {why}", "Is the channel still on air?"
            )
        await asyncio.wait([self._failed], timeout=self._seconds)
        self._over = time.monotonic()
        self._ended = self._failed.result() if self._failed.done() else None

    def _figures(self) -> Figures:
        shown = self._shown
        span = self._over - shown[0]
        gaps = np.diff([*shown, self._over]) * 1000  # the last one too: a stream may freeze and stay so
        usual = float(np.median(gaps))
        frozen = gaps[gaps > max(3 * usual, usual + 150)]
        settled = min(_SETTLING_S, span / 2)
        first, last = shown[0] + settled, self._over
        sizes = [(size, video) for at, size, video in self._rtp if first <= at < last]
        statistics = [
            stream
            for receiver in self._pc.getReceivers()
            for stream in cast(Any, receiver)._RTCRtpReceiver__remote_streams.values()
        ]
        expected = sum(stream.packets_expected for stream in statistics)
        lost = sum(stream.packets_lost for stream in statistics)
        return Figures(
            whep=self._whep,
            seconds=round(span, 3),
            connected_ms=round((self._connected - self._asked) * 1000, 1) if self._connected else None,
            first_frame_ms=round((shown[0] - self._asked) * 1000, 1),
            frames=len(shown),
            fps=round(len(shown) / span, 2),
            width=self._size[0],
            height=self._size[1],
            bitrate_bps=round(sum(size for size, _ in sizes) * 8 / (last - first)),
            video_bps=round(sum(size for size, video in sizes if video) * 8 / (last - first)),
            timecodes=len(self._ages),
            latency_ms=_latency(self._ages),
            freezes=len(frozen),
            frozen_ms=round(float(frozen.sum()), 1),
            longest_gap_ms=round(float(gaps.max()), 1),
            packets=len(self._rtp),
            lost=lost,
            loss=round(max(0, lost) / expected, 5) if expected else 0.0,
            sound_frames=self._sound_frames,
            sound_peak=round(self._sound_peak, 4),
            ended=self._ended,
        )


def _latency(ages: list[float]) -> Latency | None:
    if not ages:
        return None
    ages = sorted(ages)
    p95 = ages[min(len(ages) - 1, math.ceil(0.95 * len(ages)) - 1)]
    return Latency(p50=round(ages[len(ages) // 2], 1), p95=round(p95, 1), max=round(ages[-1], 1))


def for_people(figures: Figures) -> str:
    latency = figures.latency_ms
    age = f"p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms" if latency else "no time code in the picture"
    rows = {
        "picture": f"{figures.width}x{figures.height}, {figures.frames} frames, {figures.fps} a second",
        "bitrate": f"{figures.bitrate_bps / 1e6:.2f} Mbps",
        "first frame": f"{figures.first_frame_ms:.0f} ms",
        "latency": age,
        "freezes": f"{figures.freezes}, {figures.frozen_ms:.0f} ms in all",
        "loss": f"{figures.loss:.2%}",
        "sound": f"{figures.sound_frames} frames, peak {figures.sound_peak:.2f}",
    }
    return "\n".join(f"{name:12} {value}" for name, value in rows.items())


def as_dict(figures: Figures) -> dict[str, Any]:
    return asdict(figures)
