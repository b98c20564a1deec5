"""The fold of the live feed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from console.core.model import JOURNAL_KEPT, State
from controlplane.wire.api import (
    HistoryPoint,
    JournalEntry,
    LatencyView,
    LiveMessage,
    NodeDetail,
    Snapshot,
    StreamDetail,
)
from controlplane.wire.nodes import NodeState, Role


def node(name: str, connections: int = 0) -> NodeDetail:
    return NodeDetail(
        id=name,
        role=Role.EDGE,
        region="local",
        state=NodeState.IN_SERVICE,
        connections=connections,
        capacity=400,
        egress_bps=None,
        age_s=0.1,
        state_since=0.0,
        created_at=0.0,
    )


def stream(channel: str, viewers: int = 0) -> StreamDetail:
    return StreamDetail(
        channel=channel,
        state="live",
        origin="origin-1",
        publisher=None,
        bitrate_bps=None,
        fps=None,
        viewers=viewers,
        watch="w",
        latency_ms=LatencyView(),
        since=0.0,
    )


def entry(number: int) -> JournalEntry:
    return JournalEntry(id=number, at=float(number), actor="operator", kind="k", subject="s", message="m")


def snapshot(epoch: str = "a", n: int = 1, **rows: Any) -> LiveMessage:
    empty: dict[str, Any] = {"nodes": [], "groups": [], "streams": [], "journal": []}
    body = Snapshot(api="http://a", watch="http://a/watch", version="1", started_at=0.0, **{**empty, **rows})
    return LiveMessage(epoch=epoch, n=n, at=float(n), kind="snapshot", snapshot=body)


def delta(n: int, epoch: str = "a", **rows: Any) -> LiveMessage:
    return LiveMessage(epoch=epoch, n=n, at=float(n), kind="delta", **rows)


def test_nothing_is_known_before_the_first_snapshot() -> None:
    state = State()
    assert not state.ready
    assert state.apply(delta(1, nodes=[node("edge-1")])) is state


def test_a_delta_replaces_whole_rows_and_removes_those_that_left() -> None:
    state = State().apply(snapshot(nodes=[node("edge-1"), node("edge-2")], streams=[stream("main")]))
    state = state.apply(delta(2, nodes=[node("edge-1", connections=7)], removed_nodes=["edge-2"]))
    state = state.apply(delta(3, streams=[stream("side", viewers=2)], removed_streams=["main"]))
    assert {name: row.connections for name, row in state.nodes.items()} == {"edge-1": 7}
    assert list(state.streams) == ["side"]
    assert state.viewers == 2
    assert (state.n, state.at) == (3, 3.0)


def test_a_delta_out_of_turn_or_of_another_epoch_changes_nothing() -> None:
    state = State().apply(snapshot(n=5))
    for message in (delta(5), delta(7), delta(6, epoch="b")):
        assert state.apply(message) is state


def test_a_snapshot_of_a_new_epoch_replaces_rows_and_keeps_the_journal() -> None:
    state = State().apply(snapshot(nodes=[node("edge-1")], journal=[entry(1), entry(2)]))
    state = state.apply(snapshot(epoch="b", nodes=[node("edge-9")], journal=[entry(2), entry(3)]))
    assert list(state.nodes) == ["edge-9"]
    assert [known.id for known in state.journal] == [1, 2, 3]


def test_a_new_database_begins_a_new_journal() -> None:
    state = State().apply(snapshot(journal=[entry(100), entry(101)]))
    state = state.apply(snapshot(epoch="b", journal=[entry(1), entry(2)]))
    assert [known.id for known in state.journal] == [1, 2]


def test_another_manager_may_be_behind_and_tell_of_what_is_known() -> None:
    """What it tells belongs to the same database: nothing that is known is forgotten or told again."""
    state = State().apply(snapshot(journal=[entry(n) for n in range(1, 8)]))
    state = state.apply(snapshot(epoch="b", journal=[entry(4), entry(5)]))
    assert [known.id for known in state.journal] == [1, 2, 3, 4, 5, 6, 7]
    assert state.news == ()
    state = state.apply(snapshot(epoch="c", journal=[entry(7), entry(9)]))
    assert [it.id for it in state.news] == [9]
    state = state.apply(snapshot(epoch="d", journal=[entry(8), entry(9)]))  # committed later than 9
    assert [it.id for it in state.news] == [8]
    assert [known.id for known in state.journal] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_journal_and_history_are_bounded() -> None:
    state = State().apply(snapshot())
    for n in range(2, 2002):
        point = HistoryPoint(at=float(n), role=Role.EDGE, connections=1, capacity=400)
        state = state.apply(delta(n, journal=[entry(n)], history=[point]))
    assert len(state.journal) == JOURNAL_KEPT
    assert state.history[-1].at - state.history[0].at <= 1800


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 3))))
def test_no_order_of_messages_makes_the_fold_fail_or_go_back(story: list[tuple[bool, str, int, int]]) -> None:
    state = State()
    for whole, epoch, n, who in story:
        rows = {"nodes": [node(f"edge-{who}")], "journal": [entry(n)]}
        before = state
        state = state.apply(snapshot(epoch, n, **rows) if whole else delta(n, epoch, **rows))
        if not whole and state is not before:
            assert (state.epoch, state.n) == (before.epoch, before.n + 1)
        ids = [known.id for known in state.journal]
        assert ids == sorted(set(ids))
