"""Loss, both ways: what is missing from upstream is asked for again; what viewers miss is sent again.

Both within bounds: asking and answering without end makes a full link fuller.
"""

from collections import OrderedDict

NACK_FIRST_DELAY = 0.004  # seconds: a packet merely out of order gets here before that
NACK_MAX_TRIES = 8
NACK_MAX_AGE = 1.5
NACK_MAX_MISSING = 512  # beyond that a key frame is the better cure


class MissingPackets:
    """Gaps in one track's numbers, and when to ask for them (RFC 4585 generic NACK)."""

    __slots__ = ("_missing", "expected", "given_up", "lost", "recovered")

    def __init__(self) -> None:
        self._missing: OrderedDict[int, list[float]] = (
            OrderedDict()
        )  # number -> [first seen, next ask, tries]
        self.expected = 0  # packets that should have come, since the start
        self.recovered = 0  # that came late or when asked for
        self.lost = 0  # given up
        self.given_up = False  # something was given up since this was last looked at

    def __len__(self) -> int:
        return len(self._missing)

    def arrived(self, number: int, newest_before: int, now: float) -> None:
        """A packet came; `newest_before` is the highest number seen before it."""
        if number <= newest_before:
            if self._missing.pop(number, None) is not None:
                self.recovered += 1
            return
        gap = number - newest_before - 1
        self.expected += gap + 1
        if gap > NACK_MAX_MISSING:
            self.lost += gap
            self.given_up = True
            return
        for missing in range(newest_before + 1, number):
            self._missing[missing] = [now, now + NACK_FIRST_DELAY, 0]
        while len(self._missing) > NACK_MAX_MISSING:
            self._missing.popitem(last=False)
            self.lost += 1
            self.given_up = True

    def followed(self, count: int) -> None:
        """So many packets came, each the next one."""
        self.expected += count

    def reset(self) -> None:
        """Another source: what the old one owed will not come."""
        self.lost += len(self._missing)
        self._missing.clear()

    def due(self, now: float, round_trip: float | None) -> list[int]:
        """The numbers to ask for now, in order."""
        if not self._missing:
            return []
        wait = max(0.02, 1.5 * (round_trip or 0.0))
        result: list[int] = []
        dead: list[int] = []
        for number, entry in self._missing.items():
            if entry[1] > now:
                continue
            if entry[2] >= NACK_MAX_TRIES or now - entry[0] > NACK_MAX_AGE:
                dead.append(number)
                continue
            entry[1] = now + wait * (1.0 + 0.5 * entry[2])
            entry[2] += 1
            result.append(number)
        for number in dead:
            del self._missing[number]
            self.lost += 1
            self.given_up = True
        return result

    def next_due(self) -> float | None:
        return min((entry[1] for entry in self._missing.values()), default=None)


class ResendBudget:
    """How much one viewer may have sent again: a token bucket, and no packet twice within its round trip.

    Answering every NACK of a viewer behind a full link makes the link fuller; a quarter of the stream's own
    packet rate cures any loss that can be cured.
    """

    __slots__ = ("_at", "_recent", "_tokens", "refused")

    BURST = 256.0
    REMEMBERED = 2.0  # seconds

    def __init__(self) -> None:
        self._tokens = self.BURST
        self._at: float | None = None
        self._recent: OrderedDict[int, float] = OrderedDict()
        self.refused = 0

    def allow(self, number: int, now: float, packets_per_second: float, round_trip: float | None) -> bool:
        if self._at is not None:
            refill = max(50.0, 0.25 * packets_per_second)
            self._tokens = min(self.BURST, self._tokens + refill * (now - self._at))
        self._at = now
        last = self._recent.get(number)
        if last is not None and now - last < max(0.01, 0.8 * (round_trip or 0.0)):
            return False
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        recent = self._recent
        recent[number] = now
        recent.move_to_end(number)
        # What no round trip reaches back to is forgotten: for many lossy viewers it would be megabytes.
        while now - recent[oldest := next(iter(recent))] > self.REMEMBERED or len(recent) > 1024:
            del recent[oldest]
        return True
