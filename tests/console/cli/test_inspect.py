"""What `showcaller node inspect` prints: every fact of the answer is there, aligned, a group a protocol."""

import re
from typing import Any

import pytest

from console.cli import inside
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionReport
from tests.console.screens.stand import node as node_detail

VIEWER: dict[str, Any] = {
    "id": "7b1ccfbe4b8ed279f41a490bee48b604fbf32b78",
    "kind": "whep",
    "channel": "main",
    "node": "edge-1",
    "worker": 2,
    "state": "connected",
    "age_s": 192.5,
    "connected_s": 192.0,
    "packets_out": 6838,
    "bytes_out": 7_470_000,
    "bitrate_bps": 4_850_000.0,
    "ice": {
        "role": "lite",
        "ufrag": "4e28ox82",
        "remote_ufrag": "bY2B",
        "restarts": 1,
        "restarting": True,
        "selected": "[2001:db8::1]:56257",
        "transport": "tcp6",
        "nominated": True,
        "reached": False,
        "valid": [
            {"address": "192.0.2.2:49491", "transport": "udp4", "heard_age_s": 12.0},
            {"address": "[2001:db8::1]:56257", "transport": "tcp6", "heard_age_s": 1.1},
        ],
        "moving_to": "192.0.2.9:1",
        "consent_age_s": 1.1,
        "consent_left_s": 13.9,
    },
    "dtls": {
        "state": "done",
        "role": "server",
        "handshake_ms": 78.5,
        "fingerprint": "46:93",
        "peer_fingerprint": "sha-256 D9:B9",
        "matched": True,
        "connection": "released",
        "parting": True,
    },
    "srtp": {
        "profile": "SRTP_AEAD_AES_128_GCM",
        "tag_bytes": 16,
        "sources": [635029968, 3179939588],
        "drops": {"unauthentic": 3, "replayed": 1},
        "unsent": 2,
    },
    "rtp": [
        {
            "media": "video",
            "direction": "out",
            "codec": "H264",
            "payload_type": 101,
            "rtx_payload_type": 102,
            "ssrc": 2006672348,
            "rtx_ssrc": 1585288618,
            "state": "live",
            "first_sequence": 73122,
            "last_sequence": 79331,
            "resent": 13,
            "resend_refused": 4,
            "stalls": 0,
        }
    ],
    "rtcp": {
        "last_report": {
            "ssrc": 2006672348,
            "age_s": 1.1,
            "fraction_lost": 0.125,
            "lost": 13,
            "highest_sequence": 13254,
            "jitter_ms": 10.2,
            "last_sr": 0xE86B1398,
            "delay_since_last_sr_ms": 203.8,
        },
        "rtt_ms": 4.6,
        "loss": 0.125,
        "jitter_ms": 10.2,
        "remb_bps": 6_500_000.0,
        "estimate_bps": 6_000_000.0,
        "nacks": 13,
        "plis": 2,
        "reference_times": 5,
    },
}


def shown(capsys: pytest.CaptureFixture[str], found: Any) -> str:
    inside.show(found)
    return capsys.readouterr().out


def test_every_fact_of_a_viewer_is_there_and_names_stand_in_one_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, SessionInside.model_validate(VIEWER))
    lines = text.splitlines()
    assert lines[:2] == [
        "viewer of main on edge-1 (worker 2), connected for 3 min",
        "session 7b1ccfbe4b8ed279f41a490bee48b604fbf32b78",
    ]
    assert [line for line in lines if re.fullmatch("[A-Z]+", line)] == ["ICE", "DTLS", "SRTP", "RTP", "RTCP"]
    facts = {line[2:14].strip(): line[16:] for line in lines if line.startswith("  ") and line[2] != " "}
    assert (
        facts.items()
        >= {
            "role": "we are the server",
            "ufrag": "4e28ox82 (ours)  bY2B (the peer's)",
            "sends to": "[2001:db8::1]:56257 tcp  nominated, not known to arrive",
            "valid": "192.0.2.2:49491 udp  heard 12 s ago",
            "moving to?": "192.0.2.9:1: it is being asked",
            "heard": "1.1 s ago; ends the session in 14 s",
            "restarts": "1, another under way",
            "state": "done in 78.5 ms",
            "connection": "released: the keys are all that is needed",
            "parting": "the peer seems to have said good-bye",
            "profile": "SRTP_AEAD_AES_128_GCM, a tag of 16 bytes",
            "refused": "3 not authentic, 1 replayed",
            "not sent": "2 packets",
            "sent": "6,838 packets, 7.47 MB",
            "picture": "H264, out, live",
            "payload type": "101, RTX 102",
            "SSRC": "2006672348, RTX 1585288618",
            "sequence": "73122 .. 79331 (13795 on the wire)",
            "sent again": "13, 4 refused",
            "last report": "1.1 s ago, of SSRC 2006672348",
            "loss": "12.5 %",
            "round trip": "4.6 ms",
            "REMB": "6.50 Mbps",
            "can take": "6.00 Mbps",
            "asked for": "13 packets again (NACK), 2 key frames (PLI)",
            "RRTR": "5 answered",
        }.items()
    )
    assert "                [2001:db8::1]:56257 tcp  heard 1.1 s ago  <- sent to" in lines
    assert "                jitter 10.2 ms, last SR e86b1398, 203.8 ms before" in lines
    assert not [line for line in lines if line != line.rstrip()]


def test_what_is_wrong_stands_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = VIEWER | {
        "state": "new",
        "connected_s": None,
        "ice": VIEWER["ice"] | {"selected": None, "transport": None, "valid": [], "consent_age_s": None},
        "dtls": VIEWER["dtls"] | {"state": "closed", "matched": False, "handshake_ms": None},
        "srtp": {},
        "rtp": [],
        "rtcp": {},
        "packets_out": 0,
        "bitrate_bps": None,
    }
    text = shown(capsys, SessionInside.model_validate(found))
    for words in (
        "nowhere yet",
        "no address yet",
        "ANOTHER one than its SDP names",
        "no keys yet",
        "last report   none",
        "loss          -",
    ):
        assert words in text
    assert "None" not in text


def test_a_source_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    track = {
        "media": "audio",
        "direction": "in",
        "codec": "opus",
        "payload_type": 96,
        "ssrc": 58195203,
        "state": "live",
        "last_sequence": 4703,
        "packets": 1225,
        "lost": 2,
        "recovered": 7,
        "missing": 1,
        "jitter_ms": 8.9,
    }
    found = VIEWER | {"kind": "whip", "bytes_in": 14_200_000, "packets_out": 0, "rtp": [track]}
    text = shown(capsys, SessionInside.model_validate(found))
    assert text.startswith("publisher of main on edge-1")
    for words in (
        "received      14.2 MB",
        "came          1,225, and 7 late or when asked for",
        "lost          2, and 1 being asked for",
        "asked it for  13 packets again (NACK), 2 key frames (PLI)",
    ):
        assert words in text
    assert "REMB" not in text, "what viewers say is nothing of a source's"


def test_a_node_alone_lists_its_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    from controlplane.wire.api import NodeInside

    rows = [
        SessionReport.model_validate(
            {"id": f"{kind}-0123456789{end}", "kind": kind, "channel": "main", "state": "connected"} | more
        )
        for kind, end, more in (
            ("whep", "", {"remote": "192.0.2.1:5", "transport": "tcp4", "loss": 0.01, "estimate_bps": 3e6}),
            ("relay_in", ".in", {}),
        )
    ]
    inside.show(NodeInside(node=node_detail("edge-1"), reported_at=1.0, sessions=rows))
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "edge-1  edge in local, in service, 2 sessions"
    assert " ".join(lines[2].split()) == " ".join(inside.HEADINGS)
    assert lines[3].startswith("whep-012 ")
    assert "192.0.2.1:5 tcp" in lines[3]
    assert "1.0 %" in lines[3]
    assert lines[3].endswith("3.00 Mbps")
    assert lines[4].startswith("relay_in.in "), "so that its receiving end can be named"
    assert "showcaller node inspect edge-1 whep-012" in said.err
