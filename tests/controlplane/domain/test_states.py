"""The tables of states: complete, connected, and drawn as documented."""

from enum import StrEnum
from itertools import pairwise

import pytest

from controlplane.domain import diagrams
from controlplane.domain.machine import IllegalMove, Machine
from controlplane.domain.nodes import states as nodes
from controlplane.domain.streams import states as streams
from controlplane.domain.streams.model import StreamState
from controlplane.wire.nodes import NodeState

MACHINES: list[tuple[Machine, type[StrEnum]]] = [  # type: ignore[type-arg]
    (nodes.MACHINE, NodeState),
    (streams.MACHINE, StreamState),
]


@pytest.mark.parametrize(("machine", "states"), MACHINES)
def test_every_state_has_a_meaning_and_can_be_reached(machine: Machine, states: type[StrEnum]) -> None:  # type: ignore[type-arg]
    assert set(machine.meanings) == set(states)
    reached, front = {machine.initial}, [machine.initial]
    while front:
        start = front.pop()
        for transition in machine.transitions:
            if transition.start == start and transition.end not in reached:
                reached.add(transition.end)
                front.append(transition.end)
    assert reached == set(states)


@pytest.mark.parametrize(("machine", "states"), MACHINES)
def test_every_transition_is_there_once_and_has_a_reason(machine: Machine, states: type[StrEnum]) -> None:  # type: ignore[type-arg]
    pairs = [(transition.start, transition.end) for transition in machine.transitions]
    assert len(pairs) == len(set(pairs))
    assert all(transition.why for transition in machine.transitions)
    assert all(start != end for start, end in pairs)


def test_the_way_of_a_node_through_its_life() -> None:
    way = [
        NodeState.REQUESTED,
        NodeState.CREATING,
        NodeState.BOOTING,
        NodeState.IN_SERVICE,
        NodeState.SUSPECT,
        NodeState.IN_SERVICE,
        NodeState.DRAINING,
        NodeState.TERMINATING,
        NodeState.TERMINATED,
    ]
    for start, end in pairwise(way):
        nodes.MACHINE.check("edge-1", start, end)
    assert nodes.MACHINE.final() == {NodeState.TERMINATED}
    for state in NodeState:
        if state not in nodes.GONE:
            assert nodes.MACHINE.allows(state, NodeState.TERMINATED) or nodes.MACHINE.allows(
                state, NodeState.TERMINATING
            )


def test_the_named_sets_are_disjoint_and_complete() -> None:
    sets = [nodes.LAUNCHING, nodes.REPORTING, nodes.LEAVING, nodes.GONE]
    assert sum(len(group) for group in sets) == len(NodeState)
    assert frozenset().union(*sets) == frozenset(NodeState)
    assert NodeState.DRAINING not in nodes.COUNTED
    assert frozenset(StreamState) - {StreamState.ENDED} == streams.ON_AIR
    assert streams.FED < streams.ON_AIR


def test_a_move_that_is_not_in_the_table_says_what_was_tried() -> None:
    with pytest.raises(IllegalMove, match="edge-1 cannot go from terminated to in_service"):
        nodes.MACHINE.check("edge-1", NodeState.TERMINATED, NodeState.IN_SERVICE)


def test_the_documented_diagrams_are_current() -> None:
    written = diagrams.PAGE.read_text(encoding="utf-8")
    assert written == diagrams.page(), "run: python -m controlplane.domain.diagrams"
