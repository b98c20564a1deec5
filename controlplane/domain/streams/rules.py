"""Decisions about live streams, as pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from controlplane.domain.streams.model import Stream, StreamState
from controlplane.wire.nodes import StreamReport

PageState = Literal["live", "waiting", "ended"]


def page_state(stream: Stream | None) -> PageState:
    """What a watch page is told of a stream."""
    if stream is None or stream.state is StreamState.ENDED:
        return "ended"
    return "live" if stream.state is StreamState.LIVE else "waiting"


def shown_on_air(stream: Stream | None) -> bool:
    """Whether a waiting page should start: a broadcast that has shown a picture and has not ended."""
    return stream is not None and stream.state is not StreamState.ENDED and stream.was_live


def from_origin(stream: Stream, report: StreamReport) -> StreamState:
    """The state a stream should be in, after what its origin said of it."""
    if report.state == "live":
        return StreamState.LIVE
    if report.state == "stalled" and stream.state is StreamState.LIVE:
        return StreamState.STALLED
    return stream.state


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stream is waited for, in seconds."""

    connect_s: float  # from a publisher's place to its first media
    reconnect_s: float  # from its loss to its return
    stalled_s: float  # without media and without a word of the publisher
    stalled_reporting_s: float  # without media, while the publisher says it is at it


def after_waiting(
    stream: Stream, waited: float, publisher_age_s: float | None, patience: Patience
) -> StreamState:
    """The state a stream should be in, by the clock alone.

    `waited` is how long it has been in its present state, on a steady clock: a wall clock that is set must
    not end a stream. `publisher_age_s` is how long ago its publisher last reported; None if it never did (OBS
    and others).
    """
    if stream.state is StreamState.RECONNECTING and waited >= patience.reconnect_s:
        return StreamState.ENDED
    if stream.state is StreamState.CONNECTING and waited >= patience.connect_s:
        return StreamState.ENDED
    if stream.state is StreamState.STALLED:
        reports = publisher_age_s is not None and publisher_age_s < patience.stalled_s
        limit = patience.stalled_reporting_s if reports else patience.stalled_s
        if waited >= limit:
            return StreamState.RECONNECTING
    return stream.state


def percentile(values: Sequence[float], fraction: float) -> float | None:
    """Nearest-rank percentile; None of nothing."""
    if not values:
        return None
    rank = math.ceil(fraction * len(values))
    return sorted(values)[max(rank, 1) - 1]


def post_interval_s(viewers: int, *, base_s: float, posts_per_s: float) -> float:
    """How often each viewer may post, so that all of them together stay under `posts_per_s`."""
    return max(base_s, viewers / posts_per_s)
