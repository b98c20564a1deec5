"""Live streams on air: how they begin, break, come back and end.

Nothing in here speaks SDP (services.signaling does). A stream that ends takes everything of its channel with
it in one transaction: the WHIP session, the relays, the viewers and their seats; the nodes are told right
after the commit, and should one not hear it, its next report is answered with the same order.
"""

import asyncio
from collections import defaultdict

import structlog

from controlplane.config import StreamsConfig, ViewersConfig
from controlplane.domain.nodes.rules import drain_is_over
from controlplane.domain.streams.model import EndReason, Session, Stream, StreamState
from controlplane.domain.streams.rules import Patience, after_waiting, from_origin, post_interval_s
from controlplane.domain.streams.states import FED
from controlplane.errors import NotFound
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.services.background import Background
from controlplane.services.board import Board, PublisherHeard
from controlplane.services.books import MANAGER, Books, Change
from controlplane.services.latency import LatencyPost
from controlplane.services.tokens import PublishClaims, Tokens
from controlplane.services.words import counted, lasting
from controlplane.wire.api import StopView, TokenView, ViewerLatency, ViewerOrder
from controlplane.wire.nodes import MOST_ENDED, NodeState, SessionKind, StreamReport
from controlplane.wire.publishing import PublisherOrder, PublisherReport, PublishState

log = structlog.get_logger(__name__)

LEAVE_TOGETHER_S = 0.05


class Streams:
    def __init__(
        self,
        books: Books,
        control: NodeControl,
        tokens: Tokens,
        background: Background,
        config: StreamsConfig,
        viewers: ViewersConfig,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._control = control
        self._tokens = tokens
        self._background = background
        self._viewers = viewers
        self._patience = Patience(
            config.connect_s, config.reconnect_s, config.stalled_s, config.stalled_reporting_s
        )
        self._dropping: defaultdict[tuple[str, str], list[str]] = defaultdict(list)  # node, why -> sessions
        self._resubscribe: defaultdict[str, set[str]] = defaultdict(set)  # edge -> channels
        self.leaving: set[str] = set()  # origins that are about to end: their publishers should move

    # parts of a change

    async def publisher_gone(self, change: Change, session: Session, why: str, end: EndReason) -> None:
        """A WHIP session is over without a good-bye: its stream waits for the publisher to come back."""
        await change.end_session(session, end)
        stream = await change.tx.stream(session.channel)
        if stream is not None and stream.session == session.id and stream.state in FED:
            await change.move_stream(stream, StreamState.RECONNECTING, why)

    async def end(self, change: Change, stream: Stream, why: str, *, actor: str = MANAGER) -> list[Session]:
        """End a stream and every session of its channel. Hand the result to `tell_nodes` after the commit."""
        sessions = await change.tx.sessions_of(stream.channel)
        viewers = [session for session in sessions if session.kind is SessionKind.WHEP]
        await change.end_sessions(viewers, EndReason.STREAM_ENDED)
        others = [session for session in sessions if session.kind is not SessionKind.WHEP]
        await change.end_sessions(others, EndReason.LEFT)
        await change.move_stream(stream, StreamState.ENDED, why, actor=actor)
        return sessions

    # telling nodes, in the background

    def tell_nodes(self, channel: str, sessions: list[Session], why: str) -> None:
        """After `end`: the nodes that had something of the channel let it go."""
        for name in {session.node for session in sessions}:
            self._background.start(self._end_channel(name, channel, why), f"end {channel} on {name}")

    async def _end_channel(self, name: str, channel: str, why: str) -> None:
        node = self._board.nodes.get(name)
        if node is not None:
            try:
                await self._control.end_channel(node, channel, why)
            except (NodeUnreachable, NodeRefused) as error:
                log.info("node did not end a channel; its next report will be answered", error=str(error))

    def drop_session(self, session: Session, why: str) -> None:
        """Viewers that leave a node within LEAVE_TOGETHER_S are told of in one request, which costs the node
        as much as a single one; what they are sent meanwhile costs less."""
        waiting = self._dropping[session.node, why]
        waiting.append(session.id)
        if len(waiting) == 1:
            after = LEAVE_TOGETHER_S if session.kind is SessionKind.WHEP else 0
            self._background.start(self._drop(session.node, why, after), f"end sessions on {session.node}")

    async def _drop(self, name: str, why: str, after: float) -> None:
        await asyncio.sleep(after)
        sessions = self._dropping.pop((name, why))
        node = self._board.nodes.get(name)
        if node is None:
            return
        try:
            for first in range(0, len(sessions), MOST_ENDED):
                await self._control.end_sessions(node, sessions[first : first + MOST_ENDED], why)
        except (NodeUnreachable, NodeRefused) as error:
            log.info("node did not end sessions; its next report will be answered", error=str(error))

    def resubscribe_edges(self, channel: str) -> None:
        """The origin of a channel has changed, or has gone: every edge that has it subscribes anew."""
        for edge in self._board.edges_with(channel):
            self._resubscribe[edge.id].add(channel)
            self._background.start(self._push_resubscribe(edge.id, channel), f"resubscribe {edge.id}")

    def origin_changed_elsewhere(self, channel: str) -> None:
        """Another manager has written it, and tells the edges; one that does not hear it and reports to this
        one is told so in its answer, unless it has a relay from the new origin already."""
        stream = self._board.streams.get(channel)
        if stream is None:
            return
        served = {
            session.peer
            for session in self._board.sessions_on(stream.origin or "")
            if session.kind is SessionKind.RELAY_OUT and session.channel == channel
        }
        for edge in self._board.edges_with(channel):
            if edge.id not in served:
                self._resubscribe[edge.id].add(channel)

    async def _push_resubscribe(self, name: str, channel: str) -> None:
        node = self._board.nodes.get(name)
        if node is not None:
            try:
                await self._control.resubscribe(node, channel)
            except (NodeUnreachable, NodeRefused) as error:
                log.info("edge was not reached; its next report will be answered", error=str(error))

    def subscribed(self, edge: str, channel: str) -> None:
        self._resubscribe[edge].discard(channel)

    def to_resubscribe(self, edge: str, relayed: set[str]) -> set[str]:
        """Channels an edge must subscribe to anew, of those it says it relays; the others are forgotten."""
        self._resubscribe[edge] &= relayed
        return self._resubscribe[edge]

    # what the origin says

    def differs(self, node: str, report: StreamReport) -> bool:
        """Whether a stream's state must change after this report: cheap, decided on the board."""
        stream = self._board.streams.get(report.channel)
        if stream is None or stream.session not in self._board.sessions:
            return False  # the last words of a session that is gone
        state = self._state_after(stream, node, report)
        return state is not stream.state or self._codec_after(stream, node, report) != stream.video_codec

    @staticmethod
    def _state_after(stream: Stream, node: str, report: StreamReport) -> StreamState:
        mine = stream.origin == node and report.kind == "published"
        if not mine or report.session not in (None, stream.session):
            return stream.state
        return from_origin(stream, report)

    @staticmethod
    def _codec_after(stream: Stream, node: str, report: StreamReport) -> str | None:
        """Known since the publisher was answered; a node that did not say it then says it here."""
        fed_here = stream.origin == node and report.kind == "published" and report.session == stream.session
        return report.video_codec if fed_here and report.video_codec is not None else stream.video_codec

    async def said_by_origin(self, change: Change, node: str, report: StreamReport) -> None:
        stream = await change.tx.stream(report.channel)
        if stream is None or stream.state is StreamState.ENDED:
            return
        session = None if stream.session is None else await change.tx.session(stream.session)
        if session is None or session.ended_at is not None:
            return  # gone by now, perhaps by the same report
        codec = self._codec_after(stream, node, report)
        if codec != stream.video_codec:
            stream = await change.update_stream(stream, video_codec=codec)
        after = self._state_after(stream, node, report)
        if after is stream.state:
            return
        if after is StreamState.LIVE:
            await change.move_stream(stream, after, f"media arrives at {node}", was_live=True)
        else:
            await change.move_stream(stream, after, f"nothing arrives at {node}")

    # what the publisher says

    async def publisher_report(self, claims: PublishClaims, report: PublisherReport) -> PublisherOrder:
        if await self._tokens.revoked(claims):
            return PublisherOrder(action="stop", reason="the broadcast was stopped by an operator")
        stream = self._board.streams.get(claims.channel)
        if stream is not None and stream.jti != claims.jti:
            if report.session is None:
                return PublisherOrder()  # it has not asked for the channel yet; WHIP will tell it
            return PublisherOrder(action="stop", reason="the channel is on air from another publisher")
        if stream is None:
            gone = report.session is not None and report.line.state is PublishState.LIVE
            if gone and not claims.expired:
                return PublisherOrder(action="reconnect", reason="the stream manager had given the stream up")
            if gone:
                return PublisherOrder(action="stop", reason="the broadcast has ended and its token expired")
            return PublisherOrder()
        heard = PublisherHeard(_bounded(report, claims.channel), self._clock.monotonic(), claims.jti)
        self._board.publishers[claims.channel] = heard
        if report.session is None or report.session != stream.session:
            return PublisherOrder()  # between two sessions: it is at it already
        if stream.state is StreamState.RECONNECTING:
            return PublisherOrder(action="reconnect", reason=stream.state_reason)
        if stream.origin in self.leaving or self._is_over(stream.origin):
            return PublisherOrder(action="reconnect", reason=f"{stream.origin} is being drained")
        return PublisherOrder()

    def _is_over(self, origin: str | None) -> bool:
        """Whether an origin is about to end, by its row: whoever leads may be another manager."""
        node = self._board.nodes.get(origin or "")
        if node is None or node.state is not NodeState.DRAINING:
            return False
        return drain_is_over(node, 1, self._clock.now())

    # what viewers say

    def viewer_latency(self, session: Session, post: ViewerLatency) -> ViewerOrder:
        if session.id in self._board.sessions:
            said = LatencyPost(post.latency_ms, self._clock.monotonic())
            self._board.latency.put(session.channel, session.id, said)
        interval = post_interval_s(
            self._board.sessions_watching(),
            base_s=self._viewers.latency_interval_s,
            posts_per_s=self._viewers.latency_posts_per_s,
        )
        return ViewerOrder(interval_s=interval, viewers=self._board.viewers(session.channel))

    # what an operator says

    async def permit(self, channel: str, ttl_s: float, actor: str, whip: str) -> TokenView:
        """A token that publishes a channel, until when, and where: at `whip`. That it was made is in the
        journal, it is not."""
        token, expires = self._tokens.issue(channel, ttl_s)
        until = expires.isoformat(timespec="seconds")
        # No time of day: who reads it has a clock of their own, in another zone perhaps.
        text = f"{actor} made a token that publishes {channel} for {lasting(ttl_s)}."

        async def work(change: Change) -> TokenView:
            await change.note("token.created", channel, text, actor=actor, data={"expires": until})
            return change.answer(TokenView(whip=whip, token=token, expires=until))

        return await self._books.change(work)

    async def revoke(self, token: str, channel: str, actor: str, why: str) -> None:
        """Take a publish token back: it is of no use from now on. Raises what reading a token raises."""
        claims = self._tokens.read(token, channel, accept_expired=True)

        async def work(change: Change) -> None:
            await change.tx.revoke(claims.jti, channel, claims.expires)
            said = f": {why}" if why else ""
            text = f"{actor} took back a token that publishes {channel}{said}."
            await change.note("token.revoked", channel, text, actor=actor)

        await self._books.change(work)

    async def stop(self, channel: str, actor: str) -> StopView:
        """End a broadcast wherever it was started, so that it stays ended: its token is revoked."""

        async def work(change: Change) -> tuple[StopView, list[Session]]:
            stream = await change.tx.stream(channel)
            if stream is None or stream.state is StreamState.ENDED:
                raise NotFound(
                    f"{channel} is not on air. showcaller streams shows what is.", code="not_on_air"
                )
            viewers = self._board.viewers(channel)
            # Kept for as long as any token may live; expired ones are refused anyway.
            await change.tx.revoke(stream.jti, channel, change.now + 31 * 86_400)
            text = f"the token that {channel} was published with is taken back: it was stopped by {actor}."
            await change.note("token.revoked", channel, text, actor=actor)
            why = f"stopped by {actor}, with {counted(viewers, 'viewer')}"
            sessions = await self.end(change, stream, why, actor=actor)
            return change.answer(StopView(channel=channel, state="ended", viewers=viewers)), sessions

        view, sessions = await self._books.change(work)
        self.tell_nodes(channel, sessions, "stopped by an operator")
        return view

    # the clock

    async def tick(self) -> None:
        """Once a second: nobody is waited for longer than said."""
        self._board.forgive_a_pause(self._clock.monotonic())
        for channel, stream in list(self._board.streams.items()):
            if self._after_waiting(stream) is not stream.state:
                await self._waited(channel)

    def _after_waiting(self, stream: Stream) -> StreamState:
        heard = self._board.publishers.get(stream.channel)
        known = heard is not None and heard.jti == stream.jti
        now = self._clock.monotonic()
        age = now - heard.at if heard is not None and known else None
        waited = now - self._board.in_state_since.get(stream.channel, now)
        return after_waiting(stream, waited, age, self._patience)

    async def _waited(self, channel: str) -> None:
        async def work(change: Change) -> tuple[list[Session], Session | None]:
            stream = await change.tx.stream(channel)
            if stream is None or stream.state is StreamState.ENDED:
                return [], None
            after = self._after_waiting(stream)
            if after is StreamState.ENDED:
                why = (
                    "no media came"
                    if stream.state is StreamState.CONNECTING
                    else f"its publisher did not come back within {self._patience.reconnect_s:g} s"
                )
                return await self.end(change, stream, why), None
            if after is StreamState.RECONNECTING:
                session = await present(change, stream.session)
                if session is not None:
                    await self.publisher_gone(change, session, "its publisher has vanished", EndReason.LEFT)
                else:
                    await change.move_stream(stream, after, "its publisher has vanished")
                return [], session
            return [], None

        ended, vanished = await self._books.change(work)
        if ended:
            self.tell_nodes(channel, ended, "the stream has ended")
        if vanished is not None:
            self.drop_session(vanished, "no media")


async def present(change: Change, session_id: str | None) -> Session | None:
    """The row of a session that has not ended."""
    session = await change.tx.session(session_id) if session_id else None
    return session if session is not None and session.ended_at is None else None


def _bounded(report: PublisherReport, channel: str) -> PublisherReport:
    """What is kept and shown to every console: whoever holds a publish token cannot make it large, nor speak
    of another channel."""
    line = report.line.model_copy(update={"at": report.line.at[:64], "channel": channel})
    words = {
        "publisher": report.publisher[:255],
        "source": report.source[:255],
        "message": report.message[:500],
        "session": report.session and report.session[:64],
    }
    return report.model_copy(update={"line": line, **words})
