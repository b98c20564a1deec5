"""The grammar of SDP (RFC 8866) as WebRTC uses it: text in, frozen dataclasses out. No decisions here.

`media.core.sdp` decides what to answer. Everything a peer can get wrong is a NegotiationError (400, or 413
when it is too long); unknown attributes are ignored, as RFC 8866 asks.

Those of a crowd that joins offer one and the same text, but for the lines that are of one session: its ICE
credentials, fingerprint, candidates, ports and SSRCs. What the others say is a **shape**, and is kept for the
next description that has it (docs/decisions/0024); what is of one session is read each time.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from media.core.errors import NegotiationError

MAX_SDP: Final = 64 * 1024  # bytes
MAX_SECTIONS: Final = 64
#: lines of one session: attributes (those of `_OWN_ATTRIBUTES`), media (for its port), and those that nothing
#: is taken from: the o= line, and where it would be reached without ICE
_OWN_LINE: Final = re.compile(
    r"\n(?:a=(ice-ufrag|ice-pwd|fingerprint|candidate|rtcp|ssrc)(?![^:\n]):?([^\n]*)|m=([^\n]*)|[oc]=[^\n]*)"
)
_ANY_PORT: Final = 9
#: of a shape that is kept, characters (a browser's has 2 to 6 thousand), and how many there are at most
MAX_SHAPE: Final = 16 * 1024
SHAPES: Final = 32
_DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """A username fragment and password (RFC 8839 section 5.4)."""

    ufrag: str
    password: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    algorithm: str  # "sha-256", lower case
    value: str  # "AB:CD:..", upper case


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate line, UDP only; others are not kept."""

    foundation: str
    component: int
    priority: int
    address: str
    port: int
    kind: str  # host, srflx, prflx, relay


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of a section, with its fmtp and rtcp-fb lines."""

    payload_type: int
    name: str  # lower case: "h264", "opus", "rtx"
    clock_rate: int
    channels: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)  # keys in lower case
    feedback: tuple[str, ...] = ()  # "nack", "nack pli", "goog-remb"
    fmtp: str = ""  # the line as it came


@dataclass(frozen=True, slots=True)
class Section:
    """One m= section."""

    kind: str  # "audio", "video", "application"
    port: int
    protocol: str  # "UDP/TLS/RTP/SAVPF"
    mid: str
    direction: str = "sendrecv"
    formats: tuple[str, ...] = ()
    codecs: tuple[Codec, ...] = ()
    extensions: tuple[tuple[int, str], ...] = ()  # (id, uri)
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    crypto: bool = False  # an a=crypto line (SDES) was there
    ssrcs: tuple[int, ...] = ()  # in order of first mention
    ssrc_groups: tuple[tuple[str, tuple[int, ...]], ...] = ()  # ("FID", (primary, rtx))
    msid: str = ""
    rids: tuple[str, ...] = ()
    simulcast: bool = False
    credentials: IceCredentials | None = None
    fingerprints: tuple[Fingerprint, ...] = ()
    setup: str = ""
    candidates: tuple[Candidate, ...] = ()
    bundle_only: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """What the lines say that are of no one session."""

    sections: tuple[Section, ...]  # without what is of one session
    bundle: tuple[str, ...]  # mids of the BUNDLE group
    ice_lite: bool
    crypto: bool  # an a=crypto line (SDES) is somewhere in it
    decided: dict[Hashable, Any] = field(
        default_factory=dict, compare=False
    )  # of it, by whoever reads it; a few


@dataclass(frozen=True, slots=True)
class Own:
    """What a section says that is of one session; fields as in Section."""

    port: int
    ssrcs: tuple[int, ...]
    credentials: IceCredentials | None
    fingerprints: tuple[Fingerprint, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Description:
    """A whole session description. Session-level ICE and DTLS attributes are already in each section."""

    shape: Shape
    own: tuple[Own, ...]  # what each of its sections has

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Each with all that is said of it. To make them takes longer than to read the description."""
        return tuple(
            replace(
                section,
                port=own.port,
                ssrcs=own.ssrcs,
                credentials=own.credentials,
                fingerprints=own.fingerprints,
                candidates=own.candidates,
            )
            for section, own in zip(self.shape.sections, self.own, strict=True)
        )


def parse(text: str | bytes) -> Description:
    """Read a session description; raises NegotiationError (413 before reading when too long, else 400)."""
    text = _read(text).replace("\r\n", "\n")
    if "\r" in text or not text.startswith("v=0\n"):
        text = "\n".join(_lines(text))
        if text != "v=0" and not text.startswith("v=0\n"):
            _bad("it does not begin with v=0")
    reader = _Reader()
    key = _OWN_LINE.sub(reader.take, text)
    shape = _kept_shape(key) if len(key) <= MAX_SHAPE else _shape(key)
    return Description(shape, reader.own())


def _shape(shared: str) -> Shape:
    """Read the lines that are of no one session; raises NegotiationError."""
    session = _Draft()
    drafts: list[_Draft] = []
    bundle: tuple[str, ...] = ()
    ice_lite = False
    for line in shared.split("\n")[1:]:
        if not line or line.isspace():
            continue
        if len(line) < 2 or line[1] != "=":
            _bad(f"line {line[:40]!r} is not of the form x=value")
        kind, value = line[0], line[2:]
        if kind == "m":
            drafts.append(_Draft(value))
        elif kind == "a":
            name, _, argument = value.partition(":")
            if drafts:
                drafts[-1].attribute(name, argument)
            elif name == "group" and argument.startswith("BUNDLE"):
                bundle = bundle or tuple(argument.split()[1:])
            elif name == "ice-lite":
                ice_lite = True
            else:
                session.attribute(name, argument)
    if not drafts:
        _bad("it has no media section")
    sections = tuple(draft.section(session) for draft in drafts)
    mids = [section.mid for section in sections if section.mid]
    if len(set(mids)) != len(mids):
        _bad("two media sections have the same mid")
    crypto = session.crypto or any(section.crypto for section in sections)
    return Shape(sections, bundle, ice_lite, crypto)


_kept_shape = lru_cache(maxsize=SHAPES)(_shape)


def parse_fragment(text: str | bytes) -> tuple[IceCredentials | None, tuple[Candidate, ...]]:
    """ICE credentials and candidates of a trickle fragment (RFC 8840); raises NegotiationError."""
    own = _OwnLines()
    for line in _lines(_read(text)):
        if line.startswith("a="):
            name, _, argument = line[2:].partition(":")
            if name in ("candidate", "ice-ufrag", "ice-pwd"):
                own.attribute(name, argument)
        elif len(line) < 2 or line[1] != "=":
            _bad(f"line {line[:40]!r} is not of the form x=value")
    return own.credentials(), tuple(own.candidates)


def _read(text: str | bytes) -> str:
    if len(text) > MAX_SDP:
        raise NegotiationError(
            413, "sdp_too_large", f"The SDP is over {MAX_SDP} bytes; send fewer candidates."
        )
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            _bad("it is not UTF-8 text")
    if "\x00" in text:
        _bad("it holds a null character")
    return text


def _lines(text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if any("\r" in line for line in lines):
        _bad("it holds a carriage return inside a line")  # or it would come out in an answer of ours
    return lines


def _bad(why: str) -> NoReturn:
    raise NegotiationError(400, "bad_sdp", f"The body is not a usable SDP: {why}.")


def _number(text: str, highest: int) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value <= highest else None


def _parse_parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(";"):
        key, _, value = part.strip().partition("=")
        if key:
            found[key.strip().lower()] = value.strip()
    return found


def parse_candidate(text: str) -> Candidate | None:
    """A candidate attribute's value; None for what we cannot use (TCP, a name instead of an address)."""
    parts = text.split()
    if len(parts) < 8 or parts[2].lower() != "udp" or parts[6] != "typ":
        return None
    component, priority = _number(parts[1], 256), _number(parts[3], 0xFFFFFFFF)
    port = _number(parts[5], 65535)
    if not component or priority is None or not port:
        return None
    address = _spelled(parts[4])
    return None if address is None else Candidate(parts[0], component, priority, address, port, parts[7])


@lru_cache(maxsize=256)
def _spelled(address: str) -> str | None:
    """An IP address as it is usually written; None when it is none. Each section repeats the same ones."""
    try:
        return str(ip_address(address))
    except ValueError:
        return None


class _OwnLines:
    """What a section (or the session level) has of one session, while its lines are read."""

    __slots__ = ("candidates", "fingerprints", "password", "port", "ssrcs", "ufrag")

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.ufrag = self.password = ""
        self.fingerprints: list[Fingerprint] = []
        self.candidates: list[Candidate] = []
        self.ssrcs: dict[int, None] = {}

    def attribute(self, name: str, value: str) -> None:
        _OWN_ATTRIBUTES[name](self, value.strip())

    def credentials(self) -> IceCredentials | None:
        return IceCredentials(self.ufrag, self.password) if self.ufrag and self.password else None

    def on_ice_ufrag(self, value: str) -> None:
        if not 4 <= len(value) <= 256 or ":" in value or len(value.split()) != 1:
            _bad("its ice-ufrag is not 4 to 256 ICE characters")
        self.ufrag = value

    def on_ice_pwd(self, value: str) -> None:
        if not 22 <= len(value) <= 256 or len(value.split()) != 1:
            _bad("its ice-pwd is not 22 to 256 ICE characters")
        self.password = value

    def on_fingerprint(self, value: str) -> None:
        algorithm, _, digest = value.partition(" ")
        self.fingerprints.append(Fingerprint(algorithm.lower(), digest.strip().upper()))

    def on_candidate(self, value: str) -> None:
        candidate = parse_candidate(value)
        if candidate is not None:
            self.candidates.append(candidate)

    def on_rtcp(self, value: str) -> None:
        """Where RTCP would be sent without rtcp-mux (RFC 3605)."""

    def on_ssrc(self, value: str) -> None:
        ssrc = _number(value.partition(" ")[0], 0xFFFFFFFF)
        if ssrc is not None:
            self.ssrcs[ssrc] = None


_OWN_ATTRIBUTES: Final = {
    "ice-ufrag": _OwnLines.on_ice_ufrag,
    "ice-pwd": _OwnLines.on_ice_pwd,
    "fingerprint": _OwnLines.on_fingerprint,
    "candidate": _OwnLines.on_candidate,
    "rtcp": _OwnLines.on_rtcp,
    "ssrc": _OwnLines.on_ssrc,
}


class _Reader:
    """Takes the lines of one session out of a description."""

    __slots__ = ("_sections", "_session", "_under_way")

    def __init__(self) -> None:
        self._session = self._under_way = _OwnLines()
        self._sections: list[_OwnLines] = []

    def take(self, line: re.Match[str]) -> str:
        """One of _OWN_LINE; returns what it says of the shape. Raises NegotiationError."""
        name, value, media = line.groups()
        if media is not None:
            return self._begin_section(media)
        if name is not None:
            self._under_way.attribute(name, value)
        return ""

    def _begin_section(self, media: str) -> str:
        """Its m= line, with one and the same port for all that are not 0."""
        if len(self._sections) == MAX_SECTIONS:
            _bad(f"it has more than {MAX_SECTIONS} media sections")
        parts = media.split()
        port = _number(parts[1].partition("/")[0], 65535) if len(parts) > 2 else None
        if port is None:
            _bad(f"media line {media[:40]!r} has no kind, port and protocol")
        parts[1] = str(_ANY_PORT) if port else "0"
        self._under_way = _OwnLines(port)
        self._sections.append(self._under_way)
        return f"\nm={' '.join(parts)}"

    def own(self) -> tuple[Own, ...]:
        """What each section has."""
        default, fingerprints = self._session.credentials(), self._session.fingerprints
        return tuple(
            Own(
                lines.port,
                tuple(lines.ssrcs),
                lines.credentials() or default,
                tuple(lines.fingerprints or fingerprints),
                tuple(lines.candidates),
            )
            for lines in self._sections
        )


class _Draft:
    """What else a section (or the session level) has, while its lines are read."""

    def __init__(self, media: str | None = None) -> None:
        self.kind = self.protocol = self.mid = self.direction = self.msid = self.setup = ""
        self.port = 0
        self.formats: list[str] = []
        self.rtpmaps: dict[int, tuple[str, int, int]] = {}
        self.fmtps: dict[int, str] = {}
        self.feedback: dict[str, list[str]] = {}
        self.extensions: list[tuple[int, str]] = []
        self.groups: list[tuple[str, tuple[int, ...]]] = []
        self.rids: list[str] = []
        self.flags: set[str] = set()
        if media is not None:
            self.kind, port, self.protocol, *self.formats = media.split()
            self.port = int(port)

    @property
    def crypto(self) -> bool:
        return "crypto" in self.flags

    def attribute(self, name: str, value: str) -> None:
        if name in _DIRECTIONS:
            self.direction = name
            return
        handler = getattr(self, "_on_" + name.replace("-", "_"), None)
        if handler is not None:
            handler(value.strip())
        elif name in ("rtcp-mux", "rtcp-rsize", "crypto", "simulcast", "bundle-only"):
            self.flags.add(name)

    def _on_mid(self, value: str) -> None:
        if not value or len(value) > 64 or len(value.split()) != 1:
            _bad(f"mid {value[:40]!r} is not a token")
        self.mid = value

    def _on_rtpmap(self, value: str) -> None:
        number, _, encoding = value.partition(" ")
        payload_type = _number(number, 127)
        parts = encoding.strip().split("/")
        rate = _number(parts[1], 0xFFFFFFFF) if len(parts) > 1 else None
        if payload_type is None or not parts[0] or rate is None:
            _bad(f"rtpmap {value[:40]!r} is malformed")
        channels = (_number(parts[2], 255) if len(parts) > 2 else 1) or 1
        self.rtpmaps[payload_type] = (parts[0].lower(), rate, channels)

    def _on_fmtp(self, value: str) -> None:
        number, _, parameters = value.partition(" ")
        payload_type = _number(number, 127)
        if payload_type is not None:
            self.fmtps[payload_type] = parameters.strip()

    def _on_rtcp_fb(self, value: str) -> None:
        number, _, what = value.partition(" ")
        self.feedback.setdefault(number, []).append(" ".join(what.split()))

    def _on_extmap(self, value: str) -> None:
        parts = value.split()
        ident = _number(parts[0].partition("/")[0], 255) if len(parts) > 1 else None
        if ident:
            self.extensions.append((ident, parts[1]))

    def _on_ssrc_group(self, value: str) -> None:
        parts = value.split()
        ssrcs = [_number(part, 0xFFFFFFFF) for part in parts[1:]]
        known = tuple(ssrc for ssrc in ssrcs if ssrc is not None)
        if parts and len(known) == len(ssrcs) > 0:
            self.groups.append((parts[0], known))

    def _on_msid(self, value: str) -> None:
        self.msid = value

    def _on_rid(self, value: str) -> None:
        if value:
            self.rids.append(value.split()[0])

    def _on_setup(self, value: str) -> None:
        if value not in ("actpass", "active", "passive", "holdconn"):
            _bad(f"setup {value[:40]!r} is unknown")
        self.setup = value

    def section(self, session: "_Draft") -> Section:
        everywhere = self.feedback.get("*", [])
        codecs = []
        for text in dict.fromkeys(self.formats):
            payload_type = _number(text, 127)
            if payload_type is None or payload_type not in self.rtpmaps:
                continue
            name, rate, channels = self.rtpmaps[payload_type]
            fmtp = self.fmtps.get(payload_type, "")
            feedback = tuple(dict.fromkeys(self.feedback.get(text, []) + everywhere))
            codecs.append(Codec(payload_type, name, rate, channels, _parse_parameters(fmtp), feedback, fmtp))
        return Section(
            kind=self.kind,
            port=self.port,
            protocol=self.protocol,
            mid=self.mid,
            direction=self.direction or session.direction or "sendrecv",
            formats=tuple(self.formats),
            codecs=tuple(codecs),
            extensions=tuple(self.extensions),
            rtcp_mux="rtcp-mux" in self.flags,
            rtcp_rsize="rtcp-rsize" in self.flags,
            crypto=self.crypto,
            ssrc_groups=tuple(self.groups),
            msid=self.msid,
            rids=tuple(self.rids),
            simulcast="simulcast" in self.flags,
            setup=self.setup or session.setup,
            bundle_only="bundle-only" in self.flags,
        )
