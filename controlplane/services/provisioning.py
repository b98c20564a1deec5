"""The number of nodes: what groups lack is launched, unless it is held back or faults have stopped a group.

    desired   per group in the database, by an operator (fleet.py) or a plan (scaling.py); what is missing is
              launched, within the policy's max and spend cap and the stage's budget, whatever it is missing
              for: also what died, and what was wanted before a restart. The rest is held back, and counts
              for nothing; where there is a policy, its plan says so, and gives up what is beyond max
    launch    a row first, by any manager; then, by the one that leads, `creating` with the hash of a one-use
              token and the act itself in one transaction, then the provisioner, then what came of it

How nodes are lost is in losses.py, what the clock brings about in rounds.py, how what was begun and not
ended is settled in reconcile.py, and what a manager that begins finds running in adoption.py.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from controlplane.config import FleetConfig
from controlplane.domain.managers.model import Act, ActKind
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import missing, policy_room, stopped_by_faults
from controlplane.domain.nodes.states import GONE, LAUNCHING, LEAVING
from controlplane.errors import Conflict
from controlplane.ports.provisioner import (
    Instance,
    LaunchSpec,
    Provisioner,
    ProvisionError,
    ProvisionUnknown,
)
from controlplane.ports.store import StoreBusy
from controlplane.services.background import Background
from controlplane.services.board import Board
from controlplane.services.books import MANAGER, Books, Change, LeaseLost
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import REMEDY, Money
from controlplane.services.tokens import new_secret, sha256
from controlplane.services.words import counted
from controlplane.wire.nodes import NodeState, Role

log = structlog.get_logger(__name__)

TOLD_EVERY_S = 60.0  # that the budget holds launches back


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a group wants, and has no row for."""

    coming: int = 0  # is launched, as soon as no more launches are under way than may be
    held: int = 0  # is not: beyond the policy's max or cap, or the stage's budget
    because: str = ""  # of what is held


NOTHING_LACKS = Lacking()


class Provisioning:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        losses: Losses,
        background: Background,
        money: Money,
        config: FleetConfig,
        lease: Leading,
        *,
        launches: bool = True,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._provisioner = provisioner
        self._losses = losses
        self._background = background
        self._money = money
        self._config = config
        self._lease = lease
        self.launching: set[str] = set()  # nodes whose launch is under way in this process
        self._launches = launches  # False: only nodes that are started by hand
        self._stopped: set[tuple[Role, str]] = set()  # groups that faults have stopped, as journalled
        self._told_budget: dict[tuple[Role, str], float] = {}  # that it holds launches back: when, monotonic

    @property
    def launches(self) -> bool:
        """Whether this manager launches nodes; not any more once the stage is being ended."""
        return self._launches

    def held_back(self) -> str:
        """Why this manager follows no plan, in a sentence; "" where it does."""
        return self._lease.elsewhere()

    def check_launches(self) -> None:
        """Raises Conflict where this manager launches no nodes."""
        if not self._launches:
            raise Conflict(
                "This stream manager launches no nodes (--no-nodes). Start one by hand: "
                "POST /api/v1/enrolments gives it its token.",
                code="launches_nothing",
            )

    async def request(
        self,
        change: Change,
        group: Group,
        why: str,
        *,
        actor: str = MANAGER,
        by_hand: tuple[str, float] | None = None,
    ) -> Node:
        """The row of a new node, before anything is launched. `by_hand`: the token it is started with, and
        until when; one that is launched gets its token when it is."""
        last = max(g.last_number for g in await change.tx.groups() if g.role == group.role)
        token, expires = by_hand or (new_secret(), change.now)
        capacity = self._config.edge_capacity if group.role is Role.EDGE else self._config.origin_capacity
        node = Node(
            id=f"{group.role}-{last + 1}",
            role=group.role,
            region=group.region,
            state=NodeState.REQUESTED,
            state_since=change.now,
            state_reason=why,
            created_at=change.now,
            capacity=capacity,
            managed=by_hand is None,
            enrol_hash=sha256(token),
            enrol_expires=expires,
        )
        await change.save_group(replace(group, last_number=last + 1))
        await change.begin_node(node, actor=actor)
        return node

    async def launch_requested(self) -> None:
        """Begin the launch of every node that was asked for, by whichever manager. Under the lease."""
        for node in list(self._board.nodes.values()):
            if node.managed and node.state is NodeState.REQUESTED and self._launches:
                self._begin_launch(node.id)

    def _begin_launch(self, node_id: str) -> None:
        if node_id not in self.launching:
            self.launching.add(node_id)
            self._background.start(self._launch(node_id), f"launch {node_id}")

    async def _launch(self, node_id: str) -> None:
        try:
            await self._launch_one(node_id)
        except LeaseLost:  # whoever leads now goes on with it, by its row or its act
            log.info("a launch is another stream manager's", node=node_id)
        except StoreBusy as error:  # a later look at the fleet goes on with it, by its row or its act
            log.warning(
                "the database is busy; a launch is gone on with later", node=node_id, error=str(error)
            )
        finally:
            self.launching.discard(node_id)

    async def _launch_one(self, node_id: str) -> None:
        token = new_secret()

        async def creating(change: Change) -> tuple[Node, Act] | None:
            node = await change.tx.node(node_id)
            if node is None or node.state is not NodeState.REQUESTED:
                return None  # taken back before it began
            node = await change.move_node(
                node,
                NodeState.CREATING,
                "its launch begins",
                enrol_hash=sha256(token),
                enrol_expires=change.now + self._config.boot_timeout_s,
            )
            return node, await change.begin_act(ActKind.LAUNCH, node_id)

        begun = await self._books.change(creating)
        if begun is None:
            return
        node, act = begun
        if not self._lease.held:
            return  # we were stopped meanwhile, for longer than the lease: it is not ours to launch any more
        try:
            instance = await self._provisioner.launch(
                LaunchSpec(node.id, node.role, node.capacity, token, act.retry)
            )
        except ProvisionError as error:
            await self._books.change(Change.end_act, act, f"failed: {error}")
            await self._losses.lost(node_id, str(error), gone=True)
            return
        except ProvisionUnknown as error:  # the reconciler asks what there is
            log.warning("nobody knows whether a node was launched", node=node_id, error=str(error))
            return
        await self._books.change(self.launched, act, instance)

    async def launched(self, change: Change, act: Act, instance: Instance) -> Node | None:
        """Part of a change: the process of a node runs. One that is not wanted any more is ended by the next
        look at the fleet."""
        await change.end_act(act, "runs")
        node = await change.tx.node(act.node)
        if node is None or node.state in GONE:
            return node
        if node.state is NodeState.CREATING:
            return await self.runs(change, node, instance)
        return await change.update_node(node, pid=instance.pid, start_time=instance.start_time)

    @staticmethod
    async def runs(change: Change, node: Node, instance: Instance) -> Node:
        """The row of a node whose launch had begun: its process is there."""
        pid, started = instance.pid, instance.start_time
        return await change.move_node(
            node, NodeState.BOOTING, "its process runs", pid=pid, start_time=started
        )

    async def replace_missing(self) -> None:
        """Launch what groups lack, unless faults have stopped a group."""
        for key, group in list(self._board.groups.items()):
            lacking = missing(group, self._board.nodes.values())
            if lacking == 0 or not self._launches or await self._stopped_by_faults(group):
                continue
            lack = self.lacking()[key]
            if lack.held and group.policy is None:
                await self._say_held(group, lack)
            number = lack.coming
            if group.policy is not None:  # also what died is replaced no faster than it says
                number = min(number, group.policy.launches - self._coming_up(group))
            for _ in range(number):
                requested = await self._books.change(self._request_missing, key)
                if requested is not None:
                    self._begin_launch(requested.id)

    async def _say_held(self, group: Group, lack: Lacking) -> None:
        """The journal is told once a minute; of a group with a policy its plan tells."""
        now, key = self._clock.monotonic(), (group.role, group.region)
        if now - self._told_budget.get(key, -math.inf) < TOLD_EVERY_S:
            return
        there = group.desired - missing(group, self._board.nodes.values())
        inputs = {
            "desired": group.desired,
            "there": there,
            "wanted": lack.held,
            "held_by": "budget",
            "price": float(self._money.prices.node_hour),
        }
        verb = "is" if lack.held == 1 else "are"
        held = f"{counted(lack.held, group.role)} that {group.id} lacks {verb} held back"
        text = f"{held}: {lack.because}. {REMEDY}."
        data = {"decision": f"held +{lack.held}", "inputs": inputs}
        await self._books.change(Change.note, "scale.held", group.id, text, data=data)
        self._told_budget[key] = now

    def lacking(self) -> dict[tuple[Role, str], Lacking]:
        """What each group wants and has no row for; of one that faults have stopped nothing comes, and
        nothing is held back. What the budget is there for goes to the groups in their order.

        This holds for what died as well: a budget that grows by itself is none.
        """
        nodes = list(self._board.nodes.values())
        found = dict.fromkeys(self._board.groups, NOTHING_LACKS)
        granted = 0
        for key, group in self._board.groups.items():
            number = 0 if self.stopped_by_faults(group) else missing(group, nodes)
            if not number:
                continue
            room, _ = self._money.room()
            allowed, _ = policy_room(group, nodes, self._money.prices)
            left = None if room is None else room - granted
            coming = max(0, min(it for it in (number, allowed, left) if it is not None))
            granted += coming
            because = ""
            if coming < number and allowed is not None and allowed <= coming:
                _, because = policy_room(group, nodes, self._money.prices, coming=coming)
            elif coming < number:
                _, because = self._money.room(granted)
            found[key] = Lacking(coming, number - coming, because)
        return found

    def coming(self) -> int:
        """Nodes that are launched in a moment, of all groups, and have no row yet."""
        return sum(it.coming for it in self.lacking().values())

    def _coming_up(self, group: Group) -> int:
        return sum(
            1
            for node in self._board.nodes.values()
            if node.managed
            and (node.role, node.region) == (group.role, group.region)
            and node.state in LAUNCHING
        )

    async def _request_missing(self, change: Change, key: tuple[Role, str]) -> Node | None:
        group = await change.tx.group(
            *key
        )  # whoever asks for a node by hand changes this row: it is ours now
        nodes = await change.tx.nodes()
        if group is None or (lacking := missing(group, nodes)) == 0:
            return None  # somebody was quicker
        allowed, _ = policy_room(group, nodes, self._money.prices)
        room, _ = self._money.room(unseen=self.unseen(nodes))
        if any(it is not None and it < 1 for it in (allowed, room)):
            return None  # it is used up meanwhile, or the policy is another one
        why = f"{group.desired} wanted in {group.region}, {group.desired - lacking} there"
        return await self.request(change, group, why)

    def unseen(self, nodes: Iterable[Node]) -> int:
        """Of these rows, those that another manager has just written, and the board does not show yet."""
        return sum(1 for node in nodes if node.id not in self._board.nodes)

    def stopped_by_faults(self, group: Group) -> bool:
        """Whether so many of its nodes failed lately that it launches none, as last looked at."""
        return (group.role, group.region) in self._stopped

    async def _stopped_by_faults(self, group: Group) -> bool:
        window, count = self._config.faults_window_s, self._config.faults_stop
        now = self._clock.now()
        faults = await self._books.store.read(
            lambda tx: tx.fault_times(group.role, group.region, now - window)
        )
        stopped = stopped_by_faults(group, faults, now, count=count, window_s=window)
        key = (group.role, group.region)
        if stopped != (key in self._stopped):
            (self._stopped.add if stopped else self._stopped.discard)(key)
            subject = f"{group.role} {group.region}"
            if stopped:
                text = (
                    f"Launching {group.role} nodes is stopped: {len(faults)} were faulty in {window:g} s. "
                    f"Their logs say why (showcaller logs {group.role}-N). It goes on by itself when the "
                    f"minute has passed, or at once with: showcaller fleet add {group.role}"
                )
                await self._books.change(Change.note, "fleet.stopped", subject, text)
            else:
                text = f"Launching {group.role} nodes goes on."
                await self._books.change(Change.note, "fleet.resumed", subject, text)
        return stopped

    async def end_all(self) -> bool:
        """End every node: a stage that was started in the foreground is being ended from there. False where
        another stream manager leads: the stage is more than this one, and goes on."""
        self._launches = False
        if not self._lease.held:
            return False

        async def work(change: Change) -> None:
            for node in await change.tx.nodes():
                if node.managed and node.state not in LEAVING:
                    end = NodeState.TERMINATED if node.state is NodeState.REQUESTED else NodeState.TERMINATING
                    await change.move_node(node, end, "the stage is being ended")

        with self._lease.acting():
            await self._books.change(work)
            for instance in await self._provisioner.running():
                await self._losses.end(instance.node)
        deadline = self._clock.monotonic() + self._config.kill_after_s + 2.0
        while self._clock.monotonic() < deadline and await self._provisioner.running():
            self._losses.wake.clear()
            with contextlib.suppress(TimeoutError):  # every node's end wakes us
                async with asyncio.timeout(0.2):
                    await self._losses.wake.wait()
        return True
