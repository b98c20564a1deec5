"""What stream managers were told, shared once a second: reports of nodes and publishers, latency, who waits.

A node reports to one manager, and every manager judges it, places on it and shows it. So each manager writes
what it was told last, one row a node, all of them in one transaction, and reads all rows of the others. A
row replaces the one before: what is missed between two looks is of no use any more. What was heard last
counts, whichever manager heard it: a node that changes its manager is silent for nobody.

Sessions one by one are left out, as they are most of a report: where they were told they are compared with
the database (services.reports). Of those that came to stand in the last seconds the ids are told, for the
limit of who may be joining at once.

With it goes the sign of life of each manager, and where it is reached.
"""

import asyncio
import json
from typing import Any

import structlog

from controlplane.domain.managers.model import ManagerRow, Told
from controlplane.ports.store import StoreBusy, Transaction
from controlplane.services.board import Board, Heard, PublisherHeard
from controlplane.services.books import Books
from controlplane.services.latency import LatencyPost
from controlplane.services.pages import Pages
from controlplane.services.waiting import Waiting
from controlplane.wire.nodes import NodeReport, NodeState, Role
from controlplane.wire.publishing import PublisherReport

log = structlog.get_logger(__name__)

EVERY_S = 1.0
CONNECTED_S = 5.0  # sessions that came to stand are told for so long: some looks may fail
ALIVE_S = 5.0  # a manager that was not heard for longer is not named to nodes


class Sharing:
    def __init__(
        self, books: Books, waiting: Waiting, pages: Pages, manager: str, api: str, started_at: float
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._waiting = waiting
        self._pages = pages
        self._manager = manager
        self._api = api
        self._started_at = started_at
        self._told_at = float("-inf")  # monotonic: up to when everything was told
        # node -> its sessions that stood at the last look; those that came to lately, and when (monotonic)
        self._connected: dict[str, tuple[frozenset[str], dict[str, float]]] = {}
        self._read: dict[tuple[str, str], tuple[str, float]] = {}  # what was read last: whose, when written
        self.alive: list[ManagerRow] = []  # as of the last look, this one too

    def addresses(self) -> list[str]:
        """Where the managers that live are reached, as of the last look: empty where there was none."""
        return [row.api for row in self.alive]

    async def run(self) -> None:
        """Shares, until cancelled."""
        while True:
            try:
                await self.share()
            except StoreBusy as error:
                log.warning("the database is busy; what was reported is shared later", error=str(error))
            except Exception:
                log.exception("what was reported could not be shared; it is again in a second")
            await asyncio.sleep(EVERY_S)

    async def share(self) -> None:
        """Tell the others what is new here, and learn what they were told."""
        now = self._clock.monotonic()
        said = [*self._nodes(now), *self._publishers(now), self._own(now)]

        async def write(tx: Transaction) -> None:
            await tx.tell(said)
            await tx.beat(self._manager, self._api, self._started_at)

        await self._books.store.write(write)
        self._told_at = now

        async def read(tx: Transaction) -> tuple[float, list[Told], list[ManagerRow]]:
            at = await tx.time()
            return at, await tx.told_to_others(self._manager), await tx.managers(at - ALIVE_S)

        at, told, self.alive = await self._books.store.read(read)
        now = self._clock.monotonic()
        for row in told:
            if self._read.get((row.kind, row.id)) != (row.manager, row.at):
                self._read[row.kind, row.id] = row.manager, row.at
                self._learn(row, now - max(0.0, at - row.at))
        present = {(row.kind, row.id) for row in told}
        self._read = {key: value for key, value in self._read.items() if key in present}

    # what was told here

    def _row(self, kind: str, name: str, body: dict[str, Any]) -> Told:
        return Told(kind=kind, id=name, manager=self._manager, body=json.dumps(body, separators=(",", ":")))

    def _nodes(self, now: float) -> list[Told]:
        rows = []
        replacing = {new.id for _, new in self._board.moves()}
        for name, heard in self._board.heard.items():
            if heard.elsewhere or heard.report is None:
                self._connected.pop(name, None)
            elif heard.said_at > self._told_at:
                report = heard.report.model_copy(update={"sessions": None}).model_dump(mode="json")
                connected = self._lately_connected(name, heard, replacing, now)
                body = {"report": report, "age_s": now - heard.said_at, "connected": connected}
                rows.append(self._row("node", name, body))
        self._connected = {name: it for name, it in self._connected.items() if name in self._board.heard}
        return rows

    def _lately_connected(self, node: str, heard: Heard, replacing: set[str], now: float) -> list[str]:
        """Its sessions that have come to stand a moment ago, or replace others: for those it is waited."""
        standing, lately = self._connected.get(node, (frozenset[str](), dict[str, float]()))
        since = {name: at for name, at in lately.items() if now - at <= CONNECTED_S}
        since.update(dict.fromkeys(heard.connected - standing, now))
        self._connected[node] = heard.connected, since
        return sorted((since.keys() | replacing) & heard.connected)

    def _publishers(self, now: float) -> list[Told]:
        return [
            self._row(
                "publisher",
                channel,
                {"report": it.report.model_dump(mode="json"), "jti": it.jti, "age_s": now - it.at},
            )
            for channel, it in self._board.publishers.items()
            if not it.elsewhere and it.at > self._told_at
        ]

    def _own(self, now: float) -> Told:
        posts = {
            session: [post.latency_ms, now - post.at]
            for session, post in self._board.latency.told_since(self._told_at).items()
        }
        waiting = {role.value: people for role, people in self._waiting.here().items()}
        drains = [node.id for node in self._board.nodes.values() if node.state is NodeState.DRAINING]
        sessions = (session.id for node in drains for session in self._board.sessions_on(node))
        hears = [session for session in sessions if self._pages.hears_here(session)]
        return self._row("manager", self._manager, {"waiting": waiting, "latency": posts, "hears": hears})

    # what was told elsewhere

    def _learn(self, row: Told, written_at: float) -> None:
        """`written_at` on our own steady clock."""
        body = json.loads(row.body)
        if row.kind == "node":
            self._learn_of_node(row.id, body, written_at - body["age_s"])
        elif row.kind == "publisher":
            before = self._board.publishers.get(row.id)
            at = written_at - body["age_s"]
            if row.id in self._board.streams and (before is None or before.at < at):
                report = PublisherReport.model_validate(body["report"])
                self._board.publishers[row.id] = PublisherHeard(report, at, body["jti"], elsewhere=True)
        elif row.kind == "manager":
            people = {Role(role): number for role, number in body["waiting"].items()}
            self._waiting.elsewhere(row.id, people, written_at)
            self._pages.elsewhere[row.id] = frozenset(body["hears"])
            for session, (latency_ms, age_s) in body["latency"].items():
                if (watching := self._board.sessions.get(session)) is not None:
                    post = LatencyPost(latency_ms, written_at - age_s, elsewhere=True)
                    self._board.latency.put(watching.channel, session, post)

    def _learn_of_node(self, node: str, body: dict[str, Any], at: float) -> None:
        before = self._board.heard.get(node)
        if node not in self._board.nodes or (before is not None and before.said_at >= at):
            return
        report = NodeReport.model_validate(body["report"])
        connected = frozenset(body["connected"])
        self._board.heard[node] = Heard(report, at, said_at=at, connected=connected, elsewhere=True)
