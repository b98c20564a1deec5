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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A WebRTC peer on a node. Ended sessions are kept a little while, so that their page can be told why."""

    id: str
    kind: SessionKind
    channel: str
    node: str
    created_at: float
    peer: str | None = None  # relay_out: the edge that receives
    ended_at: float | None = None
    end_reason: EndReason | None = None

    @property
    def seat(self) -> bool:
        """Whether it takes a place on its node: hops between our own nodes do not."""
        return self.kind in (SessionKind.WHIP, SessionKind.WHEP)
