"""What a swarm saw in about a second: gauges, counts of that time, and one value a viewer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

#: as they are at its end
GAUGES = ("viewers", "connected", "playing", "failed", "left")
#: how many in this time
COUNTS = (
    "watched_s",
    "bytes",
    "packets",
    "lost",
    "recovered",
    "duplicates",
    "nacks",
    "unauthentic",
    "frames",
    "late_frames",
    "moved",
    "moves_failed",
)
#: one value a viewer
LISTS = ("join_ms", "first_frame_ms", "latency_ms", "lateness_ms", "gap_ms", "move_gap_ms")


@dataclass
class Second:
    viewers: int = 0  # asked for so far
    connected: int = 0
    playing: int = 0  # connected, and a whole key frame has come
    failed: int = 0  # so far
    left: int = 0  # so far, when their time was over
    reasons: dict[str, int] = field(default_factory=dict)  # why they failed, the most frequent ones
    watched_s: float = 0.0  # seconds of viewers who saw the stream: two in one second are two
    bytes: int = 0  # RTP with its headers
    packets: int = 0
    lost: int = 0  # given up
    recovered: int = 0  # by retransmission
    duplicates: int = 0
    nacks: int = 0  # sequence numbers asked for again
    unauthentic: int = 0  # of the packets that were decrypted
    frames: int = 0
    late_frames: int = 0
    moved: int = 0  # to another node, as they were told to
    moves_failed: int = 0  # moves that came to nothing: who tried is where it was
    join_ms: list[float] = field(default_factory=list)  # from the offer to DTLS; of those who joined
    first_frame_ms: list[float] = field(default_factory=list)  # from the offer to a whole key frame
    latency_ms: list[float] = field(default_factory=list)  # capture to arrival, where the clocks agree
    lateness_ms: list[float] = field(default_factory=list)  # the worst frame, against the quickest ever
    gap_ms: list[float] = field(default_factory=list)  # the longest time between two frames
    move_gap_ms: list[float] = field(default_factory=list)  # from the last frame there to the first one here

    def since(self, before: "Second") -> "Second":
        """This one, with counts that grew from `before` on."""
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in COUNTS})

    def standing(self) -> "Second":
        """How many there are, and that nothing happened."""
        return Second(**{name: getattr(self, name) for name in GAUGES}, reasons=self.reasons)


def add_up(seconds: Iterable[Second]) -> Second:
    """The same second of several processes."""
    seconds = list(seconds)
    total = _joined(seconds)
    for name in GAUGES:
        setattr(total, name, sum(getattr(second, name) for second in seconds))
    reasons: Counter[str] = Counter()
    for second in seconds:
        reasons.update(second.reasons)
    total.reasons = dict(reasons.most_common(5))
    return total


def in_turn(seconds: Sequence[Second]) -> Second:
    """Seconds of one process, one after another, as one."""
    last = seconds[-1].standing()
    total = _joined(seconds)
    return replace(total, reasons=last.reasons, **{name: getattr(last, name) for name in GAUGES})


def _joined(seconds: Sequence[Second]) -> Second:
    total = Second()
    for name in COUNTS:
        setattr(total, name, sum(getattr(second, name) for second in seconds))
    for name in LISTS:
        setattr(total, name, [value for second in seconds for value in getattr(second, name)])
    return total
