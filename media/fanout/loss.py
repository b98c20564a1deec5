"""Loss, both ways: what is missing from upstream is asked for again; what viewers miss is sent again.

Both within bounds: asking and answering without end makes a full link fuller. So does asking too early, and
what is early is learned from how packets come:

*Out of order.* A packet that came late by itself was never lost. How late they come is how long a gap is left
alone before it is asked for.

*A round trip.* Asked again before the answer can be here, a packet comes twice. Where nobody else knows the
round trip (we are ICE-lite toward publishers, and not all of them answer RRTR), it is the time from a
question to the retransmission.
"""

import math
from collections import OrderedDict

NACK_FIRST_DELAY = 0.004  # seconds: a packet merely out of order gets here before that, on most ways
NACK_PATIENCE = 0.040  # at most, where they come out of order by more
NACK_AGAIN = (0.02, 0.1)  # seconds to the second question: at least; and while no round trip is known
NACK_RTT = 0.1  # of a viewer of whom it is not known
NACK_MAX_TRIES = 8
NACK_MAX_AGE = 1.5
NACK_MAX_MISSING = 512  # beyond that a key frame is the better cure


class MissingPackets:
    """Gaps in one track's numbers, and when to ask for them (RFC 4585 generic NACK)."""

    __slots__ = ("_given_up_at", "_lateness", "_missing", "_round_trip", "_soonest", "expected", "given_up",
                 "lost", "recovered")  # fmt: skip

    def __init__(self) -> None:
        self._missing: OrderedDict[int, list[float]] = (
            OrderedDict()
        )  # number -> [first seen, next ask, tries, first asked]
        self._soonest = math.inf  # of the next asks, or sooner: that one may have come meanwhile
        self._lateness = 0.0  # of packets that came out of order, most of them
        self._round_trip: float | None = None  # from a question to the retransmission
        self.expected = 0  # packets that should have come, since the start
        self.recovered = 0  # that came late or when asked for
        self.lost = 0  # given up
        self.given_up = False  # something was given up since this was last looked at
        self._given_up_at = 0.0

    def __len__(self) -> int:
        return len(self._missing)

    def arrived(self, number: int, newest_before: int, now: float, *, again: bool = False) -> bool:
        """A packet came (`again`: by RTX); `newest_before` is the highest number seen before it.

        Whether more is missing than before: then `next_due` may be sooner.
        """
        if number <= newest_before:
            entry = self._missing.pop(number, None)
            if entry is not None:
                self.recovered += 1
                self._learn(entry, now, again=again)
            return False
        gap = number - newest_before - 1
        self.expected += gap + 1
        if gap > NACK_MAX_MISSING:
            self.lost += gap
            self.given_up = True
            self._given_up_at = now
            return True
        ask_at = now + self._patience()
        if gap and ask_at < self._soonest:
            self._soonest = ask_at
        for missing in range(newest_before + 1, number):
            self._missing[missing] = [now, ask_at, 0, 0.0]
        while len(self._missing) > NACK_MAX_MISSING:
            self._missing.popitem(last=False)
            self.lost += 1
            self.given_up = True
            self._given_up_at = now
        return gap > 0

    def followed(self, count: int) -> None:
        """So many packets came, each the next one."""
        self.expected += count

    def _patience(self) -> float:
        return max(NACK_FIRST_DELAY, min(NACK_PATIENCE, 1.25 * self._lateness))

    def _learn(self, entry: list[float], now: float, *, again: bool) -> None:
        """From a packet that was missing and is here: how late they come by themselves, or a round trip."""
        if not again:
            late = now - entry[0]
            if late <= NACK_PATIENCE:  # later ones were lost, and are passed on by a node that got them again
                self._lateness += (late - self._lateness) / (4 if late > self._lateness else 32)
        elif entry[2]:
            # Whichever question it answers: by the first one where none is lost, which is the rule.
            trip, known = now - entry[3], self._round_trip
            self._round_trip = trip if known is None else known + (trip - known) / (16 if trip > known else 4)

    def reset(self) -> None:
        """Another source: what the old one owed will not come, and its way is another."""
        self.lost += len(self._missing)
        self.given_up = False
        self._missing.clear()
        self._soonest = math.inf
        self._lateness = 0.0
        self._round_trip = None

    def due(self, now: float, round_trip: float | None) -> list[int]:
        """The numbers to ask for now, in order. `round_trip` in seconds, where it has been measured."""
        if not self._missing:
            self._soonest = math.inf
            return []
        least, unknown = NACK_AGAIN
        trip = round_trip if round_trip is not None else self._round_trip
        wait = unknown if trip is None else max(least, 1.25 * trip)
        result: list[int] = []
        dead: list[int] = []
        soonest = math.inf
        for number, entry in self._missing.items():
            if entry[1] > now:
                soonest = min(soonest, entry[1])
                continue
            if entry[2] >= NACK_MAX_TRIES or now - entry[0] > NACK_MAX_AGE:
                dead.append(number)
                continue
            if not entry[2]:
                entry[3] = now
            entry[1] = now + wait * (1.0 + 0.25 * entry[2])
            entry[2] += 1
            soonest = min(soonest, entry[1])
            result.append(number)
        for number in dead:
            del self._missing[number]
            self.lost += 1
            self.given_up = True
            self._given_up_at = now
        self._soonest = soonest
        return result

    def next_due(self) -> float | None:
        """When to ask `due`, which may be too soon, or to look at `given_up`; None: not by itself."""
        if self.given_up:
            return self._given_up_at
        return self._soonest if self._missing else None


def met_on_its_way(sent: float | None, now: float, round_trip: float | None) -> bool:
    """Whether a question for a packet was asked before the packet, sent at `sent`, can have been there.

    For what goes out late, to all at once: each viewer that missed it may just be asking for it.
    """
    return sent is not None and now - sent < (
        NACK_RTT if round_trip is None else round_trip + NACK_FIRST_DELAY
    )


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
