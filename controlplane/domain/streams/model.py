"""A live stream and a session, as the database keeps them."""

from dataclasses import dataclass
from enum import StrEnum

from controlplane.wire.nodes import SessionKind


class StreamState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The media of a channel. One row a channel: the next broadcast of the channel uses it again.

    `session` is the WHIP session that feeds it, `jti` the publish token that may take it over.
    """

    channel: str
    state: StreamState
    state_since: float
    state_reason: str
    since: float  # when this broadcast began
    origin: str | None
    session: str | None
    jti: str
    publisher: str | None = None  # a name for people
    was_live: bool = False  # in this broadcast
    video_codec: str | None = None  # what its publisher's session takes; None: not known yet, or no picture


class EndReason(StrEnum):
    """Why a session ended, as far as its page must know."""

    LEFT = "left"  # the peer's own wish, or it vanished
    MOVED = "moved"  # its node went away: come back, somewhere else is room
    STREAM_ENDED = "stream_ended"
    REPLACED = "replaced"  # the same publisher or edge came back with a new one
    REFUSED = "refused"  # the node did not take it
    REHOMED = "rehomed"  # the viewer has another one by now, on the node that it was moved to
    GIVEN_BACK = "given_back"  # a seat that was kept for a viewer being moved, and that nobody came for


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A WebRTC peer on a node. Ended sessions are kept a little while, so that their page can be told why.

    A viewer that is moved has two for a moment: the one it watches by, and one that was reserved for it
    elsewhere (`moved_from`), which no peer has come to before `move_until` is None.
    """

    id: str
    kind: SessionKind
    channel: str
    node: str
    created_at: float
    peer: str | None = None  # relay_out: the edge that receives
    ended_at: float | None = None
    end_reason: EndReason | None = None
    party: str | None = None  # whom a viewer watches with, in its own word
    moved_from: str | None = None  # the viewer's session before, on the node that is drained
    move_until: float | None = None  # nobody has come to it yet, and it is kept until then

    @property
    def seat(self) -> bool:
        """Whether it takes a place on its node: hops between our own nodes do not."""
        return self.kind in (SessionKind.WHIP, SessionKind.WHEP)


PartyKey = tuple[str, str]  # its channel, its word


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Viewers of a channel who say the same word, and the node that has room for all of them.

    `kept` seats are reserved there and nobody's yet: whoever of the party comes takes one of them. The row is
    there for as long as somebody of the party is on the node. Whoever found no seat there is elsewhere, and
    no part of it.
    """

    channel: str
    party: str
    node: str  # "": nowhere (any more)
    kept: int = 0
    kept_until: float = 0.0  # then they are given back

    @property
    def key(self) -> PartyKey:
        return (self.channel, self.party)
