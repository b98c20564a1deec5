"""Any mix of parties, rooms, comings and goings while edges drain, are taken back and die: what may never be.

No seat is given twice and none is lost, those that are kept for parties included; a party that is moved comes
to one node, and whoever has two sessions counts once. The services and the database are real; the nodes take
every offer, and time is the test's own.
"""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controlplane.adapters.provision.memory import MemoryProvisioner
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import (
    BudgetConfig,
    FleetConfig,
    PricesConfig,
    StageConfig,
    StreamsConfig,
    ViewersConfig,
)
from controlplane.domain.nodes.model import Node
from controlplane.domain.streams.model import EndReason, Session, StreamState
from controlplane.errors import ControlError
from controlplane.services.background import Background
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.fleet import Fleet
from controlplane.services.joining import Joining
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import Money
from controlplane.services.moving import Mover
from controlplane.services.pages import Pages
from controlplane.services.placement import NoRoom
from controlplane.services.provisioning import Provisioning
from controlplane.services.seating import Seating
from controlplane.services.signaling import Signaling
from controlplane.services.streams import Streams
from controlplane.services.tokens import Tokens
from controlplane.services.waiting import Waiting
from controlplane.wire.nodes import NodeState, SessionAnswer, SessionRequest
from tests.controlplane.domain.test_rules import NODE, STREAM
from tests.controlplane.stage import fresh_database

OFFER = "v=0"


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Nodes:
    """ports.control.NodeControl, as far as it is needed: every offer is taken."""

    async def create_session(self, node: Node, request: SessionRequest) -> SessionAnswer:
        return SessionAnswer(id=request.id, answer="v=0")

    async def end_sessions(self, node: Node, sessions: list[str], reason: str) -> None: ...


class House:
    """The services around the mover, on a database in a folder."""

    def __init__(self, folder: Path, at_once: int) -> None:
        (folder / "house.db").write_bytes(fresh_database())
        self.clock, self.board = Clock(), Board()
        self.store = SqliteStore(folder / "house.db")
        self.books = Books(self.store, self.board, self.clock)
        nodes: Any = Nodes()
        config, viewers = FleetConfig(moves_at_once=at_once), ViewersConfig()
        self.background = Background()
        tokens = Tokens(b"k" * 32, None, "metrics", self.store, self.clock)
        pages = Pages(self.board, tokens.move_token)
        pages.hears = lambda session: True  # type: ignore[method-assign]
        streams = Streams(self.books, nodes, tokens, self.background, StreamsConfig(), viewers)
        provisioner = MemoryProvisioner()
        lease = Leading(self.store, self.clock, "a", 6.0)
        losses = Losses(self.books, provisioner, nodes, streams, self.background, lease)
        money = Money(self.books, config, PricesConfig(), BudgetConfig(), lease)
        provisioning = Provisioning(
            *(self.books, provisioner, losses, self.background, money, config, lease), launches=False
        )
        self.fleet = Fleet(self.books, provisioning, losses, money, StageConfig())
        joining = Joining(self.board, self.clock, viewers)
        self.seating = Seating(self.books, viewers, "local")
        self.signaling = Signaling(
            *(self.books, nodes, streams, losses, self.seating, joining, Waiting(self.clock), tokens)
        )
        self.losses = losses
        self.mover = Mover(self.books, pages, streams, losses, config, lease)
        self.tokens = tokens
        self.books.listen(pages)
        self.books.listen(self.mover)

    async def open(self, capacities: list[int]) -> None:
        await self.books.load()

        async def rows(change: Change) -> None:
            for number, capacity in enumerate(capacities, 1):
                name = f"edge-{number}"
                fresh = {"id": name, "capacity": capacity, "state": NodeState.REQUESTED, "enrol_hash": name}
                node = await change.begin_node(
                    replace(NODE, **fresh, managed=False, credential_hash=None), actor="a test"
                )
                for state in (NodeState.BOOTING, NodeState.IN_SERVICE):
                    node = await change.move_node(node, state, "a test")
            stream = replace(STREAM, state=StreamState.CONNECTING)
            stream = await change.begin_stream(stream, actor="a test")
            await change.move_stream(stream, StreamState.LIVE, "a test")

        await self.books.change(rows)

    async def close(self) -> None:
        await self.background.close()
        await self.seating.close()
        await self.store.close()

    @property
    def viewers(self) -> list[Session]:
        """The session that each viewer watches by, oldest first."""
        going = {new.id for _, new in self.board.moves()}
        return [it for it in self.board.sessions.values() if it.id not in going]

    # what happens

    async def come(self, word: int) -> None:
        party = None if word % 4 == 0 else f"party-{word % 4}"
        try:
            await self.signaling.view(STREAM.channel, OFFER, "", party=party, size=1 + word % 5)
        except NoRoom:
            pass  # nobody was taken in: `check` sees that

    async def crowd(self, word: int) -> None:
        """Several at the same moment."""
        await asyncio.gather(*(self.come(word + number % 3) for number in range(word)))

    async def go(self, word: int) -> None:
        if self.viewers:
            session = self.viewers[word % len(self.viewers)]
            await self.signaling.leave(session.channel, session.id)

    async def step(self, word: int) -> None:
        before = {new.id for _, new in self.board.moves()}
        await self.mover.step()
        made = [(old, new) for old, new in self.board.moves() if new.id not in before]
        at: dict[tuple[str, str], set[str]] = {}
        for old, new in made:
            if old.party is not None:
                at.setdefault((old.node, old.party), set()).add(new.node)
        for (node, party), targets in at.items():
            assert len(targets) == 1, f"{party} of {node} is torn apart"
            stay = [it for it in self.board.sessions_on(node) if it.party == party]
            assert all(self.board.successor(it.id) for it in stay), f"{party} of {node} is left in part"

    async def take(self, word: int) -> None:
        kept = self.board.kept()
        if kept:
            session = kept[word % len(kept)]
            token = self.tokens.move_token(session.id)
            late = self.clock.now() > (session.move_until or 0.0)
            if late or session.moved_from not in self.board.sessions:
                with pytest.raises(ControlError, match="over"):
                    await self.signaling.follow(session.channel, token, OFFER)
                return
            await self.signaling.follow(session.channel, token, OFFER)
            with pytest.raises(ControlError, match="already"):
                await self.signaling.follow(session.channel, token, OFFER)

    async def arrive(self, word: int) -> None:
        taken = [(old, new) for old, new in self.board.moves() if new.move_until is None]
        if taken:
            old, _ = taken[word % len(taken)]
            await self.signaling.leave(old.channel, old.id)

    async def fail(self, word: int) -> None:
        moves = self.board.moves()
        if moves:
            _, new = moves[word % len(moves)]
            await self.books.change(Change.end_session, new, EndReason.MOVED)

    async def drain(self, word: int) -> None:
        nodes = [it for it in self.board.nodes.values() if it.state is NodeState.IN_SERVICE]
        if nodes:
            node = nodes[word % len(nodes)]
            await self.fleet.drain(node.id, 3600, "a test", named=[STREAM.channel])

    async def undo(self, word: int) -> None:
        nodes = [it for it in self.board.nodes.values() if it.state is NodeState.DRAINING]
        if nodes:
            node = nodes[word % len(nodes)]
            await self.fleet.undrain(node.id, "a test")
            going = [old for old, new in self.board.moves() if new.move_until is not None]
            assert node.id not in {old.node for old in going}

    async def wait(self, word: int) -> None:
        self.clock.at += 1 + word % 10
        await self.seating.give_room_back()
        late = [it for it in self.board.parties.values() if it.kept and it.kept_until < self.clock.at]
        assert late == []

    async def lose(self, word: int) -> None:
        nodes = list(self.board.nodes)
        if word == 0 and len(nodes) > 2:
            await self.losses.lost(nodes[-1], "a test", gone=True)
            assert not [it for it in self.board.parties.values() if it.node == nodes[-1]]

    async def check(self, at_once: int) -> None:
        board = self.board
        sizes = Counter(it.party for it in board.sessions.values() if it.party is not None)
        largest = max(sizes.values(), default=1)
        parties = {it.key: it for it in await self.store.read(lambda tx: tx.parties())}
        assert parties == board.parties
        with self.store.engine.connect() as connection:
            reserved = dict(connection.exec_driver_sql("SELECT id, reserved FROM nodes").all())
        for name, node in board.nodes.items():
            there = [it for it in parties.values() if it.node == name]
            seats = board.seats_on(name) + sum(it.kept for it in there)
            assert seats == reserved[name], f"{name}: seats in the database and who has them differ"
            assert seats == board.reserved_on(name)
            assert seats <= node.capacity
            for party in there:
                assert any(it.party == party.party for it in board.sessions_on(name)), "kept for nobody"
        stored = await self.store.read(lambda tx: tx.sessions())
        assert {it.id: it for it in stored} == board.sessions
        counted = sum(board.seats_on(name) - board.moving_from(name) for name in board.nodes)
        assert counted == len(self.viewers)
        assert len(board.moves()) <= max(at_once, largest)
        for old, new in board.moves():
            assert (new.moved_from, new.party, new.channel) == (old.id, old.party, old.channel)
            assert new.node != old.node


STEPS = (
    "come",
    "come",
    "crowd",
    "go",
    "lose",
    "step",
    "step",
    "take",
    "take",
    "arrive",
    "arrive",
    "fail",
    "drain",
    "undo",
    "wait",
)


async def play(folder: Path, capacities: list[int], at_once: int, story: list[tuple[str, int]]) -> None:
    house = House(folder, at_once)
    await house.open(capacities)
    try:
        for word in range(sum(capacities) // 2):
            await house.come(word)
        await house.drain(0)
        for name, word in story:
            await getattr(house, name)(word)
            await house.check(at_once)
        # In the end there is room for everybody, and everybody goes there.
        await house.drain(0)
        for number in range(25):
            await house.wait(15)
            await house.step(0)
            while house.board.kept():
                await house.take(number)
            while house.board.moves():
                await house.arrive(number)
            await house.check(at_once)
        for node in house.board.nodes.values():
            if node.state is NodeState.DRAINING and any(
                it.state is NodeState.IN_SERVICE and it.capacity > house.board.reserved_on(it.id)
                for it in house.board.nodes.values()
            ):
                alone = [it for it in house.board.sessions_on(node.id) if it.party is None]
                assert alone == [], "somebody is left although there is a seat"
    finally:
        await house.close()


# A story that fails is told as it was found: to make it shorter takes minutes.
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), min_size=10, max_size=60),
)
def test_seats_and_parties_are_whole_whatever_happens(
    capacities: list[int], at_once: int, story: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder), capacities, at_once, story))
