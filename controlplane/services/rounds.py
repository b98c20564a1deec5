"""The rounds: a look at every node once a second, and at once when something happened.

Silence, boots that take too long, drains that are over, what is left of nodes on their way out; then what the
policies of the groups want; and after that, whatever a group lacks is launched. All of this is the affair of
the one stream manager that leads, and is done in the name of its lease.
"""

import asyncio
import contextlib
import math
from collections import Counter

import structlog

from controlplane.config import FleetConfig
from controlplane.domain.machine import IllegalMove
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.rules import after_silence, drain_is_over
from controlplane.domain.nodes.states import LAUNCHING, LEAVING, REPORTING
from controlplane.ports.provisioner import Provisioner, ProvisionUnknown
from controlplane.ports.store import StoreBusy
from controlplane.services.board import Board
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import Money
from controlplane.services.provisioning import Provisioning
from controlplane.services.reconcile import Reconciler
from controlplane.services.recording import Recording
from controlplane.services.scaling import Scaling
from controlplane.services.streams import Streams
from controlplane.services.words import counted
from controlplane.wire.nodes import NodeState, SessionKind

log = structlog.get_logger(__name__)

KNOCK_AFTER_S = 2.5  # silence after which a node that was started by hand is asked whether it lives
WATCHED = REPORTING | {NodeState.BOOTING}  # a process of ours is running, and its end must be noticed


class Rounds:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        provisioning: Provisioning,
        scaling: Scaling,
        recording: Recording,
        money: Money,
        losses: Losses,
        streams: Streams,
        config: FleetConfig,
        lease: Leading,
        reconciler: Reconciler,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._provisioner = provisioner
        self._provisioning = provisioning
        self._scaling = scaling
        self._recording = recording
        self._money = money
        self._losses = losses
        self._streams = streams
        self._config = config
        self._lease = lease
        self._reconciler = reconciler

    async def run(self) -> None:
        """Looks at everything once a second, and at once when something happened; until cancelled."""
        while True:
            try:
                if self._lease.acts:
                    with self._lease.acting():
                        await self.tick()
                else:
                    now = self._clock.monotonic()
                    self._board.forgive_a_pause(now)
                    self._recording.tick(now)  # each manager can tell what a group carried
                    await self._money.follow(now)
            except LeaseLost:
                log.warning("another stream manager leads the fleet")
            except StoreBusy as error:
                log.warning("the database is busy; the look at the fleet is repeated", error=str(error))
            except Exception:
                log.exception("a look at the fleet failed; it is repeated in a second")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):  # not wait_for: before 3.12 it can lose a cancellation
                    await self._losses.wake.wait()
            self._losses.wake.clear()

    async def tick(self) -> None:
        now = self._clock.monotonic()
        self._board.forgive_a_pause(now)
        running = {instance.node for instance in await self._provisioner.running()}
        for name in list(self._board.nodes):
            node = self._board.nodes.get(name)  # as it is by now: each look may have waited
            if node is None:
                continue
            try:
                await self._look_at(node, now, running)
            except IllegalMove as error:
                log.info("a node changed meanwhile", error=str(error))
        self._recording.tick(now)
        await self._money.tick(now)
        await self._scaling.tick(now)
        await self._provisioning.launch_requested()
        await self._provisioning.replace_missing()
        await self._reconciler.tick(now)

    async def _look_at(self, node: Node, now: float, running: set[str]) -> None:
        config = self._config
        if node.managed and node.id not in running and node.state in WATCHED:
            await self._find_again(node)
        elif node.state in LEAVING:
            silent = now - self._board.heard[node.id].at > 5.0
            if node.id not in running and (node.managed or silent):
                await self._losses.lost(node.id, "its process has ended", gone=True)
            elif node.managed and node.id in running:
                await self._losses.end(node.id)
        elif node.state in LAUNCHING:
            await self._launching(node, now)
        else:
            age = now - self._board.heard[node.id].at
            after = after_silence(
                node.state,
                age,
                suspect_after_s=config.suspect_after_s,
                faulty_after_s=config.faulty_after_s,
            )
            if after is NodeState.FAULTY:
                await self._losses.lost(node.id, self._silent(node.id, age), gone=False)
            elif after is NodeState.SUSPECT and node.state is NodeState.IN_SERVICE:
                await self._suspect(node.id, age)
            elif node.state is NodeState.DRAINING:
                await self._draining(node, now)
            if not node.managed and age > KNOCK_AFTER_S:
                self._losses.knock(node)

    async def _launching(self, node: Node, now: float) -> None:
        limit = self._config.boot_timeout_s
        if node.managed:
            waited = now - self._board.heard[node.id].at  # since it was asked for
        elif node.enrolled_at is None:  # it may be started at any time, until its token has expired
            if self._clock.now() >= node.enrol_expires:
                await self._losses.never_started(node.id)
            return
        else:
            waited = self._clock.now() - node.enrolled_at
        if waited > limit:
            # In `requested`: it was asked for, and then nothing could be written.
            failed = node.state is NodeState.REQUESTED
            why = "its launch never began" if failed else f"it did not report within {limit:g} s"
            await self._losses.lost(node.id, why, gone=False)

    async def _find_again(self, node: Node) -> None:
        """A node that nobody watches: its launcher died before it could write its record, or its end could
        not be written when it was told (the database was busy). It is watched from now on, or it has gone.
        """
        if any(instance.node == node.id for instance in await self._provisioner.running()):
            return  # launched a moment ago
        try:
            found = await self._provisioner.adopt(node.id, node.pid, node.start_time)
        except ProvisionUnknown as error:  # not to know is not to be absent
            log.warning("the provider does not say whether a node runs", node=node.id, error=str(error))
            return
        if found is None:
            await self._losses.lost(node.id, "its process has ended", gone=True)

    async def _suspect(self, node_id: str, age: float) -> None:
        async def work(change: Change) -> None:
            node = await change.tx.node(node_id)
            if node is not None and node.state is NodeState.IN_SERVICE:
                await change.move_node(node, NodeState.SUSPECT, self._silent(node_id, age))

        await self._books.change(work)

    def _silent(self, node_id: str, age: float) -> str:
        """Why it was not heard, where that is known."""
        at, what = self._board.refused.get(node_id, (-math.inf, ""))
        refused = self._clock.monotonic() - at < self._config.suspect_after_s
        return f"its reports are refused: {what}" if refused else f"silent for {age:.0f} s"

    async def _draining(self, node: Node, now: float) -> None:
        seats = self._board.seats_on(node.id)
        if not drain_is_over(node, seats, self._clock.now()):
            return
        if seats == 0:
            await self._losses.terminate(node.id, "it is drained, and nobody is on it any more")
            return
        told = self._losses.told_to_move.get(node.id)
        if told is None:
            self._losses.told_to_move[node.id] = now
            self._streams.leaving.add(node.id)
            kinds = Counter(session.kind for session in self._board.sessions_on(node.id))
            text = (
                f"The drain of {node.id} is at its deadline: "
                f"{counted(kinds[SessionKind.WHEP], 'viewer')} and "
                f"{counted(kinds[SessionKind.WHIP], 'publisher')} told to move."
            )

            async def tell(change: Change) -> None:
                for session in await change.tx.sessions_on(node.id):
                    if session.kind is SessionKind.WHEP:
                        change.tell_to_move(session.id, f"{node.id} is being drained")
                await change.note("fleet.deadline", node.id, text)

            await self._books.change(tell)
        elif now - told >= self._config.drain_grace_s:
            await self._losses.terminate(
                node.id, f"drained: at its deadline, with {counted(seats, 'session')} left"
            )
