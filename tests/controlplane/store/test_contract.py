"""What ports.store promises, held against SQLite and MariaDB alike: every method, atomicity, order, texts."""

import asyncio
import inspect
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.store.sql.transaction import SqlTransaction
from controlplane.domain.managers.model import Act, ActKind, KeptAnswer, Told
from controlplane.domain.money.model import HourUsed, Used
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import EndReason, Party, Session, StreamState
from controlplane.ports.store import Store, Taken, Transaction
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role, SessionKind
from tests.controlplane.domain.events.test_rules import EVENT
from tests.controlplane.domain.test_rules import NODE, STREAM

EMOJI = "🎬"  # four bytes of UTF-8
SESSION = Session(id="s", kind=SessionKind.WHEP, channel="main", node="edge-1", created_at=2.0)
METHODS = {
    name for name, _ in inspect.getmembers(Transaction, inspect.isfunction) if not name.startswith("_")
}


def node(name: str, **changes: Any) -> Node:
    return replace(NODE, **{"id": name, "enrol_hash": f"hash of {name}"} | changes)


async def add(store: Store, *nodes: Node) -> None:
    async def work(tx: Transaction) -> None:
        for one in nodes:
            await tx.add_node(one)

    await store.write(work)


def ids(nodes: list[Node]) -> list[str]:
    return [one.id for one in nodes]


# nodes


async def test_a_node_comes_back_as_it_was_written(store: Store) -> None:
    full = replace(
        NODE,
        state_since=1_790_000_000.123457,
        created_at=time.time(),
        enrolled_at=1.0000001,
        credential_hash="c",
        pid=2**31 - 1,
        start_time=12345.0,
        control_url="https://[::1]:1/",
        version="1",
        in_service_at=0.1 + 0.2,
        faulted_at=1e-300,
        drain_deadline=9.5,
        control_fingerprint="AB:" * 31 + "AB",
    )
    await add(store, full)

    async def read(tx: Transaction) -> None:
        for found in (
            await tx.node("edge-1"),
            await tx.node_by_enrolment("x"),
            await tx.node_by_credential("c"),
            *await tx.nodes(),
        ):
            assert found == full
            assert found is not None
            assert isinstance(found.managed, bool)
        assert await tx.node("edge-2") is None
        assert await tx.node_by_enrolment("c") is None
        assert await tx.node_by_credential("x") is None

    await store.read(read)
    bare = replace(NODE, managed=not NODE.managed)
    await store.write(lambda tx: tx.save_node(bare))
    assert await store.read(lambda tx: tx.node("edge-1")) == bare


async def test_a_name_or_a_secret_is_given_once(store: Store) -> None:
    await add(store, node("a", credential_hash="c"))
    for other in (node("a"), node("b", enrol_hash="hash of a"), node("b", credential_hash="c")):
        with pytest.raises(Taken):
            await add(store, replace(other, id=other.id))
    assert ids(await store.read(lambda tx: tx.nodes())) == ["a"]


async def test_a_work_goes_on_after_a_name_was_taken(store: Store) -> None:
    await add(store, node("a"))

    async def work(tx: Transaction) -> str:
        try:
            await tx.add_node(node("a"))
        except Taken:
            await tx.add_node(node("b"))
        return "went on"

    assert await store.write(work) == "went on"
    assert ids(await store.read(lambda tx: tx.nodes())) == ["a", "b"]


async def test_nodes_are_listed_oldest_first_without_those_that_have_gone(store: Store) -> None:
    gone = NodeState.TERMINATED
    await add(
        store,
        node("c", created_at=2.0),
        node("b", created_at=3.0),
        node("a", created_at=2.0),
        node("d", created_at=1.0, state=gone, state_since=5.0),
        node("e", created_at=1.0, state=gone, state_since=50.0),
    )
    assert ids(await store.read(lambda tx: tx.nodes())) == ["a", "c", "b"]
    await store.write(lambda tx: tx.purge_nodes(10.0))
    assert await store.read(lambda tx: tx.node("d")) is None
    assert await store.read(lambda tx: tx.node("e")) is not None
    await store.write(lambda tx: tx.forget_terminated())
    assert await store.read(lambda tx: tx.node("e")) is None
    assert ids(await store.read(lambda tx: tx.nodes())) == ["a", "c", "b"]


async def test_faults_are_those_of_managed_nodes_of_the_group(store: Store) -> None:
    await add(
        store,
        node("a", faulted_at=5.0, managed=True),
        node("b", faulted_at=15.0, managed=True),
        node("c", faulted_at=25.0, managed=True, state=NodeState.TERMINATED),
        node("d", faulted_at=35.0, managed=False),
        node("e", faulted_at=45.0, managed=True, region="elsewhere"),
        node("f", faulted_at=55.0, managed=True, role=Role.ORIGIN),
        node("g", managed=True),
    )
    assert sorted(await store.read(lambda tx: tx.fault_times(Role.EDGE, "local", 5.0))) == [15.0, 25.0]


# seats


async def test_seats_are_never_overfilled_by_concurrent_writers(store: Store) -> None:
    await add(store, node("a", capacity=7), node("b", capacity=7, role=Role.ORIGIN))
    taken = await asyncio.gather(*(store.write(lambda tx: tx.reserve("a")) for _ in range(40)))
    assert sum(taken) == 7
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 7, 7)]
    assert await store.read(lambda tx: tx.rooms(Role.ORIGIN)) == [Room("b", 7, 0)]
    await store.write(lambda tx: tx.release("a"))
    await store.write(lambda tx: tx.release("a", 3))
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 7, 3)]
    await store.write(lambda tx: tx.release("a", 4))  # more than there are: never below zero
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 7, 3)]
    await store.write(lambda tx: tx.save_node(node("a", capacity=7)))  # not its `reserved`
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 7, 3)]
    await store.write(lambda tx: tx.save_node(node("a", capacity=7, state=NodeState.DRAINING)))
    assert not await store.write(lambda tx: tx.reserve("a"))
    assert not await store.write(lambda tx: tx.reserve("nobody"))
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == []


async def test_seats_are_counted_anew_from_the_sessions_that_hold_them(store: Store) -> None:
    await add(store, node("a"), node("b"))
    kinds = (SessionKind.WHEP, SessionKind.WHIP, SessionKind.RELAY_OUT, SessionKind.WHEP)

    async def work(tx: Transaction) -> None:
        for number, kind in enumerate(kinds):
            await tx.add_session(replace(SESSION, id=str(number), kind=kind, node="a"))
        await tx.end_session("3", 5.0, EndReason.LEFT)
        assert await tx.reserve("b")
        await tx.recount_reserved()

    await store.write(work)
    rooms = await store.read(lambda tx: tx.rooms(Role.EDGE))
    assert {room.node: room.reserved for room in rooms} == {"a": 2, "b": 0}


async def test_the_database_itself_refuses_more_seats_than_there_are(store: Store) -> None:
    await add(store, node("edge-1", capacity=1))

    async def overfill(tx: Transaction) -> None:
        for name in ("s", "t"):
            await tx.add_session(replace(SESSION, id=name))
        await tx.recount_reserved()

    with pytest.raises(Exception, match=r"(?i)check|constraint"):
        await store.write(overfill)
    assert await store.read(lambda tx: tx.sessions()) == []
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("edge-1", 1, 0)]


# groups, streams, sessions


async def test_groups_come_back_as_they_were_saved(store: Store) -> None:
    policy = Policy.model_validate({"alarm": 0.58, "spend_cap": 1.25, "prestage": {"nodes": 2}})
    edges = Group(role=Role.EDGE, region="local", desired=1, policy=policy, scaled_up_at=5.5, last_number=9)
    origins = Group(role=Role.ORIGIN, region="local", desired=2, faults_from=1.5)
    for group in (origins, edges):
        await store.write(lambda tx, group=group: tx.save_group(group))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.groups()) == [edges, origins]
    bare = replace(edges, policy=None, scaled_up_at=None, desired=7)
    await store.write(lambda tx: tx.save_group(bare))
    assert await store.read(lambda tx: tx.group(Role.EDGE, "local")) == bare
    assert await store.read(lambda tx: tx.group(Role.EDGE, "Local")) is None


async def test_streams_come_back_as_they_were_saved(store: Store) -> None:
    live = replace(STREAM, publisher="p", video_codec="VP8")
    ended = replace(STREAM, channel="old", state=StreamState.ENDED, state_since=5.0)
    late = replace(ended, channel="late", state_since=50.0)
    for stream in (live, ended, late):
        await store.write(lambda tx, stream=stream: tx.save_stream(stream))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.streams_on_air()) == [live]
    assert await store.read(lambda tx: tx.stream("old")) == ended
    again = replace(live, state_reason="again", was_live=False, publisher=None, origin=None, session=None)
    await store.write(lambda tx: tx.save_stream(again))
    assert await store.read(lambda tx: tx.stream("main")) == again
    await store.write(lambda tx: tx.save_stream(again))  # the very same
    await store.write(lambda tx: tx.purge_streams(10.0))
    found = [await store.read(lambda tx, c=c: tx.stream(c)) for c in ("old", "late", "main")]  # type: ignore[misc]
    assert found == [None, late, again]


async def test_a_session_ends_once(store: Store) -> None:
    relay = replace(SESSION, id="r", kind=SessionKind.RELAY_OUT, peer="edge-2")
    for session in (SESSION, relay):
        await store.write(lambda tx, session=session: tx.add_session(session))  # type: ignore[misc]
    assert sorted(s.id for s in await store.read(lambda tx: tx.sessions())) == ["r", "s"]
    assert await store.read(lambda tx: tx.session("r")) == relay
    ends = [await store.write(lambda tx: tx.end_session("s", 3.0, EndReason.MOVED)) for _ in range(2)]
    assert ends == [True, False]
    assert not await store.write(lambda tx: tx.end_session("nobody", 3.0, EndReason.MOVED))
    kept = await store.read(lambda tx: tx.session("s"))
    assert kept == replace(SESSION, ended_at=3.0, end_reason=EndReason.MOVED)
    assert await store.read(lambda tx: tx.sessions()) == [relay]
    await store.write(lambda tx: tx.purge_sessions(3.0))
    assert await store.read(lambda tx: tx.session("s")) is not None
    await store.write(lambda tx: tx.purge_sessions(3.5))
    assert await store.read(lambda tx: tx.session("s")) is None
    assert await store.read(lambda tx: tx.session("r")) == relay


async def test_a_reserved_session_is_taken_once_and_in_time(store: Store) -> None:
    def reserved(name: str) -> Session:
        return replace(SESSION, id=name, moved_from="before", move_until=20.0)

    async def begin(tx: Transaction) -> None:
        for session in (replace(SESSION, id="before"), *map(reserved, ("taken", "late", "over"))):
            await tx.add_session(session)
        await tx.end_session("over", 5.0, EndReason.LEFT)

    await store.write(begin)
    assert await store.read(lambda tx: tx.session("taken")) == reserved("taken")
    assert await store.write(lambda tx: tx.take_move("taken", 20.0))
    taken = await store.read(lambda tx: tx.session("taken"))
    assert taken == replace(reserved("taken"), created_at=20.0, move_until=None)
    for name in ("taken", "over", "before", "nobody"):
        assert not await store.write(lambda tx, name=name: tx.take_move(name, 20.0)), name
    assert not await store.write(lambda tx: tx.take_move("late", 20.1))


async def test_seats_for_several_are_had_together_or_not_at_all(store: Store) -> None:
    await add(store, node("a", state=NodeState.IN_SERVICE, capacity=5))
    had = [await store.write(lambda tx, seats=seats: tx.reserve("a", seats)) for seats in (3, 3, 2, 1)]
    assert had == [True, False, True, False]
    assert await store.read(lambda tx: tx.rooms(Role.EDGE)) == [Room("a", 5, 5)]


async def test_sessions_are_added_and_ended_together(store: Store) -> None:
    many = [replace(SESSION, id=f"s{number:04}", party="us") for number in range(1201)]
    await store.write(lambda tx: tx.add_sessions(many))
    await store.write(lambda tx: tx.add_sessions([]))
    assert sorted(it.id for it in await store.read(lambda tx: tx.sessions())) == [it.id for it in many]
    assert await store.write(lambda tx: tx.end_session("s0007", 4.0, EndReason.MOVED))
    asked = {it.id for it in many} | {"nobody"}
    over = await store.write(lambda tx: tx.end_sessions(asked, 5.0, EndReason.LEFT))
    assert over == asked - {"s0007", "nobody"}
    assert await store.write(lambda tx: tx.end_sessions(asked, 6.0, EndReason.LEFT)) == set()
    assert await store.write(lambda tx: tx.end_sessions([], 6.0, EndReason.LEFT)) == set()
    assert await store.read(lambda tx: tx.session("s0008")) == replace(
        many[8], ended_at=5.0, end_reason=EndReason.LEFT
    )


async def test_several_sessions_are_added_or_none_is(store: Store) -> None:
    await store.write(lambda tx: tx.add_session(SESSION))
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await store.write(lambda tx: tx.add_sessions([replace(SESSION, id="a"), SESSION]))
    assert await store.read(lambda tx: tx.sessions()) == [SESSION]


async def test_streams_to_join_are_those_asked_for(store: Store) -> None:
    ended = replace(STREAM, channel="old", state=StreamState.ENDED)
    for stream in (STREAM, ended, replace(STREAM, channel="other")):
        await store.write(lambda tx, stream=stream: tx.save_stream(stream))  # type: ignore[misc]
    found = await store.write(lambda tx: tx.streams_to_join(["main", "nothing", "old"]))
    assert sorted(found, key=lambda it: it.channel) == [STREAM, ended]


async def test_a_party_has_a_row_from_its_beginning_until_it_is_forgotten(store: Store) -> None:
    us, them, ours = ("main", "us"), ("main", "Us"), ("side", "us")
    begun = await store.write(lambda tx: tx.begin_parties([us, them]))
    assert {it.key: it.node for it in begun} == {us: "", them: ""}
    there = Party(channel="main", party="us", node="edge-1", kept=3, kept_until=0.1 + 0.2)
    await store.write(lambda tx: tx.save_parties([there, replace(there, channel="side", kept=5)]))
    await store.write(lambda tx: tx.save_parties([replace(there, channel="side", kept=4), there]))
    await store.write(lambda tx: tx.save_parties([]))
    again = {it.key: it for it in await store.write(lambda tx: tx.begin_parties([ours, us]))}
    assert again == {us: there, ours: replace(there, channel="side", kept=4)}
    assert [it.key for it in await store.read(lambda tx: tx.parties_among([them, ("side", "Us")]))] == [them]
    assert await store.read(lambda tx: tx.parties_among([])) == []
    await store.write(lambda tx: tx.forget_parties([them, ours, ("main", "nobody")]))
    assert await store.read(lambda tx: tx.parties()) == [there]
    with pytest.raises(Exception, match=r"(?i)check|constraint"):
        await store.write(lambda tx: tx.save_parties([replace(there, kept=-1)]))
    assert await store.read(lambda tx: tx.parties()) == [there]


async def test_the_members_of_a_party_are_counted_where_they_are(store: Store) -> None:
    places = [("main", "us", "a"), ("main", "us", "a"), ("main", "us", "b"), ("side", "us", "a")]
    places += [("main", "them", "a"), ("main", "Us", "a"), ("main", "us", "c")]

    async def work(tx: Transaction) -> None:
        for number, (channel, party, at) in enumerate(places):
            session = replace(SESSION, id=str(number), channel=channel, party=party, node=at)
            await tx.add_session(session)
        await tx.end_session("6", 5.0, EndReason.LEFT)

    await store.write(work)
    found = await store.read(lambda tx: tx.members([("main", "us"), ("side", "us"), ("side", "them")]))
    assert sorted(found) == [("main", "us", "a", 2), ("main", "us", "b", 1), ("side", "us", "a", 1)]
    assert await store.read(lambda tx: tx.members([])) == []


async def test_kept_seats_are_counted_anew_for_parties_that_are_there(store: Store) -> None:
    await add(store, node("a"), node("b"))

    async def work(tx: Transaction) -> None:
        await tx.add_session(replace(SESSION, node="a", party="us"))
        for party, at in (("us", "a"), ("gone", "b")):
            await tx.save_parties([Party(channel="main", party=party, node=at, kept=3)])
        await tx.recount_reserved()

    await store.write(work)
    rooms = await store.read(lambda tx: tx.rooms(Role.EDGE))
    assert {room.node: room.reserved for room in rooms} == {"a": 4, "b": 0}
    assert [it.party for it in await store.read(lambda tx: tx.parties())] == ["us"]


async def test_events_come_back_as_they_were_written_and_get_names_of_their_own(store: Store) -> None:
    other = replace(
        EVENT, starts_at=EVENT.starts_at - 60, channel="second", cancel_reason="r", checked_at=1.5
    )

    async def write(tx: Transaction) -> None:
        assert [(await tx.add_event(it)).id for it in (EVENT, other)] == [1, 2]
        await tx.save_event(replace(other, id=2, cancelled_at=2.5))

    await store.write(write)
    first, second = replace(EVENT, id=1), replace(other, id=2, cancelled_at=2.5)

    async def read(tx: Transaction) -> None:
        assert await tx.event(2) == second
        assert await tx.event(3) is None
        assert await tx.events(EVENT.ends_at - 1) == [second, first], "the first to start comes first"
        assert await tx.events(EVENT.ends_at) == []

    await store.read(read)
    assert await store.write(lambda tx: tx.events_on("second", 0.0)) == [second]
    assert await store.write(lambda tx: tx.events_on("Second", 0.0)) == []
    await store.write(lambda tx: tx.purge_events(EVENT.ends_at + 1))
    assert await store.read(lambda tx: tx.events(0.0)) == []
    assert (await store.write(lambda tx: tx.add_event(EVENT))).id == 3


# journal, tokens


async def three(tx: Transaction) -> list[int]:
    return [(await tx.append_journal(1.0, "a", "k", "s", "m", {"x": 1})).id for _ in range(3)]


async def test_journal_numbers_are_never_given_twice(store: Store) -> None:
    assert await store.write(three) == [1, 2, 3]
    assert [entry.id for entry in await store.read(lambda tx: tx.journal(1, 1))] == [2]
    await store.write(lambda tx: tx.prune_journal(1))
    assert [entry.id for entry in await store.read(lambda tx: tx.journal(0, 10))] == [3]
    await store.write(lambda tx: tx.prune_journal(0))
    assert await store.read(lambda tx: tx.latest_journal(2)) == []
    await store.write(lambda tx: tx.prune_journal(0))
    assert await store.write(three) == [4, 5, 6]
    assert [entry.id for entry in await store.read(lambda tx: tx.latest_journal(2))] == [5, 6]


async def test_a_journal_entry_comes_back_with_all_that_is_in_it(store: Store) -> None:
    data = {
        "big": 2**70,
        "float": 0.1,
        "text": f"{EMOJI} \\ ' \" % \0",
        "none": None,
        "list": [1, {"a": True}],
    }
    data["long"] = "x" * 200_000  # a decision about many nodes
    said = await store.write(lambda tx: tx.append_journal(time.time(), "a", "k", "s", f"{EMOJI}%s\\'", data))
    assert [said] == await store.read(lambda tx: tx.journal(0, 10))
    assert said.data == data


async def test_decisions_are_what_policies_did_newest_first(store: Store) -> None:
    async def some(tx: Transaction) -> None:
        for kind, subject in (
            ("scale.add", "edge@a"),
            ("fleet.add", "edge@a"),
            ("scale.held", "edge@b"),
            ("scale.drain", "edge@a"),
        ):
            await tx.append_journal(1.0, "autoscaler", kind, subject, "because", {})

    await store.write(some)
    for subject, expected in ((None, [4, 3, 1]), ("edge@a", [4, 1]), ("edge@A", [])):
        found = await store.read(lambda tx, about=subject: tx.decisions(about, 10))  # type: ignore[misc]
        assert [entry.id for entry in found] == expected
    assert [entry.id for entry in await store.read(lambda tx: tx.decisions(None, 1))] == [4]


async def test_a_token_is_revoked_until_it_would_have_expired(store: Store) -> None:
    for _ in range(2):
        await store.write(lambda tx: tx.revoke("j", "main", 10.0))
    assert await store.read(lambda tx: tx.revoked("j"))
    assert not await store.read(lambda tx: tx.revoked("J"))
    await store.write(lambda tx: tx.purge_revoked(10.0))
    assert await store.read(lambda tx: tx.revoked("j"))
    await store.write(lambda tx: tx.purge_revoked(10.5))
    assert not await store.read(lambda tx: tx.revoked("j"))


# texts


# money


def part(hour: int, until_ms: int, role: Role = Role.EDGE, **counts: int) -> HourUsed:
    return HourUsed(hour=hour, used=Used(role=role, region="local", **counts), until_ms=until_ms)


async def test_what_was_used_adds_up_by_group_and_hour(store: Store) -> None:
    much = 9 * 10**15  # bytes, and more than a double holds with its neighbours

    async def count(tx: Transaction) -> None:
        assert await tx.counted_until() is None
        await tx.add_used(part(0, 5, node_ms=1, egress=much, measured_ms=2, unknown_ms=3), 0)
        await tx.add_used(part(0, 5, Role.ORIGIN, node_ms=7), 0)
        await tx.add_used(part(3600, 5, node_ms=10), 0)

    await store.write(count)
    await store.write(lambda tx: tx.add_used(part(0, 9, node_ms=100, egress=much + 1), 5))
    assert await store.read(lambda tx: tx.counted_until()) == 9
    edge, origin = await store.read(lambda tx: tx.used(0, 3600))
    assert edge == part(0, 0, node_ms=101, egress=2 * much + 1, measured_ms=2, unknown_ms=3).used
    assert origin == part(0, 0, Role.ORIGIN, node_ms=7).used
    assert [it.node_ms for it in await store.read(lambda tx: tx.used(0, 3601))] == [111, 7]
    assert await store.read(lambda tx: tx.used(7200, 10_000)) == []


async def test_of_two_who_count_from_the_same_moment_one_does(store: Store) -> None:
    await store.write(lambda tx: tx.add_used(part(0, 5, node_ms=1), 0))
    counts = (store.write(lambda tx: tx.add_used(part(0, 9, node_ms=10), 5)) for _ in range(2))
    results = await asyncio.gather(*counts, return_exceptions=True)
    assert sorted(type(it).__name__ for it in results) == ["NoneType", "Taken"]
    assert [it.node_ms for it in await store.read(lambda tx: tx.used(0, 1))] == [11]


async def test_nodes_that_have_gone_since_are_found_with_those_that_are_there(store: Store) -> None:
    gone = {"state": NodeState.TERMINATED}
    await add(
        store,
        node("a", state_since=1.0),
        node("b", state_since=1.0, **gone),
        node("c", state_since=2.0, **gone),
    )
    assert sorted(ids(await store.read(lambda tx: tx.nodes_since(1.0)))) == ["a", "c"]


async def test_ids_differ_by_case_accents_and_blanks(store: Store) -> None:
    names = ["a", "A", "á", "a ", " a", "ａ", "ß", "ss", EMOJI, "🎭"]
    await add(store, *(node(name) for name in names))
    assert sorted(ids(await store.read(lambda tx: tx.nodes()))) == sorted(names)
    for name in names:
        found = await store.read(lambda tx, name=name: tx.node(name))  # type: ignore[misc]
        assert found is not None
        assert found.id == name
    assert await store.read(lambda tx: tx.node("Á")) is None


async def test_what_comes_from_outside_is_cut_to_what_there_is_room_for(store: Store) -> None:
    await add(store, replace(NODE, state_reason=EMOJI * 1000))
    await store.write(
        lambda tx: tx.save_stream(
            replace(STREAM, state_reason=EMOJI * 1000, publisher=EMOJI * 1000, video_codec="v" * 100)
        )
    )
    said = await store.write(
        lambda tx: tx.append_journal(1.0, EMOJI * 999, "k", EMOJI * 999, "m" * 70_000, {})
    )
    found = await store.read(lambda tx: tx.node("edge-1"))
    assert found is not None
    assert found.state_reason == EMOJI * 500
    stream = await store.read(lambda tx: tx.stream("main"))
    assert stream is not None
    assert (stream.state_reason, stream.publisher, stream.video_codec) == (EMOJI * 500, EMOJI * 255, "v" * 16)
    assert (said.actor, said.subject) == (EMOJI * 255, EMOJI * 255)
    assert await store.read(lambda tx: tx.latest_journal(1)) == [said]


# transactions


async def test_a_write_that_raises_leaves_nothing_behind(store: Store) -> None:
    async def fails(tx: Transaction) -> None:
        await tx.add_node(NODE)
        await tx.append_journal(1.0, "a", "k", "s", "m", {})
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.read(lambda tx: tx.nodes()) == []
    assert await store.read(lambda tx: tx.journal(0, 10)) == []


async def test_of_many_writes_at_once_those_that_raise_leave_nothing_and_the_others_stay(
    store: Store,
) -> None:
    async def one(tx: Transaction, number: int) -> int:
        if number % 5 == 3:
            raise LookupError(number)  # before it has written anything
        await tx.add_node(node(f"n{number}"))
        await tx.append_journal(1.0, "a", "k", str(number), "m", {})
        if number % 5 in (0, 1):
            raise KeyError(number)
        return number

    answers = await asyncio.gather(
        *(store.write(lambda tx, number=n: one(tx, number)) for n in range(40)),  # type: ignore[misc]
        return_exceptions=True,
    )
    for number, answer in enumerate(answers):
        if number % 5 == 3:
            assert isinstance(answer, LookupError)
        elif number % 5 in (0, 1):
            assert isinstance(answer, KeyError)
        else:
            assert answer == number
    kept = [str(n) for n in range(40) if n % 5 in (2, 4)]
    assert sorted(ids(await store.read(lambda tx: tx.nodes()))) == sorted(f"n{n}" for n in kept)
    entries = await store.read(lambda tx: tx.journal(0, 100))
    assert [entry.subject for entry in entries] == kept


async def test_writes_are_done_in_the_order_in_which_they_were_asked_for(store: Store) -> None:
    said: list[int] = []

    async def write(number: int) -> None:
        entry = await store.write(lambda tx: tx.append_journal(1.0, "a", "k", str(number), "m", {}))
        said.append(entry.id)

    await asyncio.gather(*(write(number) for number in range(120)))
    entries = await store.read(lambda tx: tx.journal(0, 200))
    assert [entry.subject for entry in entries] == [str(number) for number in range(120)]
    assert said == sorted(said)


async def test_a_write_sees_what_those_before_it_have_done(store: Store) -> None:
    await add(store, node("a", capacity=100))

    async def one(tx: Transaction) -> int:
        assert await tx.reserve("a")
        (room,) = await tx.rooms(Role.EDGE)
        return room.reserved

    assert await asyncio.gather(*(store.write(one) for _ in range(60))) == list(range(1, 61))


async def test_a_read_sees_one_state_however_long_it_takes(store: Store) -> None:
    await add(store, node("a"))

    async def look(tx: Transaction) -> tuple[list[str], list[str]]:
        before = ids(await tx.nodes())
        for _ in range(20):  # while somebody writes
            await tx.group(Role.EDGE, "local")
        return before, ids(await tx.nodes())

    reading = [asyncio.ensure_future(store.read(look)) for _ in range(10)]
    for number in range(10):
        await add(store, node(f"b{number}"))
    for before, after in await asyncio.gather(*reading):
        assert before == after
    assert len(await store.read(lambda tx: tx.nodes())) == 11


async def test_what_was_begun_is_finished_although_nobody_waits_for_it(store: Store) -> None:
    begun = asyncio.Event()

    async def work(tx: Transaction) -> None:
        await tx.add_node(node("a"))
        begun.set()
        await tx.add_node(node("b"))

    writing = asyncio.ensure_future(store.write(work))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await add(store, node("c"))  # its turn is after the other
    assert ids(await store.read(lambda tx: tx.nodes())) == ["a", "b", "c"]


def test_every_method_of_a_transaction_is_called_here() -> None:
    """A new method needs a test above."""
    source = Path(__file__).read_text()
    assert {name for name in METHODS if f"tx.{name}(" not in source} == set()
    assert {
        name for name, _ in inspect.getmembers(SqlTransaction, inspect.iscoroutinefunction) if name[0] != "_"
    } == METHODS


# stream managers


async def test_acts_are_open_until_they_are_closed_once(store: Store) -> None:
    async def begin(tx: Transaction) -> list[Act]:
        return [
            await tx.add_act(ActKind.LAUNCH, "edge-1", 3, "r1"),
            await tx.add_act(ActKind.END, "edge-1", 4, "r2"),
        ]

    launch, end = await store.write(begin)
    assert (launch.token, launch.retry, launch.outcome) == (3, "r1", None)
    assert await store.read(lambda tx: tx.open_acts()) == [launch, end]
    assert await store.read(lambda tx: tx.launch_of("edge-1")) == launch
    assert await store.read(lambda tx: tx.launch_of("edge-2")) is None
    for outcome in ("runs", "too late"):
        await store.write(lambda tx, said=outcome: tx.close_act(launch.id, said))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.open_acts()) == [end]
    assert await store.read(lambda tx: tx.launch_of("edge-1")) == replace(launch, outcome="runs")
    await store.write(lambda tx: tx.purge_acts(end.at + 1.0))
    assert await store.read(lambda tx: tx.launch_of("edge-1")) is None
    assert await store.read(lambda tx: tx.open_acts()) == [end]


async def test_a_lease_is_taken_once_and_ends_by_the_databases_clock(store: Store) -> None:
    assert await store.read(lambda tx: tx.lease()) is None
    before = await store.read(lambda tx: tx.time())
    assert abs(before - time.time()) < 60.0
    taken = await store.write(lambda tx: tx.take_lease(None, "a", 6.0))
    assert taken is not None
    assert (taken.holder, taken.token, taken.length_s) == ("a", 1, 6.0)
    assert before + 6.0 <= taken.expires <= await store.read(lambda tx: tx.time()) + 6.0
    assert await store.write(lambda tx: tx.take_lease(replace(taken, token=0), "b", 6.0)) is None
    assert await store.write(lambda tx: tx.renew_lease(1, 30.0))
    renewed = await store.read(lambda tx: tx.lease())
    assert renewed is not None
    assert renewed == replace(taken, expires=renewed.expires, length_s=30.0)
    assert renewed.expires >= before + 30.0
    assert not await store.write(lambda tx: tx.renew_lease(2, 3.0))
    await store.write(lambda tx: tx.give_lease_back(2))
    assert await store.read(lambda tx: tx.lease()) == renewed
    second = await store.write(lambda tx: tx.take_lease(renewed, "b", 6.0))
    assert second is not None
    assert (second.holder, second.token) == ("b", 2)
    await store.write(lambda tx: tx.give_lease_back(2))
    freed = await store.read(lambda tx: tx.lease())
    assert freed is not None
    assert (freed.holder, freed.token, freed.expires) == ("", 2, 0.0)


async def test_changes_are_read_in_the_order_of_their_numbers(store: Store) -> None:
    assert [
        await store.read(lambda tx: tx.last_change()),
        await store.read(lambda tx: tx.first_change()),
    ] == [0, 0]
    for text in ("x", "y", "z" * 100_000):
        await store.write(lambda tx, body=text: tx.append_change("a", body))  # type: ignore[misc]
    rows = await store.read(lambda tx: tx.changes(0, 10))
    assert [(row.manager, row.body[0]) for row in rows] == [("a", "x"), ("a", "y"), ("a", "z")]
    assert await store.read(lambda tx: tx.changes(rows[0].id, 1)) == [rows[1]]
    assert await store.read(lambda tx: tx.changes_among([rows[2].id, 10**6])) == [rows[2]]
    assert await store.read(lambda tx: tx.changes_among([])) == []
    assert await store.read(lambda tx: tx.last_change()) == rows[2].id
    await store.write(lambda tx: tx.purge_changes(rows[0].at))
    assert await store.read(lambda tx: tx.first_change()) == rows[0].id
    await store.write(lambda tx: tx.purge_changes(rows[2].at + 1.0))
    assert await store.read(lambda tx: tx.changes(0, 10)) == []
    await store.write(lambda tx: tx.append_change("a", "more"))
    assert await store.read(lambda tx: tx.last_change()) > rows[2].id  # a number is never given twice


async def test_rows_are_found_by_their_ids_whatever_has_become_of_them(store: Store) -> None:
    await add(store, node("edge-1"), node("edge-2", state=NodeState.TERMINATED), node("edge-3"))

    async def write(tx: Transaction) -> int:
        await tx.save_stream(replace(STREAM, channel="over", state=StreamState.ENDED))
        await tx.save_stream(replace(STREAM, channel="on"))
        await tx.add_session(replace(SESSION, id="viewer"))
        await tx.add_session(replace(SESSION, id="over", channel="over"))
        await tx.add_session(
            replace(SESSION, id="relay", kind=SessionKind.RELAY_OUT, node="origin-1", peer="edge-1")
        )
        await tx.end_session("over", 3.0, EndReason.LEFT)
        return (await tx.append_journal(1.0, "a", "k", "s", "m", {})).id

    entry = await store.write(write)

    async def read(tx: Transaction) -> None:
        assert set(ids(await tx.nodes_among(["edge-1", "edge-2", "edge-9"]))) == {"edge-1", "edge-2"}
        assert {it.channel for it in await tx.streams_among({"over", "on", "none"})} == {"over", "on"}
        assert {it.id for it in await tx.sessions_among(["over", "relay"])} == {"over", "relay"}
        assert [it.id for it in await tx.journal_among([entry, entry + 1])] == [entry]
        assert [it.id for it in await tx.sessions_on("edge-1")] == ["viewer"]
        assert {it.id for it in await tx.sessions_of("main")} == {"viewer", "relay"}
        assert await tx.sessions_of("over") == []
        assert [it.id for it in await tx.relays_to("edge-1")] == ["relay"]
        many = [f"edge-{number}" for number in range(1, 1300)]
        assert len(await tx.nodes_among(many)) == 3

    await store.read(read)


async def test_what_was_told_last_is_kept_whoever_wrote_it(store: Store) -> None:
    def told(name: str, manager: str, body: str = "{}") -> Told:
        return Told(kind="node", id=name, manager=manager, body=body)

    await store.write(lambda tx: tx.tell([told(f"edge-{number}", "a") for number in range(1200)]))
    await store.write(
        lambda tx: tx.tell([told("edge-7", "b", "new"), Told(kind="manager", id="b", manager="b", body="x")])
    )
    assert len(await store.read(lambda tx: tx.told_to_others("b"))) == 1199
    others = await store.read(lambda tx: tx.told_to_others("a"))
    assert {(it.kind, it.id, it.manager, it.body) for it in others} == {
        ("node", "edge-7", "b", "new"),
        ("manager", "b", "b", "x"),
    }
    await store.write(lambda tx: tx.tell([]))
    await store.write(lambda tx: tx.purge_told(others[0].at + 1.0))
    assert await store.read(lambda tx: tx.told_to_others("c")) == []


async def test_managers_are_alive_while_they_are_heard(store: Store) -> None:
    for name in ("b", "a", "b"):
        await store.write(lambda tx, who=name: tx.beat(who, f"http://{who}", 5.0))  # type: ignore[misc]
    alive = await store.read(lambda tx: tx.managers(0.0))
    assert [(it.id, it.api, it.started_at) for it in alive] == [
        ("a", "http://a", 5.0),
        ("b", "http://b", 5.0),
    ]
    later = max(it.seen_at for it in alive) + 1.0
    assert await store.read(lambda tx: tx.managers(later)) == []
    await store.write(lambda tx: tx.purge_managers(later))
    assert await store.read(lambda tx: tx.managers(0.0)) == []


async def test_an_answer_is_kept_with_its_change_and_begun_once(store: Store) -> None:
    async def answered(tx: Transaction, *, then: Exception | None = None) -> None:
        await tx.begin_answer("key", "asked")
        await tx.append_journal(1.0, "a", "k", "done", "m", {})
        await tx.keep_answer("key", EMOJI)
        if then is not None:
            raise then

    async def done(tx: Transaction) -> tuple[KeptAnswer | None, int]:
        return await tx.kept_answer("key"), len(await tx.journal(0, 10))

    with pytest.raises(ValueError, match="refused"):
        await store.write(lambda tx: answered(tx, then=ValueError("refused")))
    assert await store.read(done) == (None, 0)
    results = await asyncio.gather(
        *(store.write(lambda tx: answered(tx)) for _ in range(3)), return_exceptions=True
    )
    assert [type(it) for it in results] == [type(None), Taken, Taken]
    assert await store.read(done) == (KeptAnswer(asked="asked", answer=EMOJI), 1)
    now = await store.read(lambda tx: tx.time())
    await store.write(lambda tx: tx.purge_answers(now - 60.0))
    assert (await store.read(done))[0] is not None
    await store.write(lambda tx: tx.purge_answers(now + 60.0))
    assert await store.read(done) == (None, 1)
