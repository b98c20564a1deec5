"""How one SSRC arrives at one viewer, by packet headers alone: what came, what is missing, what to ask again.

Counting must cost less than sending: an edge sends a frame as one run of packets, so runs are counted, not
packets. Sequence numbers are extended here (RFC 3550 appendix A.1); jitter is that of section 6.4.1, taken
once a run.
"""

from media.core.rtcp import ReceptionReport, middle

SPACE = 1 << 16
TOO_FAR = 3000  # a jump that is no loss but a new numbering (RFC 3550 appendix A.1: MAX_DROPOUT)
ASK_AGAIN_S = 0.1
ASK_TIMES = 5
GIVE_UP_S = 1.0
ASK_AT_ONCE = 64  # sequence numbers in one NACK


class Arrivals:
    """Counts since the start. Times are seconds on any steady clock."""

    __slots__ = ("_base", "_expected_prior", "_highest", "_last_sr", "_last_sr_at", "_missing",
                 "_received_prior", "_transit", "clock_rate", "duplicates", "given_up", "jitter",
                 "received", "recovered", "ssrc")  # fmt: skip

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        self.ssrc = ssrc
        self.clock_rate = clock_rate
        self.received = 0  # on this SSRC, each sequence number once
        self.recovered = 0  # missing ones that came by RTX
        self.duplicates = 0
        self.given_up = 0  # missing ones that never came
        self.jitter = 0.0  # in the codec's clock
        self._missing: dict[int, tuple[float, float, int]] = {}  # since when, asked last, how often
        self._base: int | None = None
        self._highest = 0  # extended
        self._transit: float | None = None
        self._expected_prior = 0
        self._received_prior = 0
        self._last_sr = 0
        self._last_sr_at = 0.0

    @property
    def expected(self) -> int:
        return 0 if self._base is None else self._highest - self._base + 1

    @property
    def missing(self) -> int:
        """Still hoped for."""
        return len(self._missing)

    def run(self, first: int, count: int, timestamp: int, now: float) -> None:
        """`count` packets of one timestamp, numbered on from `first` (16 bit)."""
        self._note_jitter(now * self.clock_rate - timestamp)
        if self._base is None:
            self._base, self._highest = first, first - 1
        ahead = (first - self._highest - 1 + SPACE // 2) % SPACE - SPACE // 2
        if ahead < 0:
            self._late(self._highest + 1 + ahead, count)
            return
        if ahead > TOO_FAR:
            self._base += ahead
            self.given_up += len(self._missing)
            self._missing.clear()
        else:
            for sequence in range(self._highest + 1, self._highest + 1 + ahead):
                self._missing[sequence] = (now, 0.0, 0)
        self._highest += ahead + count
        self.received += count

    def _late(self, first: int, count: int) -> None:
        """Out of order or seen before; the last packets of the run may be new."""
        for sequence in range(first, first + count):
            if sequence > self._highest:
                self._highest = sequence
                self.received += 1
            elif self._missing.pop(sequence, None) is not None:
                self.received += 1
            else:
                self.duplicates += 1

    def _note_jitter(self, transit: float) -> None:
        if self._transit is not None:
            step = (transit - self._transit + 0x80000000) % 0x100000000 - 0x80000000
            self.jitter += (abs(step) - self.jitter) / 16
        self._transit = transit

    def restored(self, sequence: int) -> None:
        """A retransmission brought this one (16 bit)."""
        extended = self._highest - (self._highest - sequence) % SPACE
        if self._missing.pop(extended, None) is not None:
            self.recovered += 1

    def to_ask(self, now: float) -> tuple[int, ...]:
        """What to NACK now (16 bit); what nobody could bring within a second is given up."""
        due: list[int] = []
        for sequence, (since, asked, times) in list(self._missing.items()):
            if now - since > GIVE_UP_S:
                del self._missing[sequence]
                self.given_up += 1
            elif times < ASK_TIMES and now - asked >= ASK_AGAIN_S and len(due) < ASK_AT_ONCE:
                self._missing[sequence] = (since, now, times + 1)
                due.append(sequence % SPACE)
        return tuple(due)

    def sender_report(self, ntp: int, now: float) -> None:
        self._last_sr, self._last_sr_at = middle(ntp), now

    def report(self, now: float) -> ReceptionReport | None:
        """The block for now; its fraction counts from the last call. None before the first packet."""
        if self._base is None:
            return None
        expected = self.expected
        interval = expected - self._expected_prior
        lost = interval - (self.received - self._received_prior)
        self._expected_prior, self._received_prior = expected, self.received
        return ReceptionReport(
            ssrc=self.ssrc,
            fraction_lost=min(255, lost * 256 // interval) if interval > 0 and lost > 0 else 0,
            lost=expected - self.received,
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=int(self.jitter),
            last_sr=self._last_sr,
            delay_since_last_sr=int((now - self._last_sr_at) * 65536) if self._last_sr else 0,
        )
