"""The leading manager dies, or is stopped, while it launches twenty nodes; answers of the cloud are lost."""

import asyncio
import random
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from controlplane.adapters.store import migrate, sqlite
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import ManagerConfig
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import GONE
from controlplane.ports.provisioner import LaunchSpec, Listing
from controlplane.services.adoption import Adoption
from controlplane.services.background import Background
from controlplane.services.board import Board
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.fleet import Fleet
from controlplane.services.launches import Launches
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import Money
from controlplane.services.provisioning import Provisioning
from controlplane.services.reconcile import Reconciler
from controlplane.services.recording import Recording
from controlplane.services.rounds import Rounds
from controlplane.services.scaling import Scaling
from controlplane.services.streams import Streams
from controlplane.services.waiting import Waiting
from controlplane.wire.fleet import Expected, Policy
from controlplane.wire.nodes import NodeState
from tests.controlplane.clock import VirtualClock
from tests.controlplane.services.cloud import (
    ON_ITS_WAY,
    Cloud,
    CloudProvisioner,
    Fuse,
    MortalStore,
    no_answer,
)

NODES = 20
SETTINGS = ManagerConfig.model_validate({"fleet": {"origins": 0, "edges": NODES, "boot_timeout_s": 3600.0}})


class NothingExpected:
    """services.expecting.Expecting, without an event."""

    async def refresh(self) -> None: ...

    def of(self, group: Group, policy: Policy) -> list[Expected]:
        return []


class Life:
    """One life of a manager, as far as it launches."""

    def __init__(
        self,
        database: Path,
        clock: VirtualClock,
        cloud: Cloud,
        name: str,
        fuse: Fuse,
        settings: ManagerConfig = SETTINGS,
    ) -> None:
        nobody = cast(Any, None)  # no node ever reports: nothing is asked of any, and nothing is on air
        self.fuse = fuse
        self.file = SqliteStore(database, clock=clock.now)
        self.background = Background()
        store = MortalStore(self.file, fuse)
        self.books = Books(store, Board(), clock)
        self.provisioner = provisioner = CloudProvisioner(cloud, fuse)
        self.lease = Leading(store, clock, name, settings.lease.length_s)
        streams = Streams(self.books, nobody, nobody, self.background, settings.streams, settings.viewers)
        self.losses = losses = Losses(self.books, provisioner, nobody, streams, self.background, self.lease)
        money = Money(self.books, settings.fleet, settings.prices, settings.budget, self.lease)
        provisioning = Provisioning(
            self.books, provisioner, losses, self.background, money, settings.fleet, self.lease
        )
        self.adoption = Adoption(
            *(self.books, provisioner, nobody, losses, provisioning),
            *(settings.fleet, settings.stage, self.lease),
        )
        self.reconciler = Reconciler(self.books, provisioner, provisioning, losses, self.lease)
        waiting = Waiting(clock)
        self.fleet = Fleet(self.books, provisioning, losses, money, settings.stage)
        self.scaling = scaling = Scaling(
            self.books,
            self.fleet,
            provisioning,
            waiting,
            cast(Any, NothingExpected()),
            Launches(60.0),
            settings.fleet,
            money=money,
        )
        recording = Recording(self.books, scaling, waiting, nobody)
        self.rounds = Rounds(
            self.books, provisioner, provisioning, scaling, recording, money, losses, streams, settings.fleet,
            self.lease, self.reconciler,
        )  # fmt: skip
        self._clock = clock

    async def lead(self, *, at_start: bool) -> None:
        if not await self.lease.look():
            raise LeaseLost
        await self.books.load()
        await self.lease.begin(self.adoption.start if at_start else self.adoption.begin_to_lead)

    async def looks(self, times: int) -> None:
        """Looks at the fleet, a second apart; each launch that was begun is seen through before the next."""
        for _ in range(times):
            await self.look()
            self._clock.advance(1.0)

    async def look(self) -> None:
        if not await self.lease.look():
            raise LeaseLost
        with self.lease.acting():
            await self.rounds.tick()
        while self.background._tasks:
            await asyncio.wait(self.background._tasks)

    async def rows(self) -> list[Node]:
        return [node for node in await self.file.read(lambda tx: tx.nodes()) if node.state not in GONE]

    async def unless_it_dies(self, work: Any) -> bool:
        """Whether it came to its end."""
        doing, dying = asyncio.ensure_future(work), asyncio.ensure_future(self.fuse.blown.wait())
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        ended = doing.done()
        if ended:
            doing.result()
        for task in (doing, dying):
            task.cancel()
        await asyncio.gather(doing, dying, return_exceptions=True)
        return ended

    async def close(self) -> None:
        await self.background.close()
        await self.file.close()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No machine loses its power here: what was committed need not wait for the disk."""
    monkeypatch.setattr(sqlite, "PRAGMAS", ("journal_mode=WAL", "synchronous=OFF"))
    database = tmp_path / "fleet.db"
    migrate.prepare(database)
    return database


def anew(database: Path) -> Path:
    """A copy of the empty database."""
    copy = database.with_name(f"{secrets.token_hex(8)}.db")
    shutil.copyfile(database, copy)
    return copy


@asynccontextmanager
async def life(
    database: Path, clock: VirtualClock, cloud: Cloud, name: str, fuse: Fuse | None = None
) -> AsyncIterator[Life]:
    cloud.now = clock.monotonic
    made = Life(database, clock, cloud, name, fuse or Fuse())
    try:
        yield made
    finally:
        await made.close()


async def exactly_as_wanted(cloud: Cloud, it: Life) -> None:
    """Each row has its instance, each instance its row, and there are as many as there are to be."""
    rows = {node.id: node for node in await it.rows()}
    assert {node.state for node in rows.values()} == {NodeState.BOOTING}
    assert len(rows) == len(cloud.instances) == NODES
    assert not cloud.late
    for instance in cloud.instances:
        launch = await it.file.read(lambda tx, name=instance.node: tx.launch_of(name))  # type: ignore[misc]
        assert launch is not None
        assert (launch.retry, launch.outcome) == (instance.retry, "runs")
        assert rows[instance.node].pid == instance.pid
    assert await it.file.read(lambda tx: tx.open_acts()) == []


async def moments(folder: Path) -> int:
    """How many there are at which a manager can die while it launches all of them."""
    clock, cloud = VirtualClock(), Cloud()
    async with life(folder, clock, cloud, "a") as it:
        await it.lead(at_start=True)
        await it.looks(3)
        await exactly_as_wanted(cloud, it)
        assert len(cloud.launched) == NODES
        return it.fuse.count


@pytest.mark.parametrize("fifth", range(5))
async def test_killed_at_any_of_fifty_moments_there_are_twenty_nodes_and_no_orphan(
    database: Path, fifth: int
) -> None:
    last = await moments(anew(database))
    assert last > 4 * NODES
    died = 0
    for number, at in enumerate(sorted(random.Random(20).sample(range(last), 50))[fifth::5]):
        fleet = anew(database)
        clock, cloud = VirtualClock(), Cloud(random.Random(at))
        async with life(fleet, clock, cloud, "a", Fuse(at)) as first:

            async def leads(it: Life = first) -> None:
                await it.lead(at_start=True)
                await it.looks(3)

            died += not await first.unless_it_dies(leads())
        restarted = number % 2 == 0
        if not restarted:
            clock.advance(SETTINGS.lease.length_s + 1)
        async with life(fleet, clock, cloud, "a" if restarted else "b") as second:
            await second.lead(at_start=restarted)
            await second.looks(3)  # the cloud is as bad as it was
            cloud.chance = None
            await second.looks(4)  # what is still open settles, and what was given up is launched
            for _ in range(2):
                with second.lease.acting():
                    await second.reconciler.reconcile()
            await exactly_as_wanted(cloud, second)
    assert died >= 9  # with the answers that are lost the last moments may not come


@pytest.mark.parametrize("seed", range(5))
async def test_stopped_for_two_leases_nothing_is_done_twice(database: Path, seed: int) -> None:
    """Stopped at some moment, also between an act and the call that it announces; another one leads by the
    time it goes on."""
    at = random.Random(seed).randrange(5, await moments(anew(database)))
    fleet = anew(database)
    clock, cloud = VirtualClock(), Cloud()
    stopped = Fuse(at, stop=True)
    async with (
        life(fleet, clock, cloud, "a", stopped) as first,
        life(fleet, clock, cloud, "b") as second,
    ):

        async def leads() -> None:
            await first.lead(at_start=True)
            await first.looks(3)

        leading = asyncio.ensure_future(leads())
        await stopped.blown.wait()
        clock.advance(2 * SETTINGS.lease.length_s)
        await second.lead(at_start=False)
        await second.looks(5)
        await exactly_as_wanted(cloud, second)
        before = list(cloud.launched), cloud.ended
        written = await second.file.read(lambda tx: tx.latest_journal(1000))
        stopped.go_on()
        with pytest.raises(LeaseLost):
            await leading
        while first.background._tasks:
            await asyncio.wait(first.background._tasks)
        assert await second.file.read(lambda tx: tx.latest_journal(1000)) == written
        if stopped.where != ON_ITS_WAY:  # nobody can call that back: what comes of it are orphans
            assert (list(cloud.launched), cloud.ended) == before
        for _ in range(2):
            with second.lease.acting():
                await second.reconciler.reconcile()
        await exactly_as_wanted(cloud, second)


class Unheard(Cloud):
    """A cloud that launches, and never says so."""

    def launch(self, spec: LaunchSpec) -> NoReturn:
        super().launch(spec)
        no_answer("the launch")


async def test_a_node_that_enrols_while_nobody_knows_of_its_launch_is_adopted_and_the_act_has_an_end(
    database: Path,
) -> None:
    """The answer of its launch is lost, and it has come into service before the provider was asked."""
    clock, cloud = VirtualClock(), Unheard()
    async with life(database, clock, cloud, "a") as it:
        await it.lead(at_start=True)
        cloud.list, everything = (lambda: Listing((), complete=False)), cloud.list  # type: ignore[method-assign]
        await it.looks(1)
        cloud.list = everything  # type: ignore[method-assign]
        nodes = await it.rows()
        assert {node.state for node in nodes} == {NodeState.CREATING}
        for node in nodes:
            booting = await it.books.change(Change.move_node, node, NodeState.BOOTING, "it has enrolled")
            await it.books.change(Change.move_node, booting, NodeState.IN_SERVICE, "it reports")
        await it.looks(3)
        with it.lease.acting():
            assert await it.reconciler.reconcile(), "nothing is open"
        rows = {node.id: node for node in await it.rows()}
        assert {node.state for node in rows.values()} == {NodeState.IN_SERVICE}
        assert {it.node: it.pid for it in cloud.instances} == {name: node.pid for name, node in rows.items()}
        assert await it.file.read(lambda tx: tx.open_acts()) == []


@pytest.mark.parametrize("kind", [Cloud, Unheard])
@pytest.mark.parametrize("listing", ["partial", "failing"])
async def test_what_a_partial_or_failing_listing_lacks_is_not_absent(
    database: Path, listing: str, kind: type[Cloud]
) -> None:
    """For half an hour the provider shows nothing of what runs, also to a manager that has just started."""
    clock, cloud = VirtualClock(), kind()
    everything = cloud.list

    def nothing() -> Listing:
        if listing == "failing":
            no_answer("the listing")
        return Listing((), complete=False)

    async with life(database, clock, cloud, "a") as first:
        await first.lead(at_start=True)
        cloud.list = nothing  # type: ignore[method-assign]
        await first.looks(3)
        before = await first.rows()
    async with life(database, clock, cloud, "a") as second:
        await second.lead(at_start=True)
        for _ in range(30):
            await second.looks(1)
            clock.advance(60.0)
        assert await second.rows() == before
        assert {node.state for node in before} <= {NodeState.CREATING, NodeState.BOOTING}
        assert (len(cloud.launched), cloud.ended) == (NODES, 0)
        cloud.list = everything  # type: ignore[method-assign]
        await second.looks(3)
        await exactly_as_wanted(cloud, second)
