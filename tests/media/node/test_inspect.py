"""A look inside a session of a real node: it is what the peer knows too, and no secret is among it."""

import base64
import json
import re
from typing import Any

import pytest

from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionsTold
from tests.media.node.stand import Publisher, Stand, Watcher, until
from tests.support.wait import wait_for

KEY_BYTES = 2 * (16 + 12)  # AEAD_AES_128_GCM, both ways


async def inspect(nodes: Stand, node: str, session: str) -> tuple[SessionInside, str]:
    """What the control endpoint says, read strictly, and as it came."""
    response = await nodes.manager.call(node, "GET", f"/v1/sessions/{session}")
    assert response.status_code == 200, response.text
    return SessionInside.model_validate_json(response.text), response.text


def secrets_of(nodes: Stand, viewer: Watcher) -> set[str]:
    """Whatever would let somebody in: passwords of ICE, keys of SRTP, tokens of nodes."""
    texts = {viewer.answer, viewer.connection.localDescription.sdp}
    found = {line for text in texts for line in re.findall("a=ice-pwd:([^\r\n]+)", text)}
    for node in nodes.manager.nodes.values():
        found |= {node.secret, node.credential, node.enrol.token}
    transport: Any = viewer.connection.getReceivers()[0].transport
    keys = transport._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", KEY_BYTES)
    for part in (keys, keys[:16], keys[16:32], keys[32:44], keys[44:]):
        found |= {part.hex(), base64.b64encode(part).decode(), base64.urlsafe_b64encode(part).decode()}
    assert len(found) > 15
    return found


async def test_a_viewers_inside_is_what_the_viewer_knows_and_no_secret_is_in_it(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1", "--workers", "2")
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(45)
        edge = nodes.manager.nodes["edge-1"]

        def reported() -> bool:
            rows = [row for row in edge.sessions if row.id == viewer.session]
            return any(row.estimate_bps is not None and row.rtt_ms is not None for row in rows)

        await until(reported, "the viewer's reports have come")
        found, text = await inspect(nodes, "edge-1", viewer.session)
        receiver: Any = viewer.connection.getReceivers()[0]
        transport, offer = receiver.transport, viewer.connection.localDescription.sdp

        assert (found.id, found.kind, found.channel) == (viewer.session, "whep", "main")
        assert (found.node, found.state) == ("edge-1", "connected")
        assert found.connected_s is not None
        assert 0 < found.connected_s <= found.age_s < 60
        assert found.packets_out > 45
        assert found.bytes_out > 45_000

        pair = transport.transport._connection._nominated[1]
        assert found.ice.role == "lite"
        assert found.ice.selected == f"{pair.local_addr[0]}:{pair.local_addr[1]}"
        assert found.ice.selected in {address.address for address in found.ice.valid}
        assert found.ice.nominated
        assert found.ice.reached
        assert (found.ice.restarts, found.ice.restarting, found.ice.transport) == (0, False, "udp4")
        assert f"a=ice-ufrag:{found.ice.ufrag}\r" in viewer.answer
        assert f"a=ice-ufrag:{found.ice.remote_ufrag}\r" in offer
        assert found.ice.consent_age_s is not None
        assert found.ice.consent_left_s is not None
        assert found.ice.consent_age_s + found.ice.consent_left_s == pytest.approx(15, abs=0.1)

        assert (found.dtls.state, found.dtls.role) == ("done", "server")
        assert (found.dtls.matched, found.dtls.connection, found.dtls.parting) == (True, "released", False)
        assert found.dtls.peer_fingerprint is not None
        algorithm, value = found.dtls.peer_fingerprint.split(" ")
        assert f"a=fingerprint:{algorithm} {value}\r" in offer
        assert f"a=fingerprint:sha-256 {found.dtls.fingerprint}\r" in viewer.answer
        assert found.dtls.handshake_ms is not None
        assert 0 < found.dtls.handshake_ms < 10_000

        assert (found.srtp.profile, found.srtp.tag_bytes) == ("SRTP_AEAD_AES_128_GCM", 16)
        assert found.srtp.sources
        assert found.srtp.unsent == 0

        assert {(track.media, track.direction, track.state) for track in found.rtp} == {
            ("video", "out", "live"),
            ("audio", "out", "live"),
        }
        video = next(track for track in found.rtp if track.media == "video")
        assert f"a=ssrc-group:FID {video.ssrc} {video.rtx_ssrc}\r" in viewer.answer
        assert f"a=rtpmap:{video.payload_type} H264/90000\r" in viewer.answer
        assert f"a=fmtp:{video.rtx_payload_type} apt={video.payload_type}\r" in viewer.answer
        assert video.last_sequence is not None
        assert video.first_sequence is not None
        assert video.first_sequence < video.last_sequence
        sent, stream = video.last_sequence, receiver._RTCRtpReceiver__remote_streams[video.ssrc]
        await wait_for(
            lambda: (stream.max_seq - sent) % 65536 < 5000, 5, "the viewer has come as far, or further"
        )

        report = found.rtcp.last_report
        assert report is not None
        assert report.ssrc == video.ssrc
        assert report.age_s < 5
        assert (video.last_sequence - report.highest_sequence) % 65536 < 5000
        assert found.rtcp.estimate_bps is not None
        assert found.rtcp.rtt_ms is not None
        assert found.rtcp.loss == report.fraction_lost

        (relay,) = [s.id for s in edge.sessions if s.kind.value == "relay_in"]
        response = await nodes.manager.call("edge-1", "GET", "/v1/sessions")
        told = SessionsTold.model_validate_json(response.text)
        assert {row["id"] for row in told.sessions} == {row.id for row in edge.sessions}
        assert told.age_s is not None
        assert told.age_s < 5
        relayed, relay_text = await inspect(nodes, "edge-1", relay)
        assert (relayed.ice.role, relayed.dtls.role, relayed.dtls.connection) == (
            "controlling",
            "client",
            "held",
        )
        assert {(track.media, track.direction) for track in relayed.rtp} == {("video", "in"), ("audio", "in")}
        for track in relayed.rtp:
            assert track.ssrc in relayed.srtp.sources
            assert (track.packets or 0) > 10
            assert track.last_sequence is not None
        assert relayed.bytes_in > 45_000
        assert relayed.ice.rtt_ms is not None

        for secret in secrets_of(nodes, viewer):
            assert secret not in text + relay_text
        names = {name for part in (text, relay_text) for name in re.findall('"([a-z_]+)":', part)}
        assert not names & {"password", "pwd", "key", "keys", "salt", "token", "secret"}
        assert json.loads(text).keys() == SessionInside.model_fields.keys()
    finally:
        await publisher.close()
        await viewer.close()


async def test_a_session_that_nobody_came_to_is_told_as_it_is(nodes: Stand) -> None:
    await nodes.node("edge", "edge-1")
    viewer = Watcher()
    try:
        await viewer.offer_only(nodes.manager, "edge-1", "main")
        found, _ = await inspect(nodes, "edge-1", viewer.session)
    finally:
        await viewer.close()
    assert (found.state, found.connected_s, found.packets_out) == ("new", None, 0)
    assert (found.ice.selected, found.ice.valid, found.ice.consent_age_s) == (None, [], None)
    assert (found.dtls.state, found.dtls.matched, found.dtls.connection) == ("waiting", None, "none")
    assert (found.srtp.profile, found.srtp.sources, found.rtp) == (None, [], [])
    assert found.rtcp.last_report is None


async def test_a_session_that_is_not_there_is_not_found_and_the_secret_is_needed(nodes: Stand) -> None:
    await nodes.node("edge", "edge-1", "--workers", "2")
    answer = await nodes.manager.call("edge-1", "GET", "/v1/sessions/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_session")
    as_nobody = {"authorization": "Bearer x"}
    assert (
        await nodes.manager.call("edge-1", "GET", "/v1/sessions/nobody", headers=as_nobody)
    ).status_code == 401
