"""What a publisher says to the stream manager while it is on air, beside WHIP (RFC 9725).

`POST /api/v1/channels/{channel}/publisher`, once a second, with the publish token as bearer. The answer
tells the publisher to go on, to stop for good, or to publish again (its origin has gone).

Its good-bye, the WHIP DELETE, may say in its query why: `?why=source_over`. Any other client leaves that out.
"""

from enum import StrEnum
from typing import Literal

from controlplane.wire.base import Message

SOURCE_OVER = "source_over"  # the file was played to its end, and was not to be looped


class PublishState(StrEnum):
    STARTING = "starting"
    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    STOPPING = "stopping"
    ENDED = "ended"
    FAILED = "failed"


class PublishLine(Message):
    """One line of `showcaller publish --json`: a contract that outside scripts rely on."""

    at: str  # ISO 8601, UTC
    channel: str
    state: PublishState
    bitrate_bps: float | None = None  # sent over the last second, RTP
    fps: float | None = None
    skipped: int | None = None  # source frames the encoder skipped since the start
    rtt_ms: float | None = None


class PublisherReport(Message):
    """A PublishLine and what the console's Broadcast screen shows beside it."""

    line: PublishLine
    publisher: str  # a name for people: "showcaller publish on HOST, pid N"
    session: str | None = None  # the WHIP resource id of the present session
    source: str  # "test" or a file's name
    width: int | None = None
    height: int | None = None
    target_bps: float | None = None
    target_fps: float | None = None
    copy_mode: bool = False  # sent without re-encoding
    missed: int | None = None  # frames the source could not deliver in time, since the start
    dropped: int | None = None  # frames dropped on the way out (send queue full), since the start
    position_s: float | None = None
    duration_s: float | None = None  # of the source; None when endless
    audio_level_db: float | None = None
    message: str = ""  # what went wrong, in words


class PublisherOrder(Message):
    action: Literal["continue", "stop", "reconnect"] = "continue"
    reason: str = ""
