"""Joins the services of one stream manager. Used by main.py, and by tests with ports of their own."""

import asyncio
import contextlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.control.http import HttpNodeControl
from controlplane.adapters.history import FileHistory
from controlplane.adapters.registrations import NoRegistrations
from controlplane.adapters.simulation import ProcessSimulator
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.config import ManagerConfig
from controlplane.http.app import build
from controlplane.http.context import Manager
from controlplane.http.metrics import Metrics
from controlplane.ports.clock import Clock
from controlplane.ports.provisioner import Provisioner
from controlplane.ports.store import Store, StoreBusy
from controlplane.services.adoption import Adoption
from controlplane.services.asking import Asking
from controlplane.services.background import Background
from controlplane.services.bitrates import Bitrates
from controlplane.services.board import Board
from controlplane.services.books import Books, LeaseLost
from controlplane.services.collector import spare_the_joins
from controlplane.services.drills import Drills
from controlplane.services.enrolment import Enrolment
from controlplane.services.events import Events
from controlplane.services.expecting import Expecting
from controlplane.services.feed import Feed
from controlplane.services.fleet import Fleet
from controlplane.services.following import Following
from controlplane.services.housekeeping import Housekeeping
from controlplane.services.joining import Joining
from controlplane.services.launches import Launches
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import Money
from controlplane.services.moving import Mover
from controlplane.services.pages import Pages
from controlplane.services.preflight import Preflight
from controlplane.services.provisioning import Provisioning
from controlplane.services.reconcile import Reconciler
from controlplane.services.recording import Recording
from controlplane.services.repeating import Repeats
from controlplane.services.reports import Reports
from controlplane.services.rounds import Rounds
from controlplane.services.scaling import Scaling
from controlplane.services.seating import Seating
from controlplane.services.sharing import Sharing
from controlplane.services.signaling import Signaling
from controlplane.services.streams import Streams
from controlplane.services.tokens import (
    Tokens,
    load_manager_id,
    load_metrics_token,
    load_operator_hash,
    load_signing_key,
    sha256,
)
from controlplane.services.views import Addresses, Views
from controlplane.services.waiting import Waiting
from controlplane.services.whatif import Rehearsing

if TYPE_CHECKING:
    from controlplane.adapters.store.mysql.address import Address

log = structlog.get_logger(__name__)

METRICS_TOKEN = "metrics.token"  # in the data folder
MANAGER_ID = "manager.id"  # likewise
HISTORY = "history"  # likewise, a folder


@dataclass
class Stage:
    """A stream manager, put together. `start` begins its own work; `close` ends it and leaves nodes alone."""

    app: FastAPI
    manager: Manager
    lease: Leading
    _loops: Sequence[Callable[[], object]]
    _closers: contextlib.AsyncExitStack
    _tasks: list[asyncio.Task[object]] = field(default_factory=list)

    def start(self) -> None:
        for loop in self._loops:
            self._tasks.append(asyncio.ensure_future(loop()))  # type: ignore[call-overload]

    def spare_the_joins(self) -> None:
        """In a process of its own: see services.collector."""
        spare_the_joins()

    def stop_feeds(self) -> None:
        """End every open event stream, so that the server need not wait for them."""
        self.manager.feed.close()
        self.manager.pages.close()

    async def close(self) -> None:
        self.stop_feeds()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.lease.give_back()
        await self._closers.aclose()


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("showcaller")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "0"


async def compose(
    config: ManagerConfig,
    *,
    database: Path,
    server: "Address | None" = None,
    api: str,
    nodes_url: str,
    run_dir: Path,
    log_dir: Path,
    announce: Sequence[str] = (),
    launches: bool = True,
    operator_sha256: str | None = None,
    provisioner: Provisioner | None = None,
    clock: Clock | None = None,
    manager_id: str | None = None,
    shared: bool = False,
) -> Stage:
    """Make the services and, where the lease can be had, adopt what runs. Raises StartError.

    The database must be prepared: that of the file `database`, or of a server if one is given. The keys are
    in the folder of `database` in any case. `manager_id`: what this manager goes by, and no other process
    does; None: what its data folder remembers. `shared`: other managers may be on the same database, as on a
    server they may.
    """
    clock = clock or SystemClock()
    data_dir = database.parent
    key = load_signing_key(data_dir / "signing.key")
    operator = load_operator_hash(data_dir / "operator.sha256", operator_sha256)
    if operator is None:
        log.warning(
            "no operator token is known: the operator's routes refuse everybody",
            remedy="set SHOWCALLER_OPERATOR_SHA256 or write data/operator.sha256",
        )
    closers = contextlib.AsyncExitStack()
    store = SqliteStore(database) if server is None else _on_server(server)
    closers.push_async_callback(store.close)
    board = Board()
    shared = shared or server is not None
    manager_id = manager_id or load_manager_id(data_dir / MANAGER_ID, platform.node())
    books = Books(store, board, clock, manager_id if shared else None)
    lease = Leading(store, clock, manager_id, config.lease.length_s)
    tokens = Tokens(key, operator, load_metrics_token(data_dir / METRICS_TOKEN), store, clock)
    control = HttpNodeControl(tokens.control_secret)
    closers.push_async_callback(control.close)
    background = Background()
    closers.push_async_callback(background.close)
    if provisioner is None:
        provisioner = _provisioner(config, nodes_url, run_dir, log_dir, announce, launches=launches)
    closers.push_async_callback(provisioner.close)

    addresses = Addresses(api=api, watch=f"{api}/watch")
    views = Views(board, clock, addresses, version=version(), started_at=clock.now())
    feed = Feed(board, views, clock)
    pages = Pages(board, tokens.move_token)
    streams = Streams(books, control, tokens, background, config.streams, config.viewers)
    losses = Losses(books, provisioner, control, streams, background, lease)
    money = Money(books, config.fleet, config.prices, config.budget, lease)
    provisioning = Provisioning(
        books,
        provisioner,
        losses,
        background,
        money,
        config.fleet,
        lease,
        launches=launches,
    )
    fleet = Fleet(books, provisioning, losses, money, config.stage)
    seating = Seating(books, config.viewers, config.stage.region)
    closers.push_async_callback(seating.close)
    joining = Joining(board, clock, config.viewers)
    waiting = Waiting(clock)
    launched = Launches(config.fleet.launch_s)
    events = Events(books, NoRegistrations())
    expecting = Expecting(board, events, config.fleet)
    bitrates = Bitrates(board)
    scaling = Scaling(
        books,
        fleet,
        provisioning,
        waiting,
        expecting,
        launched,
        config.fleet,
        money=money,
    )
    history = FileHistory(data_dir / HISTORY, keep_days=config.history.keep_days, stage=config.stage.name)
    recording = Recording(books, scaling, waiting, history)
    closers.push_async_callback(recording.flush)
    sharing = Sharing(books, waiting, pages, manager_id, api, views.started_at)
    views.managers = sharing.addresses
    manager = Manager(
        stage=config.stage.name,
        stage_id=sha256(f"stage|{key.hex()}")[:16],
        books=books,
        tokens=tokens,
        views=views,
        feed=feed,
        pages=pages,
        streams=streams,
        fleet=fleet,
        provisioning=provisioning,
        scaling=scaling,
        money=money,
        rehearsing=Rehearsing(scaling, recording, ProcessSimulator(), node_price=money.prices.node_hour),
        drills=Drills(books, provisioner),
        events=events,
        preflight=Preflight(
            books,
            provisioning,
            scaling,
            events,
            expecting,
            bitrates,
            config.ice.servers,
            money=money,
        ),
        signaling=Signaling(
            books,
            control,
            streams,
            losses,
            seating,
            joining,
            waiting,
            tokens,
        ),
        enrolment=Enrolment(books, tokens),
        reports=Reports(books, streams, tokens.metrics_sha256, sharing.addresses),
        asking=Asking(board, control),
        repeats=Repeats(store, tokens),
        ice_servers=config.ice.servers,
    )
    reconciler = Reconciler(books, provisioner, provisioning, losses, lease)
    rounds = Rounds(
        books,
        provisioner,
        provisioning,
        scaling,
        recording,
        money,
        losses,
        streams,
        config.fleet,
        lease,
        reconciler,
    )
    adoption = Adoption(books, provisioner, control, losses, provisioning, config.fleet, config.stage, lease)
    mover = Mover(books, pages, streams, losses, config.fleet, lease)
    housekeeping = Housekeeping(
        books, streams, pages, bitrates, seating, config.journal, config.repeats, lease, joining
    )

    following = Following(books, manager_id, losses, streams)

    async def start() -> None:
        await money.open()
        await adoption.start()
        await money.adopted()

    async def take_over() -> None:
        await following.begin()
        await money.open()
        await adoption.begin_to_lead()
        await money.adopted()

    async def keep_lease() -> None:
        await lease.run(take_over)

    try:
        books.listen(launched)  # also to what was launched before
        leads = await _leads(lease, shared=shared)
        await following.begin()
        books.listen(feed)
        books.listen(pages)
        books.listen(mover)
        while leads:
            try:
                await lease.begin(start)
                break
            except LeaseLost as error:  # it had run out by the time it was had
                log.warning("the lease was over at once, and is looked at again", error=str(error))
                leads = await _leads(lease, shared=shared)
    except BaseException:
        await closers.aclose()
        raise
    metrics = Metrics(manager)
    app = build(manager, metrics)
    _serve_pages(app, views)
    loops: list[Callable[[], object]] = [keep_lease, rounds.run, mover.run, feed.run]
    loops += [housekeeping.run, metrics.run, recording.run]
    if shared:
        loops += [following.run, sharing.run]
    return Stage(app, manager, lease, loops, closers)


async def _leads(lease: Leading, *, shared: bool) -> bool:
    """Whether the lease could be had at once. Where the one that has it was stopped in the middle of a write,
    that cannot be said for some seconds: it is looked at again, and everything else is served meanwhile."""
    try:
        return await lease.look()
    except StoreBusy as error:
        if not shared:
            raise
        log.warning("whether this stream manager may lead is found out later", error=str(error))
        return False


def _on_server(address: "Address") -> Store:
    from controlplane.adapters.store.mysql.store import MysqlStore  # and its driver: only where it is used

    return MysqlStore(address)


def _provisioner(
    config: ManagerConfig,
    nodes_url: str,
    run_dir: Path,
    log_dir: Path,
    announce: Sequence[str],
    *,
    launches: bool,
) -> Provisioner:
    if not launches:
        from controlplane.adapters.provision.memory import MemoryProvisioner

        return MemoryProvisioner()
    from controlplane.adapters.provision.local import LocalProvisioner

    return LocalProvisioner(
        manager_url=nodes_url,
        run_dir=run_dir,
        log_dir=log_dir,
        announce=announce,
        tcp_port=config.fleet.tcp_port or None,
        workers=config.fleet.workers or None,
        kill_after_s=config.fleet.kill_after_s,
    )


def _serve_pages(app: FastAPI, views: Views) -> None:
    from controlplane.web import pages

    pages.serve(app, lambda: list(views.streams()))
