"""The life of a live stream, as a table. `ended` is where a channel rests between broadcasts."""

from controlplane.domain.machine import Machine
from controlplane.domain.streams.model import StreamState

CONNECTING = StreamState.CONNECTING
LIVE = StreamState.LIVE
STALLED = StreamState.STALLED
RECONNECTING = StreamState.RECONNECTING
ENDED = StreamState.ENDED

MACHINE: Machine[StreamState] = Machine(
    "stream",
    initial=CONNECTING,
    meanings={
        CONNECTING: "A publisher has a place on an origin; no media yet.",
        LIVE: "Media arrives.",
        STALLED: "The publisher is there, and nothing has arrived for 2 s.",
        RECONNECTING: "The publisher or its origin has gone; viewers wait for it to come back.",
        ENDED: "Off the air.",
    },
    transitions=[
        (ENDED, CONNECTING, "a publisher starts"),
        (CONNECTING, LIVE, "the first media arrives"),
        (CONNECTING, RECONNECTING, "the publisher or its origin went away"),
        (CONNECTING, ENDED, "refused, given up, or stopped"),
        (LIVE, STALLED, "no media for 2 s"),
        (LIVE, RECONNECTING, "the publisher or its origin went away"),
        (LIVE, ENDED, "the publisher ended it, or an operator stopped it"),
        (STALLED, LIVE, "media arrives again"),
        (STALLED, RECONNECTING, "the publisher or its origin went away"),
        (STALLED, ENDED, "the publisher ended it, or an operator stopped it"),
        (LIVE, CONNECTING, "the same publisher comes back with a new session"),
        (STALLED, CONNECTING, "the same publisher comes back with a new session"),
        (RECONNECTING, CONNECTING, "the same publisher comes back with a new session"),
        (RECONNECTING, LIVE, "media arrives again"),
        (RECONNECTING, ENDED, "nobody came back in time, or an operator stopped it"),
    ],
)

ON_AIR = frozenset({CONNECTING, LIVE, STALLED, RECONNECTING})
"""The channel is taken: another publisher is refused."""

FED = frozenset({CONNECTING, LIVE, STALLED})
"""There is an origin that has it: an edge may subscribe."""
