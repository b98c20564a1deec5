"""What we answer to an SDP offer, what we offer to an origin, and what was agreed.

A publisher (WHIP) and a viewer (WHEP, or an edge relaying) offer; we answer as ICE-lite, `setup:passive`,
one BUNDLE over rtcp-mux, our host candidates in every accepted section: UDP, then passive TCP. Payload types
and extension ids are the offerer's: an answer cannot dictate them (a browser counts such packets and decodes
none). An edge that relays offers itself (`make_relay_offer`), controls ICE and is the DTLS client.

Every function raises NegotiationError (status, code, detail) and nothing else.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, NoReturn

from media.core import description
from media.core.codecs import H264, VIDEO_CODECS, VP8, VideoCodec, video_codec
from media.core.description import (
    Candidate,
    Codec,
    Description,
    Fingerprint,
    IceCredentials,
    Own,
    Section,
    Shape,
)
from media.core.dtls import usable
from media.core.errors import NegotiationError

__all__ = [
    "Agreed",
    "AgreedTrack",
    "Candidate",
    "Codec",
    "Description",
    "Fingerprint",
    "Fragment",
    "IceCredentials",
    "LocalDescription",
    "RemoteTransport",
    "Section",
    "StreamDescription",
    "accept_answer",
    "answer_publisher",
    "answer_viewer",
    "make_relay_offer",
    "new_credentials",
    "parse_answer",
    "parse_fragment",
    "parse_offer",
    "restart_fragment",
]

Offer = Description
Answer = Description

PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
#: payload types of our own offers
H264_PT: Final = 102
H264_RTX_PT: Final = 103
VP8_PT: Final = 96
VP8_RTX_PT: Final = 97
AUDIO_PT: Final = 111
#: feedback we act on; never transport-cc, whose numbering belongs to one connection
FEEDBACK: Final = ("nack", "nack pli", "ccm fir", "goog-remb")
#: and of who watches: a browser asks by it whether its reference times are answered (RFC 3611 section 4.4)
_VIEWER_FEEDBACK: Final = (*FEEDBACK, "rrtr")
_OUR_H264: Final = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
_OUR_OPUS: Final = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"
_OUR_VIDEO: Final = ((H264, H264_PT, H264_RTX_PT, _OUR_H264), (VP8, VP8_PT, VP8_RTX_PT, ""))
#: what each of our payload types is
_OURS: Final = {payload_type: codec.name.lower() for codec, payload_type, _, _ in _OUR_VIDEO} | {
    AUDIO_PT: "opus"
}
_PUBLISHER_EXTENSIONS: Final = ("urn:ietf:params:rtp-hdrext:sdes:mid",)
#: RFC 6544 section 4.2: below every UDP type that we may meet, and the preference of a passive host candidate
_TYPE_TCP_HOST: Final = 90
_DIRECTION_PASSIVE: Final = 4


@dataclass(frozen=True, slots=True)
class LocalDescription:
    """Our side of one session."""

    credentials: IceCredentials
    fingerprint: str  # Certificate.fingerprint, "AB:CD:.."
    addresses: Sequence[tuple[str, int]]  # announced (IP address, UDP port), best first
    session_id: int = 1  # the number in the o= line; 63 random bits are usual
    tcp_ports: Sequence[int] = ()  # of every address: where TCP connections are taken (RFC 6544)


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """What a viewer is sent: the SSRCs it will see, and the names that tie sound to picture."""

    video_ssrc: int
    video_rtx_ssrc: int
    audio_ssrc: int
    cname: str
    msid: str  # media stream id, a token


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """How the peer is reached and known."""

    credentials: IceCredentials
    fingerprints: tuple[Fingerprint, ...]
    setup: str  # actpass, active, passive
    ice_lite: bool
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class AgreedTrack:
    """One m= section both sides use."""

    kind: Literal["video", "audio"]
    mid: str
    payload_type: int
    rtx_payload_type: int | None  # None: retransmit on the primary SSRC, or not at all
    clock_rate: int
    channels: int
    fmtp: str
    feedback: tuple[str, ...]  # agreed rtcp-fb values: "nack", "nack pli", "ccm fir", "goog-remb"
    extensions: tuple[tuple[int, str], ...]  # agreed header extensions (none toward viewers)
    remote_ssrc: int | None  # where the peer names the SSRC it sends with
    remote_rtx_ssrc: int | None
    codec: VideoCodec | None  # None: Opus


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an offer and an answer came to."""

    answer: str  # the SDP text to send; the text that came, where we were the offerer
    remote: RemoteTransport
    dtls_role: Literal["server", "client"]
    video: AgreedTrack | None
    audio: AgreedTrack | None
    simulcast_refused: bool = False  # the publisher wanted layers: one was accepted
    rtcp_rsize: bool = False


@dataclass(frozen=True, slots=True)
class Fragment:
    """A trickle fragment (RFC 8840), the body of a WHIP or WHEP PATCH."""

    credentials: IceCredentials | None
    candidates: tuple[Candidate, ...]


def new_credentials(random: Callable[[int], bytes]) -> IceCredentials:
    """Fresh ICE credentials: 48 bits of ufrag, 144 of password, from `random(n) -> n bytes`."""
    # base64 with "+" and "/" is exactly the alphabet of ice-char (RFC 8839 section 5.4)
    return IceCredentials(b64encode(random(6)).decode(), b64encode(random(18)).decode())


def parse_offer(text: str | bytes) -> Offer:
    """Read an offer. Refuses (413) more than 64 KiB before reading it, (400) what is not SDP."""
    return description.parse(text)


def parse_answer(text: str | bytes) -> Answer:
    """Read an answer to an offer of ours; the same rules as `parse_offer`."""
    return description.parse(text)


def parse_fragment(text: str | bytes) -> Fragment:
    """Read an `application/trickle-ice-sdpfrag` body."""
    return Fragment(*description.parse_fragment(text))


def restart_fragment(answer: str, local: LocalDescription) -> str:
    """Our side of an ICE restart, `application/trickle-ice-sdpfrag` (RFC 9725 section 4.3.3).

    `answer` is what was answered to the offer: like it, this is of a lite agent, and it speaks of the section
    that the BUNDLE group's transport belongs to (RFC 8840 section 4.4). `local` has the new credentials.
    """
    first = next(section for section in parse_answer(answer).sections if section.port)
    lines = _transport_lines(first.kind, first.mid, " ".join(first.formats), local, first.setup)
    kept = ("m=", "a=mid:", "a=ice-", "a=candidate:", "a=end-of-candidates")
    return "\r\n".join(["a=ice-lite", *(line for line in lines if line.startswith(kept))]) + "\r\n"


def answer_publisher(offer: Offer, local: LocalDescription) -> Agreed:
    """Accept one video and one Opus track the publisher sends; `agreed.answer` is the text.

    The video is H.264 where it is offered, whatever stands first, else VP8 (docs/decisions/0012). One track
    is enough, but a video section with neither codec is refused rather than left dark. 406 too when the
    transport is not UDP/TLS/RTP/SAVPF or SDES keys are offered. Simulcast is accepted as its first layer.
    """
    return _answer(offer, local, None, None)


def answer_viewer(
    offer: Offer, local: LocalDescription, stream: StreamDescription, codec: VideoCodec | None = None
) -> Agreed:
    """Send the stream's video and audio on the viewer's first usable sections.

    `codec` is the one on air; None when that is not known, then H.264 is taken where it is offered, else VP8.
    A viewer that asks for sound only gets that; 406 when it asks for video but cannot receive the codec
    (H.264: with packetization-mode=1).
    """
    return _answer(offer, local, stream, codec)


def make_relay_offer(local: LocalDescription) -> str:
    """The offer of an edge that wants a live stream: H.264 or VP8 (with RTX) and Opus; it controls ICE."""
    lines = _session_lines(local, ["0", "1"], ice_lite=False)
    for kind, mid in (("video", "0"), ("audio", "1")):
        video = " ".join(f"{payload_type} {rtx}" for _, payload_type, rtx, _ in _OUR_VIDEO)
        formats = video if kind == "video" else str(AUDIO_PT)
        lines += _transport_lines(kind, mid, formats, local, "actpass")
        lines += ["a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"]
        if kind == "video":
            for codec, payload_type, rtx, fmtp in _OUR_VIDEO:
                lines.append(f"a=rtpmap:{payload_type} {codec.name}/90000")
                lines += [f"a=fmtp:{payload_type} {fmtp}"] if fmtp else []
                lines += [f"a=rtcp-fb:{payload_type} {value}" for value in FEEDBACK]
                lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={payload_type}"]
        else:
            lines += [f"a=rtpmap:{AUDIO_PT} opus/48000/2", f"a=fmtp:{AUDIO_PT} {_OUR_OPUS}"]
    return "\r\n".join(lines) + "\r\n"


def accept_answer(answer: Answer) -> Agreed:
    """What an origin's answer to `make_relay_offer` agreed on; `dtls_role` says ours ("client")."""
    _refuse_unsafe(answer.shape)
    accepted = [(index, section) for index, section in enumerate(answer.shape.sections) if section.port]
    tracks: dict[str, AgreedTrack] = {}
    for index, section in accepted:
        if section.kind not in ("video", "audio") or section.direction not in ("sendonly", "sendrecv"):
            continue
        # An answerer may list both codecs; what stands first is what it sends (RFC 3264 section 6.1).
        codec = next((codec for codec in section.codecs if _OURS.get(codec.payload_type) == codec.name), None)
        if codec is not None:
            track = _track(section, codec, ())
            tracks[section.kind] = _with_ssrcs(track, section, answer.own[index])
    if not tracks:
        _refuse("no_common_codec", "The answer accepts neither the video nor the audio that was asked for.")
    remote = _remote_transport(answer, accepted[0][0])
    return Agreed(
        answer="",
        remote=remote,
        dtls_role="server" if remote.setup == "active" else "client",
        video=tracks.get("video"),
        audio=tracks.get("audio"),
        rtcp_rsize=all(section.rtcp_rsize for _, section in accepted),
    )


def _refuse(code: str, detail: str, status: int = 406) -> NoReturn:
    raise NegotiationError(status, code, detail)


def _refuse_unsafe(offer: Shape) -> None:
    """Media is encrypted with keys from DTLS, or there is none (RFC 8827 section 6.5)."""
    if offer.crypto:
        _refuse("sdes_refused", "SDES keys (a=crypto) are not accepted; offer DTLS-SRTP (a=fingerprint).")
    for section in offer.sections:
        if section.kind in ("audio", "video") and section.protocol != PROTOCOL:
            _refuse(
                "transport_refused",
                f"The {section.kind} section offers {section.protocol[:40]}; only {PROTOCOL} is accepted.",
            )


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A section that we accept."""

    index: int  # its place in the offer
    track: AgreedTrack  # without the SSRCs the peer names
    formats: str
    lines: str  # of the answer, behind those of the transport


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that an answer says to an offer of one shape, whoever's it is."""

    parts: tuple[_Accepted | str, ...]  # a section of the answer each; those that are refused as they are
    accepted: tuple[_Accepted, ...]
    bundle: tuple[str, ...]
    rtcp_rsize: bool


def _answer(
    offer: Offer, local: LocalDescription, stream: StreamDescription | None, on_air: VideoCodec | None
) -> Agreed:
    sending = stream is not None
    key = ("answer", on_air, sending)
    plan = offer.shape.decided.get(key)
    if plan is None:
        plan = offer.shape.decided[key] = _plan(offer.shape, on_air, sending)
    remote = _remote_transport(offer, plan.accepted[0].index)
    passive = remote.setup != "passive"
    setup = "passive" if passive else "active"
    lines = _session_lines(local, plan.bundle, ice_lite=True)
    tracks: dict[str, AgreedTrack] = {}
    for part in plan.parts:
        if isinstance(part, str):
            lines.append(part)
            continue
        track = part.track
        lines += _transport_lines(track.kind, track.mid, part.formats, local, setup)
        lines.append(part.lines)
        if stream is not None:
            lines += _stream_lines(track, stream)
        tracks[track.kind] = _with_ssrcs(track, offer.shape.sections[part.index], offer.own[part.index])
    return Agreed(
        answer="\r\n".join(lines) + "\r\n",
        remote=remote,
        dtls_role="server" if passive else "client",
        video=tracks.get("video"),
        audio=tracks.get("audio"),
        simulcast_refused=any(_is_simulcast(offer.shape.sections[part.index]) for part in plan.accepted),
        rtcp_rsize=plan.rtcp_rsize,
    )


def _plan(offer: Shape, on_air: VideoCodec | None, sending: bool) -> _Plan:
    _refuse_unsafe(offer)
    chosen = _choose(offer, on_air, sending=sending)
    accepted = [offer.sections[index] for index in chosen]
    if len(accepted) > 1 and not all(section.mid in offer.bundle for section in accepted):
        _refuse("bundle_required", "Audio and video must share one transport: offer a=group:BUNDLE.")
    if not all(section.rtcp_mux for section in accepted):
        _refuse("rtcp_mux_required", "RTP and RTCP must share one port: offer a=rtcp-mux.")
    parts: list[_Accepted | str] = []
    for index, section in enumerate(offer.sections):
        codec = chosen.get(index)
        if codec is None:
            lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats) or '0'}"]
            lines += ["c=IN IP4 0.0.0.0", "a=inactive"]
            lines += [f"a=mid:{section.mid}"] if section.mid else []
            parts.append("\r\n".join(lines))
            continue
        if sending:
            track = _track(section, codec, (), _VIEWER_FEEDBACK)
        else:
            track = _track(section, codec, _PUBLISHER_EXTENSIONS)
        formats = [str(each) for each in (track.payload_type, track.rtx_payload_type) if each is not None]
        lines = _section_lines(section, track, sending)
        parts.append(_Accepted(index, track, " ".join(formats), "\r\n".join(lines)))
    return _Plan(
        parts=tuple(parts),
        accepted=tuple(part for part in parts if isinstance(part, _Accepted)),
        bundle=tuple(section.mid for section in accepted) if offer.bundle else (),
        rtcp_rsize=all(section.rtcp_rsize for section in accepted),
    )


def _choose(offer: Shape, on_air: VideoCodec | None, *, sending: bool) -> dict[int, Codec]:
    """The codec taken for each section we accept, by its place: the first usable section of each kind."""
    theirs = ("recvonly", "sendrecv") if sending else ("sendonly", "sendrecv")
    chosen: dict[int, Codec] = {}
    taken: set[str] = set()
    missing: set[str] = set()
    for index, section in enumerate(offer.sections):
        if section.kind not in ("video", "audio") or section.kind in taken:
            continue
        if section.direction not in theirs or (section.port == 0 and not section.bundle_only):
            continue
        codec = _video(section, on_air, sending) if section.kind == "video" else _opus(section)
        if codec is None:
            missing.add(section.kind)
            continue
        taken.add(section.kind)
        chosen[index] = codec
    if "video" in missing - taken:
        _refuse("no_common_codec", _no_video(on_air))
    if not chosen:
        what = "receives" if sending else "sends"
        _refuse(
            "no_common_codec", f"No section {what} H.264 or VP8 video or Opus audio, the codecs used here."
        )
    return chosen


def _no_video(on_air: VideoCodec | None) -> str:
    """Why a video section is of no use, and what to do."""
    if on_air is None:
        return (
            "The video section has neither H.264 with packetization-mode=1 nor VP8, the codecs used here: "
            "offer one of them."
        )
    mode = " with packetization-mode=1" if on_air is H264 else ""
    return (
        f"This broadcast is {on_air.spoken} and the video section has no {on_air.spoken}{mode}: offer it, or "
        "watch with a browser that has it."
    )


def _video(section: Section, on_air: VideoCodec | None, sending: bool) -> Codec | None:
    """The payload type for what is on air, or for the first of our codecs that is offered."""
    for codec in VIDEO_CODECS if on_air is None else (on_air,):
        found = _best_h264(section, sending) if codec is H264 else _first(section, codec)
        if found is not None:
            return found
    return None


def _first(section: Section, wanted: VideoCodec) -> Codec | None:
    name = wanted.name.lower()
    return next((codec for codec in section.codecs if (codec.name, codec.clock_rate) == (name, 90000)), None)


def _best_h264(section: Section, sending: bool) -> Codec | None:
    """Constrained baseline first, which every browser decodes; then baseline, main, high."""

    def rank(codec: Codec) -> int:
        profile = codec.parameters.get("profile-level-id", "42e01f").lower()
        for place, start in enumerate(("42e0", "42c0", "4200", "4d", "64")):
            if profile.startswith(start):
                return place
        return 9

    usable = [codec for codec in section.codecs if codec.name == "h264" and codec.clock_rate == 90000]
    fragmenting = [codec for codec in usable if codec.parameters.get("packetization-mode") == "1"]
    # What a publisher sends in mode 0 is valid in mode 1 as well; toward viewers we send FU-A.
    return min(fragmenting or ([] if sending else usable), key=rank, default=None)


def _opus(section: Section) -> Codec | None:
    return next(
        (codec for codec in section.codecs if codec.name == "opus" and codec.clock_rate == 48000), None
    )


def _track(
    section: Section, codec: Codec, extensions: tuple[str, ...], feedback: tuple[str, ...] = FEEDBACK
) -> AgreedTrack:
    rtx = next(
        (
            other.payload_type
            for other in section.codecs
            if other.name == "rtx" and other.parameters.get("apt") == str(codec.payload_type)
        ),
        None,
    )
    return AgreedTrack(
        kind="video" if section.kind == "video" else "audio",
        mid=section.mid,
        payload_type=codec.payload_type,
        rtx_payload_type=rtx,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=_fmtp(codec),
        feedback=tuple(value for value in codec.feedback if value in feedback),
        extensions=tuple(item for item in section.extensions if item[1] in extensions),
        remote_ssrc=None,
        remote_rtx_ssrc=None,
        codec=video_codec(codec.name) if section.kind == "video" else None,
    )


def _with_ssrcs(track: AgreedTrack, section: Section, own: Own) -> AgreedTrack:
    """The track with the SSRCs its section names."""
    if not own.ssrcs and not section.ssrc_groups:
        return track
    ssrc = own.ssrcs[0] if own.ssrcs else None
    rtx_ssrc = None
    for semantics, ssrcs in section.ssrc_groups:
        if semantics == "SIM":
            ssrc = ssrcs[0]
    for semantics, ssrcs in section.ssrc_groups:
        if semantics == "FID" and len(ssrcs) == 2 and ssrcs[0] == ssrc:
            rtx_ssrc = ssrcs[1]
    return replace(track, remote_ssrc=ssrc, remote_rtx_ssrc=rtx_ssrc)


def _fmtp(codec: Codec) -> str:
    """The fmtp we answer. H.264: the offer's own profile, level and mode (RFC 6184 section 8.2.2).

    VP8 has two limits of what one can receive (RFC 7741 section 6.1); we forward, and state none.
    """
    if codec.name == "opus":
        return _OUR_OPUS
    if codec.name == "vp8":
        return ""
    kept = ("level-asymmetry-allowed", "packetization-mode", "profile-level-id")
    return ";".join(f"{key}={codec.parameters[key]}" for key in kept if key in codec.parameters)


def _is_simulcast(section: Section) -> bool:
    return section.simulcast or bool(section.rids) or any(kind == "SIM" for kind, _ in section.ssrc_groups)


def _remote_transport(offer: Description, index: int) -> RemoteTransport:
    """By the section with this number."""
    own, setup = offer.own[index], offer.shape.sections[index].setup
    if own.credentials is None:
        _refuse("bad_sdp", "The SDP has no a=ice-ufrag and a=ice-pwd.", 400)
    if not usable(own.fingerprints):
        _refuse("no_fingerprint", "The SDP has no a=fingerprint with SHA-256, SHA-384 or SHA-512.")
    return RemoteTransport(
        own.credentials, own.fingerprints, setup or "actpass", offer.shape.ice_lite, own.candidates
    )


def _session_lines(local: LocalDescription, bundle: Sequence[str], *, ice_lite: bool) -> list[str]:
    lines = ["v=0", f"o=- {local.session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines += [f"a=group:BUNDLE {' '.join(bundle)}"] if bundle else []
    return lines + (["a=ice-lite"] if ice_lite else [])


def _transport_lines(kind: str, mid: str, formats: str, local: LocalDescription, setup: str) -> list[str]:
    """m= and c= with the default candidate, ICE, DTLS and candidates.

    Every section repeats the candidates although those of the first would do in a BUNDLE: browsers pass the
    repetition over, while aiortc with `max-bundle` believes only the last section.
    """
    address, port = local.addresses[0] if local.addresses else ("0.0.0.0", 9)
    lines = [f"m={kind} {port} {PROTOCOL} {formats}", f"c=IN {'IP6' if ':' in address else 'IP4'} {address}"]
    lines += [f"a=mid:{mid}"] if mid else []
    lines += [
        f"a=ice-ufrag:{local.credentials.ufrag}",
        f"a=ice-pwd:{local.credentials.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{setup}",
    ]
    return [*lines, *_candidates(tuple(local.addresses), tuple(local.tcp_ports)), "a=end-of-candidates"]


@lru_cache(maxsize=64)
def _candidates(addresses: tuple[tuple[str, int], ...], tcp_ports: tuple[int, ...]) -> tuple[str, ...]:
    """The lines of our host candidates, the same for every session of a worker.

    Passive ones of TCP are all below those of UDP (RFC 6544 section 4.2).
    """
    lines = []
    for index, (host, port) in enumerate(addresses):
        priority = 126 << 24 | (65535 - index) << 8 | 255  # RFC 8445 section 5.1.2.1: host
        lines.append(f"a=candidate:{index + 1} 1 udp {priority} {host} {port} typ host")
    hosts = dict.fromkeys(host for host, _ in addresses)
    for index, (host, port) in enumerate((host, port) for host in hosts for port in tcp_ports):
        preference = _DIRECTION_PASSIVE << 13 | (8191 - index)
        priority = _TYPE_TCP_HOST << 24 | preference << 8 | 255
        foundation = len(addresses) + 1 + index
        lines.append(f"a=candidate:{foundation} 1 tcp {priority} {host} {port} typ host tcptype passive")
    return tuple(lines)


def _section_lines(section: Section, track: AgreedTrack, sending: bool) -> list[str]:
    """An accepted section of an answer, behind the lines of the transport."""
    payload_type, rtx = track.payload_type, track.rtx_payload_type
    lines = ["a=sendonly" if sending else "a=recvonly", "a=rtcp-mux"]
    lines += ["a=rtcp-rsize"] if section.rtcp_rsize else []
    lines += [f"a=extmap:{ident} {uri}" for ident, uri in track.extensions]
    name = f"opus/{track.clock_rate}/2" if track.codec is None else f"{track.codec.name}/{track.clock_rate}"
    lines.append(f"a=rtpmap:{payload_type} {name}")
    lines += [f"a=fmtp:{payload_type} {track.fmtp}"] if track.fmtp else []
    lines += [f"a=rtcp-fb:{payload_type} {value}" for value in track.feedback]
    if rtx is not None:
        lines += [f"a=rtpmap:{rtx} rtx/{track.clock_rate}", f"a=fmtp:{rtx} apt={payload_type}"]
    return lines


def _stream_lines(track: AgreedTrack, stream: StreamDescription) -> list[str]:
    """What a section says of the stream that is sent on it."""
    # RFC 3611: with it a browser's RRTR is answered, and it can tell glass-to-glass latency.
    lines = ["a=rtcp-xr:rcvr-rtt=all", f"a=msid:{stream.msid} {stream.msid}-{track.kind}"]
    if track.kind == "audio":
        return [*lines, f"a=ssrc:{stream.audio_ssrc} cname:{stream.cname}"]
    with_rtx = track.rtx_payload_type is not None
    if with_rtx:
        lines.append(f"a=ssrc-group:FID {stream.video_ssrc} {stream.video_rtx_ssrc}")
    # The primary SSRC comes before that of RTX, or Chromium shows no video at all.
    lines.append(f"a=ssrc:{stream.video_ssrc} cname:{stream.cname}")
    if with_rtx:
        lines.append(f"a=ssrc:{stream.video_rtx_ssrc} cname:{stream.cname}")
    return lines
