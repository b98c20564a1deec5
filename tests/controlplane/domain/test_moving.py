"""Who is moved with whom, where to, and at which pace."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from controlplane.domain.nodes.moving import (
    PARTY_MOST,
    largest_party,
    order_for,
    pace,
    parties,
    time_left,
    wait_after,
)
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import Session
from controlplane.wire.nodes import SessionKind

VIEWER = Session(id="v", kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=1.0)


def viewers(*parties: str | None, channel: str = "main") -> list[Session]:
    return [
        replace(VIEWER, id=f"{channel}-{n:03}", party=party, created_at=float(n), channel=channel)
        for n, party in enumerate(parties)
    ]


def ids(party: Sequence[Session]) -> list[str]:
    return [it.id for it in party]


def in_order(names: list[str]) -> None:
    """No chance."""


def test_the_largest_parties_go_first_and_who_says_none_goes_alone() -> None:
    found = parties(viewers(None, "a", "b", "b", "a", "b", None))
    assert [ids(it) for it in found] == [
        ["main-002", "main-003", "main-005"], ["main-001", "main-004"], ["main-000"], ["main-006"],
    ]  # fmt: skip


def test_the_largest_party_is_the_first_that_is_moved() -> None:
    for some in (
        viewers(),
        viewers(None, None),
        viewers(None, "a", "b", "b", "a", "b"),
        viewers("a", "a") + viewers("a", channel="side"),
        viewers(*["crowd"] * 150),
    ):
        sizes = Counter((it.channel, it.party) for it in some if it.party is not None)
        assert largest_party(sizes.values()) == max(map(len, parties(some)), default=1)


def test_the_same_word_on_another_channel_is_another_party() -> None:
    assert len(parties(viewers("a", "a") + viewers("a", channel="side"))) == 2


def test_a_word_moves_no_more_than_a_bound_of_people_at_once() -> None:
    found = parties(viewers(*["a"] * (2 * PARTY_MOST + 1)))
    assert [len(it) for it in found] == [PARTY_MOST, PARTY_MOST, 1]


def test_only_nodes_with_room_for_all_are_tried_the_roomiest_first() -> None:
    rooms = [Room("edge-2", 10, 8), Room("edge-3", 10, 0), Room("edge-4", 10, 7), Room("edge-5", 10, 10)]
    near = {"edge-2", "edge-3", "edge-4", "edge-5"}
    assert order_for(rooms, 1, near=near, shuffle=in_order) == ["edge-3", "edge-4", "edge-2"]
    assert order_for(rooms, 3, near=near, shuffle=in_order) == ["edge-3", "edge-4"]
    assert order_for(rooms, 11, near=near, shuffle=in_order) == []


def test_where_the_party_is_comes_first_then_what_is_near_and_never_what_is_to_be_avoided() -> None:
    rooms = [Room("far", 100, 0), Room("near", 10, 5), Room("full", 9, 8), Room("theirs", 10, 6)]
    order = order_for(rooms, 2, near={"near", "theirs"}, shuffle=in_order, prefer="theirs")
    assert order == ["theirs", "near", "far"]
    assert order_for(rooms, 2, near=set(), shuffle=in_order, prefer="full", avoid={"far"}) == [
        "near",
        "theirs",
    ]


def test_chance_chooses_among_the_best_few_alone() -> None:
    rooms = [Room(f"edge-{n}", 100, reserved) for n, reserved in enumerate((0, 10, 20, 30, 90))]
    shuffled: list[list[str]] = []
    near = {it.node for it in rooms}

    def turn(names: list[str]) -> None:
        shuffled.append(list(names))
        names.reverse()

    order = order_for(rooms, 1, near=near, shuffle=turn)
    assert order == ["edge-2", "edge-1", "edge-0", "edge-3", "edge-4"]
    assert shuffled == [["edge-0", "edge-1", "edge-2"], []]
    uneven = [Room("edge-1", 100, 0), Room("edge-2", 100, 51)]  # less than half of the best one's room
    assert order_for(uneven, 1, near={"edge-1", "edge-2"}, shuffle=turn) == ["edge-1", "edge-2"]


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 15), (50, 15)])
def test_what_fails_is_tried_again_ever_later(failures: int, seconds: float) -> None:
    assert wait_after(failures) == seconds


def test_the_pace_is_that_of_late_and_nobody_guesses_without_one() -> None:
    assert pace([], 100.0) is None
    assert pace([80.0, 89.0], 100.0) is None
    assert pace([99.9], 100.0) == 1
    assert pace([80.0, 95.0, 96.0, 99.0], 100.0) == pytest.approx(3 / 5)
    assert time_left(0, None) == 0
    assert time_left(12, None) is None
    assert time_left(12, 4.0) == 3
