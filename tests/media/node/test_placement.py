"""Where a new session of a node goes."""

import random

from hypothesis import given
from hypothesis import strategies as st

from media.node.placement import TOGETHER, Placement


def placed(placement: Placement, session: str, workers: range | list[int], party: str | None = None) -> int:
    worker = placement.choose(workers, party)
    placement.put(session, worker, party)
    return worker


def test_strangers_are_spread_evenly() -> None:
    placement = Placement()
    where = [placed(placement, f"s{number}", range(4)) for number in range(100)]
    assert [where.count(worker) for worker in range(4)] == [25] * 4
    for session in range(0, 100, 4):  # one worker's all leave: the next ones come there
        assert placement.remove(f"s{session}")
    assert {placed(placement, f"t{number}", range(4)) for number in range(25)} == {0}


def test_a_party_stays_together_while_any_of_it_is_there() -> None:
    placement = Placement()
    first = placed(placement, "a1", range(3), "a")
    assert placed(placement, "b1", range(3), "b") != first, "new parties go where fewest are"
    for number in range(2, 9):
        assert placed(placement, f"a{number}", range(3), "a") == first
    for number in range(1, 8):  # all but the last leave
        placement.remove(f"a{number}")
    for number in range(20):  # it is the fullest worker by far
        placement.put(f"c{number}", first)
    assert placed(placement, "a9", range(3), "a") == first
    placement.remove("a8")
    placement.remove("a9")
    assert placed(placement, "a10", range(3), "a") != first, "nobody was there any more"


def test_a_worker_that_dies_frees_its_parties_and_the_others_keep_theirs() -> None:
    placement = Placement()
    for number in range(4):
        assert placed(placement, f"a{number}", [0, 1], "a") == 0
        assert placed(placement, f"b{number}", [0, 1], "b") == 1
    assert sorted(placement.lost(0)) == ["a0", "a1", "a2", "a3"]
    assert placement.parties == 1
    assert {placed(placement, f"again{number}", [1], "a") for number in range(4)} == {1}
    assert placed(placement, "b4", [0, 1], "b") == 1
    assert placed(placement, "new", [0, 1], "c") == 0


def test_those_who_come_before_their_workers_end_is_known_meet_too() -> None:
    """The process is gone, its sessions are not counted out yet: the party gathers elsewhere, for good."""
    placement = Placement()
    placed(placement, "a1", [0, 1, 2], "a")
    second = placed(placement, "a2", [1, 2], "a")
    assert placement.lost(0) == ["a1"]
    assert [placed(placement, f"a{number}", [0, 1, 2], "a") for number in (3, 4)] == [second, second]


def test_one_word_fills_no_worker_while_others_are_idle() -> None:
    placement = Placement()
    where = [placed(placement, f"s{number}", range(4), "everybody") for number in range(TOGETHER * 8)]
    assert [where.count(worker) for worker in range(4)] == [TOGETHER * 2] * 4
    assert len(set(where[:TOGETHER])) == 1, "and those of one group are together"


def test_what_is_made_again_is_not_counted_twice() -> None:
    placement = Placement()
    placement.put("one", 0, "a")
    placement.put("one", 1, "a")
    assert (len(placement), placement.worker_of("one"), placement.parties) == (1, 1, 1)
    assert placement.remove("one")
    assert not placement.remove("one")
    assert (len(placement), placement.worker_of("one"), placement.parties) == (0, None, 0)
    assert placement.choose([0, 1]) == 0


@given(st.integers(0, 2**32))
def test_nothing_is_remembered_of_who_has_gone(seed: int) -> None:
    """Any coming and going, and deaths of workers: parties are never more than sessions, and none at the
    end."""
    chance, placement = random.Random(seed), Placement()
    there: dict[str, tuple[int, str | None]] = {}
    for number in range(120):
        if chance.random() < 0.05:
            dead = chance.randrange(3)
            assert set(placement.lost(dead)) == {s for s, (worker, _) in there.items() if worker == dead}
            there = {s: place for s, place in there.items() if place[0] != dead}
        elif chance.random() < 0.4 and there:
            session = chance.choice(sorted(there))
            assert placement.remove(session)
            del there[session]
        else:
            party = chance.choice([None, "a", "b", "c"])
            worker = placed(placement, f"s{number}", range(3), party)
            mates = {place[0] for place in there.values() if party is not None and place[1] == party}
            assert mates <= {worker}, "a party is in one place"
            there[f"s{number}"] = (worker, party)
        assert set(placement.sessions) == set(there)
        assert placement.parties == len({party for _, party in there.values() if party is not None})
    for session in there:
        placement.remove(session)
    assert (len(placement), placement.parties) == (0, 0)
