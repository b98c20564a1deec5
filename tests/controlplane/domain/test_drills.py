"""What a drill strikes, in words; when one may begin; and what came of one."""

from typing import Any

import pytest

from controlplane.domain.drills.rules import effect, launch_s, not_whole, struck, told
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.streams.model import Stream, StreamState
from controlplane.wire.drills import Blast, DrillKind, Milestone, Outcome, Struck, Watched
from controlplane.wire.nodes import NodeState, Role

EDGE, ORIGIN, MANAGER = DrillKind.KILL_EDGE, DrillKind.KILL_ORIGIN, DrillKind.KILL_MANAGER


def main(viewers: int, live: bool = True) -> Struck:
    return Struck(channel="main", live=live, viewers=viewers)


def side(viewers: int) -> Struck:
    return Struck(channel="side", live=True, viewers=viewers)


def blast(viewers: int = 0, publishers: int = 0, *channels: Struck, **more: Any) -> Blast:
    return Blast(viewers=viewers, publishers=publishers, channels=list(channels), **more)


# the blast radius


def test_an_edge_with_room_for_some_of_its_viewers_elsewhere() -> None:
    said = effect(
        EDGE,
        "edge-1",
        blast(241, 0, main(200), side(41), others=["edge-2"], room=159, waiting=82, launch_s=2.44),
    )
    assert said == [
        "edge-1 is killed at once, as a crash would do it, with 200 viewers of main and 41 viewers of side "
        "on it.",
        "edge-2 has room for 159 of the 241; the other 82 wait until a new edge is up, about 2.4 s by the "
        "launches measured here.",
        "main and side are live and go dark for all 241, for some seconds. Who watches elsewhere should see "
        "nothing of it.",
    ]


@pytest.mark.parametrize(
    ("struck", "says"),
    [
        (blast(2, 0, main(2), others=["edge-2"], room=9), "edge-2 has room for both."),
        (blast(1, 0, main(1), others=["edge-2"], room=9), "edge-2 has room for that viewer."),
        (blast(9, 0, main(9), others=["edge-2", "edge-3"], room=9), "edge-2 and edge-3 have room for all 9."),
        (
            blast(9, 0, main(9), others=[f"edge-{n}" for n in range(2, 6)], room=99),
            "The 4 other edges have room for all 9.",
        ),
        (
            blast(9, 0, main(9), others=["edge-2"], room=0, waiting=9, launch_s=1.0),
            "edge-2 has no room: 9 viewers wait until a new edge is up, about 1.0 s by the launches measured "
            "here.",
        ),
        (
            blast(9, 0, main(9), others=["edge-2"], room=8, waiting=1),
            "edge-2 has room for 8 of the 9; the other one waits until a new edge is up (no launch was "
            "measured here yet).",
        ),
        (
            blast(1, 0, main(1), waiting=1, launch_s=2.0),
            "There is no other edge: 1 viewer waits until a new edge is up, about 2.0 s by the launches "
            "measured here.",
        ),
    ],
)
def test_where_the_viewers_of_an_edge_go(struck: Blast, says: str) -> None:
    assert effect(EDGE, "edge-1", struck)[1] == says


def test_one_viewer_goes_dark_and_none_who_waits_for_a_publisher() -> None:
    assert effect(EDGE, "edge-1", blast(1, 0, main(1)))[2].startswith(
        "main is live and goes dark for that viewer, for some seconds."
    )
    own = effect(EDGE, "edge-1", blast(1, 0, main(1), own=True))
    assert own[3:] == ["One of the viewers is the drill's own."]
    assert "Nothing of that is live" in effect(EDGE, "edge-1", blast(1, 0, main(1, live=False)))[2]


def test_a_node_with_nothing_on_it_disturbs_nobody_but_who_comes() -> None:
    assert effect(EDGE, "edge-2", blast(others=["edge-1"], launch_s=2.0)) == [
        "edge-2 is killed at once, as a crash would do it. Nobody watches there.",
        "Another edge takes its place, about 2.0 s by the launches measured here.",
        "Nobody should see anything of it.",
    ]
    assert effect(EDGE, "edge-2", blast())[1].startswith("There is no other edge: nobody can watch until")
    assert effect(ORIGIN, "origin-1", blast())[:2] == [
        "origin-1 is killed at once, as a crash would do it. Nothing is published there.",
        "There is no other origin: nobody can publish until a new one is up (no launch was measured here "
        "yet).",
    ]


def test_an_origin_darkens_its_channels_for_all_who_watch_them_anywhere() -> None:
    said = effect(
        ORIGIN,
        "origin-1",
        blast(
            0, 2, main(371), side(0), others=["origin-2"], room=1, waiting=1, launch_s=2.0, strangers=["side"]
        ),
    )
    assert said == [
        "origin-1 is killed at once, as a crash would do it. main and side are published there.",
        "origin-2 has room for 1 of the 2; the other one waits until a new origin is up, about 2.0 s by the "
        "launches measured here.",
        "The publisher of side is not one of ours: back only if it tries again by itself.",
        "main and side are live and go dark for the 371 who watch, for some seconds, until published again; "
        "viewers keep their sessions.",
    ]
    assert effect(ORIGIN, "origin-1", blast(0, 1, main(0)))[-1] == "main is live, and nobody watches."


def test_without_a_manager_nobody_comes_and_nobody_goes_dark() -> None:
    said = effect(MANAGER, None, blast(371, 1, main(371)))
    assert "its supervisor starts it again" in said[0]
    assert "nobody can join, publish or be moved" in said[1]
    assert said[2] == (
        "Media does not pass it: 371 viewers and 1 publisher go on and should see nothing of it."
    )
    assert effect(MANAGER, None, blast())[2].endswith("what is on air would go on. Nothing is.")
    assert "1 publisher goes on" in effect(MANAGER, None, blast(0, 1))[2]


def test_channels_with_most_viewers_come_first() -> None:
    assert struck({"a": 1, "b": 3, "c": 1}, ["b"]) == [
        Struck(channel="b", live=True, viewers=3),
        Struck(channel="a", live=False, viewers=1),
        Struck(channel="c", live=False, viewers=1),
    ]


# whether it may begin


def node(name: str, state: NodeState = NodeState.IN_SERVICE, **more: Any) -> Node:
    role = Role(name.split("-")[0])
    fields: dict[str, Any] = {"state_since": 0.0, "state_reason": "", "created_at": 100.0, "capacity": 400}
    return Node(
        id=name, role=role, region="local", state=state, enrol_hash="", enrol_expires=0.0, **(fields | more)
    )


def stream(state: StreamState) -> Stream:
    return Stream(
        channel="main", state=state, state_since=0.0, state_reason="", since=0.0, origin="origin-1",
        session="s", jti="j",
    )  # fmt: skip


GROUPS = [
    Group(role=Role.EDGE, region="local", desired=2),
    Group(role=Role.ORIGIN, region="local", desired=1),
]
WHOLE = [node("origin-1"), node("edge-1"), node("edge-2")]


def test_a_stage_is_whole_when_what_is_wanted_is_in_service_and_on_air() -> None:
    assert not_whole(GROUPS, WHOLE, [stream(StreamState.LIVE)]) == []
    assert not_whole(GROUPS, [*WHOLE, node("edge-3", NodeState.DRAINING)], []) == []


def test_what_lacks_is_named() -> None:
    suspect = [node("origin-1"), node("edge-1"), node("edge-2", NodeState.SUSPECT)]
    assert not_whole(GROUPS, suspect, [stream(StreamState.RECONNECTING)]) == [
        "1 of 2 edges in service",
        "edge-2 is suspect",
        "main is reconnecting",
    ]
    assert not_whole(GROUPS, [*WHOLE[:2], node("edge-2", managed=False)], []) == ["1 of 2 edges in service"]


def test_launches_are_told_by_the_slowest_that_was_measured() -> None:
    nodes = [
        node("edge-1", in_service_at=102.0),
        node("edge-2", in_service_at=103.5),
        node("edge-3", NodeState.BOOTING),
        node("edge-4", in_service_at=900.0, managed=False),
        node("origin-1", in_service_at=150.0),
        node("edge-5", NodeState.TERMINATED, in_service_at=990.0),
    ]
    assert launch_s(Role.EDGE, nodes) == 3.5
    assert launch_s(Role.EDGE, nodes[2:4]) is None


# what came of it

NOTICED = Milestone(name="noticed", at_s=0.1, words="noticed")
BACK = Milestone(name="viewers", at_s=1.31, words="241 of 241 viewers back")
THERE = Milestone(name="whole", at_s=2.2, words="edge-3 in service")
SAW = Watched(channel="main", edge="edge-1", longest_gap_s=0.94, sessions=2)


def test_a_recovery_is_told_in_one_sentence() -> None:
    outcome = Outcome(took_s=2.2, milestones=[NOTICED, BACK, THERE], watched=SAW)
    assert told(EDGE, "edge-1", outcome) == (
        "edge-1 was killed on purpose: 241 of 241 viewers back after 1.3 s, edge-3 in service after 2.2 s, "
        "a viewer of main on edge-1 saw nothing new for 0.9 s."
    )
    nothing = Outcome(took_s=0.4, unwatched="nothing is on air")
    assert told(MANAGER, None, nothing) == (
        "The stream manager was killed on purpose: no picture was watched: nothing is on air."
    )


def test_what_did_not_recover_in_time_is_named() -> None:
    outcome = Outcome(
        took_s=60,
        milestones=[NOTICED, THERE],
        missing=["3 of 241 viewers (or they have left)"],
        watched=Watched(channel="main", longest_gap_s=59.0, sessions=9, playing=False),
    )
    assert told(EDGE, "edge-1", outcome) == (
        "edge-1 was killed on purpose, and this is missing after 60.0 s: 3 of 241 viewers (or they have "
        "left). Until then: edge-3 in service after 2.2 s, a viewer of main has seen nothing for 59.0 s."
    )


def test_a_drill_that_was_stopped_says_so() -> None:
    outcome = Outcome(took_s=0.3, stopped=True, missing=["another edge in service"])
    assert told(EDGE, "edge-1", outcome) == (
        "edge-1 was killed on purpose, and the drill was stopped after 0.3 s, without another edge in "
        "service."
    )


def test_what_was_not_killed_after_all_is_not_said_to_be() -> None:
    outcome = Outcome(took_s=0.1, not_killed="no supervisor runs that would start it again")
    assert told(MANAGER, None, outcome) == (
        "The stream manager was not killed: no supervisor runs that would start it again."
    )
