"""Counting packets by their headers: runs, gaps, wraps, duplicates, and what is asked for again."""

import random

import pytest

from media.core.rtcp import ntp_from_unix
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
