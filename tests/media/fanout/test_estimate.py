"""What a viewer's way can take, by its reports: on virtual time, honest viewers and others."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.rtcp import ReceptionReport, Remb, build_compound, parse_compound
from media.fanout.estimate import CEILING, FLOOR, KEPT, REMB_KEPT, BandwidthEstimate

MBPS = 1_000_000
PACKETS = 480  # a second: 4.5 Mbps


class Line:
    """A viewer that reports each second: what it is sent, and what of it arrives."""

    def __init__(self) -> None:
        self.estimate = BandwidthEstimate()
        self.now = 1000.0
        self.sent = 7_000_000  # bytes, of an earlier life: only what is sent from now on counts
        self.block = ReceptionReport(1, 0, 0, 0xFFFFFF00, 0, 0, 0)
        self.estimate.report(self.block, self.sent, self.now)

    def second(self, *, bps: float = 4.5 * MBPS, loss: float = 0.0, packets: int = PACKETS) -> int | None:
        """One second of the stream, and the report of it; returns the estimate."""
        self.now += 1
        self.sent += round(bps / 8)
        highest = (self.block.highest_sequence + packets) % 2**32
        self.block = self.block._replace(fraction_lost=int(loss * 256), highest_sequence=highest)
        self.estimate.report(self.block, self.sent, self.now)
        return self.estimate.value(self.now)


def test_nothing_is_known_before_a_second_of_reports() -> None:
    line = Line()
    assert line.estimate.value(line.now) is None
    line.estimate.report(line.block, line.sent, line.now + 5)
    assert line.estimate.value(line.now + 5) is None  # it says again what it said: nothing came in between


def test_it_begins_with_what_arrived_and_rises_to_half_as_much_again_and_no_further() -> None:
    line = Line()
    assert line.second() == pytest.approx(4.5 * MBPS, rel=1e-6)
    assert line.second() == pytest.approx(4.5 * MBPS * 1.05, rel=1e-6)
    values = [line.second() for _ in range(30)]
    assert values == sorted(values, key=lambda value: value or 0)
    assert values[-1] == pytest.approx(1.5 * 4.5 * MBPS, rel=1e-6)


def test_a_line_too_narrow_is_found_in_a_few_seconds_and_the_estimate_stays_there() -> None:
    """4.5 Mbps into 3 Mbps: a third is lost, and what arrives is what the line can take."""
    line = Line()
    for _ in range(20):
        line.second()
    seconds = [line.second(loss=1 / 3) or 0 for _ in range(12)]
    assert seconds[0] < 0.85 * 1.5 * 4.5 * MBPS
    assert seconds[5] == pytest.approx(3 * MBPS, rel=0.01)
    assert seconds[-1] == pytest.approx(3 * MBPS, rel=0.01)  # the same loss again makes it no smaller


def test_between_two_and_ten_in_a_hundred_it_stays() -> None:
    line = Line()
    before = line.second()
    assert {line.second(loss=0.06) for _ in range(10)} == {before}


def test_a_quiet_scene_takes_away_nothing_of_what_was_proven() -> None:
    line = Line()
    proven = line.second()
    assert [line.second(bps=300_000, packets=40) for _ in range(10)] == [proven] * 10


def test_one_lost_packet_of_three_is_no_storm() -> None:
    line = Line()
    before = line.second()
    assert [line.second(bps=30_000, packets=3, loss=1 / 3) for _ in range(6)] == [before] * 6  # 18 packets
    after = line.second(bps=30_000, packets=3, loss=1 / 3)
    assert after is not None
    assert before is not None
    assert after < before  # and with 21 it counts


def test_reports_twenty_times_a_second_weigh_no_more_than_one() -> None:
    often, seldom = Line(), Line()
    for _ in range(5):
        seldom.second(loss=0.2)
        for _ in range(20):
            often.now += 0.05
            often.sent += round(4.5 * MBPS / 8 / 20)
            highest = (often.block.highest_sequence + PACKETS // 20) % 2**32
            often.block = often.block._replace(fraction_lost=int(0.2 * 256), highest_sequence=highest)
            often.estimate.report(often.block, often.sent, often.now)
    assert often.estimate.value(often.now) == pytest.approx(seldom.estimate.value(seldom.now), rel=0.02)


def test_what_the_viewer_says_is_an_upper_bound_while_it_is_fresh() -> None:
    line = Line()
    by_loss = line.second()
    line.estimate.remb(2 * MBPS, line.now)
    assert line.estimate.value(line.now) == 2 * MBPS
    line.estimate.remb(50 * MBPS, line.now)
    assert line.estimate.value(line.now) == by_loss
    line.estimate.remb(2 * MBPS, line.now)
    assert line.estimate.value(line.now + REMB_KEPT) == 2 * MBPS
    assert line.estimate.value(line.now + REMB_KEPT + 0.1) == by_loss
    assert line.estimate.upper_bound(line.now + REMB_KEPT + 0.1) is None


def test_an_estimate_whose_reports_have_stopped_is_forgotten_and_begins_anew() -> None:
    line = Line()
    for _ in range(10):
        line.second()
    assert line.estimate.value(line.now + KEPT) is not None
    line.now += KEPT + 1
    assert line.estimate.value(line.now) is None
    line.second(bps=300_000)
    again = line.estimate.value(line.now)
    assert again is not None
    assert again < MBPS  # what was true long ago is no beginning


def test_what_the_viewer_says_alone_is_no_estimate() -> None:
    estimate = BandwidthEstimate()
    estimate.remb(3 * MBPS, 1.0)
    assert estimate.value(1.0) is None
    assert estimate.upper_bound(1.0) == 3 * MBPS


@pytest.mark.parametrize(
    ("mantissa", "exponent", "expected"),
    [
        (0, 0, FLOOR),  # it can take nothing: so it says
        (0, 63, FLOOR),
        (1, 0, FLOOR),
        (0x3FFFF, 63, None),  # 2.4e24 bits per second bound nothing
        (0x3FFFF, 0, 262_143),
    ],
)
def test_any_remb_that_fits_the_wire_is_borne(mantissa: int, exponent: int, expected: int | None) -> None:
    data = bytearray(build_compound([Remb(5, 1, (7,))]))
    data[16:20] = (1 << 24 | exponent << 18 | mantissa).to_bytes(4, "big")
    (read,) = parse_compound(bytes(data))
    assert isinstance(read, Remb)
    line = Line()
    by_loss = line.second()
    line.estimate.remb(read.bitrate, line.now)
    assert line.estimate.value(line.now) == (by_loss if expected is None else expected)


def test_a_viewer_that_lies_gains_half_as_much_again_as_it_is_sent() -> None:
    """No loss, ever, and as many packets as it likes."""
    line = Line()
    line.estimate.remb(2**60, line.now)
    values = [line.second(packets=65_535) or 0 for _ in range(50)]
    assert max(values) <= 1.5 * 4.5 * MBPS + 1


def test_a_report_from_before_the_last_one_and_another_numbering_begin_anew() -> None:
    line = Line()
    before = line.second()
    older = line.block._replace(highest_sequence=line.block.highest_sequence - 300, fraction_lost=255)
    line.estimate.report(older, line.sent, line.now + 1.5)
    assert line.estimate.value(line.now + 1.5) == before


U32 = st.integers(0, 2**32 - 1)


@given(
    st.lists(
        st.tuples(
            st.builds(ReceptionReport, U32, st.integers(0, 255), st.integers(-(2**23), 2**23), U32, U32, U32,
                      U32),
            st.integers(0, 2**50),  # bytes since the report before
            st.floats(0, 30),
            st.none() | st.integers(0, 0x3FFFF << 63),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_whatever_is_reported_there_is_a_finite_figure_within_bounds_or_none(
    reports: list[tuple[ReceptionReport, int, float, int | None]],
) -> None:
    estimate = BandwidthEstimate()
    now, sent = 0.0, 0
    for block, more, pause, remb in reports:
        now += pause
        sent += more
        if remb is not None:
            estimate.remb(remb, now)
        estimate.report(block, sent, now)
        value = estimate.value(now)
        assert value is None or (math.isfinite(value) and FLOOR <= value <= CEILING)
