"""Offers of real clients answered, unsafe ones refused with a reason, rubbish of any size survived."""

import dataclasses
import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiortc
import pytest
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from hypothesis import given
from hypothesis import strategies as st

from media.core import description, sdp
from media.core.codecs import H264, VP8, VideoCodec
from media.core.errors import NegotiationError
from tests.media.core.emulated_network import certificate

GOLDEN = Path(__file__).parent / "golden"
STREAM = sdp.StreamDescription(1001, 1002, 1003, "a-cname", "show")


def offer_text(name: str) -> str:
    return (GOLDEN / f"{name}.sdp").read_bytes().decode()


def local(*addresses: tuple[str, int]) -> sdp.LocalDescription:
    return sdp.LocalDescription(
        sdp.new_credentials(random.Random(3).randbytes),
        certificate("node").fingerprint,
        addresses or (("127.0.0.1", 20000), ("192.0.2.7", 20000)),
        session_id=42,
    )


def publish(text: str) -> sdp.Agreed:
    return sdp.answer_publisher(sdp.parse_offer(text), local())


def view(text: str) -> sdp.Agreed:
    return sdp.answer_viewer(sdp.parse_offer(text), local(), STREAM)


def sections(answer: str) -> list[list[str]]:
    """Lines of each m= section."""
    assert answer.endswith("\r\n")
    assert "\n" not in answer.replace("\r\n", "")
    return [("m=" + part).split("\r\n")[:-1] for part in answer.split("m=")[1:]]


def check_transport(answer: str) -> None:
    """What browsers were seen to need of an answer."""
    head = answer.split("m=")[0].split("\r\n")
    assert "a=ice-lite" in head
    accepted = [lines for lines in sections(answer) if lines[0].split()[1] != "0"]
    mids = [line[6:] for lines in accepted for line in lines if line.startswith("a=mid:")]
    assert f"a=group:BUNDLE {' '.join(mids)}" in head
    for lines in accepted:
        for needed in ("a=rtcp-mux", "a=setup:passive"):
            assert needed in lines
        assert any(line.startswith("a=fingerprint:sha-256 ") for line in lines)
        candidates = [line for line in lines if line.startswith("a=candidate")]
        assert len(candidates) == 2
        assert "a=end-of-candidates" in lines
    assert "transport-cc" not in answer
    assert "a=crypto" not in answer


def test_a_chromium_viewer_gets_its_own_payload_types() -> None:
    agreed = view(offer_text("chromium-viewer"))
    check_transport(agreed.answer)
    video, audio = sections(agreed.answer)
    assert video[0] == "m=video 20000 UDP/TLS/RTP/SAVPF 108 109"
    assert "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f" in video
    assert "a=fmtp:109 apt=108" in video
    for lines in (video, audio):
        assert {"a=sendonly", "a=rtcp-rsize", "a=rtcp-xr:rcvr-rtt=all"} <= set(lines)
        assert not [line for line in lines if line.startswith("a=extmap")]
    assert "a=ssrc-group:FID 1001 1002" in video
    assert video.index("a=ssrc:1001 cname:a-cname") < video.index("a=ssrc:1002 cname:a-cname")
    assert "a=ssrc:1003 cname:a-cname" in audio
    assert {"a=rtcp-fb:108 nack", "a=rtcp-fb:108 nack pli", "a=rtcp-fb:108 goog-remb"} <= set(video)
    assert agreed.video is not None
    assert agreed.audio is not None
    assert (agreed.video.payload_type, agreed.video.rtx_payload_type) == (108, 109)
    assert (agreed.audio.payload_type, agreed.audio.clock_rate, agreed.audio.channels) == (111, 48000, 2)
    assert agreed.dtls_role == "server"
    assert agreed.rtcp_rsize
    assert len(agreed.remote.fingerprints[0].value) == 95


@pytest.mark.parametrize(
    ("name", "codec"), [("chromium-viewer", H264), ("chromium-viewer", VP8), ("firefox-viewer", VP8)]
)
def test_no_viewer_is_ever_answered_with_transport_wide_feedback(name: str, codec: VideoCodec) -> None:
    """Its numbering belongs to one connection, and would end the plaintext that viewers share."""
    offer = offer_text(name)
    assert "transport-cc" in offer
    assert "transport-wide-cc" in offer
    answer = sdp.answer_viewer(sdp.parse_offer(offer), local(), STREAM, codec).answer
    assert "transport-cc" not in answer
    assert "a=extmap" not in answer  # nor the header extension that carries its numbers


def test_a_viewer_that_asks_for_answers_to_its_reference_times_is_promised_them() -> None:
    """RFC 3611 section 4.4: a browser sends them only where the answer has the feedback `rrtr`."""
    offer = offer_text("chromium-viewer")
    assert "rrtr" not in view(offer).answer
    asks = offer.replace("a=rtcp-fb:108 nack\r\n", "a=rtcp-fb:108 nack\r\na=rtcp-fb:108 rrtr\r\n")
    assert "a=rtcp-fb:108 rrtr" in view(asks).answer.splitlines()


def test_a_chromium_publisher_is_received() -> None:
    agreed = publish(offer_text("chromium-publisher"))
    check_transport(agreed.answer)
    audio, video = sections(agreed.answer)
    assert audio[0].startswith("m=audio ")
    assert "a=recvonly" in video
    assert not [line for line in video if line.startswith(("a=ssrc", "a=msid", "a=rtcp-xr"))]
    assert [line for line in video if "sdes:mid" in line]
    assert agreed.video is not None
    assert agreed.video.remote_ssrc
    assert agreed.video.remote_rtx_ssrc
    assert agreed.video.fmtp.endswith("profile-level-id=42e01f")
    assert not agreed.simulcast_refused


def test_simulcast_is_declined_and_the_rest_accepted() -> None:
    agreed = publish(offer_text("chromium-simulcast"))
    check_transport(agreed.answer)
    assert agreed.simulcast_refused
    assert agreed.video is not None
    assert "simulcast" not in agreed.answer
    assert "a=rid" not in agreed.answer


def test_obs_publishes_with_its_mids_and_payload_types() -> None:
    agreed = publish(offer_text("obs-publisher"))
    check_transport(agreed.answer)
    audio, video = sections(agreed.answer)
    assert audio[0].endswith("SAVPF 111")
    assert video[0].endswith("SAVPF 96")
    assert "a=mid:0" in audio
    assert "a=mid:1" in video
    assert "a=rtcp-rsize" not in video  # it was not offered
    assert agreed.video is not None
    assert agreed.video.rtx_payload_type is None
    assert agreed.video.remote_ssrc == 1815614011
    assert agreed.remote.candidates[0:1] == ()  # those of the second section are not the bundle's
    assert not agreed.rtcp_rsize


def test_gstreamer_publishes_with_a_bundle_only_section() -> None:
    agreed = publish(offer_text("gstreamer-publisher"))
    check_transport(agreed.answer)
    video, audio = sections(agreed.answer)
    assert (
        "a=fmtp:96 packetization-mode=1;profile-level-id=42c01f" in video
    )  # its parameter sets stay its own
    assert audio[0].endswith("SAVPF 98")
    assert "a=mid:audio1" in audio
    assert agreed.video is not None
    assert (agreed.video.remote_ssrc, agreed.video.remote_rtx_ssrc) == (2738291, 991827)


@pytest.fixture
async def aiortc_peer() -> AsyncIterator[aiortc.RTCPeerConnection]:
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    yield peer
    await peer.close()


async def test_aiortc_accepts_our_answer_as_a_viewer(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    aiortc_peer.addTransceiver("video", direction="recvonly")
    aiortc_peer.addTransceiver("audio", direction="recvonly")
    await aiortc_peer.setLocalDescription(await aiortc_peer.createOffer())
    agreed = view(aiortc_peer.localDescription.sdp)
    check_transport(agreed.answer)
    assert agreed.video is not None
    assert agreed.video.fmtp.endswith("42e01f")
    assert agreed.video.rtx_payload_type is not None
    await aiortc_peer.setRemoteDescription(aiortc.RTCSessionDescription(agreed.answer, "answer"))
    assert {item.currentDirection for item in aiortc_peer.getTransceivers()} == {"recvonly"}


async def test_aiortc_accepts_our_answer_as_a_publisher(aiortc_peer: aiortc.RTCPeerConnection) -> None:
    relay = MediaRelay()
    aiortc_peer.addTrack(relay.subscribe(VideoStreamTrack()))
    aiortc_peer.addTrack(relay.subscribe(AudioStreamTrack()))
    await aiortc_peer.setLocalDescription(await aiortc_peer.createOffer())
    agreed = publish(aiortc_peer.localDescription.sdp)
    check_transport(agreed.answer)
    await aiortc_peer.setRemoteDescription(aiortc.RTCSessionDescription(agreed.answer, "answer"))
    assert {item.currentDirection for item in aiortc_peer.getTransceivers()} == {"sendonly"}
    for sender in aiortc_peer.getSenders():
        sender.track.stop()


def test_a_relay_offer_and_its_answer_agree() -> None:
    edge = local(("192.0.2.9", 20100))
    answered = sdp.answer_viewer(sdp.parse_offer(sdp.make_relay_offer(edge)), local(), STREAM)
    accepted = sdp.accept_answer(sdp.parse_answer(answered.answer))
    assert accepted.dtls_role == "client"
    assert accepted.remote.ice_lite
    assert [item.address for item in accepted.remote.candidates] == ["127.0.0.1", "192.0.2.7"]
    assert accepted.video is not None
    assert accepted.audio is not None
    assert (accepted.video.payload_type, accepted.video.rtx_payload_type) == (sdp.H264_PT, sdp.H264_RTX_PT)
    assert (accepted.video.remote_ssrc, accepted.video.remote_rtx_ssrc) == (1001, 1002)
    assert accepted.audio.remote_ssrc == 1003
    assert "a=ice-lite" not in sdp.make_relay_offer(edge)
    assert "a=setup:actpass" in sdp.make_relay_offer(edge)


def test_a_relay_takes_what_the_origin_answers() -> None:
    edge = local(("192.0.2.9", 20100))
    offer = sdp.parse_offer(sdp.make_relay_offer(edge))
    for codec, payload_types in ((H264, (sdp.H264_PT, sdp.H264_RTX_PT)), (VP8, (sdp.VP8_PT, sdp.VP8_RTX_PT))):
        answered = sdp.answer_viewer(offer, local(), STREAM, codec)
        accepted = sdp.accept_answer(sdp.parse_answer(answered.answer))
        assert accepted.video is not None
        assert accepted.video.codec is codec
        assert (accepted.video.payload_type, accepted.video.rtx_payload_type) == payload_types
        assert set(accepted.video.feedback) == set(sdp.FEEDBACK)
        assert (accepted.video.remote_ssrc, accepted.video.remote_rtx_ssrc) == (1001, 1002)


def test_an_answer_that_calls_our_payload_types_something_else_is_not_taken() -> None:
    answered = sdp.answer_viewer(sdp.parse_offer(sdp.make_relay_offer(local())), local(), STREAM, VP8).answer
    for name in ("VP8", "opus"):
        answered = answered.replace(f"{name}/", "other/")
    with pytest.raises(NegotiationError) as caught:
        sdp.accept_answer(sdp.parse_answer(answered))
    assert (caught.value.status, caught.value.code) == (406, "no_common_codec")


WITHOUT_H264 = re.compile(r"^a=rtpmap:\d+ H264.*\r\n", re.MULTILINE)
WITHOUT_VP8 = re.compile(r"^a=rtpmap:\d+ VP8.*\r\n", re.MULTILINE)


def test_a_viewer_gets_the_codec_that_is_on_air() -> None:
    for text, codec, first in (
        (offer_text("chromium-viewer"), H264, "m=video 20000 UDP/TLS/RTP/SAVPF 108 109"),
        (offer_text("chromium-viewer"), VP8, "m=video 20000 UDP/TLS/RTP/SAVPF 96 97"),
        (offer_text("chromium-viewer"), None, "m=video 20000 UDP/TLS/RTP/SAVPF 108 109"),
        (WITHOUT_H264.sub("", offer_text("chromium-viewer")), None, "m=video 20000 UDP/TLS/RTP/SAVPF 96 97"),
    ):
        agreed = sdp.answer_viewer(sdp.parse_offer(text), local(), STREAM, codec)
        check_transport(agreed.answer)
        video, _ = sections(agreed.answer)
        assert video[0] == first
        assert agreed.video is not None
        assert agreed.video.codec is (VP8 if first.endswith("97") else H264)
        if agreed.video.codec is VP8:
            assert "a=rtpmap:96 VP8/90000" in video
            assert "a=fmtp:97 apt=96" in video
            assert "H264" not in agreed.answer
            assert not [line for line in video if line.startswith("a=fmtp:96")]
            assert {"a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 goog-remb"} <= set(video)


def test_a_firefox_viewer_without_its_plugin_is_answered_vp8() -> None:
    agreed = sdp.answer_viewer(sdp.parse_offer(offer_text("firefox-viewer")), local(), STREAM, VP8)
    check_transport(agreed.answer)
    video, audio = sections(agreed.answer)
    assert video[0] == "m=video 20000 UDP/TLS/RTP/SAVPF 120 124"
    assert audio[0] == "m=audio 20000 UDP/TLS/RTP/SAVPF 109"
    assert {"a=rtpmap:120 VP8/90000", "a=fmtp:124 apt=120", "a=rtcp-fb:120 nack pli"} <= set(video)
    assert not [line for line in video + audio if line.startswith("a=extmap")]


@pytest.mark.parametrize(
    ("on_air", "pattern", "words"),
    [(H264, WITHOUT_H264, "This broadcast is H.264"), (VP8, WITHOUT_VP8, "This broadcast is VP8")],
)
def test_a_viewer_without_the_codec_on_air_is_told_which_it_is(
    on_air: VideoCodec, pattern: re.Pattern[str], words: str
) -> None:
    offer = sdp.parse_offer(pattern.sub("", offer_text("chromium-viewer")))
    with pytest.raises(NegotiationError) as caught:
        sdp.answer_viewer(offer, local(), STREAM, on_air)
    assert (caught.value.status, caught.value.code) == (406, "no_common_codec")
    assert caught.value.detail.startswith(words)
    assert "offer it" in caught.value.detail


def test_a_publisher_of_both_sends_h264_and_one_of_vp8_alone_vp8() -> None:
    both = offer_text("chromium-publisher")
    assert both.index(" VP8/") < both.index(" H264/")  # as browsers list them by themselves
    agreed = publish(both)
    assert agreed.video is not None
    assert agreed.video.codec is H264
    agreed = publish(WITHOUT_H264.sub("", both))
    check_transport(agreed.answer)
    assert agreed.video is not None
    assert agreed.video.codec is VP8
    assert agreed.video.rtx_payload_type is not None
    assert agreed.video.remote_rtx_ssrc
    with pytest.raises(NegotiationError) as caught:
        publish(WITHOUT_VP8.sub("", WITHOUT_H264.sub("", both)))
    assert (caught.value.status, caught.value.code) == (406, "no_common_codec")
    assert "VP8" in caught.value.detail


def test_ipv6_addresses_are_announced() -> None:
    agreed = sdp.answer_viewer(
        sdp.parse_offer(offer_text("chromium-viewer")), local(("2001:db8::1", 20000)), STREAM
    )
    assert "c=IN IP6 2001:db8::1" in agreed.answer
    assert " 2001:db8::1 20000 typ host" in agreed.answer


def test_credentials_are_long_enough_and_plain() -> None:
    made = sdp.new_credentials(random.Random(1).randbytes)
    assert re.fullmatch(r"[A-Za-z0-9+/]{8}", made.ufrag)
    assert re.fullmatch(r"[A-Za-z0-9+/]{24}", made.password)


VIEWER = offer_text("chromium-viewer")


def without(text: str, pattern: str) -> str:
    return re.sub(pattern, "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("", 400, "bad_sdp"),
        ("hello", 400, "bad_sdp"),
        ("v=0\r\nnonsense", 400, "bad_sdp"),
        (VIEWER.replace("profile-level-id=42e01f", "profile-level-id=\ra=evil"), 400, "bad_sdp"),
        ("v=0\r\ns=-\r\n", 400, "bad_sdp"),
        ("v=0\r\nm=video\r\n", 400, "bad_sdp"),
        ("v=0\r\nm=\r\n", 400, "bad_sdp"),
        ("v=0\r\nm=video x UDP/TLS/RTP/SAVPF 96\r\n", 400, "bad_sdp"),
        (VIEWER + "a=x\r\n" * 14_000, 413, "sdp_too_large"),
        (VIEWER.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVP"), 406, "transport_refused"),
        (VIEWER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), 406, "transport_refused"),
        (VIEWER + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", 406, "sdes_refused"),
        (without(VIEWER, r"^a=rtpmap:\d+ (H264|VP8).*\r\n"), 406, "no_common_codec"),
        (
            without(VIEWER, r"^a=rtpmap:\d+ VP8.*\r\n").replace(
                "packetization-mode=1", "packetization-mode=0"
            ),
            406,
            "no_common_codec",
        ),
        (VIEWER.replace("a=recvonly", "a=sendonly"), 406, "no_common_codec"),
        (without(VIEWER, r"^a=fingerprint.*\r\n"), 406, "no_fingerprint"),
        (VIEWER.replace("fingerprint:sha-256", "fingerprint:md5"), 406, "no_fingerprint"),
        (without(VIEWER, r"^a=ice-pwd.*\r\n"), 400, "bad_sdp"),
        (re.sub(r"a=ice-pwd:.*", "a=ice-pwd:short", VIEWER), 400, "bad_sdp"),
        (re.sub(r"a=ice-ufrag:.*", "a=ice-ufrag:a:b:c", VIEWER), 400, "bad_sdp"),
        (without(VIEWER, r"^a=rtcp-mux\r\n"), 406, "rtcp_mux_required"),
        (without(VIEWER, r"^a=group.*\r\n"), 406, "bundle_required"),
        (VIEWER.replace("a=mid:1", "a=mid:0"), 400, "bad_sdp"),
        ("v=0\r\n" + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 100, 400, "bad_sdp"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(text: str, status: int, code: str) -> None:
    with pytest.raises(NegotiationError) as caught:
        view(text)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.detail.endswith(".")


def test_bytes_that_are_not_text_are_refused() -> None:
    with pytest.raises(NegotiationError) as caught:
        sdp.parse_offer(b"v=0\r\n\xff\xfe")
    assert caught.value.status == 400


@pytest.mark.parametrize("huge", ["v=0\r\n" + "a=x\r\n" * 200_000, b"\xff" * 1_000_000])
def test_a_megabyte_is_refused_before_it_is_read(huge: str | bytes) -> None:
    for parse in (sdp.parse_offer, sdp.parse_answer, sdp.parse_fragment):
        with pytest.raises(NegotiationError) as caught:
            parse(huge)
        assert caught.value.status == 413


def test_sections_we_do_not_serve_are_rejected_in_place() -> None:
    """A data channel and a second video: port 0, mids echoed, not in the bundle."""
    transport = "\r\n".join(
        line for line in VIEWER.splitlines() if line.startswith(("a=ice-", "a=fingerprint", "a=setup"))
    )
    text = VIEWER.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3")
    text += f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n{transport}\r\n"
    video = "m=" + VIEWER.split("m=")[1].replace("a=mid:0", "a=mid:3")
    agreed = view(text + video)
    check_transport(agreed.answer)
    lines = sections(agreed.answer)
    assert len(lines) == 4
    assert lines[2][0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert "a=mid:2" in lines[2]
    assert lines[3][0].startswith("m=video 0 ")
    assert "a=group:BUNDLE 0 1\r\n" in agreed.answer


def test_sound_alone_is_served() -> None:
    head, _, audio = VIEWER.partition("m=video")[0], None, "m=audio" + VIEWER.split("m=audio")[1]
    agreed = view(head + audio)
    assert agreed.video is None
    assert agreed.audio is not None


def test_a_trickle_fragment_is_read() -> None:
    fragment = sdp.parse_fragment(
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        "a=candidate:1 1 udp 2122260223 192.0.2.1 5000 typ host generation 0\r\n"
        "a=candidate:2 1 udp 2122260223 d9aeb.local 5000 typ host\r\n"
        "a=candidate:3 1 tcp 2122260223 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n"
    )
    assert fragment.credentials == sdp.IceCredentials("abcd", "0123456789012345678901")
    assert [(item.address, item.port) for item in fragment.candidates] == [("192.0.2.1", 5000)]


def test_a_restart_is_answered_with_the_transport_of_the_bundle_and_nothing_else() -> None:
    text = offer_text("chromium-viewer")
    agreed, fresh = view(text), local(("192.0.2.7", 20000), ("2001:db8::7", 20000))
    lines = sdp.restart_fragment(agreed.answer, fresh).split("\r\n")
    first = sections(agreed.answer)[0]
    assert lines[:3] == ["a=ice-lite", first[0], next(line for line in first if line.startswith("a=mid:"))]
    assert lines[3:5] == [
        f"a=ice-ufrag:{fresh.credentials.ufrag}",
        f"a=ice-pwd:{fresh.credentials.password}",
    ]
    assert [line.split()[4:6] for line in lines[5:7]] == [["192.0.2.7", "20000"], ["2001:db8::7", "20000"]]
    assert lines[7:] == ["a=end-of-candidates", ""]
    assert sdp.parse_fragment("\r\n".join(lines)).credentials == fresh.credentials


def _poke(text: str | bytes) -> None:
    for parse in (sdp.parse_offer, sdp.parse_answer):
        try:
            description = parse(text)
        except NegotiationError:
            continue
        for use in (
            lambda it: sdp.answer_publisher(it, local()),
            lambda it: sdp.answer_viewer(it, local(), STREAM),
            lambda it: sdp.answer_viewer(it, local(), STREAM, VP8),
            sdp.accept_answer,
        ):
            try:
                agreed = use(description)
            except NegotiationError:
                continue
            if agreed.answer:
                sdp.parse_answer(agreed.answer)
    try:
        sdp.parse_fragment(text)
    except NegotiationError:
        pass


@given(st.text(max_size=400) | st.binary(max_size=400))
def test_rubbish_raises_nothing_else(text: str | bytes) -> None:
    _poke(text)
    _poke("v=0\r\n" + text if isinstance(text, str) else b"v=0\r\n" + text)


ATTRIBUTES = [
    *(
        "mid",
        "rtpmap",
        "fmtp",
        "rtcp-fb",
        "extmap",
        "ssrc",
        "ssrc-group",
        "msid",
        "rid",
        "simulcast",
        "setup",
    ),
    *("ice-ufrag", "ice-pwd", "fingerprint", "candidate", "group", "crypto", "rtcp-mux", "bundle-only"),
    *("sendonly", "section", "credentials", "attribute"),
]


@given(st.lists(st.tuples(st.sampled_from(ATTRIBUTES), st.text(max_size=20)), max_size=12))
def test_odd_attributes_raise_nothing_else(attributes: list[tuple[str, str]]) -> None:
    lines = [f"a={name}:{value}" for name, value in attributes]
    _poke("\r\n".join(["v=0", *lines, "m=video 9 UDP/TLS/RTP/SAVPF 96 97", *lines]))


@given(st.sampled_from(sorted(path.stem for path in GOLDEN.glob("*.sdp"))), st.data())
def test_damaged_offers_raise_nothing_else(name: str, data: st.DataObject) -> None:
    lines = offer_text(name).splitlines()
    for _ in range(data.draw(st.integers(1, 8))):
        index = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "cut", "garble"]))
        line = lines[index]
        at = data.draw(st.integers(0, len(line)))
        if change == "drop" and len(lines) > 1:
            del lines[index]
        elif change == "double":
            lines.insert(index, line)
        elif change == "cut":
            lines[index] = line[:at]
        else:
            lines[index] = line[:at] + data.draw(st.text(max_size=3)) + line[at + 1 :]
    _poke("\r\n".join(lines))


CANDIDATE = re.compile(r"a=candidate:(\S+) 1 (udp|tcp) (\d+) (\S+) (\d+) typ host( tcptype passive)?$")


def test_tcp_candidates_follow_those_of_udp_with_lower_priorities() -> None:
    described = dataclasses.replace(
        local(("203.0.113.5", 20000), ("2001:db8::5", 20000)), tcp_ports=(20000, 443)
    )
    for answer in (
        sdp.answer_viewer(sdp.parse_offer(offer_text("chromium-viewer")), described, STREAM).answer,
        sdp.answer_publisher(sdp.parse_offer(offer_text("chromium-publisher")), described).answer,
    ):
        for lines in sections(answer):
            found = [match for line in lines if (match := CANDIDATE.match(line))]
            assert len(found) == sum(line.startswith("a=candidate") for line in lines)
            assert [(match[2], match[4], match[5]) for match in found] == [
                ("udp", "203.0.113.5", "20000"),
                ("udp", "2001:db8::5", "20000"),
                ("tcp", "203.0.113.5", "20000"),
                ("tcp", "203.0.113.5", "443"),
                ("tcp", "2001:db8::5", "20000"),
                ("tcp", "2001:db8::5", "443"),
            ]
            assert all(bool(match[6]) is (match[2] == "tcp") for match in found)
            priorities = [int(match[3]) for match in found]
            assert priorities == sorted(set(priorities), reverse=True)
            assert len({match[1] for match in found}) == len(found)  # foundations
            # RFC 6544 section 4.2: a passive host candidate, of a type below UDP's
            assert priorities[2] == (90 << 24) + ((4 << 13) + 8191 << 8) + 255


def test_a_relay_is_offered_and_answered_over_udp_alone() -> None:
    assert " tcp " not in sdp.make_relay_offer(local())
    assert sdp.parse_fragment("a=candidate:7 1 tcp 1 192.0.2.1 9 typ host tcptype active").candidates == ()


# -- shapes: what the offers of a crowd have in common is read once

OFFERS = (
    "chromium-viewer",
    "firefox-viewer",
    "chromium-publisher",
    "chromium-simulcast",
    "gstreamer-publisher",
)
ICE_CHARS = st.text("abcXYZ019+/", min_size=22, max_size=30)
OWN_LINES = {
    r"^a=ice-ufrag:.*$": ICE_CHARS.map(lambda text: f"a=ice-ufrag:{text[:8]}"),
    r"^a=ice-pwd:.*$": ICE_CHARS.map(lambda text: f"a=ice-pwd:{text}"),
    r"^a=fingerprint:.*$": st.binary(min_size=32, max_size=32).map(
        lambda digest: f"a=fingerprint:sha-256 {digest.hex(':').upper()}"
    ),
    r"^m=(audio|video) \d+": st.integers(1, 65535).map(lambda port: rf"m=\g<1> {port}"),
    r"^a=setup:.*$": st.sampled_from(
        [
            "a=setup:actpass",
            "a=setup:active\r\na=candidate:1 1 udp 2113937151 192.0.2.9 5000 typ host",
            "a=setup:passive\r\na=ssrc:77 cname:x\r\na=ssrc:78 cname:x",
        ]
    ),
    r"^o=.*$": st.integers(0, 2**62).map(lambda number: f"o=- {number} 2 IN IP4 127.0.0.1"),
}


@st.composite
def offers_of_one_shape(draw: st.DrawFn) -> list[str]:
    """Offers of one client, that have nothing of one session in common."""
    text = offer_text(draw(st.sampled_from(OFFERS)))
    offers = []
    for _ in range(2):
        offer = text
        for pattern, lines in OWN_LINES.items():
            offer = re.sub(pattern, draw(lines), offer, flags=re.MULTILINE)
        offers.append(offer)
    return offers


def forget_shapes() -> None:
    description._kept_shape.cache_clear()


def answered(offer: sdp.Offer) -> list[sdp.Agreed | str]:
    """What each way of answering makes of it."""
    ways: list[Callable[[], sdp.Agreed]] = [
        lambda: sdp.answer_publisher(offer, local()),
        lambda: sdp.answer_viewer(offer, local(), STREAM),
        lambda: sdp.answer_viewer(offer, local(), STREAM, H264),
        lambda: sdp.answer_viewer(offer, local(), STREAM, VP8),
    ]
    answers: list[sdp.Agreed | str] = []
    for way in ways:
        try:
            answers.append(way())
        except NegotiationError as error:
            answers.append(error.detail)
    return answers


@given(offers_of_one_shape())
def test_what_is_kept_of_another_offer_changes_nothing(offers: list[str]) -> None:
    fresh = []
    for text in offers:
        forget_shapes()
        offer = sdp.parse_offer(text)
        fresh.append((offer, answered(offer)))
    forget_shapes()
    for _ in range(2):
        again = [sdp.parse_offer(text) for text in offers]
        assert [(offer, answered(offer)) for offer in again] == fresh


def test_offers_of_one_client_have_one_shape_and_nothing_else_in_common() -> None:
    one = offer_text("chromium-viewer")
    other = re.sub(r"a=ice-ufrag:.*", "a=ice-ufrag:another1", one).replace("m=video 9 ", "m=video 4711 ")
    first, second = sdp.parse_offer(one), sdp.parse_offer(other)
    assert first.shape is second.shape
    assert [section.port for section in second.sections if section.kind == "video"] == [4711]
    assert {section.credentials.ufrag for section in second.sections if section.credentials} == {"another1"}
    assert view(other).remote.credentials != view(one).remote.credentials
    bare = "\n".join(line for line in one.splitlines() if not line.startswith("a=ice-"))
    with pytest.raises(NegotiationError, match="no a=ice-ufrag"):  # not answered with another's
        view(bare)
    for changed in (
        one.replace("a=rtcp-mux", "a=x", 1),
        one.replace("m=video 9 ", "m=video 0 "),
        one.replace("a=mid:0", "a=mid:7"),
    ):
        assert sdp.parse_offer(changed).shape is not first.shape


def test_only_so_many_shapes_of_a_bounded_length_are_kept() -> None:
    forget_shapes()
    text = offer_text("firefox-viewer")
    for number in range(2 * description.SHAPES):
        sdp.parse_offer(f"{text}a=x-{number}\r\n")
    assert description._kept_shape.cache_info().currsize == description.SHAPES
    forget_shapes()
    long = text + f"a=x:{'y' * description.MAX_SHAPE}\r\n"
    assert sdp.parse_offer(long) == sdp.parse_offer(text)
    assert description._kept_shape.cache_info().currsize == 1
