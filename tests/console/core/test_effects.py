"""What a step would do, in words."""

from decimal import Decimal

from console.core.effects import (
    as_left,
    beyond_max,
    channels_without,
    drain_words,
    effect_of_add,
    effect_of_down,
    effect_of_drain,
    effect_of_stop,
    ends_by,
)
from controlplane.wire.api import DrainProgress, GroupView, LatencyView, NodeView, StreamView
from controlplane.wire.money import PricesView
from controlplane.wire.nodes import NodeState, Role


def node(name: str, connections: int | None = 0, state: NodeState = NodeState.IN_SERVICE) -> NodeView:
    role = Role(name.split("-")[0])
    return NodeView(
        id=name,
        role=role,
        region="local",
        state=state,
        connections=connections,
        capacity=400,
        egress_bps=None,
        age_s=0.1,
    )


def stream(channel: str, viewers: int) -> StreamView:
    return StreamView(
        channel=channel,
        state="live",
        origin=None,
        publisher=None,
        bitrate_bps=None,
        fps=None,
        viewers=viewers,
        watch="",
        latency_ms=LatencyView(),
    )


def test_a_drain_says_how_many_are_on_the_node_and_what_is_left() -> None:
    nodes = [node("edge-1"), node("edge-2", 3), node("origin-1", 1)]
    said = "edge-2: 3 viewers; 2 -> 1 edges; they go to edge-1, room there: 400"
    assert effect_of_drain(nodes, "edge-2") == said


def test_a_drain_says_where_there_is_room_or_that_there_is_none() -> None:
    edges = [node("edge-1", 390), node("edge-2", 399), node("edge-3", 380), node("edge-4", 14)]
    said = effect_of_drain(edges, "edge-4")
    assert said.endswith("; they go to edge-1, edge-2 and edge-3, room there: 31")
    full = [node("edge-1", 398), node("edge-2", 14)]
    assert effect_of_drain(full, "edge-2").endswith(
        "; room for 2 of them on edge-1: add one first (showcaller fleet add edge)"
    )
    suspect = [node("edge-1", 3, NodeState.SUSPECT), node("edge-2", 1)]
    assert "room for them nowhere else: add one first" in effect_of_drain(suspect, "edge-2")
    assert "origin-2: 1 connection; 2 -> 1 origins; it goes to origin-1" in effect_of_drain(
        [node("origin-1"), node("origin-2", 1)], "origin-2"
    )
    assert ends_by(300) == "it ends when it is empty, in 5 min at the latest"


def test_the_last_origin_takes_along_what_is_published_to_it() -> None:
    on_it = stream("main", 3).model_copy(update={"origin": "origin-1"})
    other = stream("side", 3).model_copy(update={"origin": "origin-2"})
    alone = [node("origin-1", 1), node("edge-1", 3)]
    assert channels_without(alone, [on_it, other], "origin-1") == ["main"]
    assert channels_without([*alone, node("origin-2")], [on_it], "origin-1") == []


def test_one_more_than_the_policy_has_is_said() -> None:
    group = GroupView(
        id="edge@local", role=Role.EDGE, region="local", desired=2, in_service=2, connections=0,
        capacity=800, egress_bps=None, most=2,
    )  # fmt: skip
    words = "the policy of edge@local has 2 at most"
    assert beyond_max([group], Role.EDGE) == beyond_max([group], Role.EDGE, "local") == words
    assert beyond_max([group], Role.EDGE, "elsewhere") == beyond_max([group], Role.ORIGIN) == ""
    assert beyond_max([group.model_copy(update={"desired": 1})], Role.EDGE) == ""
    assert beyond_max([group.model_copy(update={"most": None})], Role.EDGE) == ""


def test_draining_the_last_one_says_that_nobody_serves() -> None:
    assert "nobody serves as edge" in effect_of_drain([node("edge-1", 1)], "edge-1")


def test_the_last_edge_takes_what_is_on_air_along() -> None:
    streams = [stream("side", 0), stream("main", 3)]
    alone = [node("edge-1", 3), node("edge-2", 1, NodeState.DRAINING), node("origin-1", 1)]
    assert channels_without(alone, streams, "edge-1") == ["main", "side"]
    assert channels_without(alone, [], "edge-1") == []
    assert channels_without(alone, streams, "edge-2") == [], "its deadline may be moved without a word"
    assert channels_without(alone, streams, "origin-1") == []
    for state in (NodeState.IN_SERVICE, NodeState.SUSPECT, NodeState.BOOTING):
        assert channels_without([*alone, node("edge-3", 0, state)], streams, "edge-1") == []


def test_a_drain_tells_how_far_it_is() -> None:
    progress = DrainProgress(since=0, viewers=1400, moved=1241, moving=20, left=157, failed=2, eta_s=12.3)
    words = "1,241 of 1,400 moved, 20 moving, 157 left, 2 moves failed, about 12 s"
    assert drain_words(progress) == words
    assert drain_words(progress.model_copy(update={"waits": "waits for room"})).endswith(
        "; it waits for room"
    )
    over = DrainProgress(since=0, viewers=3, moved=2, moving=0, left=0, failed=0, eta_s=0)
    assert drain_words(over) == "2 of 3 moved, 0 left"


def test_a_node_that_drains_already_is_not_counted_among_those_that_serve() -> None:
    nodes = [node("edge-1"), node("edge-2", None, NodeState.DRAINING), node("edge-3")]
    assert effect_of_drain(nodes, "edge-2") == "edge-2: 0 viewers; 2 -> 2 edges; room elsewhere: 800"


def test_a_step_says_what_it_costs() -> None:
    prices = PricesView(
        currency="$", node_hour=Decimal("0.31"), egress_gb=Decimal("0.0085"), egress_free_gb=10_000
    )
    added = effect_of_add([node("edge-1")], Role.EDGE, prices)
    assert added == "one more edge: 1 -> 2 edges, room for 400 -> 800; +$0.31 an hour"
    assert effect_of_add([], Role.EDGE, prices) == "one more edge: 0 -> 1 edges; +$0.31 an hour"
    drained = effect_of_drain([node("edge-1"), node("edge-2", 3)], "edge-2", prices)
    assert "; 2 -> 1 edges; -$0.31 an hour; they go" in drained


def test_an_added_node_says_how_many_there_will_be() -> None:
    assert effect_of_add([node("edge-1")], Role.EDGE) == "one more edge: 1 -> 2 edges, room for 400 -> 800"


def test_stopping_says_for_how_many() -> None:
    assert effect_of_stop([stream("main", 3)], "main") == "ends main for 3 viewers"
    assert effect_of_stop([stream("main", 1)], "main") == "ends main for 1 viewer"
    assert effect_of_down([]) == "nothing is on air"
    assert effect_of_down([stream("a", 1), stream("b", 2)]) == "ends a (1 viewer) and b (2 viewers)"


def test_a_stage_that_was_left_with_more_nodes_says_so_when_it_comes_up() -> None:
    def group(role: Role, desired: int) -> GroupView:
        fields = {"in_service": 0, "connections": 0, "capacity": 0, "egress_bps": None}
        return GroupView(role=role, region="local", desired=desired, **fields)  # type: ignore[arg-type]

    left = [group(Role.EDGE, 3), group(Role.ORIGIN, 1)]
    assert as_left(left, 10.0, started_at=500.0) == "3 edges, as you left it"
    assert as_left([group(Role.EDGE, 2), group(Role.ORIGIN, 2)], 10.0, 500.0) == (
        "2 edges and 2 origins, as you left it"
    )
    assert as_left([group(Role.EDGE, 1)], 10.0, 500.0) == ""
    assert as_left(left, None, 500.0) == ""  # its very first life: so it was configured
    assert as_left(left, 501.0, 500.0) == ""
