"""What watch pages are told while they are open: server-sent events of a WHEP session and of a channel.

    a session   state {"state": "live" | "waiting" | "ended", "edge"}   ended {}
                move {"reason"}           make a new session
                move {"reason", "url"}    a seat is kept for you elsewhere: POST an offer there, once,
                                          and leave when there is a picture; if it is refused, stay
    a channel   state {"on_air": bool, "viewers": n, "video_codec": "H264" | "VP8" | null}

A page gets the present state at once and every change after it. Whether a session has been moved or its
stream has ended is in the database, so a page that reconnects to a restarted manager is told all the same.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from controlplane.domain.streams.model import EndReason, Session, StreamState
from controlplane.domain.streams.rules import page_state, shown_on_air
from controlplane.services.board import Board
from controlplane.services.books import Changed
from controlplane.services.event_streams import Event, EventStreams
from controlplane.wire.nodes import SessionKind

_LAST_WORDS: dict[EndReason, Event] = {
    EndReason.MOVED: ("move", {"reason": "the session has ended at its edge"}),
    EndReason.STREAM_ENDED: ("ended", {}),
}


class _Queue(asyncio.Queue["Event | None"]):
    """Of one open page. `None` ends it."""


class Pages:
    def __init__(self, board: Board, move_token: Callable[[str], str]) -> None:
        """`move_token` makes the token that a viewer takes a reserved session with."""
        self._board = board
        self._move_token = move_token
        self._sessions: dict[str, set[_Queue]] = {}
        self._channels: dict[str, set[_Queue]] = {}
        self._states: dict[str, Event] = {}  # what the sessions of a channel were told last
        self._shown: dict[str, Event] = {}  # what the channel's pages were told last
        self._closed = False
        self.elsewhere: dict[str, frozenset[str]] = {}  # by manager: of nodes that drain
        self.event_streams = EventStreams(board)

    # what happens

    def changed(self, changed: Changed) -> None:
        """services.books.Listener."""
        for name, reason in changed.moves.items():
            self.move(name, reason)
        for session in changed.sessions.values():
            if session.kind is SessionKind.WHEP and session.ended_at is not None:
                self._end(session)
            elif session.move_until is not None and session.moved_from is not None:
                self._tell(session.moved_from, self._invitation(session))
        for channel, stream in changed.streams.items():
            event = self._session_event(channel)
            if self._states.get(channel) != event:
                self._states[channel] = event
                for session in self._board.watching(channel):
                    self._tell(session.id, self._of(session, event))
            if stream.state is StreamState.ENDED:
                self._states.pop(channel, None)
            self._tell_channel(channel)

    def second(self) -> None:
        """Once a second: the pages of a channel learn how many watch it."""
        for channel in list(self._channels):
            self._tell_channel(channel)
        self.event_streams.second()

    def hears(self, session: str) -> bool:
        """Whether a viewer can be told of a move now: its page reads the events of its session, here or at
        another manager."""
        return self.hears_here(session) or any(session in heard for heard in self.elsewhere.values())

    def hears_here(self, session: str) -> bool:
        return session in self._sessions or self.event_streams.hears(session, "move")

    def _invitation(self, reserved: Session) -> Event:
        """To the session that is kept for a viewer elsewhere."""
        before = self._board.sessions.get(reserved.moved_from or "")
        reason = f"{before.node} is being drained" if before is not None else "its node is being drained"
        url = f"/whep/{reserved.channel}?move={self._move_token(reserved.id)}"
        return "move", {"reason": reason, "url": url}

    def move(self, session: str, reason: str) -> None:
        """Tell a page to make a new session while its old one still runs."""
        self._tell(session, ("move", {"reason": reason}))

    def _tell(self, session: str, event: Event) -> None:
        self.event_streams.tell(session, event)
        for queue in self._sessions.get(session, ()):
            queue.put_nowait(event)

    def _end(self, session: Session) -> None:
        if session.end_reason in _LAST_WORDS:
            self.event_streams.tell(session.id, _LAST_WORDS[session.end_reason])
        self.event_streams.end(session.id)
        for queue in self._sessions.get(session.id, ()):
            if session.end_reason in _LAST_WORDS:
                queue.put_nowait(_LAST_WORDS[session.end_reason])
            queue.put_nowait(None)

    def _tell_channel(self, channel: str) -> None:
        event = self._channel_event(channel)
        if channel in self._channels and self._shown.get(channel) != event:
            self._shown[channel] = event
            for queue in self._channels[channel]:
                queue.put_nowait(event)

    def _session_event(self, channel: str) -> Event:
        return "state", {"state": page_state(self._board.streams.get(channel))}

    @staticmethod
    def _of(session: Session, event: Event) -> Event:
        """A channel's event as one session is told it: with the node it watches from."""
        kind, data = event
        return kind, {**data, "edge": session.node}

    def _channel_event(self, channel: str) -> Event:
        stream = self._board.streams.get(channel)
        return "state", {
            "on_air": shown_on_air(stream),
            "viewers": self._board.viewers(channel),
            "video_codec": None if stream is None else stream.video_codec,
        }

    # what pages read

    async def of_session(self, session: Session) -> AsyncGenerator[Event, None]:
        """The events of a WHEP session, as the database knows it."""
        if session.id not in self._board.sessions:
            if session.end_reason in _LAST_WORDS:
                yield _LAST_WORDS[session.end_reason]
            return
        first = [self._of(session, self._session_event(session.channel))]
        kept = self._board.successor(session.id)
        if kept is not None and kept.move_until is not None:  # told while its page listened to nobody
            first.append(self._invitation(kept))
        async for event in self._follow(self._sessions, session.id, *first):
            yield event

    def make_stream(self, session: Session, names: list[str] | None) -> str:
        """An event stream of the WHEP extension for a session. Raises what EventStreams.make raises."""
        first = self._of(session, self._session_event(session.channel))
        return self.event_streams.make(session, names, first)

    async def of_channel(self, channel: str) -> AsyncGenerator[Event, None]:
        self._tell_channel(channel)  # the pages that are open already hear of it first
        first = self._channel_event(channel)
        self._shown[channel] = first
        async for event in self._follow(self._channels, channel, first):
            yield event

    async def _follow(
        self, queues: dict[str, set[_Queue]], key: str, *first: Event
    ) -> AsyncGenerator[Event, None]:
        if self._closed:
            return
        queue = _Queue()
        queues.setdefault(key, set()).add(queue)
        try:
            for event in first:
                yield event
            while (news := await queue.get()) is not None:
                yield news
        finally:
            queues[key].discard(queue)
            if not queues[key]:
                del queues[key]
                self._shown.pop(key, None)

    def close(self) -> None:
        self._closed = True
        self.event_streams.close()
        for queues in (self._sessions, self._channels):
            for open_pages in queues.values():
                for queue in open_pages:
                    queue.put_nowait(None)
