"""What is counted as sessions come and go is what a walk over all of them finds; posts of latency are found
from their end; and when the garbage is collected."""

import gc
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from controlplane.domain.streams.model import EndReason, Session
from controlplane.services import collector
from controlplane.services.board import Board
from controlplane.services.collector import Collector
from controlplane.services.counts import Counts
from controlplane.services.latency import LatencyPost, LatencyPosts
from controlplane.wire.nodes import SessionKind
from tests.controlplane.clock import VirtualClock

NODES, CHANNELS, PARTIES = ("a", "b", "c"), ("main", "side"), (None, "p", "q")


def session(chance: random.Random, number: int) -> Session:
    return Session(
        id=f"session-{number}",
        kind=chance.choice([*SessionKind, SessionKind.WHEP, SessionKind.WHEP]),
        channel=chance.choice(CHANNELS),
        node=chance.choice(NODES),
        created_at=float(number),
        party=chance.choice(PARTIES),
    )


def test_what_is_counted_is_what_a_walk_over_all_sessions_finds() -> None:
    chance = random.Random(7)
    board = Board()
    for number in range(600):
        if board.sessions and chance.random() < 0.5:
            over = chance.choice(list(board.sessions.values()))
            ended = Session(
                **{
                    name: getattr(over, name)
                    for name in ("id", "kind", "channel", "node", "created_at", "party")
                },
                ended_at=1.0,
                end_reason=EndReason.LEFT,
            )
            board.put_session(ended)
            board.put_session(ended)  # told twice, as by another manager
        else:
            new = session(chance, number)
            board.put_session(new)
            board.put_session(new)
        check(board)
    for it in list(board.sessions.values()):
        board.put_session(
            Session(id=it.id, kind=it.kind, channel=it.channel, node=it.node, created_at=0.0, ended_at=1.0)
        )
    check(board)
    assert vars(board._counts) == vars(Counts()), "nothing is left behind"


def check(board: Board) -> None:
    there = list(board.sessions.values())
    for node in NODES:
        here = [it for it in there if it.node == node]
        assert board.seats_on(node) == sum(it.seat for it in here)
        assert board.viewers_on(node) == sum(it.kind is SessionKind.WHEP for it in here)
        assert board.relays_from(node) == sum(it.kind is SessionKind.RELAY_OUT for it in here)
        sizes = Counter((it.channel, it.party) for it in here if it.party is not None)
        assert sorted(board.party_sizes(node)) == sorted(sizes.values())
    for channel in CHANNELS:
        watched = {it.node for it in there if it.channel == channel and it.kind is SessionKind.WHEP}
        assert set(board._counts.nodes_with(channel)) == watched
        for party in filter(None, PARTIES):
            on = Counter(it.node for it in there if (it.channel, it.party) == (channel, party))
            assert dict(board._counts.party(channel, party)) == on


def test_the_posts_of_the_last_seconds_are_found_from_the_end() -> None:
    posts = LatencyPosts()
    assert posts.last("main", 10.0) == []
    for number in range(100):
        posts.put("main", f"session-{number}", LatencyPost(float(number), at=float(number)))
    posts.put("side", "other", LatencyPost(7.0, at=99.0))
    posts.put("main", "session-3", LatencyPost(300.0, at=99.5))  # who posts again has one
    posts.put("main", "late", LatencyPost(400.0, at=96.0, elsewhere=True))  # of another manager
    assert sorted(it.latency_ms for it in posts.last("main", 4.0)) == [96.0, 97.0, 98.0, 99.0, 300.0, 400.0]
    assert set(posts.told_since(97.0)) == {"session-98", "session-99", "session-3", "other"}
    assert len(list(posts.all())) == 102
    posts.forget("main", "session-3")
    posts.forget("main", "nobody")
    posts.forget("side", "other")
    assert posts.last("side", 4.0) == []
    assert max(it.latency_ms for it in posts.last("main", 2.0)) == 99.0


@pytest.fixture
def spared() -> Iterator[None]:
    before = gc.get_threshold()
    collector.spare_the_joins()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_all_is_collected_when_nobody_watches_any_more_or_in_a_calm_moment(spared: None) -> None:
    clock = VirtualClock()
    made = Collector(clock)
    assert not made.look(watching=0, joining=0)
    assert not made.look(watching=9, joining=3)
    assert made.look(watching=0, joining=0)
    assert not made.look(watching=9, joining=3)
    clock.advance(collector.CALM_AFTER_S)
    assert not made.look(watching=9, joining=3)
    assert made.look(watching=9, joining=0)
    assert not made.look(watching=9, joining=0)
    clock.advance(collector.ANYHOW_AFTER_S)
    assert made.look(watching=9, joining=3)


def test_where_python_collects_by_itself_nothing_is_done() -> None:
    made = Collector(VirtualClock())
    assert not made.look(watching=9, joining=0)
    assert not made.look(watching=0, joining=0)
