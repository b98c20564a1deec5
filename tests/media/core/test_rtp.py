"""RTP headers, extensions, retransmissions, sequence arithmetic; H.264 as far as we look into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import h264, rtp
from media.core.errors import ParseError

PAYLOADS = st.binary(min_size=1, max_size=60)


def with_extension(profile: int, body: bytes, payload: bytes = b"payload", padding: int = 0) -> bytes:
    body += b"\x00" * (-len(body) % 4)
    packet = bytearray(rtp.build(payload_type=96, sequence=1, timestamp=2, ssrc=3, payload=b""))
    packet[0] |= 0x10
    packet += profile.to_bytes(2, "big") + (len(body) // 4).to_bytes(2, "big") + body + payload
    if padding:
        packet[0] |= 0x20
        packet += bytes(padding - 1) + bytes((padding,))
    return bytes(packet)


@given(
    st.integers(0, 127), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), PAYLOADS
)
def test_what_is_built_is_read_back(
    pt: int, sequence: int, timestamp: int, ssrc: int, payload: bytes
) -> None:
    packet = rtp.build(
        payload_type=pt, sequence=sequence, timestamp=timestamp, ssrc=ssrc, payload=payload, marker=True
    )
    header = rtp.parse_header(packet)
    assert header == rtp.RtpHeader(pt, True, sequence, timestamp, ssrc, 12, 12, 0)
    assert header.payload(packet) == payload


def test_one_byte_extensions_are_read_and_stripped() -> None:
    packet = with_extension(0xBEDE, b"\x90v\x00\x22abc", padding=3)
    header = rtp.parse_header(packet)
    assert rtp.extensions(packet, header) == {9: b"v", 2: b"abc"}
    assert bytes(header.payload(packet)) == b"payload"
    stripped = rtp.strip_extensions(packet)
    assert stripped == rtp.build(payload_type=96, sequence=1, timestamp=2, ssrc=3, payload=b"payload")
    assert rtp.strip_extensions(stripped) is stripped


def test_two_byte_extensions_are_read() -> None:
    packet = with_extension(0x1000, b"\x05\x00\x00\x06\x03xyz")
    assert rtp.extensions(packet, rtp.parse_header(packet)) == {5: b"", 6: b"xyz"}


def test_rtcp_is_told_from_rtp() -> None:
    assert not rtp.is_rtcp(rtp.build(payload_type=96, sequence=1, timestamp=2, ssrc=3, payload=b""))
    for kind in range(200, 208):
        assert rtp.is_rtcp(bytes((0x80, kind, 0, 0)))


@given(PAYLOADS, st.booleans())
def test_a_retransmission_restores_the_original(payload: bytes, marker: bool) -> None:
    packet = rtp.build(payload_type=102, sequence=65535, timestamp=9, ssrc=1, payload=payload, marker=marker)
    rtx = rtp.build_rtx(packet, payload_type=103, ssrc=2, sequence=77)
    header = rtp.parse_header(rtx)
    assert (header.payload_type, header.marker, header.sequence, header.ssrc) == (103, marker, 77, 2)
    assert rtp.restore_rtx(rtx, payload_type=102, ssrc=1) == packet


def test_a_probe_on_the_retransmission_stream_restores_to_nothing() -> None:
    assert (
        rtp.restore_rtx(with_extension(0xBEDE, b"", payload=b"", padding=200), payload_type=1, ssrc=1) is None
    )


@given(st.integers(0, 65535), st.integers(-32768, 32767))
def test_sequence_differences_see_through_the_wrap(old: int, step: int) -> None:
    assert rtp.sequence_difference((old + step) & 0xFFFF, old) == step


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_timestamp_differences_see_through_the_wrap(old: int, step: int) -> None:
    assert rtp.timestamp_difference((old + step) & 0xFFFFFFFF, old) == step


@given(st.lists(st.integers(-100, 30_000), max_size=60))
def test_an_extender_counts_wraps(steps: list[int]) -> None:
    extender = rtp.SequenceExtender()
    true = highest = extender.extend(65_000)
    for step in steps:
        true = max(highest + step, 0)
        assert extender.extend(true & 0xFFFF) == true
        highest = max(highest, true)
    assert extender.highest == highest


@given(st.binary(max_size=80))
def test_rubbish_raises_nothing_else(data: bytes) -> None:
    for packet in (data, b"\x80" + data, b"\xb0" + data, b"\x90\x60" + bytes(10) + b"\xbe\xde" + data):
        try:
            header = rtp.parse_header(packet)
        except ParseError:
            continue
        assert 12 <= header.header_length <= header.payload_offset <= len(packet) - header.padding
        rtp.extensions(packet, header)
        rtp.extensions(packet.replace(b"\xbe\xde", b"\x10\x00"), header)
        rtp.parse_header(rtp.strip_extensions(packet))
        rtp.restore_rtx(packet, payload_type=1, ssrc=1)


@given(st.binary(max_size=80))
def test_rubbish_payloads_are_no_trouble(data: bytes) -> None:
    for payload in (data, b"\x78" + data, b"\x7c" + data, b"\x67" + data):
        h264.nal_types(payload)
        h264.is_keyframe_start(payload)
        sps = h264.sps_of(payload)
        for candidate in (payload, sps or b""):
            try:
                assert h264.resolution(candidate).width > 0
            except ParseError:
                pass


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b"", False),
        (b"\x41\x9a", False),
        (b"\x65\x88", True),
        (b"\x67\x42\xc0\x1f", True),
        (b"\x68\xce", False),
        (b"\x7c\x85\x88", True),  # FU-A, start of an IDR slice
        (b"\x7c\x05\x88", False),  # its middle
        (b"\x7c\x45\x88", False),  # its end
        (b"\x7c\x81\x9a", False),  # start of a delta slice
        (b"\x78\x00\x02\x67\x42\x00\x02\x68\xce", True),  # STAP-A of SPS and PPS
        (b"\x78\x00\x02\x41\x42", False),
        (b"\x78\x00", False),
    ],
)
def test_key_frames_are_recognised_where_they_begin(payload: bytes, key: bool) -> None:
    assert h264.is_keyframe_start(payload) is key
    assert h264.is_keyframe_start(memoryview(payload)) is key


@pytest.mark.parametrize(
    ("width", "height", "profile"),
    [(1280, 720, "baseline"), (1920, 1080, "baseline"), (854, 480, "main"), (642, 362, "high")],
)
def test_the_resolution_is_that_which_was_encoded(width: int, height: int, profile: str) -> None:
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.options = {"profile": profile, "preset": "ultrafast", "tune": "zerolatency"}
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.pts = 0
    stream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    units = [unit.rstrip(b"\x00") for unit in stream.split(b"\x00\x00\x01")]
    [sps] = [unit for unit in units if unit and unit[0] & 0x1F == h264.SPS]
    assert h264.resolution(sps) == (width, height)
    stap = b"\x78" + len(sps).to_bytes(2, "big") + sps
    assert h264.sps_of(stap) == sps
