"""The stream manager's API as scripts, the console and the watch page see it (`/api/v1`).

The views with a fixed shape (NodeView, StreamView, DrainView, TokenView, StageView) are what the plain
commands print with `--json`: a contract. A figure that is not known is null.
"""

from typing import Any, Literal

from pydantic import Field

from controlplane.wire.base import Message, Request
from controlplane.wire.money import MoneyNow
from controlplane.wire.nodes import NodeState, Role, SessionReport, StreamReport, WorkerInfo
from controlplane.wire.publishing import PublisherReport, PublishState

CHANNEL_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
CHANNEL_RULE = (
    "A channel name has 1 to 63 small letters, digits, - and _, and starts with a letter or a digit"
)


class NodeView(Message):
    id: str
    role: Role
    region: str
    state: NodeState
    connections: int | None
    capacity: int
    egress_bps: float | None
    age_s: float | None  # of the last report; None before the first one


class DrainProgress(Message):
    """How the viewers of an edge that drains are moved."""

    since: float  # Unix time
    viewers: int  # when it began
    moved: int  # who have a session elsewhere by now
    moving: int  # who are on their way
    left: int  # who are on it, those on their way too; the rest has left by itself
    failed: int  # moves that came to nothing, and are tried again
    rate: float | None = None  # moved a second, of late
    eta_s: float | None = None  # until the last has been moved, at this rate
    waits: str = ""  # for what, in words; "" while it goes on


class NodeDetail(NodeView):
    """What the Fleet screen shows beside the contract's figures."""

    state_since: float  # Unix time
    state_reason: str = ""
    created_at: float
    ingress_bps: float | None = None
    loss: float | None = None
    cpu: float | None = None
    rtt_ms: float | None = None
    estimate_p10_bps: float | None = None  # what nine in ten viewers can take, at least
    loop_delay_ms: float | None = None
    gso: bool | None = None
    version: str | None = None
    pid: int | None = None
    reserved: int = 0
    drain_deadline: float | None = None  # Unix time
    drain: DrainProgress | None = None  # of an edge that drains
    launch_s: float | None = None  # asked for -> in service, measured


class NodeInside(Message):
    """What is inside one node, as it reported it last: `GET /api/v1/nodes/{id}` (operator).

    Asked for only while somebody looks at that node, so it is no part of the live feed. `reported_at` is
    None and the lists are empty before the first report.
    """

    node: NodeDetail
    reported_at: float | None = None  # Unix time, when the manager got the report
    workers: list[WorkerInfo] = []
    sessions: list[SessionReport] = []
    streams: list[StreamReport] = []


class LatencyView(Message):
    """Glass to glass, as the viewers measured it; None and an age where nobody measured."""

    p50: float | None = None
    p95: float | None = None
    age_s: float | None = None


class StreamView(Message):
    channel: str
    state: Literal["connecting", "live", "stalled", "reconnecting"]
    origin: str | None
    publisher: str | None
    bitrate_bps: float | None
    fps: float | None
    viewers: int
    watch: str
    latency_ms: LatencyView


class StreamDetail(StreamView):
    since: float  # Unix time on air
    video_codec: str | None = None
    width: int | None = None
    height: int | None = None
    loss: float | None = None
    edges: list[str] = []
    starved: dict[str, int] = {}  # edges to which nothing of a live stream comes -> who watch it there
    report: PublisherReport | None = None  # None when the publisher is not ours (OBS, GStreamer ...)
    publish_state: PublishState | None = None


DRAIN_S = 60.0  # a drain's deadline where none is given, and no policy has one


class GroupView(Message):
    """All nodes of one role and region."""

    id: str = ""  # ROLE@REGION
    role: Role
    region: str
    desired: int
    in_service: int
    connections: int
    capacity: int
    egress_bps: float | None
    policy: str | None = None  # in words; None: its nodes are added and ended by hand
    most: int | None = None  # nodes, by the policy
    drain_s: float = DRAIN_S  # a drain's deadline where none is given


class FleetAdd(Request):
    role: Role
    region: str | None = None
    over_budget: bool = False  # also where the stage's budget is not there for it
    over_policy: bool = False  # also beyond the max or the spend cap of the group's policy


class DrainRequest(Request):
    """`POST /api/v1/nodes/{id}/drain`. Without a deadline: the policy's, 60 s where there is none;
    and a drain that runs keeps its own.

    `channels` are those that would have no edge, or no origin, left, or the events that are on there (ev-7):
    whoever drains the last one names them.
    """

    deadline_s: float | None = Field(default=None, ge=0, le=86_400)
    channels: list[str] = Field(default=[], max_length=100)


class DrainView(Message):
    """The answer to `fleet add` and `fleet drain`."""

    node: str
    state: NodeState
    viewers: int
    deadline_s: float | None


class TokenRequest(Request):
    channel: str = Field(pattern=CHANNEL_PATTERN)
    ttl_s: float = Field(default=3600.0, gt=0, le=30 * 86_400)


class TokenRevoke(Request):
    """`POST /api/v1/tokens/revoke` (operator): a token that was made and is not needed."""

    channel: str = Field(pattern=CHANNEL_PATTERN)
    token: str = Field(max_length=4096)
    why: str = Field(default="", max_length=200)  # for the journal


class TokenView(Message):
    whip: str
    token: str
    expires: str  # ISO 8601, UTC


class StopView(Message):
    channel: str
    state: Literal["ended"]
    viewers: int  # who were watching


class JournalEntry(Message):
    """What happened and who did it. `id` is the database's own number: feeds resume by it."""

    id: int
    at: float  # Unix time
    actor: str  # "operator", "stream manager", "edge-1", "publisher"
    kind: str  # "node.in_service", "stream.live", "fleet.add", ...
    subject: str  # node id, channel ...
    message: str  # one plain sentence
    data: dict[str, Any] = {}


class ProcessView(Message):
    name: str
    pid: int


class StageView(Message):
    """`showcaller stage status --json`."""

    state: Literal["up", "down", "starting", "partial"]
    api: str | None = None
    watch: str | None = None
    processes: list[ProcessView] = []


class HistoryPoint(Message):
    """One second of one role's load, for the chart of connections against capacity."""

    at: float
    role: Role
    connections: int
    capacity: int


class Snapshot(Message):
    """The whole state a console shows. First message of the live feed."""

    api: str
    watch: str
    version: str
    started_at: float
    nodes: list[NodeDetail]
    groups: list[GroupView]
    streams: list[StreamDetail]
    journal: list[JournalEntry]  # newest last: 200, or all since the one that was asked for, at most 1,000
    history: list[HistoryPoint] = []  # the last 30 minutes, thinned
    money: MoneyNow | None = None
    managers: list[str] = []  # where the stream managers that live are reached; empty: not looked yet


class LiveMessage(Message):
    """One message of the live feed, `GET /api/v1/live` (WebSocket, bearer in the Authorization header).

    The feed opens with `kind="snapshot"`, then sends numbered deltas as reports come, and at once for events:
    `n` rises by one a message within one `epoch` (one life of a manager). `?epoch=E&since=N` resumes after N;
    when that is no longer possible, or at another manager, the feed opens with a snapshot again. With
    `&journal=ID`, the number of the last entry of the journal that is known, the snapshot has all since.

    kind      payload
    snapshot  `snapshot`
    delta     whichever of nodes/groups/streams changed (whole rows, keyed by id, role+region, channel),
              `removed_*` (ids that left), `journal` (new entries), `history` (new points), `managers`
              (when they are others than before)
    """

    epoch: str
    n: int
    at: float
    kind: Literal["snapshot", "delta"]
    snapshot: Snapshot | None = None
    nodes: list[NodeDetail] = []
    groups: list[GroupView] = []
    streams: list[StreamDetail] = []
    removed_nodes: list[str] = []
    removed_streams: list[str] = []
    journal: list[JournalEntry] = []
    history: list[HistoryPoint] = []
    money: MoneyNow | None = None  # with the groups
    managers: list[str] | None = None  # as of Snapshot


class ViewerLatency(Message):
    """The watch page -> manager, `POST /whep/{channel}/{resource}/latency`."""

    latency_ms: float = Field(ge=0, le=600_000)
    first_frame_ms: float | None = Field(default=None, ge=0, le=600_000)
    frozen_ms: float | None = Field(default=None, ge=0)
    bitrate_bps: float | None = Field(default=None, ge=0)


class ViewerOrder(Message):
    """The answer: when to post next, so that a whole stage gets at most 200 a second."""

    interval_s: float
    viewers: int | None = None  # who watch the channel now: the page shows it and keeps no connection for it


class ScrapeTarget(Message):
    """One of `GET /api/v1/metrics/targets`, as Prometheus' HTTP service discovery reads it."""

    targets: list[str]  # "HOST:PORT"
    labels: dict[str, str]  # __scheme__, __metrics_path__, and who it is


class EnrolmentRequest(Request):
    """`POST /api/v1/enrolments` (operator): a token for a node that is started by hand.

    A node that has not enrolled when it expires is given up.
    """

    role: Role
    ttl_s: float = Field(default=3600.0, ge=1, le=86_400)


class EnrolmentView(Message):
    node: str  # the name it will have
    token: str  # one use; shown this once
    expires: str  # ISO 8601, UTC


class Health(Message):
    """`GET /api/v1/health`: open to everyone."""

    status: Literal["ok"]
    version: str
    started_at: float  # Unix time
    stage: str  # the stage's name
    stage_id: str = ""  # different for each data folder: two stages of one name can be told apart


class ManagersView(Message):
    """`GET /api/v1/managers` (operator). A manager that answers this takes the header Idempotency-Key."""

    api: str  # where this one is reached
    managers: list[str] = []  # all that live, this one too; empty: not looked yet, or it is alone
