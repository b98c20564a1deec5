"""The rule, exactly: what the order says of it, and what no load and no policy may make it do."""

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.fleet.figures import Figures
from controlplane.fleet.planner import Action, Decision, choose_victim, plan
from controlplane.fleet.snapshot import Around, Candidate, Past, Snapshot, snapshot
from controlplane.wire.fleet import Policy, Unit
from controlplane.wire.nodes import NodeState

LONG = Past(agreed_up=10_000, agreed_down=10_000)  # periods and cooldowns as passed


def group(*connections: int, past: Past = LONG, around: Around = Around(), **more: object) -> Snapshot:
    nodes = [Figures(node=f"edge-{n}", connections=it) for n, it in enumerate(connections, 1)]
    made = snapshot(nodes, Unit.CONNECTIONS, past=past, around=around, called="edge")
    return replace(made, **more)  # type: ignore[arg-type]


def spread(connections: int, nodes: int) -> tuple[int, ...]:
    each, rest = divmod(connections, nodes)
    return tuple(each + (n < rest) for n in range(nodes))


def decide(snapshot: Snapshot, now: float = 1000.0, **policy: object) -> Decision:
    return plan(snapshot, Policy.model_validate(policy), now)


@pytest.mark.parametrize(("nodes", "first"), [(1, 241), (2, 481), (5, 1201)])
def test_with_400_connections_and_60_percent_the_first_above_adds_one(nodes: int, first: int) -> None:
    assert decide(group(*spread(first - 1, nodes)), in_fraction=0).actions == ()
    assert decide(group(*spread(first, nodes))).actions == (Action("add", 1),)


def test_fractions_are_exact() -> None:
    """50 x 0.58 is 28.999999999999996 in floats, and 29 here."""
    assert decide(group(29), capacity=50, alarm=0.58).actions == ()
    assert decide(group(30), capacity=50, alarm=0.58).actions == (Action("add", 1),)


def test_a_storm_adds_what_it_needs_at_once_in_whole_increments() -> None:
    assert decide(group(1000)).actions == (Action("add", 4),)  # 1,000 of 5 x 240
    assert decide(group(1000), increment=3).actions == (Action("add", 6),)


def test_who_waits_who_comes_up_who_drains_and_who_is_silent_count() -> None:
    assert decide(group(200, around=Around(waiting=41))).actions == (Action("add", 1),)
    assert decide(group(241, launching=1)).actions == ()
    silent = Figures(state=NodeState.SUSPECT, connections=100, fresh=False)
    draining = Figures(state=NodeState.DRAINING, connections=100)
    made = snapshot([Figures(connections=41), silent, draining], Unit.CONNECTIONS, past=LONG, called="edge")
    assert decide(made).actions == (Action("add", 1),)


def test_seats_count_before_they_are_connections_and_who_is_moved_counts_once() -> None:
    assert decide(
        snapshot([Figures(connections=5, reserved=241)], Unit.CONNECTIONS, past=LONG, called="edge")
    ).actions == (Action("add", 1),)
    leaving = Figures(state=NodeState.DRAINING, connections=240, reserved=240, moving=240)
    arriving = Figures(connections=0, reserved=240)
    made = snapshot([leaving, arriving], Unit.CONNECTIONS, past=LONG, called="edge")
    assert made.load == 240
    assert decide(made).actions == ()


def test_one_is_ended_when_the_others_carry_the_load_below_the_fraction() -> None:
    assert decide(group(80, 81)).actions == ()
    decision = decide(group(90, 70))
    assert decision.actions == (Action("drain", 1, "edge-2"),)
    assert (
        decision.because
        == "-1: 160 fit into 40 % of 1 edge (160), in 60 of 60 periods; edge-2 has 70, the least."
    )
    assert decide(group(0, 0, 0), min=3).actions == ()
    assert decide(group(0)).actions == ()


def test_what_is_held_back_carries_nothing_and_is_told() -> None:
    """Two serve, one more is wanted, and the money is there for none."""
    spent = Around(held=1, budget_room=0, budget_because="all is spent")
    decision = decide(group(200, 200, around=spent))
    assert (decision.outcome, decision.wanted, decision.held_by) == ("held", 1, "budget")
    assert decision.because == "Wants +1: 2 of 3 edges are there; held: all is spent."
    decision = decide(group(250, 250, around=spent))
    assert (decision.outcome, decision.wanted, decision.held_by) == ("held", 1, "budget")
    assert decision.because.startswith("Wants +1: 500 of 800 is 62.5 %, over the alarm of 60 %")
    capped = decide(group(200, around=Around(held=1, price=Decimal("0.2"))), spend_cap=0.3)
    assert (capped.outcome, capped.held_by) == ("held", "cap")


def test_what_is_held_back_is_given_up_before_anybody_is_drained() -> None:
    spent = Around(held=1, budget_room=0)
    assert decide(group(170, 160, around=spent)).outcome == "held", "too many for 40 % of two"
    decision = decide(group(160, 160, around=spent))
    assert decision.actions == (Action("drain", 1, None),)
    assert "one that was wanted is not launched" in decision.because
    assert decide(group(160, 160, around=spent), min=3).held_by == "budget", "the least there may be"


def test_what_is_beyond_max_and_not_there_is_given_up_at_once_and_nobody_waits_for_that() -> None:
    """The max was lowered from 40 to 4 with 33 there of 36: those stay, as long as they are needed."""
    past = replace(LONG, last_up=999.0)
    made = group(*[300] * 33, past=past, around=Around(held=3))
    decision = decide(made, max=4, down_cooldown_s=300)
    assert decision.actions == (Action("drain", 3, None),)
    assert decision.because == ("-3: 36 edges were wanted, of at most 4: 3 that are not there are given up.")
    assert decision.after == past
    fewer = decide(group(100, 100, around=Around(held=3)), max=4)
    assert fewer.actions == (Action("drain", 1, None),), "4 may be there"
    assert decide(group(300, 300, around=Around()), max=1).outcome == "held", "nobody is ended for it"


def test_all_periods_must_agree() -> None:
    policy = {"up_periods": 3, "down_periods": 2}
    past = Past()
    for connections, acted in ((300, 0), (300, 0), (100, 0), (300, 0), (300, 0), (300, 1)):
        decision = decide(group(connections, past=past), **policy)
        assert len(decision.actions) == acted
        past = decision.after
    past = Past()
    for acted in (0, 1):
        decision = decide(group(10, 10, past=past), **policy)
        assert len(decision.actions) == acted
        past = decision.after


@pytest.mark.parametrize(
    ("snapshot", "policy", "word", "because"),
    [
        (
            group(241, past=replace(LONG, last_up=990.0)),
            {"up_cooldown_s": 30},
            "cooldown",
            "Wants +1: 241 of 400 is 60.3 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: the cooldown of the last launch runs for 20 s more.",
        ),
        (
            group(1681, *[0] * 6),
            {"max": 7},
            "max",
            "Wants +1: 1,681 of 2,800 is 60.036 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: 7 of at most 7 are there.",
        ),
        (
            group(241),
            {"max": 1},
            "max",
            "Wants +1: 241 of 400 is 60.3 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: 1 of at most 1 is there.",
        ),
        (
            group(241, around=Around(price=Decimal("0.20"))),
            {"spend_cap": 0.3},
            "cap",
            "Wants +1: 241 of 400 is 60.3 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: 1 at $0.20 an hour and one more would be over the cap of $0.30.",
        ),
        (
            group(1204, launching=1),
            {"launches": 1},
            "launching",
            "Wants +4: 1,204 of 800 is 150.5 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: 1 is being launched, of at most 1 at once.",
        ),
        (
            group(241, around=Around(stopped=True)),
            {},
            "faults",
            "Wants +1: 241 of 400 is 60.3 %, over the alarm of 60 %, in 2 of 2 periods; "
            "held: too many edge nodes failed lately, none are launched.",
        ),
        (
            group(10, 10, silent=("edge-1",)),
            {},
            "metrics",
            "Would end one, held: no fresh figures of edge-1.",
        ),
        (
            group(10, 10, past=replace(LONG, last_up=900.0)),
            {},
            "cooldown",
            "Wants -1: 20 fit into 40 % of 1 edge (160); "
            "held: the cooldown of the last change runs for 200 s more.",
        ),
    ],
    ids=lambda it: it if isinstance(it, str) and " " not in it else "",
)
def test_what_is_held_back_says_by_what(
    snapshot: Snapshot, policy: dict[str, object], word: str, because: str
) -> None:
    decision = decide(snapshot, **policy)
    assert (decision.outcome, decision.held_by, decision.actions) == ("held", word, ())
    assert decision.because == because


def test_a_step_says_what_it_costs_and_the_budget_bounds_it() -> None:
    price = Around(price=Decimal("0.155"))
    assert decide(group(500, around=price), max=9).because.endswith(" 2 periods; +$0.31 an hour.")
    assert decide(group(0, 0, around=price)).because.endswith(" the least; -$0.155 an hour.")
    poor = replace(price, currency="€", budget_room=1, budget_because="it is spent")
    decision = decide(group(500, around=poor), max=9)
    assert decision.actions == (Action("add", 1),)
    assert decision.because.endswith("; 2 were wanted, but it is spent; +€0.155 an hour.")
    over = decide(group(500, around=replace(poor, budget_room=-2)), max=9)
    assert (over.actions, over.held_by) == ((), "budget")
    assert over.because.endswith("held: it is spent.")
    assert decide(group(0, 0, around=replace(poor, budget_room=-2))).actions[0].kind == "drain"


def test_what_is_granted_in_part_says_what_was_wanted() -> None:
    decision = decide(group(2000), max=3)
    assert decision.actions == (Action("add", 2),)
    assert decision.because.endswith("; 8 were wanted, but 1 of at most 3 is there.")


def test_below_the_floor_nothing_is_waited_for() -> None:
    decision = decide(group(past=Past(last_up=999.0)), up_periods=9, up_cooldown_s=99, min=2)
    assert decision.actions == (Action("add", 2),)
    assert decision.because == "+2: 0 of 2 edges are there (the least there may be)."
    prestaged = Around(floor=3, floor_because="3 are prestaged for Fight night")
    decision = decide(group(0, past=Past(), around=prestaged))
    assert decision.because == "+2: 1 of 3 edges is there (3 are prestaged for Fight night)."
    assert decide(group(0, 0, 0, around=prestaged)).actions == ()
    assert decide(group(0, 0, 0, 0, around=prestaged)).actions[0].kind == "drain"


def test_what_is_wanted_and_not_launched_yet_is_given_up_before_anybody_is_ended() -> None:
    wanted = Figures(state=NodeState.REQUESTED, reported=False)
    made = snapshot(
        [Figures(node="edge-1", connections=50), wanted], Unit.CONNECTIONS, past=LONG, called="edge"
    )
    decision = decide(made)
    assert decision.actions == (Action("drain", 1, None),)
    assert decision.because.endswith("; one that was wanted is not launched.")


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    future = replace(LONG, last_up=5000.0, last_down=5000.0)
    assert decide(group(241, past=future), now=1400.0, up_cooldown_s=600).actions
    assert decide(group(0, 0, past=future), now=1400.0).actions


def test_in_a_cooldown_only_what_is_lacking_is_launched() -> None:
    cooling = replace(LONG, last_up=999.0)
    assert decide(group(2000, past=cooling), min=2, max=20, up_cooldown_s=600).actions == (Action("add", 1),)
    assert decide(group(2000, past=cooling), min=1, max=20, up_cooldown_s=600).held_by == "cooldown"
    assert decide(group(2000), min=2, max=20, up_cooldown_s=600).actions == (Action("add", 8),)


def test_periods_without_fresh_figures_do_not_count() -> None:
    past = Past()
    for _ in range(100):
        decision = decide(group(5, 5, past=past, silent=("edge-2",)), down_periods=3)
        past = decision.after
    for acted in (0, 0, 1):
        decision = decide(group(5, 5, past=past), down_periods=3)
        assert len(decision.actions) == acted
        past = decision.after


def test_more_than_the_maximum_prestaged_is_said_to_be_held() -> None:
    decision = decide(group(0, 0, around=Around(floor=5, floor_because="5 are prestaged")), max=2)
    assert (decision.outcome, decision.held_by, decision.wanted) == ("held", "max", 3)


def test_who_never_reported_goes_first_and_the_last_copy_never() -> None:
    def node(name: str, load: int, **more: object) -> Candidate:
        return Candidate(node=name, load=Decimal(load), **more)  # type: ignore[arg-type]

    one, other = node("a", 5), node("b", 3)
    assert choose_victim((one, other)) is other
    assert choose_victim((one, replace(other, kept=True))) is one
    assert choose_victim((one, other, launched := node("c", 0, reported=False))) is launched
    assert choose_victim((replace(one, kept=True),)) is None


UNITS = {
    Unit.CONNECTIONS: (Figures(connections=7), 7),
    Unit.PUBLISHERS: (Figures(connections=2, relays=40), 5),  # two streams on twenty edges
    Unit.MBPS: (Figures(connections=100, reserved=120, mbps=450.0), 540),
}


@pytest.mark.parametrize("unit", Unit)
def test_each_unit_counts_what_it_is_named_for(unit: Unit) -> None:
    figures, load = UNITS[unit]
    assert snapshot([figures], unit, called="node").load == load


# Whatever the load and the policy: a fleet in virtual time, one evaluation a second.

POLICIES = st.builds(
    lambda least, more, alarm, part, **rest: Policy(
        min=least, max=least + more, alarm=alarm, in_fraction=alarm * part / 10, **rest
    ),
    st.integers(0, 4),
    st.integers(0, 12),
    st.decimals("0.1", "1", places=2),
    st.integers(0, 9),
    capacity=st.integers(1, 500),
    increment=st.integers(1, 4),
    up_periods=st.integers(1, 4),
    down_periods=st.integers(1, 8),
    up_cooldown_s=st.integers(0, 20).map(float),
    down_cooldown_s=st.integers(0, 60).map(float),
    launches=st.integers(1, 5),
    drain_deadline_s=st.integers(0, 40).map(float),
    spend_cap=st.none() | st.decimals("0", "3", places=2),
)
LOADS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 4000)), min_size=1, max_size=12)
PRICE = Decimal("0.15")


class Fleet:
    """Nodes that take some seconds to come up, and viewers who go to the emptiest."""

    def __init__(self, policy: Policy, boot_s: int) -> None:
        self.policy = policy
        self.boot_s = boot_s
        self.now = 0
        self.nodes: dict[str, Figures] = {}
        self.deadlines: dict[str, float] = {}
        self.past = Past()
        self.made = 0
        self.log: list[tuple[int, Decision]] = []

    def second(self, people: int) -> Decision:
        for name, node in list(self.nodes.items()):
            aged = replace(node, age_s=node.age_s + 1)
            if node.state is NodeState.BOOTING and aged.age_s >= self.boot_s:
                aged = replace(aged, state=NodeState.IN_SERVICE, reported=True)
            self.nodes[name] = aged
            if node.state is NodeState.DRAINING and (
                node.connections == 0 or self.now >= self.deadlines[name]
            ):
                del self.nodes[name]
        self._settle(people)
        made = snapshot(
            self.nodes.values(),
            Unit.CONNECTIONS,
            past=self.past,
            around=Around(waiting=self.waiting, price=PRICE),
            called="edge",
        )
        decision = plan(made, self.policy, float(self.now))
        self.past = decision.after
        for action in decision.actions:
            self._act(action)
        self.log.append((self.now, decision))
        self.now += 1
        return decision

    def _settle(self, people: int) -> None:
        """Whoever is on a node stays while there are people; the others go where there is room."""
        left = people
        for name, node in self.nodes.items():
            kept = min(node.connections, left)
            self.nodes[name] = replace(node, connections=kept)
            left -= kept
        for name, node in sorted(self.nodes.items(), key=lambda it: it[1].connections):
            if node.state is NodeState.IN_SERVICE:
                more = min(left, self.policy.capacity - node.connections)
                self.nodes[name] = replace(node, connections=node.connections + more)
                left -= more
        self.waiting = left

    def _act(self, action: Action) -> None:
        if action.kind == "add":
            for _ in range(action.count):
                self.made += 1
                name = f"edge-{self.made}"
                self.nodes[name] = Figures(node=name, state=NodeState.BOOTING, reported=False)
        else:
            assert action.node is not None
            node = self.nodes[action.node]
            if node.state is NodeState.BOOTING:
                del self.nodes[action.node]
            else:
                self.nodes[action.node] = replace(node, state=NodeState.DRAINING)
                self.deadlines[action.node] = self.now + self.policy.drain_deadline_s

    @property
    def counted(self) -> int:
        return sum(1 for node in self.nodes.values() if node.state is not NodeState.DRAINING)


def second_by_second(loads: Sequence[tuple[int, int]]) -> list[int]:
    return [people for lasting, people in loads for _ in range(lasting)]


def assert_no_chase(log: Sequence[tuple[int, Decision]]) -> None:
    kinds = [action.kind for _, decision in log for action in decision.actions]
    assert "add" not in kinds[kinds.index("drain") :] if "drain" in kinds else True, kinds


@settings(max_examples=50, deadline=None)
@given(POLICIES, LOADS, st.integers(0, 30))
def test_whatever_comes_the_bounds_are_kept_and_nothing_flaps(
    policy: Policy, loads: list[tuple[int, int]], boot_s: int
) -> None:
    fleet = Fleet(policy, boot_s)
    affordable = policy.max if policy.spend_cap is None else int(policy.spend_cap // PRICE)
    last_up = last_change = None
    for people in second_by_second(loads):
        before = fleet.counted
        decision = fleet.second(people)
        assert fleet.counted <= policy.max
        assert len(fleet.nodes) <= max(affordable, 0) or fleet.counted <= before
        for action in decision.actions:
            if action.kind == "drain":
                assert fleet.counted >= policy.min
                assert last_change is None or fleet.now - 1 - last_change >= policy.down_cooldown_s
                last_change = fleet.now - 1
            else:
                if last_up is not None and fleet.now - 1 - last_up < policy.up_cooldown_s:
                    assert fleet.counted <= policy.min, "in a cooldown only what is lacking is launched"
                last_up = last_change = fleet.now - 1
    # A load that stays is answered once, and then there is peace. What was added for it is not ended and
    # added again: after the first that is ended nothing is launched any more.
    fleet.log.clear()
    for _ in range(int(policy.max * (policy.down_cooldown_s + policy.down_periods + boot_s + 90) + 200)):
        fleet.second(people)
    assert all(not decision.actions for _, decision in fleet.log[-60:])
    assert_no_chase(fleet.log)
    if policy.spend_cap is None:
        assert fleet.counted >= policy.min


@settings(max_examples=50, deadline=None)
@given(POLICIES, st.integers(1, 12), st.integers(0, 2000))
def test_while_nothing_is_heard_nobody_is_ended(policy: Policy, nodes: int, connections: int) -> None:
    """Ten minutes without a report: figures are old, and old figures are not a small load."""
    past = Past()
    quiet = [Figures(node=f"edge-{n}", connections=connections, fresh=False) for n in range(nodes)]
    for now in range(600):
        made = snapshot(quiet, Unit.CONNECTIONS, past=past, around=Around(price=PRICE), called="edge")
        decision = plan(made, policy, float(now))
        assert all(action.kind == "add" for action in decision.actions)
        past = decision.after


def test_nobody_is_ended_while_those_on_it_would_fit_nowhere() -> None:
    """Megabits say that one could go; its people need seats."""
    small = {"unit": "mbps", "capacity": 1000}
    nodes = [
        Figures(node="edge-1", connections=30, reserved=30, mbps=30, room=20),
        Figures(node="edge-2", connections=25, reserved=25, mbps=25, room=25),
    ]
    made = snapshot(nodes, Unit.MBPS, past=LONG, called="edge")
    decision = decide(made, **small)
    assert (decision.held_by, decision.actions) == ("room", ())
    assert "there are 20 seats for the 25 on edge-2" in decision.because
    roomier = [replace(nodes[0], room=25), nodes[1]]
    assert decide(snapshot(roomier, Unit.MBPS, past=LONG, called="edge"), **small).actions
    # Who is still on one that drains needs some of those seats.
    leaving = Figures(node="edge-3", state=NodeState.DRAINING, connections=3, reserved=3, moving=2, mbps=3)
    made = snapshot([*roomier, leaving], Unit.MBPS, past=LONG, called="edge")
    assert "there are 24 seats for the 25 on edge-2" in decide(made, **small).because
    unknown = [replace(it, room=None) for it in nodes]
    assert decide(snapshot(unknown, Unit.MBPS, past=LONG, called="edge"), **small).actions


def test_who_is_moved_off_and_finds_no_room_brings_another_node() -> None:
    homeless = Around(unplaced=4)
    decision = decide(group(100, around=homeless))
    assert decision.actions == (Action("add", 1),)
    assert "100 of 400 is 25 %, but 4 who are moved off find no room" in decision.because
    waits = decide(group(100, launching=1, around=homeless))
    assert (waits.held_by, waits.actions) == ("room", ()), "one is coming, and none is ended meanwhile"
    assert decide(group(100, around=homeless), max=1).held_by == "max"
    assert "1 who is moved off finds no room" in decide(group(100, around=Around(unplaced=1))).because


class Parties:
    """Small nodes and large parties: each is on one node as a whole, and moved so where there is room."""

    def __init__(self, policy: Policy, sizes: Sequence[int], seed: int) -> None:
        self.policy = policy
        self.chance = random.Random(seed)
        self.nodes: dict[str, Figures] = {}
        self.on: dict[str, list[int]] = {}
        self.past = Past()
        self.now = 0
        self.log: list[tuple[int, Decision]] = []
        for size in sizes:
            node = self._with_room_for(size) or self._new(NodeState.IN_SERVICE)
            self.on[node].append(size)

    def _new(self, state: NodeState) -> str:
        name = f"edge-{len(self.on) + 1}"
        self.nodes[name] = Figures(node=name, state=state, reported=state is NodeState.IN_SERVICE)
        self.on[name] = []
        return name

    def _room(self, name: str) -> int:
        return self.policy.capacity - sum(self.on[name])

    def _with_room_for(self, size: int) -> str | None:
        """Any of them: others may have come in between."""
        fit = [
            name
            for name, node in self.nodes.items()
            if node.state is NodeState.IN_SERVICE and self._room(name) >= size
        ]
        return self.chance.choice(fit) if fit else None

    def second(self) -> None:
        unplaced = 0
        for name, node in list(self.nodes.items()):
            if node.state is NodeState.BOOTING:
                self.nodes[name] = replace(node, state=NodeState.IN_SERVICE, reported=True)
            elif node.state is NodeState.DRAINING:
                for size in sorted(self.on[name], reverse=True):
                    if (to := self._with_room_for(size)) is None:
                        unplaced += size
                    else:
                        self.on[name].remove(size)
                        self.on[to].append(size)
                if not self.on[name]:
                    del self.nodes[name]
        made = snapshot(
            [
                replace(
                    node,
                    connections=sum(self.on[name]),
                    reserved=sum(self.on[name]),
                    room=self._room(name),
                    party=max(self.on[name], default=1),
                )
                for name, node in self.nodes.items()
            ],
            Unit.CONNECTIONS,
            past=self.past,
            around=Around(unplaced=unplaced),
            called="edge",
        )
        decision = plan(made, self.policy, float(self.now))
        self.past = decision.after
        for action in decision.actions:
            if action.kind == "add":
                for _ in range(action.count):
                    self._new(NodeState.BOOTING)
            else:
                assert action.node is not None
                self.nodes[action.node] = replace(self.nodes[action.node], state=NodeState.DRAINING)
        self.log.append((self.now, decision))
        self.now += 1


SMALL = st.integers(3, 12).flatmap(
    lambda capacity: st.tuples(
        st.builds(
            lambda alarm, **rest: Policy(
                capacity=capacity, max=50, alarm=alarm, in_fraction=alarm * Decimal("0.98"), **rest
            ),
            st.decimals("0.85", "1", places=2),
            increment=st.integers(1, 3),
            up_periods=st.just(1),
            down_periods=st.integers(1, 3),
            down_cooldown_s=st.integers(0, 5).map(float),
            launches=st.just(5),
        ),
        st.lists(st.integers((capacity + 1) // 2, capacity), min_size=3, max_size=8)
        | st.lists(st.integers(1, capacity), min_size=1, max_size=10),
    )
)


@settings(max_examples=80, deadline=None)
@given(SMALL, st.integers(0, 1000))
def test_large_parties_on_small_nodes_are_not_chased_from_one_to_the_next(
    given_with: tuple[Policy, list[int]], seed: int
) -> None:
    """Nobody comes and nobody goes. If one is ended whose parties fit nowhere as a whole, one must be added
    for them, and the next is ended, for ever."""
    policy, sizes = given_with
    fleet = Parties(policy, sizes, seed)
    for _ in range(60 + 40 * int(policy.down_periods + policy.down_cooldown_s)):
        fleet.second()
    assert all(not decision.actions for _, decision in fleet.log[-40:])
    assert_no_chase(fleet.log)
    assert sorted(size for name in fleet.nodes for size in fleet.on[name]) == sorted(sizes)


def test_a_party_that_may_fit_nowhere_as_a_whole_keeps_its_node() -> None:
    """Three of ten with a party of six each: eight seats are free on the others, and never six on one."""
    policy = {"capacity": 10, "alarm": 0.95, "in_fraction": 0.92}

    def three(party: int, *rooms: int) -> Snapshot:
        nodes = [
            Figures(node=f"edge-{n}", connections=10 - room, reserved=10 - room, room=room, party=party)
            for n, room in enumerate(rooms, 1)
        ]
        return snapshot(nodes, Unit.CONNECTIONS, past=LONG, called="edge")

    decision = decide(three(6, 4, 4, 4), **policy)
    assert (decision.outcome, decision.held_by) == ("held", "room")
    assert "held: the party of 6 on edge-1 may fit on no other as a whole" in decision.because
    assert decide(three(1, 4, 4, 4), **policy).actions, "one by one they fit"
    assert decide(three(4, 4, 4, 4), **policy).held_by == "room", "the two others may sit down on either"
    assert decide(three(3, 4, 4, 4), **policy).actions, "wherever the three others go, there are three"
