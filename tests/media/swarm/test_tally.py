"""Seconds of several processes, put together."""

from media.swarm.load import Plan
from media.swarm.second import Second, add_up, in_turn
from media.swarm.show import _words
from media.swarm.tally import SETTLE_S, Spread, Tally, percentile


def test_processes_are_added_up() -> None:
    one = Second(viewers=3, failed=1, reasons={"full": 1}, packets=10, join_ms=[1.0])
    two = Second(viewers=2, failed=2, reasons={"full": 1, "gone": 1}, packets=5, join_ms=[3.0])
    total = add_up([one, two])
    assert (total.viewers, total.failed, total.packets, total.join_ms) == (5, 3, 15, [1.0, 3.0])
    assert total.reasons == {"full": 2, "gone": 1}


def test_seconds_of_one_process_keep_its_last_gauges() -> None:
    total = in_turn([Second(viewers=3, packets=10), Second(viewers=5, packets=7, reasons={"full": 1})])
    assert (total.viewers, total.packets, total.reasons) == (5, 17, {"full": 1})
    quiet = total.standing()
    assert (quiet.viewers, quiet.packets, quiet.join_ms) == (5, 0, [])


def test_counts_are_told_as_what_came_since() -> None:
    later = Second(viewers=5, packets=30, frames=9).since(Second(viewers=3, packets=10, frames=9))
    assert (later.viewers, later.packets, later.frames) == (5, 20, 0)


def test_bitrate_is_one_viewers_while_all_are_there() -> None:
    tally = Tally("http://x/whep/main", 2)
    tally.feed(Second(viewers=1, playing=1, watched_s=1.0, bytes=10**9), 1.0)
    for _ in range(int(SETTLE_S) + 4):
        tally.feed(Second(viewers=2, playing=2, watched_s=2.0, bytes=250_000, packets=99, lost=1), 1.0)
    figures = tally.figures()
    assert figures["bitrate_bps"] == 1_000_000
    assert figures["loss"] == 0.01
    assert figures["join_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}


def test_joins_a_second_are_those_that_were_done_while_any_were() -> None:
    tally = Tally("http://x/whep/main", 30)
    assert tally.figures()["joins_per_s"] is None
    for joined in (0, 8, 12, 10, 0):  # nobody was let in during the first second; nobody came in the last one
        tally.feed(Second(viewers=30, join_ms=[9.0] * joined), 1.0)
    assert (tally.figures()["joined"], tally.figures()["joins_per_s"], tally.joins_now) == (30, 10.0, 0.0)


def test_the_moment_at_the_end_is_no_second_full_of_joins() -> None:
    tally = Tally("http://x/whep/main", 9)
    tally.feed(Second(viewers=9, join_ms=[9.0] * 4), 1.0)
    tally.feed(Second(viewers=9, join_ms=[9.0] * 4), 0.01)
    assert tally.joins_now == 4.0


def test_what_is_told_beside_the_bar() -> None:
    plan = Plan("http://x/whep/main", 30, 20.0, 60.0, 1)
    tally = Tally(plan.whep, plan.viewers)
    tally.feed(Second(viewers=20, join_ms=[9.0] * 18, failed=2), 1.0)
    assert _words(tally, plan) == "2 failed, 18 of 20 joins a second"
    tally.feed(Second(viewers=30, join_ms=[9.0] * 10), 1.0)
    tally.feed(Second(viewers=30), 1.0)
    assert _words(tally, plan) == "59 s left"
    coming_and_going = Plan("http://x/whep/main", 30, 20.0, 60.0, 1, stay=7.0)
    tally.feed(Second(viewers=34, join_ms=[9.0] * 4), 1.0)
    assert _words(tally, coming_and_going) == "4 of 4.3 joins a second, 58 s left"


def test_a_spread_says_what_was_seen_of_any_number_of_values() -> None:
    spread = Spread()
    assert (spread.at(50), len(spread)) == (None, 0)
    values = [n / 10 for n in range(1, 1001)]
    for _ in range(200):
        spread.add(values)
    assert len(spread) == 200_000
    assert spread.figures() == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert len(spread._seen) == 1000, "it grows with the range of the values, not with their number"


def test_nothing_seen_is_unknown_and_not_zero() -> None:
    figures = Tally("http://x/whep/main", 2).figures()
    assert figures["bitrate_bps"] is None
    assert figures["loss"] is None
    assert figures["longest_gap_ms"] is None


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([], 50) is None
