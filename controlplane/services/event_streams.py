"""The server-sent events extension of WHEP: event streams that a player makes, reads and ends.

draft-ietf-wish-whep-02, section 4.9.1 (later it is a draft of its own, "WebRTC-HTTP Egress Protocol Core
Extensions"): a POST makes a stream of the events it names, a GET of its address reads it, a DELETE ends it.
What happens while nobody reads is kept for the next reader; a session's streams end with the session.

    active, inactive     whether somebody publishes; no `inactive` before the first `active`
    layers               what can be chosen from: {m-line: [{spatialLayerId, width, height, bitrate}]}
    reconnect            make a new session (ours says the same by `move`, with the reason; a `move` with an
                         address, which moves a viewer without a break, has no counterpart there)
    viewercount          {"viewercount": n}
    state, move, ended   as services.pages tells them

Streams live in this process only. A player that finds its stream gone (404) makes another one.
"""

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.domain.streams.model import Session
from controlplane.errors import BadRequest, Conflict, NotFound
from controlplane.services.board import Board

Event = tuple[str, dict[str, Any]]

NAMES = ("active", "inactive", "layers", "reconnect", "viewercount", "state", "move", "ended")
MOST_A_SESSION = 4
MOST_WAITING = 100  # events nobody has read: the oldest give way


@dataclass(eq=False)
class _Stream:
    id: str
    session: Session
    names: frozenset[str]
    waiting: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    reader: object = None  # who reads now; another reader takes its place
    ended: bool = False
    was_active: bool = False
    counted: int | None = None
    layers: dict[str, Any] | None = None

    def put(self, event: Event) -> None:
        if event[0] in self.names:
            self.waiting.append(event)
            self.news.set()

    def end(self) -> None:
        self.ended = True
        self.news.set()


class EventStreams:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._streams: dict[str, _Stream] = {}
        self._of_session: dict[str, list[_Stream]] = {}
        self._video_at: dict[str, int] = {}  # session -> which m-line of its SDP is the video

    # what happens

    def answered(self, session: str, answer: str) -> None:
        """A viewer was given this SDP answer."""
        for index, port in enumerate(re.findall(r"^m=(\w+ \d+)", answer, re.MULTILINE)):
            if port.startswith("video ") and port != "video 0":
                self._video_at[session] = index
                return

    def hears(self, session: str, name: str) -> bool:
        """Whether somebody reads events of this name."""
        return any(it.reader is not None and name in it.names for it in self._of_session.get(session, ()))

    def tell(self, session: str, event: Event) -> None:
        """An event of services.pages, for one session."""
        for stream in self._of_session.get(session, ()):
            self._tell(stream, event)

    def _tell(self, stream: _Stream, event: Event) -> None:
        name, data = event
        if name == "move" and "url" not in data:  # with an address it is an offer, and nothing breaks off
            stream.put(("reconnect", {}))
        elif name == "ended" or (name == "state" and data["state"] != "live"):
            if stream.was_active:
                stream.was_active = False
                stream.put(("inactive", {}))
        elif name == "state" and not stream.was_active:
            stream.was_active = True
            stream.put(("active", {}))
        stream.put(event)

    def end(self, session: str) -> None:
        """The session is over, and was told so."""
        self._video_at.pop(session, None)
        for stream in self._of_session.pop(session, ()):
            del self._streams[stream.id]
            stream.end()

    def second(self) -> None:
        """Once a second: how many watch, and what can be chosen from, where it has changed."""
        for stream in self._streams.values():
            self._count(stream)

    def _count(self, stream: _Stream) -> None:
        viewers = self._board.viewers(stream.session.channel)
        if viewers != stream.counted:
            stream.counted = viewers
            stream.put(("viewercount", {"viewercount": viewers}))
        layers = self._layers(stream.session)
        # The bitrate is another one each second: news is only whether there is any.
        shape = layers and {key: value for key, value in layers.items() if key != "bitrate"}
        if shape != stream.layers:
            stream.layers = shape
            if layers is not None:
                index = str(self._video_at[stream.session.id])
                stream.put(("layers", {index: [layers | {"spatialLayerId": 0}]}))

    def _layers(self, session: Session) -> dict[str, Any] | None:
        """The one layer there is, as the origin sees it; None where nothing is known of it."""
        source = self._board.streams.get(session.channel)
        report = None if source is None else self._board.stream_report(source)
        if report is None or report.width is None or session.id not in self._video_at:
            return None
        layer = {"width": report.width, "height": report.height}
        return layer | ({"bitrate": round(report.bitrate_bps)} if report.bitrate_bps else {})

    def close(self) -> None:
        for session in list(self._of_session):
            self.end(session)

    # what players do

    def make(self, session: Session, names: Iterable[str] | None, first: Event) -> str:
        """A new stream of these events (None: all), which begins with what `first` says; its id.

        Raises BadRequest for a name that is none of NAMES, Conflict where the session has enough of them.
        """
        wanted = frozenset(NAMES if names is None else names)
        if unknown := sorted(wanted - set(NAMES)):
            raise BadRequest(
                f"There is no event {', '.join(unknown)[:100]!r}. There are: {', '.join(NAMES)}.",
                code="unknown_event",
                title="An event is asked for that there is not",
            )
        if session.id not in self._board.sessions:
            raise NotFound("The session has ended. Make a new one.", code="no_such_session")
        streams = self._of_session.setdefault(session.id, [])
        if len(streams) >= MOST_A_SESSION:
            raise Conflict(
                f"The session has {MOST_A_SESSION} event streams. DELETE one of them first.",
                code="too_many_event_streams",
            )
        stream = _Stream(secrets.token_hex(12), session, wanted)
        streams.append(stream)
        self._streams[stream.id] = stream
        self._tell(stream, first)
        self._count(stream)
        return stream.id

    def find(self, session: Session, stream_id: str) -> None:
        """Raises NotFound where the session has no such stream (any more)."""
        self._find(session, stream_id)

    def _find(self, session: Session, stream_id: str) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.session.id != session.id:
            raise NotFound("The event stream has ended, or never was.", code="no_such_event_stream")
        return stream

    async def read(self, session: Session, stream_id: str) -> AsyncGenerator[Event, None]:
        """What has happened and what happens, until the stream ends or somebody else reads it."""
        stream = self._find(session, stream_id)
        reader = stream.reader = object()
        stream.news.set()  # whoever read before sees that it is over
        try:
            while True:
                while stream.waiting and stream.reader is reader:
                    yield stream.waiting.popleft()
                if stream.ended or stream.reader is not reader:
                    return
                stream.news.clear()
                await stream.news.wait()
        finally:
            if stream.reader is reader:
                stream.reader = None

    def drop(self, session: Session, stream_id: str) -> None:
        """The player ends it: what waits to be read is forgotten."""
        stream = self._find(session, stream_id)
        del self._streams[stream_id]
        self._of_session[session.id].remove(stream)
        stream.waiting.clear()
        stream.end()
