"""What a node and the stream manager say to each other.

A node is launched with a one-use enrolment token; it enrols once (`POST /api/v1/nodes/enrol`), is given an
id of its own and a credential, and from then on reports twice a second (`POST /api/v1/nodes/{id}/report`):
its figures each time, its sessions one by one each second. The answer to a report carries orders back. The
manager reaches the node at its control endpoint (`control_url`) to make and end sessions: over TLS with the
one certificate that has the `control_fingerprint`, itself authenticated by `control_secret`.

Rates are bits per second, times are seconds (Unix time where a moment is meant), fractions are 0..1.
"""

import hashlib
from enum import StrEnum
from typing import (
    Literal,
    NotRequired,  # pydantic takes typing's from Python 3.12 on
)

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from controlplane.wire.base import Message

MOST_ENDED = 500  # sessions in one SessionsEnd
PARTY_SIZE_MOST = 32  # seats that are reserved together
PARTY_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
PAGE_PATTERN = r"^[A-Za-z0-9_-]{8,64}$"  # a word by chance


class Role(StrEnum):
    ORIGIN = "origin"
    EDGE = "edge"
    TRANSCODER = "transcoder"


class NodeState(StrEnum):
    REQUESTED = "requested"
    CREATING = "creating"
    BOOTING = "booting"
    IN_SERVICE = "in_service"
    SUSPECT = "suspect"
    DRAINING = "draining"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAULTY = "faulty"


class SessionKind(StrEnum):
    """Why a peer is on a node."""

    WHIP = "whip"  # a publisher sends to an origin
    WHEP = "whep"  # a viewer receives from an edge (or from an origin, when asked so)
    RELAY_OUT = "relay_out"  # this node sends a live stream to an edge
    RELAY_IN = "relay_in"  # this node receives a live stream from an origin


class WorkerInfo(Message):
    """One worker: a process, one UDP port."""

    index: int
    pid: int
    udp_port: int
    fingerprint: str  # SHA-256 of the DTLS certificate, "AB:CD:.."


class EnrolRequest(Message):
    token: str
    control_url: str = Field(max_length=255, pattern=r"^https://[^/?#@\s]+$")  # https://192.0.2.10:8443
    control_fingerprint: str = Field(pattern=r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")  # SHA-256 of its certificate
    addresses: list[str]  # announced media addresses, best first
    workers: list[WorkerInfo]
    version: str
    pid: int = Field(ge=1, lt=2**31)
    start_time: float = Field(allow_inf_nan=False)  # see processes.ProcessRecord.start_time


class EnrolAnswer(Message):
    node_id: str  # as the manager named it at launch, e.g. "edge-1"
    credential: str  # the node's bearer token toward the manager
    control_secret: str  # the manager's bearer token toward the node's control endpoint
    report_interval_s: float = 0.5


class SessionReport(Message):
    """One live session as the node sees it."""

    id: str
    kind: SessionKind
    channel: str
    state: Literal["new", "connecting", "connected", "closed"]
    remote: str | None = None  # "ADDRESS:PORT" as validated by ICE
    transport: Literal["udp4", "udp6", "tcp4", "tcp6"] | None = None  # and how it is reached there
    bitrate_bps: float | None = None
    loss: float | None = None  # fraction lost, as the receiver says it (RTCP receiver reports)
    rtt_ms: float | None = None
    jitter_ms: float | None = None  # of a viewer, as it says it (RFC 3550 section 6.4.1)
    estimate_bps: float | None = None  # of a viewer: what its way can take, sound and picture together
    nacks: int = 0
    plis: int = 0


@with_config(ConfigDict(allow_inf_nan=False))
class SessionRow(TypedDict):
    """A SessionReport as it is in a report, where there are hundreds: a dict takes half the time to read, and
    is nothing that the garbage collector looks at."""

    id: str
    kind: Literal["whip", "whep", "relay_out", "relay_in"]
    channel: str
    state: Literal["new", "connecting", "connected", "closed"]
    remote: NotRequired[str | None]
    transport: NotRequired[Literal["udp4", "udp6", "tcp4", "tcp6"] | None]
    bitrate_bps: NotRequired[float | None]
    loss: NotRequired[float | None]
    rtt_ms: NotRequired[float | None]
    jitter_ms: NotRequired[float | None]
    estimate_bps: NotRequired[float | None]
    nacks: NotRequired[int]
    plis: NotRequired[int]


class SessionsTold(Message):
    """Manager -> node, `GET {control_url}/v1/sessions`: its sessions, as it told of them last, to whichever
    manager that was."""

    age_s: float | None = Field(ge=0)  # since then; None: it has not told of them yet
    sessions: list[SessionRow] = []


class StreamReport(Message):
    """One live stream on a node: published to it (origin) or relayed to it (edge)."""

    channel: str
    kind: Literal["published", "relayed"]
    state: Literal["waiting", "live", "stalled"]  # waiting: no media yet; stalled: no media for 2 s
    session: str | None = None
    bitrate_bps: float | None = None  # media received, RTP payload and header, over the last second
    fps: float | None = None  # video frames received a second
    video_codec: str | None = None  # "H264" or "VP8"; None: no picture yet
    width: int | None = None
    height: int | None = None
    viewers: int = 0  # whose connection stands
    loss: float | None = None  # fraction of packets that never came, over the last second
    keyframe_age_s: float | None = None


class NodeReport(Message):
    at: float  # the node's clock
    seq: int
    connections: int  # publishers and viewers; hops between our own nodes are not connections
    egress_bps: float
    ingress_bps: float
    loss: float | None = None  # mean of the viewers' own loss figures
    cpu: float | None = None  # cores used by agent and workers over the last second
    rtt_ms: float | None = None  # median of the viewers' round trips
    estimate_p10_bps: float | None = None  # what nine in ten viewers can take, at least
    loop_delay_ms: float | None = None  # worst delay of a worker's packet loop over the interval
    gso: bool | None = None  # whether sends use UDP_SEGMENT
    sessions: list[SessionRow] | None = []  # None: not in this report, they are as they were
    ended: list[str] = []  # sessions that ended since the last acknowledged report
    streams: list[StreamReport] = []
    workers: list[WorkerInfo] = []


class NodeOrder(Message):
    """An order to a node, in the answer to a report. Idempotent: it is repeated until obeyed."""

    kind: Literal["resubscribe", "end_channel", "end_session", "terminate"]
    channel: str | None = None
    session: str | None = None
    reason: str = ""


class ReportAnswer(Message):
    orders: list[NodeOrder] = []
    managers: list[str] = []  # where those that live are reached, whoever answers first; empty: only there
    metrics_sha256: str | None = None  # of the token that may read the node's metrics, besides our own secret


class SessionRequest(Message):
    """Manager -> node, `POST {control_url}/v1/sessions`: make a session from an SDP offer."""

    id: str  # chosen by the manager; unguessable (>= 128 bits)
    kind: Literal[SessionKind.WHIP, SessionKind.WHEP, SessionKind.RELAY_OUT]
    channel: str
    offer: str
    video_codec: str | None = None  # of what is on air, for a viewer's answer; None: not known
    party: str | None = Field(None, pattern=PARTY_PATTERN)  # who watch together come to one worker


class SessionAnswer(Message):
    """`201`: the node's SDP answer. An error is a Problem (400, 404, 406, 422, 503)."""

    id: str
    answer: str
    video_codec: str | None = None  # that the answer takes: "H264" or "VP8"; None: no picture in it


class SessionsEnd(Message):
    """Manager -> node, `POST {control_url}/v1/sessions/end`: end these, answered by `204` when it is done.

    One that is unknown there counts as ended.
    """

    ids: list[str] = Field(min_length=1, max_length=MOST_ENDED)
    reason: str = "ended by the stream manager"


def ice_etag(session: str, generation: int = 0) -> str:
    """The entity tag of a session's ICE session (RFC 9725 section 4.3.1): each restart makes another one."""
    return '"' + hashlib.sha256(f"ice|{session}|{generation}".encode()).hexdigest()[:24] + '"'


class SessionPatch(Message):
    """`PATCH {control_url}/v1/sessions/{id}`: RFC 9725 section 4.3, answered by the node.

    The request is what the peer sent: a body `application/trickle-ice-sdpfrag` and If-Match. 204 is the
    answer where nothing but candidates came, and this one `200` where it was an ICE restart. Problems: 400,
    404, 412, 422, 428.
    """

    etag: str  # of the new ICE session
    fragment: str  # the node's side of it, application/trickle-ice-sdpfrag


class SubscribeRequest(Message):
    """Edge -> manager, `POST /api/v1/nodes/{id}/subscribe`: ask for a channel from the origin that has it.

    The manager forwards the offer to the origin as a relay_out session and relays the answer.
    `409` with code `nothing_on_air` while nobody publishes the channel.
    """

    channel: str
    offer: str


class SubscribeAnswer(Message):
    session: str  # id of the relay_out session on the origin
    origin: str  # node id
    answer: str
