"""How much one viewer's way to us can take, by what its receiver reports and its REMB say.

Google's congestion control (draft-ietf-rmcat-gcc-02) has two halves and takes the lesser of them:

*By loss* (section 6), at our end, from receiver reports (RFC 3550 section 6.4.1). With p the share lost:

    p > 10 %         A = A * (1 - 0.5 p)     the way is too narrow, or its queues are full
    2 % .. 10 %      A stays
    p < 2 %          A = A * 1.05            at most once a second

*By delay*, at the receiver's end: browsers do that half and tell the result as REMB (draft-alvestrand-rmcat-
remb-03: the total bit rate SHALL be equal to or lower than it). It is an upper bound, for REMB_KEPT seconds.

A congestion controller sends at A; a node sends what the stream is, and its loss says no more than was tried.
So A begins with what demonstrably arrived, `R = sent * (1 - p)`, is never below it, and does not rise above
1.5 R (section 5.5 has that bound for the same trouble: a sender that cannot follow its estimate). The bound
keeps A from rising and does not lower it: a quiet scene takes away nothing of what was proven before.

Loss is weighed by the packets it was of: reports are gathered until they are about SETTLE seconds and
MIN_PACKETS, so that neither a peer that reports often nor one lost packet out of three makes a storm of it.

An estimate is a matter of the recent past. KEPT seconds after the last report there is none.
"""

from media.core.rtcp import ReceptionReport

REMB_KEPT = 5.0  # seconds; browsers repeat theirs each second
KEPT = 15.0  # seconds; three of the longest usual intervals between reports (RFC 3550 section 6.2)
SETTLE = 1.0  # seconds of reports before they count
MIN_PACKETS = 20  # that reports must be about before they count
LOW_LOSS, HIGH_LOSS = 0.02, 0.10
INCREASE = 1.05
HEADROOM = 1.5  # times what arrived: so far may an estimate be ahead of what was tried
FLOOR, CEILING = 10_000, 1_000_000_000  # bits per second: what is outside them is nobody's line
_SEQUENCES = 1 << 32  # extended sequence numbers
_AHEAD = 1 << 16  # packets a report may be ahead of the one before: more is no progress but another numbering


class BandwidthEstimate:
    """Bits per second, of one viewer. A report costs a microsecond; there is none it does not bear."""

    __slots__ = ("_by_loss", "_expected", "_highest", "_lost", "_remb", "_remb_at", "_reported_at",
                 "_sent", "_since")  # fmt: skip

    def __init__(self) -> None:
        self._by_loss: float | None = None
        self._reported_at = 0.0
        self._remb: int | None = None
        self._remb_at = 0.0
        self._highest: int | None = None  # extended sequence number of the last report
        self._since = 0.0  # when the reports began that are being gathered
        self._sent = 0  # bytes, by then
        self._expected = 0  # packets they are about
        self._lost = 0.0  # of them

    def report(self, block: ReceptionReport, sent: int, now: float) -> None:
        """A report block about the SSRC that carries most of what the viewer is sent.

        `sent` is how many bytes it has been sent in all since it joined, of every SSRC. `now` is in steady
        seconds, as everywhere here.
        """
        highest, self._highest = self._highest, block.highest_sequence
        progress = 0 if highest is None else (block.highest_sequence - highest) % _SEQUENCES
        if highest is None or progress >= _AHEAD:
            self._begin(sent, now)
            return
        self._expected += progress
        self._lost += progress * min(255, max(0, block.fraction_lost)) / 256
        elapsed = now - self._since
        if elapsed < SETTLE or self._expected < MIN_PACKETS:
            return
        if now - self._reported_at > KEPT:
            self._by_loss = None  # what was known is too old to go on from
        loss = self._lost / self._expected
        arrived = 8 * max(0, sent - self._sent) * (1 - loss) / elapsed
        self._by_loss = _step(self._by_loss, loss, arrived)
        self._reported_at = now
        self._begin(sent, now)

    def _begin(self, sent: int, now: float) -> None:
        self._since, self._sent = now, sent
        self._expected, self._lost = 0, 0.0

    def remb(self, bitrate: int, now: float) -> None:
        """The viewer says how much it can take in all, bits per second; what it said before is forgotten."""
        self._remb, self._remb_at = bitrate, now

    def upper_bound(self, now: float) -> int | None:
        """What the viewer itself said it can take, bits per second; None when that was long ago, or never."""
        return self._remb if now - self._remb_at <= REMB_KEPT else None

    def value(self, now: float) -> int | None:
        """Bits per second that the viewer can take; None while nothing recent is known."""
        if self._by_loss is None or now - self._reported_at > KEPT:
            return None
        bound = self.upper_bound(now)
        value = self._by_loss if bound is None else min(self._by_loss, bound)
        return round(min(CEILING, max(FLOOR, value)))


def _step(before: float | None, loss: float, arrived: float) -> float:
    """The next loss-based estimate: see the module's docstring. `arrived` and both estimates in bits/s."""
    if before is None:
        after = arrived
    elif loss > HIGH_LOSS:
        after = max(before * (1 - 0.5 * loss), arrived)
    elif loss < LOW_LOSS:
        after = max(before, min(before * INCREASE, HEADROOM * arrived), arrived)
    else:
        after = max(before, arrived)
    return min(CEILING, max(FLOOR, after))
