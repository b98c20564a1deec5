"""WHIP, WHEP and the relays between our nodes: offers in, answers out, a seat and a row for each session.

The row of a session and its seat are written before the node is asked, and ended again when the node does not
take it. So at any moment the database holds at least what the nodes hold, and a session a node reports that
has no row is a stray that can be ended.

A publisher that comes back with its own token (same jti) takes its channel over: the new session is answered
first and only then the old one dropped, so an offer that fails leaves what is on air on air. Only where every
origin is full is the old one dropped first, for its seat.
"""

import asyncio
from dataclasses import dataclass, replace

from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.seating import Join
from controlplane.domain.nodes.states import REPORTING
from controlplane.domain.streams.model import EndReason, Session, Stream, StreamState
from controlplane.domain.streams.states import FED
from controlplane.errors import (
    BadRequest,
    ChannelOnAir,
    Conflict,
    ControlError,
    Forbidden,
    NotFound,
    NothingOnAir,
    Unavailable,
)
from controlplane.ports.control import NodeControl, NodeRefused, NodeUnreachable
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.joining import Joining
from controlplane.services.losses import Losses
from controlplane.services.placement import NoRoom, new_session_id, take_seat
from controlplane.services.rehoming import end_viewer, was_moved
from controlplane.services.seating import Seating
from controlplane.services.streams import Streams, present
from controlplane.services.tokens import PublishClaims, Tokens
from controlplane.services.waiting import Waiting
from controlplane.services.words import spoken
from controlplane.wire.nodes import (
    Role,
    SessionAnswer,
    SessionKind,
    SessionPatch,
    SessionRequest,
    SubscribeAnswer,
)
from controlplane.wire.publishing import SOURCE_OVER

TRIES = 3


@dataclass(frozen=True, slots=True)
class _Settled:
    """How a WHIP session came to its stream."""

    replaced: Session | None = None  # the publisher's session before
    origin_before: str | None = None
    taken_by: Stream | None = None  # somebody else's broadcast: this session is refused
    ended: bool = False  # the session was ended while its node was still answering


class Signaling:
    def __init__(
        self,
        books: Books,
        control: NodeControl,
        streams: Streams,
        losses: Losses,
        seating: Seating,
        joining: Joining,
        waiting: Waiting,
        tokens: Tokens,
    ) -> None:
        self._books = books
        self._tokens = tokens
        self._board: Board = books.board
        self._control = control
        self._streams = streams
        self._losses = losses
        self._seating = seating
        self._joining = joining
        self._waiting = waiting

    # publishers

    async def publish(self, claims: PublishClaims, offer: str, publisher: str) -> SessionAnswer:
        """A WHIP POST. Raises ChannelOnAir, NoRoom, or what the node said of the offer."""
        tried: list[str] = []
        said: ControlError | None = None
        while True:
            try:
                session = await self._books.change(self._claim, claims, publisher, tried)
            except NoRoom as error:
                if said is None:
                    self._waiting.refused(Role.ORIGIN, error.retry_after_s or 1)
                raise said or error from None
            tried.append(session.node)
            try:
                answer = await self._ask(session, offer)
            except NodeUnreachable as error:
                await self._books.change(self._unclaim, session)
                await self._losses.unreachable(error)
                if len(tried) >= TRIES:
                    raise _no_answer(error) from error
                continue
            except ControlError as error:
                await self._books.change(self._unclaim, session)
                if error.status < 500 or len(tried) >= TRIES:
                    raise
                said = error  # the node's own trouble: another one may take the publisher
                continue
            settled = await self._books.change(self._settle, session, claims, publisher, answer.video_codec)
            if settled.ended:
                self._streams.drop_session(session, "it was ended while it was being made")
                raise Unavailable(
                    "The broadcast was stopped, or its origin went away, before it had begun. Try again.",
                    code="session_ended",
                    title="The session was ended while it was being made",
                    retry_after_s=1,
                )
            if settled.taken_by is not None:
                self._streams.drop_session(session, "the channel is on air from another publisher")
                raise ChannelOnAir(claims.channel, settled.taken_by.publisher)
            if settled.replaced is not None:
                self._streams.drop_session(settled.replaced, "the publisher came back with a new session")
            if settled.origin_before != session.node:
                self._streams.resubscribe_edges(session.channel)
            self._waiting.seated(Role.ORIGIN)
            return answer

    async def _claim(
        self, change: Change, claims: PublishClaims, publisher: str, tried: list[str]
    ) -> Session:
        stream = await change.tx.stream(claims.channel)
        on_air = stream is not None and stream.state is not StreamState.ENDED
        if stream is not None and on_air and stream.jti != claims.jti:
            raise ChannelOnAir(claims.channel, stream.publisher)
        present = stream.origin if stream is not None and on_air else None
        try:
            node = await take_seat(change, Role.ORIGIN, avoid=tried, prefer=present)
        except NoRoom:
            own = await self._own_seat(change, stream, tried) if stream is not None and on_air else None
            if own is None:
                raise
            node = own
        session = Session(
            id=new_session_id(),
            kind=SessionKind.WHIP,
            channel=claims.channel,
            node=node,
            created_at=change.now,
        )
        await change.add_session(session)
        if not on_air:
            await self._begin(change, stream, session, claims, publisher)
        return session

    async def _own_seat(self, change: Change, stream: Stream, tried: list[str]) -> str | None:
        """Every origin is full, and one of the seats is this publisher's own, from before: it has that one.
        Its session before is over then, whatever becomes of the new one."""
        old = await present(change, stream.session)
        if old is None or old.node in tried:
            return None
        why = "its publisher comes back, and every other seat is taken"
        await self._streams.publisher_gone(change, old, why, EndReason.REPLACED)
        return old.node if await change.tx.reserve(old.node) else None  # None: all of this is undone

    async def _begin(
        self,
        change: Change,
        stream: Stream | None,
        session: Session,
        claims: PublishClaims,
        publisher: str,
        video_codec: str | None = None,
    ) -> None:
        fresh = {
            "since": change.now,
            "origin": session.node,
            "session": session.id,
            "jti": claims.jti,
            "publisher": publisher,
            "was_live": False,
            "video_codec": video_codec,
        }
        why = f"{publisher} was placed on {session.node}"
        if stream is None:
            new = Stream(
                channel=claims.channel,
                state=StreamState.CONNECTING,
                state_since=change.now,
                state_reason=why,
                since=change.now,
                origin=session.node,
                session=session.id,
                jti=claims.jti,
                publisher=publisher,
                video_codec=video_codec,
            )
            await change.begin_stream(new, actor="publisher")
        else:
            await change.move_stream(stream, StreamState.CONNECTING, why, actor="publisher", **fresh)

    async def _unclaim(self, change: Change, session: Session) -> None:
        await change.end_session(session, EndReason.REFUSED)
        stream = await change.tx.stream(session.channel)
        if stream is not None and stream.session == session.id and stream.state is StreamState.CONNECTING:
            why = f"{session.node} did not take the publisher"
            await change.move_stream(stream, StreamState.ENDED, why)

    async def _settle(
        self,
        change: Change,
        session: Session,
        claims: PublishClaims,
        publisher: str,
        video_codec: str | None,
    ) -> "_Settled":
        """The node took the publisher: the stream is fed by this session now."""
        row = await change.tx.session(session.id)
        if row is None or row.ended_at is not None:
            return _Settled(ended=True)
        stream = await change.tx.stream(session.channel)
        if stream is not None and stream.session == session.id:
            await change.update_stream(stream, video_codec=video_codec)
            return _Settled()
        if stream is None or stream.state is StreamState.ENDED:  # given up while the node was answering
            await self._begin(change, stream, session, claims, publisher, video_codec)
            return _Settled()
        if stream.jti != claims.jti:
            await change.end_session(session, EndReason.REFUSED)
            return _Settled(taken_by=stream)
        old = await change.tx.session(stream.session) if stream.session else None
        if old is not None:
            await change.end_session(old, EndReason.REPLACED)
        fed_by = {
            "origin": session.node,
            "session": session.id,
            "publisher": publisher,
            "video_codec": video_codec,
        }
        if stream.state is StreamState.CONNECTING:
            await change.update_stream(stream, **fed_by)
        else:
            why = f"its publisher came back, on {session.node}"
            await change.move_stream(stream, StreamState.CONNECTING, why, actor="publisher", **fed_by)
        return _Settled(replaced=old, origin_before=stream.origin)

    async def unpublish(self, channel: str, session_id: str, why: str = "") -> None:
        """A WHIP DELETE: the publisher's good-bye ends the stream. `why` is its word for it, or anything."""
        reason = "its file was at its end" if why == SOURCE_OVER else "its publisher ended it"
        session = await self._find(channel, session_id, SessionKind.WHIP)

        async def work(change: Change) -> list[Session]:
            stream = await change.tx.stream(channel)
            # Also while its return is waited for: whoever says good-bye does not come back.
            fed = stream is not None and stream.session == session.id
            if stream is not None and fed and stream.state is not StreamState.ENDED:
                return await self._streams.end(change, stream, reason, actor="publisher")
            await change.end_session(session, EndReason.LEFT)
            return []

        sessions = await self._books.change(work)
        self._streams.drop_session(session, "the publisher left")
        self._streams.tell_nodes(channel, sessions, "the stream has ended")

    # viewers

    async def view(
        self,
        channel: str,
        offer: str,
        address: str,
        *,
        party: str | None = None,
        size: int | None = None,
        region: str | None = None,
        edge: str | None = None,
        page: str | None = None,
    ) -> SessionAnswer:
        """A WHEP POST from this address. `party`: whom it watches with, in its own word, and `size`: how many
        they will be, as far as it is known. `region` and `edge`: where it would like to be. `page`: who asks
        again says the same.

        Raises NothingOnAir, NoRoom, what the node said of the offer, or TooMany and Unavailable when too many
        are joining.
        """
        wanted = 1 if party is None else size or self._seating.party_size
        join = Join(channel=channel, party=party, size=wanted, region=region, edge=edge)
        place = self._joining.enter(address)
        try:
            answer = await self._view(join, offer)
        except BaseException as error:
            self._joining.leave(place)
            if isinstance(error, NoRoom):
                self._waiting.refused(Role.EDGE, error.retry_after_s or 1, page)
            raise
        self._waiting.seated(Role.EDGE, page)
        place.session = answer.id
        return answer

    async def follow(self, channel: str, token: str, offer: str) -> SessionAnswer:
        """A WHEP POST by a viewer who is moved, to the session that is reserved for it: once, and in time.

        Whatever is refused here, the viewer still has the session that it watches by. Raises Forbidden for a
        token that is not ours, NotFound for a move that is over, Conflict for one that was taken, and what
        the node said of the offer.
        """
        session = await self._books.change_together(self._take, channel, self._tokens.read_move(token))
        try:
            return await self._ask(session, offer, session.party)
        except (NodeUnreachable, ControlError) as error:
            await self._books.change_together(Change.end_session, session, EndReason.REFUSED)
            if isinstance(error, NodeUnreachable):
                await self._losses.unreachable(error)
                raise _no_answer(error) from error
            raise

    async def _take(self, change: Change, channel: str, session_id: str) -> Session:
        row = await change.tx.session(session_id)
        before = None if row is None or row.moved_from is None else await change.tx.session(row.moved_from)
        gone = row is None or row.channel != channel or row.ended_at is not None
        if gone or row is None or before is None or before.ended_at is not None:
            raise _move_over()
        if row.move_until is None:
            raise Conflict(
                "Somebody has come by this move already. Stay with the session that you have.",
                code="move_taken",
                title="The move was taken before",
            )
        if not await change.tx.take_move(session_id, change.now):
            raise _move_over()
        return change.replace_session(row, created_at=change.now, move_until=None)

    async def _view(self, join: Join, offer: str) -> SessionAnswer:
        said: ControlError | None = None
        while True:
            try:
                session = await self._seating.seat(join)
            except NoRoom as error:
                raise said or error from None
            join = replace(join, avoid=join.avoid | {session.node})
            try:
                return await self._ask(session, offer, join.party)
            except asyncio.CancelledError:
                self._seating.give_back(session)
                self._streams.drop_session(session, "the viewer has gone")
                raise
            except NodeUnreachable as error:
                await self._seating.end(session, EndReason.REFUSED)
                await self._losses.unreachable(error)
                if len(join.avoid) >= TRIES:
                    raise _no_answer(error) from error
            except ControlError as error:
                await self._seating.end(session, EndReason.REFUSED)
                if error.status < 500 or len(join.avoid) >= TRIES:
                    raise
                said = error

    async def leave(self, channel: str, session_id: str) -> None:
        """A WHEP DELETE."""
        session = await self._find(channel, session_id, SessionKind.WHEP)
        if was_moved(self._board, session):
            await self._books.change_together(end_viewer, session, moved=True)
        else:
            await self._seating.end(session, EndReason.LEFT)
        self._streams.drop_session(session, "the viewer left")

    # relays

    async def subscribe(self, edge: Node, channel: str, offer: str) -> SubscribeAnswer:
        """An edge asks for a channel; the origin that has it answers. Raises NothingOnAir."""

        if edge.state not in REPORTING:
            raise Forbidden(
                f"{edge.id} is {spoken(edge.state)}: it gets no streams any more.", code="not_in_service"
            )

        async def work(change: Change) -> tuple[Session, list[Session]]:
            stream = await change.tx.stream(channel)
            if stream is None or stream.state not in FED or stream.origin is None:
                raise NothingOnAir(channel)
            before = [s for s in await change.tx.relays_to(edge.id) if s.channel == channel]
            for old in before:
                await change.end_session(old, EndReason.REPLACED)
            new = Session(
                id=new_session_id(),
                kind=SessionKind.RELAY_OUT,
                channel=channel,
                node=stream.origin,
                created_at=change.now,
                peer=edge.id,
            )
            await change.add_session(new)
            return new, before

        session, replaced = await self._books.change(work)
        for old in replaced:
            self._streams.drop_session(old, f"{edge.id} subscribed anew")
        try:
            answer = await self._ask(session, offer)
        except (NodeUnreachable, ControlError) as error:
            await self._books.change(Change.end_session, session, EndReason.REFUSED)
            if isinstance(error, NodeUnreachable):
                await self._losses.unreachable(error)
                raise _no_answer(error) from error
            raise
        self._streams.subscribed(edge.id, channel)
        return SubscribeAnswer(session=session.id, origin=session.node, answer=answer.answer)

    # both

    async def patch(
        self, channel: str, session_id: str, kind: SessionKind, fragment: str, if_match: str
    ) -> SessionPatch | None:
        """A PATCH: candidates (None), or an ICE restart. Raises what the node said of it.

        Which ICE session is on is known to the session's node alone, so it compares the entity tag too.
        """
        session = await self._find(channel, session_id, kind)
        node = self._board.nodes.get(session.node)
        if session.ended_at is not None or node is None:
            raise _no_session()
        try:
            return await self._control.patch_session(node, session.id, fragment, if_match)
        except NodeRefused as error:
            raise _as_said(error) from error
        except NodeUnreachable as error:
            await self._losses.unreachable(error)
            raise _no_answer(error) from error

    async def check_present(self, channel: str, session_id: str, kind: SessionKind) -> None:
        """Raises NotFound unless there is this session now."""
        session = await self._find(channel, session_id, kind)
        if session.ended_at is not None:
            raise _no_session()

    async def find_viewer(self, channel: str, session_id: str) -> Session:
        """A WHEP session, also one that ended lately. Raises NotFound."""
        return await self._find(channel, session_id, SessionKind.WHEP)

    async def _find(self, channel: str, session_id: str, kind: SessionKind) -> Session:
        session = self._board.sessions.get(session_id)
        if session is None:
            session = await self._books.store.read(lambda tx: tx.session(session_id))
        if session is None or session.channel != channel or session.kind is not kind:
            raise _no_session()
        return session

    async def _ask(self, session: Session, offer: str, party: str | None = None) -> SessionAnswer:
        """Hand the offer to the session's node. Raises NodeUnreachable, or a ControlError of its problem."""
        node = self._board.nodes.get(session.node)
        if node is None or node.state not in REPORTING:  # the board may lack what another manager has written
            node = await self._books.store.read(lambda tx: tx.node(session.node))
        if node is None or node.state not in REPORTING:
            raise NodeUnreachable(session.node, "it has just left service", refused=False)
        stream = None
        if session.kind is SessionKind.WHEP:
            stream = self._board.streams.get(session.channel)
            if stream is None:
                stream = await self._books.store.read(lambda tx: tx.stream(session.channel))
        request = SessionRequest(
            id=session.id,
            kind=session.kind,
            channel=session.channel,
            offer=offer,
            video_codec=None if stream is None else stream.video_codec,
            party=party,
        )
        try:
            return await self._control.create_session(node, request)
        except NodeRefused as error:
            raise _as_said(error) from error


def _no_session() -> NotFound:
    return NotFound("The session has ended, or never was. Make a new one.", code="no_such_session")


def _move_over() -> NotFound:
    return NotFound(
        "This move is over, or its time is. Stay with the session that you have.",
        code="move_over",
        title="The move is over",
    )


def _no_answer(error: NodeUnreachable) -> Unavailable:
    return Unavailable(
        f"{error.node} did not answer. Try again in a second: another node may be in service by then.",
        code="node_unreachable",
        title="The node did not answer",
        retry_after_s=1,
    )


def _as_said(error: NodeRefused) -> ControlError:
    """A node's problem, as our own answer: what is wrong with an offer is said by who has read it.

    A node that does not know us (401, 403) says nothing of the peer's offer, nor of the peer's own token.
    """
    problem = error.problem
    if 400 <= problem.status < 500 and problem.status not in (401, 403):
        return BadRequest(problem.detail, code=problem.code, title=problem.title, status=problem.status)
    return Unavailable(problem.detail, code=problem.code, title=problem.title, status=503, retry_after_s=1)
