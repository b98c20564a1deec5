"""An event, as the database keeps it."""

from dataclasses import dataclass

from controlplane.wire.events import EventState

PREFIX = "ev-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Times are Unix seconds. Whether it is coming, on or over is told by the clock, and not written down."""

    id: int  # the database's own; 0: it has none yet
    title: str
    starts_at: float
    ends_at: float
    zone: str  # in which its times are said
    channel: str
    expected: int  # people who will watch
    created_at: float
    cancelled_at: float | None = None
    cancel_reason: str | None = None
    checked_at: float | None = None  # of the last preflight

    @property
    def name(self) -> str:
        """What people type: ev-7."""
        return f"{PREFIX}{self.id}"

    def state(self, now: float) -> EventState:
        if self.cancelled_at is not None:
            return EventState.CANCELLED
        if now >= self.ends_at:
            return EventState.ENDED
        return EventState.ON if now >= self.starts_at else EventState.COMING

    def is_due(self, now: float) -> bool:
        """Whether anything is still to be done for it."""
        return self.state(now) in (EventState.COMING, EventState.ON)
