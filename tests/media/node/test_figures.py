"""Rates of a node's report: over the last second, however often it is read."""

import pytest

from media.node.figures import Meter


def read(meter: Meter, value: float, now: float) -> float | None:
    meter.begin()
    rate = meter.rate("bytes", value, now)
    meter.end()
    return rate


def test_the_first_reading_has_no_rate() -> None:
    assert read(Meter(), 1000, 5.0) is None


@pytest.mark.parametrize("interval", [0.1, 0.25, 0.5, 1.0])
def test_a_burst_is_spread_over_a_second_at_any_pace_of_reading(interval: float) -> None:
    meter = Meter()
    for step in range(int(3 / interval) + 1):
        read(meter, 0, step * interval)
    rates = [read(meter, 900, 3 + step * interval) for step in range(1, int(3 / interval) + 1)]
    assert rates[0] == pytest.approx(900, rel=0.12)
    assert rates[-1] == 0
    seconds = interval * sum(1 for rate in rates if rate)
    assert seconds == pytest.approx(1, abs=0.11)


def test_a_timer_that_is_a_little_early_does_not_double_the_window() -> None:
    meter = Meter()
    value = 0.0
    for now in (0.0, 0.97, 1.94, 2.91):
        read(meter, value, now)
        value += 97
    assert len(meter._readings["bytes"]) <= 3
    assert read(meter, value, 3.88) == pytest.approx(100)


def test_a_count_that_begins_anew_is_no_negative_rate() -> None:
    meter = Meter()
    read(meter, 1000, 0.0)
    assert read(meter, 10, 1.0) == 0


def test_what_is_not_read_any_more_is_forgotten() -> None:
    meter = Meter()
    read(meter, 1000, 0.0)
    meter.begin()
    meter.end()
    assert read(meter, 2000, 1.0) is None


def test_the_change_is_over_the_same_window() -> None:
    meter = Meter()
    changes = [meter.change("lost", lost, lost / 10) for lost in range(0, 25, 5)]
    assert changes == [None, 5, 10, 10, 10]
