"""When the bitrate steps down, and when it does not."""

from media.publisher.rate import Rate

ASKED = 4.5e6


def _run(
    rate: Rate, start: float, seconds: int, lost: float, rtt: float | None = 0.01, remb: float | None = None
) -> float:
    for second in range(seconds):
        now = start + second
        if remb is not None:
            rate.on_estimate(remb, now)
        rate.on_report(lost, rtt, now)
        rate.step(now)
    return rate.target_bps


def test_a_low_estimate_alone_changes_nothing() -> None:
    assert _run(Rate(ASKED), 0, 30, lost=0.0, remb=300e3) == ASKED


def test_a_low_estimate_with_loss_is_followed_but_not_below_half() -> None:
    assert _run(Rate(ASKED), 0, 10, lost=0.05, remb=3e6) == 3e6
    assert _run(Rate(ASKED), 0, 10, lost=0.05, remb=300e3) == ASKED / 2


def test_heavy_loss_may_go_to_a_tenth() -> None:
    assert _run(Rate(ASKED), 0, 30, lost=0.3, remb=100e3) == ASKED / 10


def test_a_queue_on_the_path_counts_as_trouble() -> None:
    rate = Rate(ASKED)
    _run(rate, 0, 5, lost=0.0, rtt=0.02)
    assert _run(rate, 5, 10, lost=0.0, rtt=0.5, remb=3e6) == 3e6


def test_loss_without_any_estimate_lowers_it_step_by_step() -> None:
    rate = Rate(ASKED)
    assert ASKED / 2 <= _run(rate, 0, 4, lost=0.05) < ASKED


def test_it_comes_back_after_a_while_of_quiet() -> None:
    rate = Rate(ASKED)
    low = _run(rate, 0, 10, lost=0.05, remb=300e3)
    assert _run(rate, 10, 5, lost=0.0) == low
    assert _run(rate, 15, 60, lost=0.0) == ASKED
