"""How one SSRC arrives here, for the report blocks we send upstream (RFC 3550 appendix A.3 and A.8)."""

from media.core.rtcp import ReceptionReport, middle

SEQUENCE_SPACE = 1 << 16


class Reception:
    """Counts one source's packets as they come off the wire, retransmissions not included."""

    __slots__ = ("_base", "_clock_rate", "_expected_prior", "_highest", "_jitter", "_last_sr", "_last_sr_at",
                 "_received", "_received_prior", "_transit", "last_at", "ssrc")  # fmt: skip

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        self.ssrc = ssrc
        self.last_at = 0.0  # when its last packet came
        self._clock_rate = clock_rate
        self._base: int | None = None
        self._highest = 0
        self._received = 0
        self._expected_prior = 0
        self._received_prior = 0
        self._jitter = 0.0
        self._transit: int | None = None
        self._last_sr = 0
        self._last_sr_at = 0.0

    def packets(self, sequence: int, timestamp: int, count: int, now: float) -> None:
        """`count` packets of one timestamp came at once, in a row from this sequence number on."""
        self.last_at = now
        if self._base is None:
            self._base = self._highest = sequence
        last = (sequence + count - 1) % SEQUENCE_SPACE
        ahead = (last - self._highest + 0x8000) % SEQUENCE_SPACE - 0x8000
        if ahead > 0:
            self._highest += ahead
        self._received += count
        transit = (int(now * self._clock_rate) - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            step = ((transit - self._transit + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            self._jitter += (abs(step) - self._jitter) / 16
            if count > 1:
                self._jitter *= (15 / 16) ** (count - 1)  # the others came with no step at all
        self._transit = transit

    def sender_report(self, ntp: int, now: float) -> None:
        self._last_sr = middle(ntp)
        self._last_sr_at = now

    @property
    def highest(self) -> int:
        """Extended sequence number."""
        return self._highest

    @property
    def received(self) -> int:
        """Packets."""
        return self._received

    @property
    def jitter(self) -> float:
        """Seconds."""
        return self._jitter / self._clock_rate

    @property
    def lost(self) -> int:
        """Packets that never came at first, those that came when asked for among them."""
        return 0 if self._base is None else self._highest - self._base + 1 - self._received

    def report(self, now: float) -> ReceptionReport | None:
        """The block for now; the fraction counts from the last call. None before the first packet."""
        if self._base is None:
            return None
        expected = self._highest - self._base + 1
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (self._received - self._received_prior)
        self._expected_prior, self._received_prior = expected, self._received
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, lost_interval * 256 // expected_interval)
        delay = int((now - self._last_sr_at) * 65536) if self._last_sr else 0
        return ReceptionReport(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            lost=expected - self._received,
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=int(self._jitter),
            last_sr=self._last_sr,
            delay_since_last_sr=delay,
        )
