"""An independent WebRTC stack, over real sockets: aiortc publishes to one session and watches by another.

What the first session receives is forwarded to the second as a node would: extensions stripped, payload type
and SSRC rewritten, protected anew. aiortc then decodes it, so every layer between has to be right.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import aioice.ice
import aiortc
import av
import pytest
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from media.core import h264, rtcp, rtp, sdp, srtp
from media.core.session import (
    Closed,
    DtlsReady,
    Event,
    RtcpPacket,
    RtpPacket,
    Session,
    SessionConfig,
    Transmit,
)
from tests.media.core.emulated_network import certificate

STREAM = sdp.StreamDescription(0xAAAA0001, 0xAAAA0002, 0xAAAA0003, "a-cname", "show")


class Driver(asyncio.DatagramProtocol):
    """The smallest driver that follows the session's rule."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.session: Session | None = None
        self.on_event: Callable[[Event], None] = lambda event: None
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls) -> "Driver":
        loop = asyncio.get_running_loop()
        transport, driver = await loop.create_datagram_endpoint(cls, local_addr=("0.0.0.0", 0))
        driver.transport = transport
        return driver

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.session is not None:
            self.session.receive(data, addr, self.loop.time())
            self.drain()

    def start(self, session: Session) -> None:
        self.session = session
        self.drain()

    def drain(self) -> None:
        session = self.session
        assert session is not None
        while (item := session.poll()) is not None:
            if isinstance(item, Transmit):
                self.transport.sendto(item.data, item.to)
            else:
                self.events.append(item)
                self.on_event(item)
                self.changed.set()
        if self._timer is not None:
            self._timer.cancel()
        moment = session.next_timeout()
        self._timer = None if moment is None else self.loop.call_at(moment, self._timed_out)

    def _timed_out(self) -> None:
        assert self.session is not None
        self.session.handle_timeout(self.loop.time())
        self.drain()

    async def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def seen(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def close(self) -> None:
        if self.session is not None:
            self.session.close(self.loop.time())
            self.drain()
        self.transport.close()


@pytest.fixture
async def drivers() -> AsyncIterator[tuple[Driver, Driver]]:
    made = (await Driver.open(), await Driver.open())
    yield made
    for driver in made:
        driver.close()


@pytest.fixture
async def peers() -> AsyncIterator[tuple[aiortc.RTCPeerConnection, aiortc.RTCPeerConnection]]:
    if not aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False):
        pytest.skip("aiortc needs a network address besides loopback, and this machine has none")
    configuration = aiortc.RTCConfiguration(iceServers=[])
    made = (aiortc.RTCPeerConnection(configuration), aiortc.RTCPeerConnection(configuration))
    yield made
    for peer in made:
        await peer.close()


def local(driver: Driver) -> sdp.LocalDescription:
    host = aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)[0]
    credentials = sdp.new_credentials(os.urandom)
    return sdp.LocalDescription(credentials, certificate("node").fingerprint, [(host, driver.port)])


def begin(driver: Driver, agreed: sdp.Agreed, side: sdp.LocalDescription) -> None:
    config = SessionConfig.answered(agreed, side, certificate("node"), os.urandom)
    driver.start(Session(config, driver.loop.time()))


async def test_aiortc_watches_what_aiortc_publishes(
    drivers: tuple[Driver, Driver], peers: tuple[aiortc.RTCPeerConnection, aiortc.RTCPeerConnection]
) -> None:
    (origin, edge), (publisher, viewer) = drivers, peers

    tracks = [VideoStreamTrack(), AudioStreamTrack()]
    for track in tracks:
        publisher.addTrack(track)
    await publisher.setLocalDescription(await publisher.createOffer())
    side = local(origin)
    published = sdp.answer_publisher(sdp.parse_offer(publisher.localDescription.sdp), side)
    begin(origin, published, side)

    viewer.addTransceiver("video", direction="recvonly")
    viewer.addTransceiver("audio", direction="recvonly")
    await viewer.setLocalDescription(await viewer.createOffer())
    side = local(edge)
    watched = sdp.answer_viewer(sdp.parse_offer(viewer.localDescription.sdp), side, STREAM)
    begin(edge, watched, side)
    assert published.video
    assert published.audio
    assert watched.video
    assert watched.audio
    ways = {
        published.video.payload_type: (watched.video.payload_type, STREAM.video_ssrc),
        published.audio.payload_type: (watched.audio.payload_type, STREAM.audio_ssrc),
    }
    sources: dict[int, int] = {}  # payload type -> the publisher's SSRC

    def forward(event: Event) -> None:
        if not isinstance(event, RtpPacket):
            return
        header = rtp.parse_header(event.data)
        sources[header.payload_type] = header.ssrc
        session = edge.session
        if session is None or session.outbound is None or session.remote is None:
            return
        payload_type, ssrc = ways[header.payload_type]
        packet = rtp.build(
            payload_type=payload_type,
            sequence=header.sequence,
            timestamp=header.timestamp,
            ssrc=ssrc,
            payload=bytes(header.payload(event.data)),
            marker=header.marker,
        )
        edge.transport.sendto(session.outbound.protect(packet), session.remote)

    def ask_for_a_key_frame(event: Event) -> None:
        session = origin.session
        if isinstance(event, RtcpPacket) and session is not None and published.video is not None:
            wanted = any(isinstance(packet, rtcp.Pli) for packet in event.packets)
            source = sources.get(published.video.payload_type)
            if wanted and source is not None:
                session.send_rtcp([rtcp.Pli(1, source)], origin.loop.time())
                origin.drain()

    origin.on_event = forward
    edge.on_event = ask_for_a_key_frame

    await publisher.setRemoteDescription(aiortc.RTCSessionDescription(published.answer, "answer"))
    await viewer.setRemoteDescription(aiortc.RTCSessionDescription(watched.answer, "answer"))
    await origin.until(lambda: bool(origin.seen(DtlsReady)))
    await edge.until(lambda: bool(edge.seen(DtlsReady)))
    [ready] = edge.seen(DtlsReady)
    assert isinstance(ready, DtlsReady)
    # aiortc lists AES-256-GCM first, which we do not offer; ours comes first of what is left
    assert ready.outbound.profile is srtp.AEAD_AES_128_GCM

    by_kind = {receiver.track.kind: receiver.track for receiver in viewer.getReceivers()}
    async with asyncio.timeout(20):
        pictures = [await by_kind["video"].recv() for _ in range(5)]
        sounds = [await by_kind["audio"].recv() for _ in range(5)]
    sizes = {(picture.width, picture.height) for picture in pictures if isinstance(picture, av.VideoFrame)}
    assert sizes == {(640, 480)}
    assert {sound.sample_rate for sound in sounds if isinstance(sound, av.AudioFrame)} == {48000}

    packets = [event.data for event in origin.events if isinstance(event, RtpPacket)]
    payloads = [(rtp.parse_header(data), data) for data in packets]
    video = [(h, d) for h, d in payloads if h.payload_type == published.video.payload_type]
    assert any(h264.is_keyframe_start(header.payload(data)) for header, data in video)
    parameter_sets = [sps for header, data in video if (sps := h264.sps_of(header.payload(data)))]
    assert h264.resolution(parameter_sets[0]) == (640, 480)
    await origin.until(
        lambda: any(
            isinstance(packet, rtcp.SenderReport)
            for event in origin.events
            if isinstance(event, RtcpPacket)
            for packet in event.packets
        )
    )
    for track in tracks:
        track.stop()
    await publisher.close()  # says close_notify
    await origin.until(lambda: bool(origin.seen(Closed)))
