"""What Chromium, Firefox, aiortc and GStreamer sent once, read again: see recordings.py."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from media.core import dtls, rtcp, rtp, sdp, stun
from media.core.codecs import VideoCodec, video_codec
from media.core.dtls import DtlsEndpoint
from media.fanout.frames import MAX_BATCH, evened, runs
from tests.media.core.emulated_network import certificate
from tests.media.golden import recordings
from tests.media.golden.recordings import Recording

STREAM = sdp.StreamDescription(0xAAAA0001, 0xAAAA0002, 0xAAAA0003, "a-cname", "show")
SENDER, SENDER_XR = "SenderReport SourceDescription", "SenderReport SourceDescription ExtendedReport"
VIEWER_XR, VIEWER_REMB_XR = "ReceiverReport ExtendedReport", "ReceiverReport Remb ExtendedReport"
VIEWER_NACK = "ReceiverReport SourceDescription Nack"


@dataclass(frozen=True)
class Expected:
    """What a recording comes to."""

    types: tuple[int, int, int]  # of the picture, its retransmissions, and the sound
    rtcp: set[str]  # the packets' names, of each compound
    extensions: set[int] = field(default_factory=set)  # the numbers of those in its packets
    size: tuple[int, int] = (0, 0)  # of its picture, as it began: a browser begins small
    # batches of all its pictures, and runs of packets that can leave as one message: as they came, and evened
    runs: tuple[int, int, int] = (0, 0, 0)


EXPECTED = {
    "aiortc-publishes-h264": Expected((101, 102, 96), {SENDER}, {1}, (1280, 720), (93, 252, 130)),
    "aiortc-publishes-vp8": Expected((97, 98, 96), {SENDER}, {1}, (1280, 720), (91, 91, 91)),
    "aiortc-watches-h264": Expected((101, 102, 96), {"ReceiverReport"}),
    "aiortc-watches-vp8": Expected((97, 98, 96), {"ReceiverReport"}),
    "chromium-publishes-h264": Expected((108, 109, 111), {SENDER, SENDER_XR}, {4}, (640, 360), (90, 122, 91)),
    "chromium-publishes-vp8": Expected((96, 97, 111), {SENDER, SENDER_XR}, {4}, (640, 360), (90, 122, 90)),
    "chromium-watches-h264": Expected((108, 109, 111), {VIEWER_XR, VIEWER_REMB_XR}),
    "chromium-watches-vp8": Expected((96, 97, 111), {VIEWER_XR, VIEWER_REMB_XR}),
    "firefox-publishes-vp8": Expected((120, 124, 109), {SENDER, SENDER_XR}, {3}, (960, 540), (90, 125, 90)),
    "firefox-watches-vp8": Expected((120, 124, 109), {"ReceiverReport", "ReceiverReport Remb"}),
    "gstreamer-publishes-h264": Expected((96, 97, 111), {SENDER}, set(), (640, 360), (90, 180, 180)),
    "gstreamer-publishes-vp8": Expected((96, 97, 111), {SENDER}, set(), (640, 360), (90, 90, 90)),
    "gstreamer-watches-h264": Expected((96, 97, 111), {"Fir", "Nack", VIEWER_NACK}),
    "gstreamer-watches-vp8": Expected((96, 97, 111), {"Nack", VIEWER_NACK}),
}
ANSWERS = Path(recordings.__file__).parent / "answers"  # made anew by `make snapshots`
PUBLISHED = [name for name in recordings.names() if "-publishes-" in name]


def codec_of(name: str) -> VideoCodec:
    codec = video_codec(name.rpartition("-")[2].upper())
    assert codec is not None
    return codec


@pytest.fixture(params=recordings.names())
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def recording(name: str) -> Recording:
    return recordings.load(name)


def names_of(compound: list[rtcp.RtcpPacket]) -> str:
    return " ".join(type(packet).__name__ for packet in compound)


def agreed(name: str, recording: Recording) -> sdp.Agreed:
    """Our answer to its offer, from a node of which everything is known beforehand."""
    side = sdp.LocalDescription(
        sdp.IceCredentials("4e20abcd", "a-password-of-24-letters"),
        ":".join(f"{byte:02X}" for byte in range(32)),
        [("192.0.2.1", 20000), ("2001:db8::1", 20000)],
        session_id=7,
        tcp_ports=(20000, 443),
    )
    offer = sdp.parse_offer(recording.offer)
    if name in PUBLISHED:
        return sdp.answer_publisher(offer, side)
    return sdp.answer_viewer(offer, side, STREAM, codec_of(name))


def test_every_client_is_recorded_publishing_and_watching() -> None:
    assert set(recordings.names()) == set(EXPECTED)
    clients = {name.partition("-")[0] for name in recordings.names()}
    assert clients == {"aiortc", "chromium", "firefox", "gstreamer"}
    for client in clients:
        assert f"{client}-publishes-vp8" in EXPECTED
        assert f"{client}-watches-vp8" in EXPECTED


def test_its_offer_is_answered_as_then(name: str, recording: Recording) -> None:
    answered = agreed(name, recording)
    assert answered.video is not None
    assert answered.audio is not None
    types = (answered.video.payload_type, answered.video.rtx_payload_type, answered.audio.payload_type)
    assert types == recording.payload_types == EXPECTED[name].types
    if name in PUBLISHED:
        assert answered.video.codec is codec_of(name)
    kept = ANSWERS / f"{name}.sdp"
    if os.environ.get("SHOWCALLER_GOLDEN") == "new":
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(answered.answer.encode())
    assert answered.answer.encode() == kept.read_bytes()


def test_its_checks_authenticate(recording: Recording) -> None:
    ufrag = sdp.parse_offer(recording.offer).sections[0].credentials.ufrag
    assert recording.checks
    for check in recording.checks:
        message = stun.Message.parse(check)
        message.verify(recording.password.encode())
        assert message.kind is stun.Class.REQUEST
        assert message.username is not None
        assert message.username.endswith(f":{ufrag}")
        assert stun.username(check) == message.username
        assert message.controlling is not None, "we are lite: it has the say"
        assert message.priority
        assert message.unknown_required() == []
        assert stun.Precedent(message, ("192.0.2.1", 9), recording.password.encode()).answer(check)


def test_its_client_hello_is_answered(recording: Recording) -> None:
    """Whole, with a first flight of ours. Browsers' are longer than a datagram: two fragments."""
    server = DtlsEndpoint(certificate("node"), "server", ())
    for number, hello in enumerate(recording.hellos, 1):
        assert dtls._of_a_handshake(hello) == hello
        assert server.outgoing() == [], f"before fragment {number}"
        server.receive(hello, 0.0)
    flight = server.outgoing()
    assert flight
    assert flight[0][0] == 22
    assert flight[0][13] == 2, "a ServerHello"


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_packets_are_read(name: str, recording: Recording) -> None:
    picture_type, _, sound_type = recording.payload_types
    packets = [(rtp.parse_header(data), data) for data in recording.rtp]
    pictures = [(header, data) for header, data in packets if header.payload_type == picture_type]
    sounds = [header for header, _ in packets if header.payload_type == sound_type]
    assert len(pictures) == len(sounds) == 3
    seen = {number for header, data in packets for number in rtp.extensions(data, header)}
    assert seen == EXPECTED[name].extensions
    for header, data in packets:
        stripped = rtp.strip_extensions(data)
        assert rtp.parse_header(stripped).payload(stripped) == header.payload(data)
        assert len(stripped) == 12 + len(header.payload(data)) + header.padding

    first, data = pictures[0]
    payload = bytes(first.payload(data))
    codec = codec_of(name)
    assert codec.is_keyframe_start(payload)
    heads = [codec.size_header_of(bytes(header.payload(data))) for header, data in pictures]
    assert {codec.resolution(head) for head in heads if head is not None} == {EXPECTED[name].size}
    assert rtp.timestamp_difference(sounds[2].timestamp, sounds[1].timestamp) == 960, "20 ms of Opus"


def test_its_rtcp_is_read_and_written_alike(name: str, recording: Recording) -> None:
    compounds = [rtcp.parse_compound(compound) for compound in recording.rtcp]
    assert {names_of(packets) for packets in compounds} == EXPECTED[name].rtcp
    for packets, compound in zip(compounds, recording.rtcp, strict=True):
        written = rtcp.build_compound(packets)
        assert rtcp.parse_compound(written) == packets
        tool = b"\x06\x09GStreamer" in compound  # an SDES item that nobody needs is not kept
        assert tool == ("gstreamer" in name and "SourceDescription" in names_of(packets))
        assert tool or written == compound


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_pictures_leave_in_few_runs(name: str, recording: Recording) -> None:
    batches = before = after = 0
    for sizes in recording.pictures:
        for first in range(0, len(sizes), MAX_BATCH):
            batch = [
                rtp.build(payload_type=0, sequence=number, timestamp=7, ssrc=1, payload=bytes(size - 12))
                for number, size in enumerate(sizes[first : first + MAX_BATCH])
            ]
            batches += 1
            before += len(runs(batch))
            after += len(runs(evened(batch)))
    assert (batches, before, after) == EXPECTED[name].runs
