"""What is inside one session, for support staff: `showcaller node inspect`.

Asked for on demand, from the command to the worker that has the session, and never pushed. Nothing in it lets
anybody into the media: no password, no key, no token; ufrags and fingerprints are said in clear on the wire
anyhow. Rates are bits per second, times seconds unless the name says otherwise, fractions 0..1.
"""

from typing import Literal

from controlplane.wire.base import Message
from controlplane.wire.nodes import SessionKind

Transport = Literal["udp4", "udp6", "tcp4", "tcp6"]


class ValidAddress(Message):
    address: str  # "ADDRESS:PORT"
    transport: Transport
    heard_age_s: float | None = None  # None: not kept, by the controlling side


class IceInside(Message):
    """RFC 8445, RFC 7675."""

    role: Literal["lite", "controlling"]  # ours
    ufrag: str
    remote_ufrag: str
    restarts: int
    restarting: bool  # new credentials were given, and no check has come with them yet
    selected: str | None = None  # where we send
    transport: Transport | None = None
    nominated: bool
    reached: bool  # something of ours is known to have arrived there
    valid: list[ValidAddress] = []
    moving_to: str | None = None  # the peer may have moved there: it is being asked
    consent_age_s: float | None = None  # since anything authentic came
    consent_left_s: float | None = None  # until the session ends, if nothing comes
    rtt_ms: float | None = None  # of the last check, where we make them


class DtlsInside(Message):
    """RFC 6347, RFC 5764."""

    state: Literal["waiting", "handshake", "done", "closed"]
    role: Literal["server", "client"]  # ours
    handshake_ms: float | None = None  # from the first address that worked
    fingerprint: str  # of our certificate, SHA-256
    peer_fingerprint: str | None = None  # "sha-256 AB:CD:..": what its SDP says
    matched: bool | None = None  # whether its certificate is of that fingerprint; None: none was shown yet
    connection: Literal["none", "held", "released"]  # OpenSSL's; a server's is given back after the handshake
    parting: bool  # the peer seems to have said good-bye


class Drops(Message):
    """Packets of the peer that were not looked at any further."""

    unauthentic: int = 0
    replayed: int = 0
    malformed: int = 0
    unvalidated: int = 0


class SrtpInside(Message):
    """RFC 3711, RFC 7714."""

    profile: str | None = None  # None: no keys yet
    tag_bytes: int | None = None  # that protecting adds to a packet
    sources: list[int] = []  # SSRCs that authentic packets of the peer have come with
    drops: Drops = Drops()
    unsent: int = 0  # packets to it that libsrtp or the kernel did not take


class RtpInside(Message):
    """One track, sound or picture, one way."""

    media: Literal["video", "audio"]
    direction: Literal["in", "out"]
    codec: str | None = None
    payload_type: int
    rtx_payload_type: int | None = None
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    state: str  # out: waiting, catching up, live; in: waiting, live, stalled
    first_sequence: int | None = None  # extended: the first that this viewer was sent
    last_sequence: int | None = None  # extended: the last that was sent, or came
    packets: int | None = None  # in: that came
    lost: int | None = None  # in: that never came
    recovered: int | None = None  # in: that came late, or when asked for
    missing: int | None = None  # in: that are being asked for now
    jitter_ms: float | None = None  # in
    resent: int | None = None  # out: packets, when asked for
    resend_refused: int | None = None  # out: beyond the viewer's budget
    stalls: int | None = None  # out: times running that its TCP connection had no room


class ReceiverReport(Message):
    """The last one of a viewer (RFC 3550 section 6.4.1)."""

    ssrc: int
    age_s: float
    fraction_lost: float
    lost: int
    highest_sequence: int
    jitter_ms: float
    last_sr: int  # middle of our sender report's NTP time; 0: none had come
    delay_since_last_sr_ms: float


class RtcpInside(Message):
    last_report: ReceiverReport | None = None
    rtt_ms: float | None = None
    loss: float | None = None
    jitter_ms: float | None = None
    remb_bps: float | None = None  # while it is fresh
    estimate_bps: float | None = None
    nacks: int = 0  # packets that it asked for again; that we asked a source for
    plis: int = 0  # key frames, likewise
    reference_times: int = 0  # of its own that were answered (RRTR, DLRR)


class SessionInside(Message):
    """`GET /api/v1/sessions/{id}` and `GET /api/v1/nodes/{node}/sessions/{id}` (operator)."""

    id: str
    kind: SessionKind
    channel: str
    node: str = ""  # as the manager calls it
    worker: int = 0
    state: Literal["new", "connecting", "connected", "closed"]
    age_s: float
    connected_s: float | None = None  # for how long
    packets_out: int = 0
    bytes_out: int = 0  # of media, protected
    bytes_in: int = 0  # of media, in clear
    bitrate_bps: float | None = None  # of media, mean since it connected
    ice: IceInside
    dtls: DtlsInside
    srtp: SrtpInside
    rtp: list[RtpInside] = []
    rtcp: RtcpInside
