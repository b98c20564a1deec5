"""Counting packets by their headers: runs, gaps, wraps, duplicates, and what is asked for again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.rtcp import ReceiverReport, ntp_from_unix, parse_compound
from media.swarm.arrivals import ASK_TIMES, GIVE_UP_S, Arrivals


def arrivals() -> Arrivals:
    return Arrivals(7, 90_000)


def test_runs_are_counted_by_packet() -> None:
    it = arrivals()
    it.run(10, 16, 0, 0.0)
    it.run(26, 4, 3000, 1 / 30)
    assert (it.received, it.expected, it.missing) == (20, 20, 0)


def test_numbers_wrap() -> None:
    it = arrivals()
    it.run(0xFFF8, 16, 0, 0.0)
    it.run(8, 8, 3000, 1 / 30)
    assert (it.received, it.expected, it.missing) == (24, 24, 0)
    report = it.report(1.0)
    assert report is not None
    assert report.highest_sequence == 0x1000F


def test_a_run_that_begins_with_known_packets_counts_the_new_ones() -> None:
    it = arrivals()
    it.run(0, 10, 0, 0.0)
    it.run(5, 10, 0, 0.01)
    assert (it.received, it.expected, it.duplicates, it.missing) == (15, 15, 5, 0)


def test_a_gap_is_asked_for_and_what_comes_late_counts_once() -> None:
    it = arrivals()
    it.run(100, 10, 0, 0.0)
    it.run(115, 10, 3000, 0.03)
    assert it.to_ask(0.2) == (110, 111, 112, 113, 114)
    assert it.to_ask(0.21) == (), "not again at once"
    it.run(111, 1, 0, 0.22)
    it.run(111, 1, 0, 0.23)
    it.restored(112)
    it.restored(112)
    assert it.to_ask(0.4) == (110, 113, 114)
    assert (it.received, it.recovered, it.duplicates, it.missing) == (21, 1, 1, 3)
    for step in range(30):
        it.to_ask(0.4 + step * 0.1)
    assert (it.given_up, it.missing) == (3, 0)


def test_nothing_is_asked_for_without_end() -> None:
    it = arrivals()
    it.run(0, 1, 0, 0.0)
    it.run(2, 1, 0, 0.0)
    asked = sum(len(it.to_ask(step / 100)) for step in range(10, int(GIVE_UP_S * 200)))
    assert 1 <= asked <= ASK_TIMES


def test_a_leap_is_a_new_numbering_and_no_loss() -> None:
    it = arrivals()
    it.run(0, 10, 0, 0.0)
    it.run(20_000, 10, 3000, 0.03)
    assert (it.received, it.expected, it.missing, it.given_up) == (20, 20, 0, 0)


def test_the_report_says_what_was_lost_since_the_last_one() -> None:
    it = arrivals()
    assert it.report(0.0) is None
    it.run(0, 50, 0, 0.0)
    it.run(75, 25, 3000, 0.03)
    it.sender_report(ntp_from_unix(1000.0), 0.5)
    first, second = it.report(1.0), it.report(2.0)
    assert first is not None
    assert second is not None
    assert (first.fraction_lost, first.lost, first.delay_since_last_sr) == (64, 25, 32768)
    assert (second.fraction_lost, second.lost) == (0, 25)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_order_they_come_in_all_are_accounted_for(seed: int) -> None:
    rng = random.Random(seed)
    it = arrivals()
    numbers = list(range(65_000, 66_000))
    lost = {n for n in numbers[1:-1] if rng.random() < 0.05}
    sent = [n for n in numbers if n not in lost]
    shuffled = sorted(sent[1:-1], key=lambda n: n + rng.random() * 8)
    for n in [sent[0], *shuffled, sent[-1]]:
        it.run(n % 65_536, 1, n * 100, n / 1000)
        if rng.random() < 0.02:
            it.run(n % 65_536, 1, n * 100, n / 1000)
    assert it.received == len(sent)
    assert it.expected == len(numbers)
    assert it.missing + it.given_up == len(lost)


numbers = st.integers(0, 0xFFFF)
leaps = st.integers(-40, 80) | st.integers(2900, 3100) | numbers  # from the number that was to come next
steps = st.one_of(
    st.tuples(st.just("run"), leaps, st.integers(1, 64), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just("restored"), leaps, st.just(0), st.just(0)),
    st.tuples(st.just("ask"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("sender report"), st.just(0), st.just(0), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("report"), st.just(0), st.just(0), st.just(0)),
)


@given(
    st.lists(st.tuples(steps, st.floats(0, 0.2) | st.floats(0, 90_000)), max_size=60),
    numbers | st.sampled_from([0, 0xFFFF]),
)
def test_whatever_comes_every_number_is_in_one_account_and_each_report_can_be_sent(
    story: list[tuple[tuple[str, int, int, int], float]], start: int
) -> None:
    """Packets of a peer that numbers them as it likes, silent for a day or not at all."""
    it = arrivals()
    now, following = 0.0, start
    for (what, leap, count, value), pause in [(("run", 0, 3, 0), 0.0), *story]:
        now += pause
        match what:
            case "run":
                it.run((following + leap) % 0x10000, count, value, now)
                following += leap + count
            case "restored":
                it.restored((following + leap) % 0x10000)
            case "ask":
                asked = it.to_ask(now)
                assert len(set(asked)) == len(asked)
                assert all(0 <= sequence <= 0xFFFF for sequence in asked)
            case "sender report":
                it.sender_report(value, now)
            case "report":
                report = it.report(now)
                assert report is not None
                assert 0 <= report.fraction_lost <= 255
                (told,) = parse_compound(ReceiverReport(1, (report,)).to_bytes())
                assert isinstance(told, ReceiverReport)
                (block,) = told.reports
                assert (block.ssrc, block.fraction_lost) == (report.ssrc, report.fraction_lost)
        assert it.received + it.recovered + it.missing + it.given_up == it.expected
