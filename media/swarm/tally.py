"""Seconds of a whole swarm put together: what is shown while it runs, and the figures at the end."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from media.swarm.second import COUNTS, Second

SETTLE_S = 2.0  # after the last viewer came: left out of bitrate, latency and lateness
WHOLE_SECOND = 0.5  # what was fed at the end may have been less than one, and says little by itself


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


class Spread:
    """Percentiles of values without end: how often each was seen, to a tenth, so that days of it fit."""

    def __init__(self) -> None:
        self._seen: Counter[float] = Counter()

    def __len__(self) -> int:
        return self._seen.total()

    def add(self, values: Iterable[float]) -> None:
        self._seen.update(round(value, 1) for value in values)

    def at(self, percent: float) -> float | None:
        """Nearest rank; None of nothing."""
        rank = max(1, math.ceil(len(self) * percent / 100))
        for value in sorted(self._seen):
            rank -= self._seen[value]
            if rank <= 0:
                return value
        return None

    def figures(self) -> dict[str, float | None]:
        return {"p50": self.at(50), "p95": self.at(95), "p99": self.at(99), "max": self.at(100)}


@dataclass
class Tally:
    """Fed with each second of the whole swarm."""

    whep: str
    wanted: int
    now: Second = field(default_factory=Second)
    elapsed: float = 0.0
    join_ms: Spread = field(default_factory=Spread)
    first_frame_ms: Spread = field(default_factory=Spread)
    latency_ms: Spread = field(default_factory=Spread)
    lateness_ms: Spread = field(default_factory=Spread)
    move_gap_ms: Spread = field(default_factory=Spread)
    longest_gap_ms: float = 0.0
    joins_now: float = 0.0  # a second, of late
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    _first_join: float | None = None  # the seconds in which anybody joined begin and end here
    _last_join: float = 0.0
    _steady_since: float | None = None
    _steady_bits: int = 0
    _steady_watched_s: float = 0.0

    def feed(self, second: Second, took: float) -> None:
        """A second of everybody, and how long it really was."""
        self.now = second
        if second.join_ms and self._first_join is None:
            self._first_join = self.elapsed
        self.elapsed += took
        if second.join_ms:
            self._last_join = self.elapsed
        if took >= WHOLE_SECOND:
            self.joins_now = len(second.join_ms) / took
        self.join_ms.add(second.join_ms)
        self.first_frame_ms.add(second.first_frame_ms)
        self.move_gap_ms.add(second.move_gap_ms)
        for name in COUNTS:
            self.totals[name] += getattr(second, name)
        if second.viewers < self.wanted:
            return
        if self._steady_since is None:
            self._steady_since = self.elapsed
        if self.elapsed - self._steady_since < SETTLE_S:
            return
        self.latency_ms.add(second.latency_ms)
        self.lateness_ms.add(second.lateness_ms)
        self.longest_gap_ms = max([self.longest_gap_ms, *second.gap_ms])
        self._steady_bits += 8 * second.bytes
        self._steady_watched_s += second.watched_s

    @property
    def complete_for(self) -> float | None:
        """Seconds since all were there for the first time; None before."""
        return None if self._steady_since is None else self.elapsed - self._steady_since

    @property
    def joins_per_s(self) -> float | None:
        """Viewers whose DTLS was done, from the first to the last second in which there were any."""
        if self._first_join is None or self._last_join <= self._first_join:
            return None
        return round(len(self.join_ms) / (self._last_join - self._first_join), 1)

    @property
    def bitrate_bps(self) -> float | None:
        """Of one viewer, while all were there; headers of RTP and SRTP included."""
        return round(self._steady_bits / self._steady_watched_s) if self._steady_watched_s else None

    @property
    def loss(self) -> float | None:
        """Of all packets, those that never came, not even by retransmission."""
        sent = self.totals["packets"] + self.totals["lost"]
        return round(self.totals["lost"] / sent, 6) if sent else None

    def figures(self) -> dict[str, Any]:
        """The figures as `--json` prints them; an unknown one is None."""
        now = self.now
        return {
            "whep": self.whep,
            "viewers": self.wanted,
            "asked": now.viewers,
            "connected": now.connected,
            "playing": now.playing,
            "failed": now.failed,
            "left": now.left,
            "joined": len(self.join_ms),
            "joins_per_s": self.joins_per_s,
            "reasons": now.reasons,
            "seconds": round(self.elapsed, 1),
            "bitrate_bps": self.bitrate_bps,
            "loss": self.loss,
            **{name: self.totals[name] for name in COUNTS if name != "watched_s"},
            "join_ms": self.join_ms.figures(),
            "first_frame_ms": self.first_frame_ms.figures(),
            "latency_ms": self.latency_ms.figures(),
            "lateness_ms": self.lateness_ms.figures(),
            "move_gap_ms": self.move_gap_ms.figures(),
            "longest_gap_ms": self.longest_gap_ms or None,
        }
