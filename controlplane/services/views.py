"""The board as the API shows it: rows and reports put together. What is not known is None, never zero."""

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.moving import pace, time_left
from controlplane.domain.nodes.states import GONE, REPORTING
from controlplane.domain.streams.model import Stream, StreamState
from controlplane.domain.streams.rules import percentile
from controlplane.ports.clock import Clock
from controlplane.services.board import Board, Drain
from controlplane.services.words import policy_words
from controlplane.wire.api import (
    DRAIN_S,
    DrainProgress,
    GroupView,
    HistoryPoint,
    LatencyView,
    NodeDetail,
    NodeInside,
    Snapshot,
    StreamDetail,
)
from controlplane.wire.nodes import NodeReport, NodeState, SessionReport

LATENCY_KEPT_S = 10.0  # a post is part of the figure for this long after the newest one


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this manager is reached, as people and players write it."""

    api: str  # http://HOST:PORT
    watch: str  # http://HOST:PORT/watch


class Views:
    def __init__(
        self, board: Board, clock: Clock, addresses: Addresses, *, version: str, started_at: float
    ) -> None:
        self._board = board
        self._clock = clock
        self.addresses = addresses
        self.version = version
        self.started_at = started_at
        self.managers: Callable[[], list[str]] = list  # where those that live are reached; none: it is alone

    def node(self, node: Node) -> NodeDetail:
        board = self._board
        heard = board.heard.get(node.id)
        report = heard.report if heard is not None and node.state in REPORTING else None
        age = None if heard is None or heard.report is None else self._clock.monotonic() - heard.at
        return NodeDetail(
            id=node.id,
            role=node.role,
            region=node.region,
            state=node.state,
            connections=None if report is None else report.connections,
            capacity=node.capacity,
            egress_bps=None if report is None else report.egress_bps,
            age_s=None if age is None else round(max(age, 0.0), 3),
            state_since=node.state_since,
            state_reason=node.state_reason,
            created_at=node.created_at,
            ingress_bps=None if report is None else report.ingress_bps,
            loss=None if report is None else report.loss,
            cpu=None if report is None else report.cpu,
            rtt_ms=None if report is None else report.rtt_ms,
            estimate_p10_bps=None if report is None else report.estimate_p10_bps,
            loop_delay_ms=None if report is None else report.loop_delay_ms,
            gso=None if report is None else report.gso,
            version=node.version,
            pid=node.pid,
            reserved=board.reserved_on(node.id),
            drain_deadline=node.drain_deadline,
            drain=self._drain(node),
            launch_s=None if node.in_service_at is None else round(node.in_service_at - node.created_at, 3),
        )

    def _drain(self, node: Node) -> DrainProgress | None:
        if node.state is not NodeState.DRAINING or node.drain_viewers is None:
            return None
        left = self._board.viewers_on(node.id)
        drain = self._board.drains.get(node.id, Drain())
        rate = pace(drain.moved_at, self._clock.monotonic())
        return DrainProgress(
            since=node.state_since,
            viewers=node.drain_viewers,
            moved=node.drain_moved,
            moving=self._board.moving_from(node.id),
            left=left,
            failed=drain.failed,
            rate=None if rate is None else round(rate, 2),
            eta_s=time_left(left, rate),
            waits=drain.waits,
        )

    def nodes(self) -> list[NodeDetail]:
        rows = sorted(self._board.nodes.values(), key=lambda node: (node.role, node.created_at, node.id))
        return [self.node(node) for node in rows]

    def inside(self, node: Node) -> NodeInside:
        heard = self._board.heard.get(node.id)
        report = heard.report if heard is not None and node.state not in GONE else None
        if heard is None or report is None:
            return NodeInside(node=self.node(node))
        return NodeInside(
            node=self.node(node),
            reported_at=None
            if heard.sessions is None  # the first report after our start need not tell of them
            else self._clock.now() - (self._clock.monotonic() - heard.sessions_at),
            workers=report.workers,
            sessions=[SessionReport(**row) for row in heard.sessions or ()],
            streams=report.streams,
        )

    def _reports(self, group: Group) -> list[tuple[Node, NodeReport | None]]:
        return [
            (node, self._board.report_of(node.id))
            for node in self._board.reporting()
            if node.role == group.role and node.region == group.region
        ]

    def group(self, group: Group) -> GroupView:
        pairs = self._reports(group)
        known = [report for _, report in pairs if report is not None]
        return GroupView(
            id=group.id,
            policy=None if group.policy is None else policy_words(group.policy),
            most=None if group.policy is None else group.policy.max,
            drain_s=DRAIN_S if group.policy is None else group.policy.drain_deadline_s,
            role=group.role,
            region=group.region,
            desired=group.desired,
            in_service=sum(1 for node, _ in pairs if node.state is NodeState.IN_SERVICE),
            connections=self._board.connections([node.id for node, _ in pairs]),
            capacity=sum(node.capacity for node, _ in pairs if node.state is NodeState.IN_SERVICE),
            egress_bps=sum(report.egress_bps for report in known) if known or not pairs else None,
        )

    def groups(self) -> list[GroupView]:
        return [self.group(group) for _, group in sorted(self._board.groups.items())]

    def stream(self, stream: Stream) -> StreamDetail:
        board = self._board
        said = board.stream_report(stream)
        if stream.state is StreamState.RECONNECTING:
            said = None  # the last words of a session that is gone
        heard = board.publishers.get(stream.channel)
        report = heard.report if heard is not None and heard.jti == stream.jti else None
        return StreamDetail(
            channel=stream.channel,
            state=stream.state.value,
            origin=stream.origin,
            publisher=report.publisher if report is not None else stream.publisher,
            bitrate_bps=None if said is None else said.bitrate_bps,
            fps=None if said is None else said.fps,
            viewers=board.viewers(stream.channel),
            watch=f"{self.addresses.watch}/{stream.channel}",
            latency_ms=self.latency(stream.channel),
            since=stream.since,
            video_codec=None if said is None else said.video_codec,
            width=None if said is None else said.width,
            height=None if said is None else said.height,
            loss=None if said is None else said.loss,
            edges=[node.id for node in board.edges_with(stream.channel)],
            starved=board.starved(stream) if stream.state is StreamState.LIVE else {},
            report=report,
            publish_state=None if report is None else report.line.state,
        )

    def streams(self) -> list[StreamDetail]:
        return [self.stream(stream) for _, stream in sorted(self._board.streams.items())]

    def latency(self, channel: str) -> LatencyView:
        """Over the viewers' latest posts; the age is that of the newest one."""
        posts = self._board.latency.last(channel, LATENCY_KEPT_S)
        if not posts:
            return LatencyView()
        newest = max(post.at for post in posts)
        values = [post.latency_ms for post in posts]
        age = max(0.0, self._clock.monotonic() - newest)
        return LatencyView(p50=percentile(values, 0.50), p95=percentile(values, 0.95), age_s=round(age, 3))

    def history_now(self) -> list[HistoryPoint]:
        """One point a role, of this moment."""
        at = self._clock.now()
        points = []
        for role in sorted({group.role for group in self._board.groups.values()}):
            nodes = [it for it in self._board.reporting() if it.role is role]
            capacity = sum(it.capacity for it in nodes if it.state is NodeState.IN_SERVICE)
            connections = self._board.connections([it.id for it in nodes])
            points.append(HistoryPoint(at=at, role=role, connections=connections, capacity=capacity))
        return points

    def snapshot(self) -> Snapshot:
        return Snapshot(
            api=self.addresses.api,
            watch=self.addresses.watch,
            version=self.version,
            started_at=self.started_at,
            nodes=self.nodes(),
            groups=self.groups(),
            streams=self.streams(),
            journal=list(self._board.journal),
            history=list(self._board.history),
            money=self._board.money,
            managers=self.managers(),
        )
