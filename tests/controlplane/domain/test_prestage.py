"""Nodes for events: enough of them, exactly counted, and there in time however slowly they are launched."""

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.fleet.prestage import MARGIN_S, asked_for, due_at, floor, lead_s, nodes_for
from controlplane.wire.fleet import Expected, Policy


def policy(**said: Any) -> Policy:
    return Policy.model_validate({"max": 1000, "prestage": {"events": True}} | said)


def event(title: str, starts: float, ends: float, crowd: int, **more: Any) -> Expected:
    return Expected(title=title, starts=starts, ends=ends, crowd=crowd, **more)


EVENTS = st.lists(
    st.builds(
        lambda start, length, crowd: event("e", 10_000.0 + start, 10_000.0 + start + length, crowd),
        st.integers(0, 3000),
        st.integers(1, 2000),
        st.integers(0, 5000),
    ),
    max_size=5,
)
POLICIES = st.builds(
    lambda capacity, alarm, launches: policy(
        capacity=capacity, alarm=str(alarm / 100), launches=launches, in_fraction="0.001"
    ),
    st.integers(1, 500),
    st.integers(1, 100),
    st.integers(1, 20),
)


@given(crowd=st.integers(0, 1_000_000), policy=POLICIES)
def test_as_many_nodes_as_keep_the_crowd_below_the_alarm_and_not_one_more(crowd: int, policy: Policy) -> None:
    a_node = Fraction(policy.alarm) * policy.capacity
    nodes = nodes_for(crowd, policy)
    assert crowd <= a_node * nodes
    assert nodes == 0 or crowd > a_node * (nodes - 1)


@given(events=EVENTS, policy=POLICIES, now=st.integers(9_000, 16_000))
def test_what_is_on_has_its_nodes_all_together(events: list[Expected], policy: Policy, now: int) -> None:
    on = [it for it in events if it.starts <= now < it.ends]
    nodes, why = floor(policy, float(now), events, launch_s=30.0)
    assert nodes >= nodes_for(sum(it.crowd for it in on), policy)
    due = due_at(policy, float(now), events, 30.0)
    assert nodes == nodes_for(sum(it.crowd for it in due), policy)
    assert all(now < it.ends for it in due)
    assert all(it in due for it in on)
    assert (f"{nodes} node" in why) == (nodes > 0)


@given(
    events=st.lists(
        st.builds(
            lambda start, length, crowd: event("e", 10_000.0 + start, 10_000.0 + start + length, crowd),
            st.integers(0, 600),
            st.integers(1, 600),
            st.integers(0, 60),
        ),
        max_size=4,
    ),
    policy=st.integers(1, 8).map(lambda it: policy(capacity=5, alarm="0.6", launches=it)),
    launch_s=st.integers(1, 120),
)
def test_all_nodes_are_there_a_margin_before_an_event_begins(
    events: list[Expected], policy: Policy, launch_s: int
) -> None:
    """Launched as the floor asks for them, so many at once: by the moments at which something changes."""
    asked = asked_for(policy, events, 0.0, float(launch_s))
    there, flying = 0, list[float]()
    moments = sorted({it.at for it in asked} | {it.event.starts - MARGIN_S for it in asked})
    needed = {it.event.starts - MARGIN_S: it.nodes for it in asked}  # of equal starts the last has them all
    now = min(moments, default=0.0)
    while moments or flying:
        there += sum(1 for at in flying if at <= now)
        flying = [at for at in flying if at > now]
        wanted, _ = floor(policy, now, events, float(launch_s))
        while there + len(flying) < wanted and len(flying) < policy.launches:
            flying.append(now + launch_s)
        if now in needed:
            assert there >= needed[now]
        moments = [at for at in moments if at > now]
        now = min([*moments, *flying], default=now)


def test_events_that_begin_one_after_the_other_are_launched_for_in_time() -> None:
    """Each alone would be asked for two minutes ahead; ten of them take eleven."""
    made = policy(capacity=100, alarm="0.5", launches=10)
    crowd = [event(f"e{number}", 5000.0 + number, 9000.0, 500) for number in range(10)]
    assert lead_s(10, made, 60.0) == 120
    assert [it.nodes for it in asked_for(made, crowd, 0.0, 60.0)] == list(range(10, 101, 10))
    assert floor(made, 5009.0 - 660 - 1, crowd, 60.0)[0] == 0
    assert floor(made, 5009.0 - 660, crowd, 60.0)[0] == 100


def test_one_that_ends_as_the_other_begins_lends_it_its_nodes_but_not_its_launches() -> None:
    made = policy(capacity=100, alarm="0.5", launches=100)
    first, second = event("first", 1000.0, 2000.0, 500), event("second", 2000.0, 3000.0, 500)
    assert floor(made, 1500.0, [first, second], 30.0)[0] == 10
    assert floor(made, 2000.0 - 90, [first, second], 30.0)[0] == 20, "both crowds are at the doors"
    assert floor(made, 2000.0, [first, second], 30.0)[0] == 10
    assert floor(made, 3000.0, [first, second], 30.0) == (0, "0 are prestaged")


def test_the_words_say_for_whom_and_by_when() -> None:
    made = policy(max=99)
    cup = event("Cup final", 1_795_892_400.0, 1_795_899_600.0, 8000, zone="Europe/Berlin")  # 20:00 there
    early = cup.starts - lead_s(34, made, 40.0)
    said = "prestage for 'Cup final', 8,000 expected: 34 nodes by 19:59 Europe/Berlin"
    assert floor(made, early, [cup], 40.0) == (34, said)
    assert floor(made, early - 1, [cup], 40.0)[0] == 0
    on = "prestage for 'Cup final', 8,000 expected: 34 nodes until 22:00 Europe/Berlin"
    assert floor(made, cup.starts, [cup], 40.0) == (34, on)
    small = event("Quiz", cup.starts, cup.ends, 1, zone="Mars/Base")
    assert floor(made, cup.starts, [small], 40.0)[1].endswith("1 expected: 1 node until 21:00 UTC")
    many = [cup, *(event(name, cup.starts, cup.ends, 240) for name in ("B", "C", "D", "E"))]
    words = floor(made, cup.starts, many, 40.0)[1]
    assert words.startswith("prestage for 'Cup final', 'B', 'C' and 2 more, 8,960 expected: 38 nodes until")


def test_where_the_unit_is_another_one_the_load_counts_and_people_are_named() -> None:
    made = policy(unit="publishers", capacity=20, alarm="0.5")
    cup = event("Cup final", 1000.0, 2000.0, 8000, load="4.25")
    assert floor(made, 1000.0, [cup] * 3, 1.0)[0] == 2  # 12.75 of 10 a node
    assert floor(policy(prestage={"events": False}), 1000.0, [cup], 1.0)[0] == 0
