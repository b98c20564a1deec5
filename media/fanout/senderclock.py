"""Sender reports of this hop in the publisher's clock (RFC 3550 section 6.4.1).

A report from upstream says: at my clock's NTP the timestamp was T. It left there a moment ago: half a round
trip. So the publisher's clock now is NTP + age + half the round trip, and with it the timestamp moves on by
the same time. A forwarded report must not repeat the old pair: viewers take a report's NTP for the time at
which it was sent.
"""

from dataclasses import dataclass

NTP_SECOND = 1 << 32
NTP_SPACE = 1 << 64  # it wraps in 2036, and a publisher's clock may say anything
TIMESTAMP_SPACE = 1 << 32


@dataclass(slots=True)
class _Upstream:
    ntp: int
    timestamp: int  # of the source, before the offset
    at: float


class SenderClock:
    """One track's clock: fed with upstream reports, asked for the pair to report now."""

    __slots__ = ("_clock_rate", "_report")

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._report: _Upstream | None = None

    def received(self, ntp: int, timestamp: int, now: float) -> None:
        self._report = _Upstream(ntp, timestamp, now)

    def reset(self) -> None:
        """Another source: its clock is not known yet."""
        self._report = None

    @property
    def known(self) -> bool:
        return self._report is not None

    def pair(self, now: float, round_trip: float | None) -> tuple[int, int] | None:
        """(64-bit NTP time, source timestamp) of the publisher's clock now; None before its first report."""
        report = self._report
        if report is None:
            return None
        passed = now - report.at + (round_trip or 0.0) / 2
        ntp = (report.ntp + int(passed * NTP_SECOND)) % NTP_SPACE
        timestamp = (report.timestamp + round(passed * self._clock_rate)) % TIMESTAMP_SPACE
        return ntp, timestamp
