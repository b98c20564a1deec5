"""When a process that ends by itself is started again."""

from console.core.stage.restarts import LIMIT, LONGEST_S, REST_S, STEADY_S, Restarts


def test_the_first_restart_comes_at_once_and_later_ones_wait_longer() -> None:
    restarts = Restarts()
    waits = [restarts.ended(now, ran_s=0.5) for now in (0.0, 1.0, 2.0, 3.0)]
    assert waits[0] <= 0.1
    assert waits == sorted(waits)
    assert max(waits) <= LONGEST_S


def test_a_process_that_keeps_ending_is_left_alone_for_a_while() -> None:
    restarts = Restarts()
    waits = [restarts.ended(float(now), ran_s=0.5) for now in range(LIMIT)]
    assert restarts.tripped
    assert waits[-1] == REST_S


def test_after_the_rest_it_gets_a_clean_sheet() -> None:
    restarts = Restarts()
    for now in range(LIMIT):
        restarts.ended(float(now), ran_s=0.5)
    assert restarts.ended(100.0, ran_s=0.5) <= 0.1
    assert not restarts.tripped


def test_a_process_that_ran_for_long_is_forgiven_its_past() -> None:
    restarts = Restarts()
    for now in range(LIMIT - 1):
        restarts.ended(float(now), ran_s=0.5)
    assert restarts.ended(50.0, ran_s=STEADY_S) <= 0.1
    assert restarts.total == LIMIT


def test_ends_far_apart_never_trip_it() -> None:
    restarts = Restarts()
    for now in range(0, 3000, 20):
        restarts.ended(float(now), ran_s=20.0)
    assert not restarts.tripped
