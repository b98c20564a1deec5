"""A session's inside, and a node's sessions, as people read them: a group a protocol, names in one column."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from console.cli import output

if TYPE_CHECKING:
    from controlplane.wire.api import NodeInside
    from controlplane.wire.inside import (
        DtlsInside,
        IceInside,
        RtcpInside,
        RtpInside,
        SessionInside,
        SrtpInside,
        ValidAddress,
    )

NAME = 12  # cells of the column with names
KINDS = {"whip": "publisher", "whep": "viewer", "relay_out": "relay to an edge", "relay_in": "relay here"}
HEADINGS = ("session", "kind", "channel", "state", "remote",
            "bitrate", "loss", "round trip", "jitter", "can take")  # fmt: skip
SHORT = 8  # characters that a session is named by

Rows = Iterable[tuple[str, str]]


def show(found: "NodeInside | SessionInside") -> None:
    from controlplane.wire.inside import SessionInside

    if isinstance(found, SessionInside):
        _session(found)
    else:
        _node(found)


def _node(found: "NodeInside") -> None:
    from console.core.units import count, show_bitrate, show_state

    node = found.node
    print(
        f"{node.id}  {node.role} in {node.region}, {show_state(node.state)}, "
        f"{count(len(found.sessions), 'session')}"
    )
    if not found.sessions:
        return
    print()
    output.print_table(
        HEADINGS,
        [
            (
                _short(session.id),
                KINDS[session.kind],
                session.channel,
                session.state,
                _at(session.remote, session.transport),
                show_bitrate(session.bitrate_bps),
                _share(session.loss),
                _ms(session.rtt_ms),
                _ms(session.jitter_ms),
                show_bitrate(session.estimate_bps),
            )
            for session in found.sessions
        ],
        numbers=(5, 6, 7, 8, 9),
    )
    output.say(f"One of them: showcaller node inspect {node.id} {_short(found.sessions[0].id)}")


def _session(found: "SessionInside") -> None:
    from console.core.units import show_bitrate, show_duration

    since = "" if found.connected_s is None else f" for {show_duration(found.connected_s)}"
    print(
        f"{KINDS[found.kind]} of {found.channel} on {found.node} (worker {found.worker}), "
        f"{found.state}{since}\nsession {found.id}"
    )
    media = (
        [("sent", f"{found.packets_out:,} packets, {_bytes(found.bytes_out)}")] if found.packets_out else []
    )
    if found.bytes_in:
        media.append(("received", _bytes(found.bytes_in)))
    media.append(("mean", show_bitrate(found.bitrate_bps)))
    _group("ICE", _ice(found.ice))
    _group("DTLS", _dtls(found.dtls))
    _group("SRTP", _srtp(found.srtp))
    _group("RTP", media)
    for track in found.rtp:
        print()
        _rows(_rtp(track))
    _group(
        "RTCP", _of_a_viewer(found.rtcp) if found.kind in ("whep", "relay_out") else _of_a_source(found.rtcp)
    )


def _group(title: str, rows: Rows) -> None:
    print()
    print(output.bold(title, sys.stdout))
    _rows(rows)


def _rows(rows: Rows) -> None:
    for name, text in rows:
        print(f"  {name:<{NAME}}  {text}".rstrip())


def _ice(ice: "IceInside") -> Rows:
    from console.core.units import show_duration

    yield "role", "lite: the peer checks" if ice.role == "lite" else "controlling: we check"
    yield "ufrag", f"{ice.ufrag} (ours)  {ice.remote_ufrag} (the peer's)"
    if ice.selected is None:
        yield "sends to", "nowhere yet"
    else:
        facts = [
            "nominated" if ice.nominated else "not nominated",
            "known to arrive" if ice.reached else "not known to arrive",
        ]
        yield "sends to", f"{_at(ice.selected, ice.transport)}  {', '.join(facts)}"
    for number, address in enumerate(ice.valid):
        yield "" if number else "valid", _valid(address, ice.selected)
    if not ice.valid:
        yield "valid", "no address yet"
    if ice.moving_to is not None:
        yield "moving to?", f"{ice.moving_to}: it is being asked"
    left = "" if ice.consent_left_s is None else f"; ends the session in {show_duration(ice.consent_left_s)}"
    heard = "never" if ice.consent_age_s is None else f"{show_duration(ice.consent_age_s)} ago"
    yield "heard", f"{heard}{left if ice.consent_age_s is not None else ''}"
    if ice.rtt_ms is not None:
        yield "round trip", _ms(ice.rtt_ms)
    under_way = ", another under way" if ice.restarting else ""
    yield "restarts", f"{ice.restarts}{under_way}"


def _valid(address: "ValidAddress", selected: str | None) -> str:
    from console.core.units import show_duration

    heard = "" if address.heard_age_s is None else f"  heard {show_duration(address.heard_age_s)} ago"
    chosen = "  <- sent to" if address.address == selected else ""
    return f"{_at(address.address, address.transport)}{heard}{chosen}"


def _dtls(dtls: "DtlsInside") -> Rows:
    words = {
        "waiting": "nothing of a handshake has come",
        "handshake": "the handshake is under way",
        "done": "done",
        "closed": "closed",
    }
    took = "" if dtls.handshake_ms is None else f" in {_ms(dtls.handshake_ms)}"
    yield "state", words[dtls.state] + took
    yield "role", f"we are the {dtls.role}"
    yield "ours", f"sha-256 {dtls.fingerprint}"
    yield "peer's", dtls.peer_fingerprint or "no fingerprint"
    matched = {
        True: "its certificate is the one that its SDP names",
        False: "its certificate is ANOTHER one than its SDP names",
        None: "it has shown no certificate yet",
    }
    yield "", matched[dtls.matched]
    kept = {
        "none": "not made yet",
        "held": "held",
        "released": "released: the keys are all that is needed",
    }
    yield "connection", kept[dtls.connection]
    if dtls.parting:
        yield "parting", "the peer seems to have said good-bye"


def _srtp(srtp: "SrtpInside") -> Rows:
    from console.core.units import count

    yield (
        "profile",
        "no keys yet" if srtp.profile is None else f"{srtp.profile}, a tag of {srtp.tag_bytes} bytes",
    )
    yield "peer's SSRCs", ", ".join(map(str, srtp.sources)) or "none yet"
    drops = [
        f"{number:,} {words}"
        for number, words in (
            (srtp.drops.unauthentic, "not authentic"),
            (srtp.drops.replayed, "replayed"),
            (srtp.drops.malformed, "malformed"),
            (srtp.drops.unvalidated, "from an address not validated"),
        )
        if number
    ]
    yield "refused", ", ".join(drops) or "nothing"
    yield "not sent", count(srtp.unsent, "packet") if srtp.unsent else "nothing"


def _rtp(track: "RtpInside") -> Rows:
    media = "picture" if track.media == "video" else "sound"
    yield media, f"{track.codec or 'no codec yet'}, {track.direction}, {track.state}"
    rtx = "" if track.rtx_payload_type is None else f", RTX {track.rtx_payload_type}"
    yield "payload type", f"{track.payload_type}{rtx}"
    ssrc = "not known yet" if track.ssrc is None else str(track.ssrc)
    yield "SSRC", ssrc + ("" if track.rtx_ssrc is None else f", RTX {track.rtx_ssrc}")
    yield "sequence", _sequence(track.first_sequence, track.last_sequence)
    if track.direction == "out":
        refused = f", {track.resend_refused:,} refused" if track.resend_refused else ""
        yield "sent again", f"{track.resent or 0:,}{refused}"
        if track.stalls:
            yield "stalled", f"{track.stalls} times running: its connection had no room"
    else:
        yield "came", f"{track.packets or 0:,}, and {track.recovered or 0:,} late or when asked for"
        yield "lost", f"{track.lost or 0:,}, and {track.missing or 0:,} being asked for"
        yield "jitter", _ms(track.jitter_ms)


def _sequence(first: int | None, last: int | None) -> str:
    """Extended numbers; in brackets the last as it is on the wire."""
    if last is None:
        return "-" if first is None else f"from {first}"
    begun = "" if first is None else f"{first} .. "
    return f"{begun}{last} ({last & 0xFFFF} on the wire)"


def _of_a_source(rtcp: "RtcpInside") -> Rows:
    yield "round trip", _ms(rtcp.rtt_ms)
    yield "asked it for", f"{rtcp.nacks:,} packets again (NACK), {rtcp.plis:,} key frames (PLI)"


def _of_a_viewer(rtcp: "RtcpInside") -> Rows:
    from console.core.units import show_bitrate, show_duration

    last = rtcp.last_report
    if last is not None:
        yield "last report", f"{show_duration(last.age_s)} ago, of SSRC {last.ssrc}"
        lost = f"fraction lost {_share(last.fraction_lost)}, lost {last.lost:,}"
        yield "", f"{lost}, highest {last.highest_sequence}"
        sender = _last_sr(last.last_sr, last.delay_since_last_sr_ms)
        yield "", f"jitter {_ms(last.jitter_ms)}, last SR {sender}"
    else:
        yield "last report", "none"
    yield "loss", _share(rtcp.loss)
    yield "round trip", _ms(rtcp.rtt_ms)
    yield "jitter", _ms(rtcp.jitter_ms)
    yield "REMB", show_bitrate(rtcp.remb_bps)
    yield "can take", show_bitrate(rtcp.estimate_bps)
    yield "asked for", f"{rtcp.nacks:,} packets again (NACK), {rtcp.plis:,} key frames (PLI)"
    yield "RRTR", f"{rtcp.reference_times:,} answered"


def _last_sr(middle: int, delay_ms: float) -> str:
    return "none" if middle == 0 else f"{middle:08x}, {_ms(delay_ms)} before"


def _short(session: str) -> str:
    """The manager takes it for the whole; a relay's receiving end keeps its mark."""
    return session[:SHORT] + (".in" if session.endswith(".in") else "")


def _at(address: str | None, transport: str | None) -> str:
    return "-" if address is None else f"{address} {(transport or '')[:3]}".rstrip()


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _bytes(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} bytes"
