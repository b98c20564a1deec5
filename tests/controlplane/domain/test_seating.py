"""Who is seated where: whole parties, the nearest region, a few nodes, and nothing that was not there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.nodes.rules import Room
from controlplane.domain.nodes.seating import (
    BEST,
    SHARE,
    Join,
    Plan,
    choose,
    make_plan,
    nearest_first,
    unsettled,
)
from controlplane.domain.streams.model import Party, PartyKey

US = ("main", "us")
ALONE = Join(channel="main")
OURS = Join(channel="main", party="us", size=4)
NEW = Party(channel="main", party="us", node="")


def first_two(rooms: Sequence[Room]) -> Sequence[Room]:
    """No chance."""
    return rooms[:2]


def planned(joins: list[Join], rooms: list[Room], **known: Any) -> Plan:
    rows: dict[PartyKey, Party] = known.pop("rows", {})
    for join in joins:
        if join.key is not None:
            rows.setdefault(join.key, Party(channel=join.key[0], party=join.key[1], node=""))
    members: dict[PartyKey, Counter[str]] = {key: Counter() for key in rows}
    members |= known.pop("members", {})
    return make_plan(joins, rows, members, rooms, keep_until=60.0, home="local", draw=first_two, **known)


def test_the_nearest_region_is_the_one_wished_for_then_the_stages_own() -> None:
    assert nearest_first(["b", "local", "a", "a"], None, "local") == {"local": 0, "a": 1, "b": 2}
    assert nearest_first(["b", "local", "a"], "b", "local") == {"b": 0, "local": 1, "a": 2}
    assert nearest_first(["b", "a"], "nowhere", "local") == {"a": 0, "b": 1}


def test_a_viewer_goes_to_the_nearest_region_that_has_room_whatever_is_free_elsewhere() -> None:
    rooms = [Room("far", 100, 99, "far"), Room("home", 100, 99), Room("full", 9, 9, "wished")]
    near = nearest_first((room.region for room in rooms), "wished", "local")
    assert choose(rooms, 1, near, first_two) == rooms[1]
    rooms[1] = replace(rooms[1], reserved=100)
    assert choose(rooms, 1, near, first_two) == rooms[0]
    assert choose(rooms, 2, near, first_two) is None


def test_chance_is_among_the_fullest_that_fit_and_of_two_the_roomier_is_taken() -> None:
    rooms = [Room(f"edge-{free}", 100, 100 - free) for free in range(1, 10)]
    drawn: list[str] = []

    def draw(few: Sequence[Room]) -> Sequence[Room]:
        drawn.extend(room.node for room in few)
        return few[:2]

    chosen = choose(rooms, 4, {"local": 0}, draw)
    assert drawn == ["edge-4", "edge-5", "edge-6"]
    assert len(drawn) == BEST
    assert chosen is not None
    assert chosen.node == "edge-5"


def test_of_many_nodes_more_take_part_so_that_no_few_have_the_whole_storm() -> None:
    many = [Room(f"edge-{number}", 400, 0) for number in range(170)]
    few: list[Room] = []

    def draw(found: Sequence[Room]) -> Sequence[Room]:
        few.extend(found)
        return found[:2]

    assert choose(many, 8, {"local": 0}, draw) is not None
    assert len(few) == 170 // SHARE


def test_with_the_first_of_a_party_room_is_reserved_for_all_of_it() -> None:
    plan = planned([OURS], [Room("a", 10, 7), Room("b", 10, 5)])
    assert plan.nodes == ["b"]
    assert plan.seats == {"b": 4}
    assert plan.parties[US] == replace(NEW, node="b", kept=3, kept_until=60.0)


def test_those_who_come_later_take_what_is_kept_and_no_more_of_the_node() -> None:
    row = replace(NEW, node="a", kept=2)
    plan = planned([OURS, OURS], [Room("a", 10, 10), Room("b", 10, 0)], rows={US: row})
    assert plan.nodes == ["a", "a"]
    assert not plan.seats
    assert plan.parties[US] == replace(row, kept=0, kept_until=60.0)


def test_one_more_than_the_party_is_seated_there_too_or_with_others_of_it_or_anywhere() -> None:
    row = replace(NEW, node="a")
    rooms = [Room("a", 10, 9), Room("b", 10, 9), Room("c", 10, 0), Room("d", 10, 1)]
    plan = planned([OURS] * 4, rooms, rows={US: row}, members={US: Counter(a=4, b=1)})
    assert plan.nodes == ["a", "b", "c", "c"], "the third finds the largest room, and the fourth finds him"
    assert plan.seats == {"a": 1, "b": 1, "c": 2}
    assert plan.parties == {}


def test_a_party_is_torn_apart_only_where_no_node_takes_it_and_then_the_largest_room_is_first() -> None:
    plan = planned([OURS] * 4, [Room("a", 10, 9), Room("b", 10, 8), Room("c", 10, 9)])
    assert plan.nodes == ["b", "b", "a", "c"]
    assert plan.parties[US] == replace(NEW, node="b", kept=0, kept_until=60.0)
    plan = planned([OURS], [Room("a", 10, 9), Room("b", 10, 7)])
    assert plan.parties[US] == replace(NEW, node="b", kept=2, kept_until=60.0)
    assert plan.seats == {"b": 3}


def test_where_nothing_is_free_nobody_is_seated_and_no_party_is_made() -> None:
    plan = planned([OURS, ALONE], [Room("a", 10, 10)])
    assert plan.nodes == [None, None]
    assert plan.parties == {US: NEW}
    assert not plan.seats


def test_a_party_whose_node_takes_nobody_any_more_is_placed_anew_with_room_for_those_still_there() -> None:
    row = replace(NEW, node="draining", kept=1)
    members = {US: Counter(draining=3, b=1)}
    plan = planned([OURS], [Room("a", 10, 0), Room("b", 10, 5)], rows={US: row}, members=members)
    assert plan.nodes == ["b"], "where somebody of it is already"
    assert plan.parties[US] == replace(row, node="b", kept=3, kept_until=60.0)
    assert plan.seats == {"draining": -1, "b": 4}


def test_a_node_that_refused_somebody_is_not_asked_again_by_him_and_keeps_the_others_seats() -> None:
    row = replace(NEW, node="a", kept=2)
    refused = replace(OURS, avoid=frozenset({"a"}))
    joins = [refused, OURS]
    assert unsettled(joins, {US: row}, {"a", "b"}) == {US}
    assert unsettled([OURS], {US: row}, {"a", "b"}) == set()
    plan = planned(joins, [Room("a", 10, 10), Room("b", 10, 9)], rows={US: row})
    assert plan.nodes == ["b", "a"]
    assert plan.parties[US].kept == 1


def test_who_tries_an_edge_out_is_seated_there_without_the_others_of_his_party() -> None:
    there = replace(OURS, edge="b")
    plan = planned([there], [Room("a", 10, 0), Room("b", 10, 9)])
    assert (plan.nodes, plan.parties, plan.seats) == (["b"], {}, {"b": 1})
    assert planned([there], [Room("a", 10, 0), Room("b", 10, 10)]).nodes == ["a"]


def test_a_plan_that_is_made_again_keeps_what_it_can_of_the_one_before() -> None:
    rooms = [Room("a", 10, 0), Room("b", 10, 0), Room("c", 10, 9)]
    before = Plan([None, None], {}, Counter(), {US: "b", 1: "b"})
    plan = planned([OURS, ALONE], rooms, before=before)
    assert plan.nodes == ["b", "b"]
    taken = [replace(room, reserved=8) if room.node == "b" else room for room in rooms]
    assert planned([OURS, ALONE], taken, before=before).nodes == ["a", "b"]


NODES = ("a", "b", "c", "d")
rooms_of_all = st.lists(
    st.tuples(st.integers(1, 12), st.floats(0, 1), st.sampled_from(["local", "far"])), min_size=1, max_size=4
).map(
    lambda given: [
        Room(name, capacity, round(full * capacity), region)
        for name, (capacity, full, region) in zip(NODES, given, strict=False)
    ]
)
anybody = st.builds(
    Join,
    channel=st.sampled_from(["main", "side"]),
    party=st.sampled_from([None, "us", "them", "others"]),
    size=st.integers(1, 9),
    region=st.sampled_from([None, "local", "far", "x"]),
    avoid=st.sets(st.sampled_from(NODES), max_size=1).map(frozenset),
)
a_row = st.tuples(st.sampled_from(["", "a", "b", "gone"]), st.integers(0, 4))


@given(st.lists(anybody, min_size=1, max_size=12), rooms_of_all, st.data())
def test_whatever_comes_seats_add_up_and_nobody_is_refused_while_there_is_one(
    joins: list[Join], rooms: list[Room], data: st.DataObject
) -> None:
    rows: dict[PartyKey, Party] = {}
    members: dict[PartyKey, Counter[str]] = {}
    for key in sorted({join.key for join in joins if join.key is not None}):
        node, kept = data.draw(a_row)
        channel, party = key
        rows[key] = Party(channel=channel, party=party, node=node, kept=kept if node else 0)
        members[key] = Counter({node: 1} if node else {})
    plan = planned(joins, rooms, rows=dict(rows), members=members)
    free = {room.node: room.free for room in rooms}

    # What is taken of a node is what is sat on and kept there beyond what was, and never more than there is.
    sat = Counter(node for node in plan.nodes if node is not None)
    kept = Counter(dict.fromkeys(free, 0))
    for key, row in rows.items():
        after = plan.parties.get(key, row)
        kept[after.node] += after.kept
        kept[row.node] -= row.kept
        assert after.kept >= 0
    for node in free.keys() | sat.keys() | kept.keys():
        assert plan.seats[node] == sat[node] + kept[node]
        assert plan.seats[node] <= free.get(node, 0)
    for join, node in zip(joins, plan.nodes, strict=True):
        assert node is None or (node in free and node not in join.avoid)
        if node is None:
            left = {name: free[name] - plan.seats[name] for name in free if name not in join.avoid}
            assert not any(left.values()), "there was a seat"

    # A row says where somebody of the party is, or is no row.
    for key, row in plan.parties.items():
        at = {node for node, join in zip(plan.nodes, joins, strict=True) if join.key == key}
        assert row.node in at if row.node else not row.kept


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), rooms_of_all)
def test_a_party_that_fits_on_a_node_is_whole_as_are_all_while_they_fit_one_after_the_other(
    sizes: list[int], rooms: list[Room]
) -> None:
    parties = {("main", f"p{number}"): size for number, size in enumerate(sizes)}
    joins = [
        Join(channel="main", party=party, size=size)
        for (_, party), size in parties.items()
        for _ in range(size)
    ]
    plan = planned(joins, rooms)
    free = {room.node: room.free for room in rooms}
    for key in sorted(parties, key=lambda key: (-parties[key], key)):
        seats = Counter(
            node for node, join in zip(plan.nodes, joins, strict=True) if join.key == key and node is not None
        )
        if any(room >= parties[key] for room in free.values()):
            assert list(seats.values()) == [parties[key]], f"{key} is torn apart"
        for node, number in seats.items():
            free[node] -= number
        if len(seats) != 1:
            return  # from here on the rest of a party may be where the next would have fitted


@pytest.mark.parametrize("kept", [0, 3])
def test_what_is_kept_for_a_party_is_nobody_elses(kept: int) -> None:
    row = replace(NEW, node="a", kept=kept)
    plan = planned([ALONE, replace(OURS, party="them")], [Room("a", 10, 10)], rows={US: row})
    assert plan.nodes == [None, None]
