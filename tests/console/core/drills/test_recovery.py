"""What of a recovery has happened, folded from states of the feed."""

from typing import Any

from console.core.drills.recovery import Recovery
from console.core.model import State
from controlplane.wire.api import GroupView, LatencyView, NodeDetail, StreamDetail
from controlplane.wire.drills import Blast, Drill, DrillKind, Struck
from controlplane.wire.nodes import NodeState, Role


def node(name: str, connections: int | None = 0, state: NodeState = NodeState.IN_SERVICE) -> NodeDetail:
    return NodeDetail(
        id=name, role=Role(name.split("-")[0]), region="local", state=state, connections=connections,
        capacity=400, egress_bps=None, age_s=0.1, state_since=0.0, created_at=0.0,
    )  # fmt: skip


def stream(state: Any = "live", **more: Any) -> StreamDetail:
    fields: dict[str, Any] = {"origin": None, "publisher": None, "bitrate_bps": None, "fps": None}
    return StreamDetail(
        channel="main",
        state=state,
        viewers=0,
        watch="",
        latency_ms=LatencyView(),
        since=0.0,
        **(fields | more),
    )


def state(*nodes: NodeDetail, on_air: StreamDetail | None = None, epoch: str = "a") -> State:
    def group(role: Role) -> GroupView:
        serving = sum(n.role is role and n.state is NodeState.IN_SERVICE for n in nodes)
        return GroupView(
            role=role, region="local", desired=2 if role is Role.EDGE else 1, in_service=serving,
            connections=0, capacity=0, egress_bps=None,
        )  # fmt: skip

    return State(
        epoch=epoch,
        nodes={n.id: n for n in nodes},
        groups={(role, "local"): group(role) for role in (Role.EDGE, Role.ORIGIN)},
        streams={} if on_air is None else {"main": on_air},
    )


def drill(kind: DrillKind, name: str | None, **more: Any) -> Drill:
    fields: dict[str, Any] = {"viewers": 0, "publishers": 0}
    return Drill(id=1, kind=kind, node=name, blast=Blast(**(fields | more)), effect=[])


ORIGIN, LIVE = node("origin-1", 1), stream()
BEFORE = state(ORIGIN, node("edge-1", 5), node("edge-2", 3), on_air=LIVE)


def names(recovery: Recovery, now: State, at_s: float) -> list[str]:
    return [milestone.name for milestone in recovery.follow(now, at_s)]


def test_an_edge_is_recovered_when_its_viewers_are_back_and_another_is_in_service() -> None:
    recovery = Recovery(drill(DrillKind.KILL_EDGE, "edge-1", viewers=5), BEFORE)
    assert names(recovery, BEFORE, 0.0) == []  # before anybody has noticed, all looks well
    assert names(recovery, state(ORIGIN, node("edge-2", 3), on_air=LIVE), 0.1) == ["noticed"]
    assert recovery.viewers == (0, 5)
    coming = node("edge-3", None, NodeState.BOOTING)
    assert names(recovery, state(ORIGIN, node("edge-2", 6), coming, on_air=LIVE), 0.2) == ["asked"]
    assert recovery.viewers == (3, 5)
    assert recovery.missing() == ["2 of 5 viewers (or they have left)", "another edge in service"]
    assert recovery.progress() == "viewers 3/5, another edge"
    assert names(recovery, state(ORIGIN, node("edge-2", 9), coming, on_air=LIVE), 1.25) == ["viewers"]
    assert names(recovery, state(ORIGIN, node("edge-2", 9), node("edge-3"), on_air=LIVE), 2.0) == ["whole"]
    assert recovery.done
    assert [(it.words, it.at_s) for it in recovery.milestones] == [
        ("noticed", 0.1),
        ("edge-3 asked for", 0.2),
        ("5 of 5 viewers back", 1.25),
        ("edge-3 in service", 2.0),
    ]


def test_viewers_of_an_edge_that_gets_nothing_are_not_back() -> None:
    recovery = Recovery(drill(DrillKind.KILL_EDGE, "edge-1", viewers=5), BEFORE)
    starved = stream(starved={"edge-2": 8})
    assert names(recovery, state(ORIGIN, node("edge-2", 8), on_air=starved), 0.1) == ["noticed"]
    assert "media for 5 viewers" in recovery.missing()
    assert names(recovery, state(ORIGIN, node("edge-2", 8), on_air=LIVE), 0.5) == ["viewers"]


def test_a_suspect_or_draining_node_is_no_dead_one() -> None:
    recovery = Recovery(drill(DrillKind.KILL_EDGE, "edge-1"), BEFORE)
    suspect = node("edge-1", 5, NodeState.SUSPECT)
    assert names(recovery, state(ORIGIN, suspect, node("edge-2", 3)), 0.1) == []
    faulty = node("edge-1", None, NodeState.FAULTY)
    assert names(recovery, state(ORIGIN, faulty, node("edge-2", 3)), 0.2) == ["noticed"]


def test_with_nobody_on_it_an_edge_has_no_viewers_to_wait_for() -> None:
    before = state(ORIGIN, node("edge-1"), node("edge-2"))
    recovery = Recovery(drill(DrillKind.KILL_EDGE, "edge-2"), before)
    assert names(recovery, state(ORIGIN, node("edge-1"), node("edge-3")), 2.0) == [
        "noticed",
        "asked",
        "whole",
    ]
    assert recovery.done


def test_an_origin_is_recovered_when_its_channels_are_live_again() -> None:
    struck = [Struck(channel="main", live=True, viewers=8)]
    recovery = Recovery(drill(DrillKind.KILL_ORIGIN, "origin-1", publishers=1, channels=struck), BEFORE)
    edges = (node("edge-1", 5), node("edge-2", 3))
    assert names(recovery, state(*edges, on_air=stream("reconnecting")), 0.1) == ["noticed"]
    assert recovery.missing()[:2] == ["a launch of another origin", "main live"]
    origin = node("origin-2", 1)
    assert names(recovery, state(origin, *edges, on_air=stream("connecting")), 2.0) == ["asked", "whole"]
    assert names(recovery, state(origin, *edges, on_air=LIVE), 3.0) == ["streams", "viewers"]
    assert recovery.done
    assert recovery.milestones[-1].words == "8 of 8 viewers fed again"


def test_of_a_manager_nothing_counts_before_another_one_is_heard() -> None:
    recovery = Recovery(drill(DrillKind.KILL_MANAGER, None, viewers=8, own=True), BEFORE)
    assert names(recovery, BEFORE, 0.1) == []  # the last words of the dead one
    noticed = recovery.reach("noticed", "another one started", 0.2)
    assert noticed is not None
    assert recovery.reach("noticed", "the same", 0.3) is None
    assert names(recovery, BEFORE, 0.4) == []
    recovery.reach("api", "the API answers", 1.0)
    silent = state(node("origin-1", None), node("edge-1", None), node("edge-2", None), on_air=LIVE, epoch="b")
    assert names(recovery, silent, 1.1) == ["feed", "streams", "whole"]
    assert recovery.missing() == ["8 of 8 viewers (or they have left)"]
    told = state(ORIGIN, node("edge-1", 5), node("edge-2", 3), on_air=LIVE, epoch="b")
    assert names(recovery, told, 1.6) == ["viewers"]
    assert recovery.done
    assert recovery.milestones[-1].words == "8 of 8 viewers still there (one is the drill's own)"


def test_what_is_missing_at_the_end_is_named() -> None:
    recovery = Recovery(drill(DrillKind.KILL_MANAGER, None), BEFORE)
    assert recovery.missing() == [
        "that the death of the stream manager is noticed",
        "an answer of the API",
        "the live feed",
        "main live",
        "media for 8 viewers",
        "all nodes in service",
    ]
