"""The rules: placement order, silence, what is missing, faults, waiting, percentiles."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import (
    Room,
    after_silence,
    clock_off,
    drain_is_over,
    implausible,
    missing,
    roomiest_first,
    stopped_by_faults,
)
from controlplane.domain.streams.model import Stream, StreamState
from controlplane.domain.streams.rules import (
    Patience,
    after_waiting,
    from_origin,
    page_state,
    percentile,
    post_interval_s,
    shown_on_air,
)
from controlplane.wire.nodes import NodeReport, NodeState, Role, StreamReport

NODE = Node(
    id="edge-1",
    role=Role.EDGE,
    region="local",
    state=NodeState.IN_SERVICE,
    state_since=0.0,
    state_reason="",
    created_at=0.0,
    capacity=400,
    enrol_hash="x",
    enrol_expires=0.0,
)
STREAM = Stream(
    channel="main",
    state=StreamState.LIVE,
    state_since=100.0,
    state_reason="",
    since=90.0,
    origin="origin-1",
    session="s",
    jti="j",
    was_live=True,
)
GROUP = Group(role=Role.EDGE, region="local", desired=2)
PATIENCE = Patience(connect_s=20, reconnect_s=10, stalled_s=5, stalled_reporting_s=60)


def test_the_roomiest_node_comes_first_and_full_ones_not_at_all() -> None:
    rooms = [Room("c", 10, 5), Room("b", 10, 5), Room("full", 5, 5), Room("a", 100, 99), Room("d", 10, 0)]
    assert [room.node for room in roomiest_first(rooms)] == ["d", "b", "c", "a"]


@pytest.mark.parametrize(
    ("state", "age", "expected"),
    [
        (NodeState.IN_SERVICE, 9.9, NodeState.IN_SERVICE),
        (NodeState.IN_SERVICE, 10, NodeState.SUSPECT),
        (NodeState.SUSPECT, 59.9, NodeState.SUSPECT),
        (NodeState.SUSPECT, 60, NodeState.FAULTY),
        (NodeState.SUSPECT, 0, NodeState.IN_SERVICE),
        (NodeState.DRAINING, 30, NodeState.DRAINING),
        (NodeState.DRAINING, 60, NodeState.FAULTY),
        (NodeState.BOOTING, 1000, NodeState.BOOTING),
        (NodeState.TERMINATING, 1000, NodeState.TERMINATING),
    ],
)
def test_silence_is_judged_by_age(state: NodeState, age: float, expected: NodeState) -> None:
    assert after_silence(state, age, suspect_after_s=10, faulty_after_s=60) is expected


def test_what_is_missing_counts_launching_and_serving_nodes_only() -> None:
    def node(state: NodeState, managed: bool = True) -> Node:
        return replace(NODE, state=state, managed=managed)

    assert missing(GROUP, []) == 2
    assert missing(GROUP, [node(NodeState.BOOTING), node(NodeState.SUSPECT)]) == 0
    assert missing(GROUP, [node(NodeState.DRAINING), node(NodeState.FAULTY)]) == 2
    assert missing(GROUP, [node(NodeState.IN_SERVICE)] * 5) == 0  # never ends anybody
    assert missing(GROUP, [node(NodeState.IN_SERVICE, managed=False)]) == 2
    assert missing(GROUP, [replace(NODE, role=Role.ORIGIN)]) == 2


def test_faults_stop_a_group_within_the_window_and_after_the_pardon_only() -> None:
    faults = [50.0, 60.0, 70.0, 80.0, 90.0]
    assert stopped_by_faults(GROUP, faults, 100, count=5, window_s=60)
    assert not stopped_by_faults(GROUP, faults, 111, count=5, window_s=60)
    assert not stopped_by_faults(replace(GROUP, faults_from=55), faults, 100, count=5, window_s=60)


def test_a_drain_is_over_when_empty_or_at_its_deadline() -> None:
    node = replace(NODE, state=NodeState.DRAINING, drain_deadline=50.0)
    assert drain_is_over(node, 0, 10)
    assert not drain_is_over(node, 1, 49.9)
    assert drain_is_over(node, 1, 50)


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e9), st.floats(0, 1e9))
def test_nobody_who_is_watching_ends_with_a_drain_before_its_deadline(
    viewers: int, deadline: float | None, now: float
) -> None:
    node = replace(NODE, state=NodeState.DRAINING, drain_deadline=deadline)
    assert drain_is_over(node, viewers, now) == (deadline is not None and now >= deadline)


REPORT = NodeReport(at=1000.0, seq=1, connections=400, egress_bps=2e9, ingress_bps=5e6, cpu=0.9, loss=0.01)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, []),
        ({"connections": 800}, []),  # those who are moved have two
        ({"connections": 801}, ["connections is 801, of at most 800"]),
        ({"connections": -1}, ["connections is -1"]),
        ({"connections": 10**400}, ["connections is beyond any number, of at most 800"]),
        ({"egress_bps": -1.0}, ["egress_bps is -1"]),
        (
            {"egress_bps": 4.1e11, "ingress_bps": 1e308},
            ["egress_bps is 4.1e+11", "ingress_bps is beyond any number"],
        ),
        ({"cpu": -0.1, "rtt_ms": -5.0}, ["cpu is -0.1", "rtt_ms is -5"]),
    ],
)
def test_what_a_node_cannot_mean_is_named(said: dict[str, float], found: list[str]) -> None:
    assert implausible(REPORT.model_copy(update=said), 400) == found


def test_a_clock_is_wrong_from_a_minute_on() -> None:
    assert clock_off(REPORT, 1059.0) is None
    assert clock_off(REPORT, 1300.0) == -300.0
    assert clock_off(REPORT, 700.0) == 300.0


@pytest.mark.parametrize(
    ("state", "waited", "publisher_age", "expected"),
    [
        (StreamState.LIVE, 10_000, None, StreamState.LIVE),
        (StreamState.RECONNECTING, 9.9, None, StreamState.RECONNECTING),
        (StreamState.RECONNECTING, 10, 0.5, StreamState.ENDED),
        (StreamState.CONNECTING, 19, None, StreamState.CONNECTING),
        (StreamState.CONNECTING, 20, None, StreamState.ENDED),
        (StreamState.STALLED, 4, None, StreamState.STALLED),
        (StreamState.STALLED, 5, None, StreamState.RECONNECTING),
        (StreamState.STALLED, 30, 1.0, StreamState.STALLED),
        (StreamState.STALLED, 30, 6.0, StreamState.RECONNECTING),
        (StreamState.STALLED, 60, 1.0, StreamState.RECONNECTING),
    ],
)
def test_nobody_is_waited_for_longer_than_said(
    state: StreamState, waited: float, publisher_age: float | None, expected: StreamState
) -> None:
    stream = replace(STREAM, state=state)
    assert after_waiting(stream, waited, publisher_age, PATIENCE) is expected


def test_an_origin_makes_a_stream_live_and_stalls_only_a_live_one() -> None:
    def said(state: str) -> StreamReport:
        return StreamReport.model_validate({"channel": "main", "kind": "published", "state": state})

    connecting = replace(STREAM, state=StreamState.CONNECTING)
    assert from_origin(connecting, said("waiting")) is StreamState.CONNECTING
    assert from_origin(connecting, said("live")) is StreamState.LIVE
    assert from_origin(connecting, said("stalled")) is StreamState.CONNECTING
    assert from_origin(STREAM, said("stalled")) is StreamState.STALLED


def test_what_pages_are_told() -> None:
    assert page_state(None) == "ended"
    assert page_state(STREAM) == "live"
    assert page_state(replace(STREAM, state=StreamState.STALLED)) == "waiting"
    assert shown_on_air(replace(STREAM, state=StreamState.RECONNECTING))
    assert not shown_on_air(replace(STREAM, state=StreamState.CONNECTING, was_live=False))
    assert not shown_on_air(None)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_splits_them(values: list[float], fraction: float) -> None:
    found = percentile(values, fraction)
    assert found in values
    assert found is not None
    assert sum(1 for value in values if value <= found) >= fraction * len(values) - 1e-6


def test_percentiles_of_nothing_and_of_a_hundred() -> None:
    assert percentile([], 0.5) is None
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile([7.0], 0.95) == 7.0


def test_all_pages_together_post_at_most_so_often() -> None:
    assert post_interval_s(0, base_s=2, posts_per_s=200) == 2
    assert post_interval_s(400, base_s=2, posts_per_s=200) == 2
    assert post_interval_s(50_000, base_s=2, posts_per_s=200) == 250
