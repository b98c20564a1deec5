"""Handshakes over ways that lose, at the pace of the real clock, which OpenSSL's own DTLS timer reads.

On virtual time that timer never runs out, and only our resending is seen. Here both are at work: after a
second of real time without an answer OpenSSL sends its flight again by itself, in records of other numbers,
as soon as anything is handed to it. Many pairs at once, each on an emulated network whose time is the real
one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from media.core.dtls import MAX_RESEND
from media.core.session import Address, RtpPacket
from tests.media.core.emulated_network import Link, Pair, subscribe
from tests.media.core.test_session import send_rtp
from tests.support.figures import Figure

OPENSSL_TIMER_S = 1.0  # RFC 6347 section 4.2.4.1
OUTAGE_S = 1.3
LIMIT_S = 5.0


def in_real_time(pairs: list[Pair], done: Callable[[], bool]) -> bool:
    """Whether it came true within LIMIT_S. Nothing happens to a pair before the real clock says so."""
    start, began = pairs[0].network.now, time.monotonic()
    while not done():
        network = min((pair.network for pair in pairs), key=lambda network: network.next_moment)
        moment = network.next_moment - start
        if max(moment, time.monotonic() - began) > LIMIT_S:
            return False
        time.sleep(max(0.0, moment - (time.monotonic() - began)))
        network.step()
    return True


def is_dtls(data: bytes) -> bool:
    return 20 <= data[0] <= 63  # RFC 7983


@dataclass
class Outage:
    """Nothing passes, either way, from the n-th DTLS datagram of one side on."""

    pair: Pair
    side: Address
    nth: int
    since: float | None = None
    ready_at: float | None = None
    sent: int = 0  # DTLS datagrams, of both

    def __post_init__(self) -> None:
        self._send = self.pair.network.send
        self._counted = 0
        self.pair.network.send = self.send  # type: ignore[method-assign]

    def send(self, data: bytes, source: Address, to: Address) -> None:
        now = self.pair.network.now
        self.sent += is_dtls(data)
        if source == self.side and is_dtls(data):
            self._counted += 1
            if self._counted == self.nth:
                self.since = now
        if self.since is None or now - self.since >= OUTAGE_S:
            self._send(data, source, to)

    def is_over(self) -> bool:
        if self.ready_at is None and self.pair.ready:
            self.ready_at = self.pair.network.now
        return self.ready_at is not None


def interrupted() -> list[Outage]:
    """Pairs whose handshakes meet an outage, each at another datagram."""
    made = []
    for side in ("edge", "origin"):
        for nth in range(1, 4):
            pair = subscribe(Link(delay=0.010))
            made.append(Outage(pair, getattr(pair, side).address, nth))
    return made


def are_over(outages: list[Outage]) -> bool:
    over = [outage.is_over() for outage in outages]  # each is asked: it notes when
    return all(over)


def test_a_handshake_goes_on_after_an_outage_that_outlasts_openssls_timer(figure: Figure) -> None:
    """Wherever in the handshake it begins."""
    outages = interrupted()
    pairs = [outage.pair for outage in outages]
    began = time.monotonic()
    assert in_real_time(pairs, lambda: are_over(outages))
    assert time.monotonic() - began > OPENSSL_TIMER_S
    hit = [outage for outage in outages if outage.since is not None]
    assert len(hit) >= 4, "in the first and in the last flight of each side at least"
    without_it = interrupted()
    assert all(outage.pair.network.run_until(outage.is_over) for outage in without_it)
    figure(f"{sum(o.sent for o in outages)} datagrams, {sum(o.sent for o in without_it)} on virtual time")
    for outage in hit:
        assert outage.since is not None
        assert outage.ready_at is not None
        after = outage.ready_at - outage.since - OUTAGE_S
        assert after <= MAX_RESEND + 0.2, "resent by then, and two round trips of 20 ms"
        assert outage.sent <= 24, "two timers do not make a storm"
        for sequence in range(5):
            send_rtp(outage.pair, sequence)
        outage.pair.network.run_for(0.1)
        assert len(outage.pair.edge.seen(RtpPacket)) == 5, "both have the same keys"


@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_handshakes_over_ways_that_lose_take_seconds_at_most(loss: float, figure: Figure) -> None:
    link = Link(delay=0.020, jitter=0.030, loss=loss, duplication=0.05)
    pairs = [subscribe(link, seed) for seed in range(30)]
    took: dict[int, float] = {}

    def all_ready() -> bool:
        for number, pair in enumerate(pairs):
            if number not in took and pair.ready:
                took[number] = pair.network.now
        return len(took) == len(pairs)

    start = pairs[0].network.now
    assert in_real_time(pairs, all_ready), [pair.edge.closed_because for pair in pairs if not pair.ready]
    seconds = sorted(at - start for at in took.values())
    figure(f"{loss:.0%} lost: median {seconds[len(seconds) // 2]:.2f} s, the last {seconds[-1]:.2f} s")
    assert seconds[len(seconds) // 2] < 1.5
    for pair in pairs:
        pair.network.link = Link()
        send_rtp(pair, 1)
        pair.network.run_for(0.1)
        assert len(pair.edge.seen(RtpPacket)) == 1
