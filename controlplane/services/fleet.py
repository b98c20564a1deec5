"""The number of nodes: launching, adopting, draining, taking back, ending.

    desired   per group in the database; `add` raises it, `drain` lowers it; what is missing is launched
    launch    a row first, by any manager; then, by the one that leads, `creating` with the hash of a one-use
              token and the act itself in one transaction, then the provisioner, then what came of it
    leading   what an earlier holder of the lease launched is adopted; sessions and streams stay as they are.
              When nothing at all of the stage runs any more at a start it is a cold one: names begin again
              at 1. A node that an earlier version enrolled, without a certificate for its control endpoint,
              is replaced

How nodes are lost is in losses.py, what the clock brings about in rounds.py, how what was begun and not
ended is settled in reconcile.py.
"""

import asyncio
import contextlib
import functools
import math
from collections.abc import Collection
from dataclasses import replace

import structlog

from controlplane.config import FleetConfig, StageConfig
from controlplane.domain.managers.model import Act, ActKind
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import drain_is_over, missing, stopped_by_faults
from controlplane.domain.nodes.states import COUNTED, GONE, LAUNCHING, LEAVING, REPORTING
from controlplane.errors import Conflict, NotFound
from controlplane.ports.control import NodeControl
from controlplane.ports.provisioner import (
    Instance,
    LaunchSpec,
    Provisioner,
    ProvisionError,
    ProvisionUnknown,
)
from controlplane.ports.store import StoreBusy, Transaction
from controlplane.services.background import Background
from controlplane.services.board import Board
from controlplane.services.books import MANAGER, Books, Change, LeaseLost
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.money import REMEDY, Money
from controlplane.services.rehoming import give_back
from controlplane.services.tokens import new_secret, sha256
from controlplane.services.words import counted, spoken
from controlplane.wire.api import DRAIN_S, DrainView
from controlplane.wire.nodes import NodeState, Role

log = structlog.get_logger(__name__)

TOLD_EVERY_S = 60.0  # that the budget holds launches back
NOT_RUNNING = "it was not running when the stream manager started"
NO_CERTIFICATE = "it was enrolled by an earlier version, without a certificate to know it by"


class Fleet:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        control: NodeControl,
        losses: Losses,
        background: Background,
        money: Money,
        config: FleetConfig,
        stage: StageConfig,
        lease: Leading,
        *,
        launches: bool = True,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._provisioner = provisioner
        self._control = control
        self._losses = losses
        self._background = background
        self._money = money
        self._config = config
        self._stage = stage
        self._lease = lease
        self.launching: set[str] = set()  # nodes whose launch is under way in this process
        self._launches = launches  # False: only nodes that are started by hand
        self._stopped: set[tuple[Role, str]] = set()  # groups that faults have stopped, as journalled
        self._told_budget: dict[tuple[Role, str], float] = {}  # that it holds launches back: when, monotonic

    # start

    async def begin_to_lead(self) -> None:
        """See to what the holder of the lease before has left behind: the first thing a new one does, under
        the lease, with a board that was read under it."""
        await self._see_to_what_runs("The stream manager {manager} leads", at_start=False)

    async def start(self) -> None:
        """Adopt what runs, give up what does not, see to the groups. Once, under the lease, before anything
        is served."""
        await self._see_to_what_runs("The stream manager started", at_start=True)

    async def _see_to_what_runs(self, words: str, *, at_start: bool) -> None:
        running, dead = await self._adopt()
        cold = at_start and not running
        strange = [
            node for node in self._board.nodes.values() if node.id in running and _cannot_be_asked(node)
        ]

        async def work(change: Change) -> None:
            for node in dead:
                now = await change.tx.node(node.id)
                if now is None or now.state is not node.state:
                    continue  # somebody was quicker
                if cold:
                    await self._losses.lose_sessions(change, node, NOT_RUNNING)
                    await change.move_node(node, NodeState.TERMINATED, NOT_RUNNING)
                elif node.state in LEAVING:
                    await change.move_node(node, NodeState.TERMINATED, "its process has ended")
                elif node.state not in (NodeState.REQUESTED, NodeState.CREATING):  # those are settled later
                    await self._losses.fail(change, node, NOT_RUNNING, gone=True)
            for node in strange:
                await self._losses.fail(change, node, NO_CERTIFICATE, gone=not node.managed)
                await self._pardon(change, node)
            if cold:
                await change.tx.forget_terminated()
                for act in await change.tx.open_acts():
                    await change.end_act(act, "nothing of it was there at a start")
            if at_start:
                await change.tx.recount_reserved()
            for role, number in ((Role.ORIGIN, self._config.origins), (Role.EDGE, self._config.edges)):
                await self._see_to_group(change, role, number, cold=cold)
            how = "with nothing running" if cold else f"and found {', '.join(sorted(running))} running"
            said = words.format(manager=self._lease.manager)
            kind = "manager.started" if at_start else "manager.leads"
            await change.note(kind, MANAGER, f"{said} {how}.")

        await self._books.change(work)
        for node in (*dead, *strange):
            self._losses.after_loss(node)
        self._losses.wake.set()

    async def _adopt(self) -> tuple[set[str], list[Node]]:
        running: set[str] = set()
        dead: list[Node] = []
        for node in list(self._board.nodes.values()):
            if not node.managed:
                alive = node.state in REPORTING and not await self._control.refuses(node)
                if alive or node.state in LAUNCHING:
                    running.add(node.id)
                else:
                    dead.append(node)
                continue
            instance = None
            try:
                if node.state is not NodeState.REQUESTED:
                    instance = await self._provisioner.adopt(node.id, node.pid, node.start_time)
            except ProvisionUnknown as error:  # not to know is not to be absent
                log.warning("the provider does not say whether a node runs", node=node.id, error=str(error))
                running.add(node.id)
                continue
            if instance is None:
                dead.append(node)
                continue
            if node.state is NodeState.CREATING:
                launch = await self._books.store.read(functools.partial(_launch_of, node.id))
                if launch is not None and instance.retry not in ("", launch.retry):
                    dead.append(node)  # of its name, and not it
                    continue
                if launch is not None:
                    await self._books.change(self.launched, launch, instance)
                else:  # by an earlier version
                    await self._books.change(self._runs, node, instance)
            running.add(node.id)
        return running, dead

    @staticmethod
    async def _pardon(change: Change, node: Node) -> None:
        """What is wrong with a node is none of its group's fault."""
        group = await change.tx.group(node.role, node.region)
        if group is not None:
            await change.save_group(replace(group, faults_from=change.now))

    @staticmethod
    async def _runs(change: Change, node: Node, instance: Instance) -> Node:
        pid, started = instance.pid, instance.start_time
        return await change.move_node(
            node, NodeState.BOOTING, "its process runs", pid=pid, start_time=started
        )

    async def _see_to_group(self, change: Change, role: Role, at_first: int, *, cold: bool) -> None:
        region = self._stage.region
        group = await change.tx.group(role, region)
        if group is None:
            await change.save_group(Group(role=role, region=region, desired=at_first))
        elif cold:
            # A stage that was left with none of a role could not show anything.
            desired = max(group.desired, min(1, at_first))
            await change.save_group(replace(group, desired=desired, last_number=0))

    # what an operator does

    async def add(
        self, role: Role, region: str | None, actor: str, *, over_budget: bool = False
    ) -> DrainView:
        """One more node of a role: the group's desired number rises, and a launch begins.

        Raises NotFound, and Conflict where no nodes are launched, or the budget is not there for one more and
        `over_budget` does not say that it may be exceeded.
        """
        region = region or self._stage.region
        self.check_launches()
        if (role, region) not in self._board.groups:
            known = ", ".join(sorted(f"{r} in {where}" for r, where in self._board.groups))
            raise NotFound(f"There is no group of {role} in {region}. There are: {known}.", code="no_group")

        async def work(change: Change) -> Node:
            group = await change.tx.group(role, region)  # ours from here on: of two who add one waits
            assert group is not None
            unseen = sum(1 for node in await change.tx.nodes() if node.id not in self._board.nodes)
            room, why = self._money.room(self._lacking() + unseen)
            over = room is not None and room < 1
            if over and not over_budget:
                raise Conflict(
                    f"No {role} was added: {why}. {REMEDY}.",
                    code="over_budget",
                    title="It would be over the budget",
                )
            costs = self._money.add_words(1) + (", over the budget" if over else "")
            group = replace(group, desired=group.desired + 1, faults_from=change.now, scaled_up_at=change.now)
            await change.note(
                "fleet.add",
                f"{role} {region}",
                f"{actor} asked for one more {role}: {group.desired - 1} -> {group.desired}; {costs}.",
                actor=actor,
                data={"desired": group.desired},
            )
            return await self._request(change, group, f"{actor} asked for one more", actor=actor)

        node = await self._books.change(work)
        self._losses.wake.set()
        return DrainView(node=node.id, state=node.state, viewers=0, deadline_s=None)

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

    async def invite(self, role: Role, ttl_s: float, actor: str) -> tuple[Node, str]:
        """A row and an enrolment token for a node that somebody starts by hand, anywhere, within `ttl_s`."""
        region = self._stage.region

        async def work(change: Change) -> tuple[Node, str]:
            group = await change.tx.group(role, region)
            if group is None:
                raise NotFound(f"There is no group of {role} in {region}.", code="no_group")
            token = new_secret()
            node = await self._request(
                change,
                group,
                f"{actor} will start it by hand",
                actor=actor,
                by_hand=(token, change.now + ttl_s),
            )
            node = await change.move_node(
                node, NodeState.BOOTING, "waiting for it to be started by hand", actor=actor
            )
            return node, token

        return await self._books.change(work)

    async def drain(
        self, node_id: str, deadline_s: float | None, actor: str, *, named: Collection[str] = ()
    ) -> DrainView:
        """No new sessions, and its viewers are moved (services.moving); it ends when it is empty, or at its
        deadline. Not replaced.

        `deadline_s` None is DRAIN_S; a node that drains already keeps the deadline it has. The last edge of
        what is on air is drained only where the channels are `named`: Conflict says which.
        """

        async def work(change: Change) -> tuple[Node, float]:
            self._check_last_edge(await self._existing(change, node_id), named)
            return await self.begin_drain(change, node_id, deadline_s, actor), change.now

        node, now = await self._books.change(work)
        await self.drain_has_begun(node)
        waits = None
        if node.state is NodeState.DRAINING and node.drain_deadline is not None:
            waits = max(0.0, round(node.drain_deadline - now, 3))
        return DrainView(
            node=node.id, state=node.state, viewers=self._board.seats_on(node.id), deadline_s=waits
        )

    def _check_last_edge(self, node: Node, named: Collection[str]) -> None:
        """Raises Conflict where nobody could watch what is on air any more, and whoever drains has not said
        that he knows."""
        if node.role is not Role.EDGE or node.state not in (NodeState.IN_SERVICE, NodeState.SUSPECT):
            return
        others = (it for it in self._board.nodes.values() if it.role is Role.EDGE and it.id != node.id)
        unnamed = sorted(self._board.streams.keys() - set(named))
        if unnamed and not any(it.state in COUNTED for it in others):
            channels = " ".join(sorted(self._board.streams))
            raise Conflict(
                f"{node.id} is the last edge, and {' and '.join(unnamed)} would have none. Add one first "
                f"(showcaller fleet add edge), or name what is on air: showcaller fleet drain {node.id} "
                f"--yes {channels}",
                code="last_edge",
                title="It is the last edge of a live stream",
            )

    async def begin_drain(self, change: Change, node_id: str, deadline_s: float | None, actor: str) -> Node:
        """The rows of a drain; `drain_has_begun` after the commit does the rest."""
        node = await self._existing(change, node_id)
        within_s = DRAIN_S if deadline_s is None else deadline_s
        deadline = change.now + within_s
        if node.state is NodeState.DRAINING:
            if deadline_s is None:
                return node
            await change.note(
                "fleet.drain",
                node.id,
                f"{actor} set the deadline of {node.id} to {deadline_s:g} s from now.",
                actor=actor,
            )
            return await change.update_node(node, drain_deadline=deadline)
        if node.state in LEAVING:
            raise Conflict(f"{node.id} is {spoken(node.state)} already.", code="node_leaving")
        seats = self._board.seats_on(node.id)
        await self._wish(change, node, -1)
        reason = (
            f"{actor} drains it: {counted(seats, 'session')} on it, at most {within_s:g} s; "
            f"{self._money.add_words(-1)}"
        )
        if node.state is NodeState.REQUESTED:
            return await change.move_node(node, NodeState.TERMINATED, reason, actor=actor)
        if node.state in LAUNCHING:
            return await change.move_node(node, NodeState.TERMINATING, reason, actor=actor)
        viewers = self._board.viewers_on(node.id) if node.role is Role.EDGE else None
        return await change.move_node(
            *(node, NodeState.DRAINING, reason),
            actor=actor,
            drain_deadline=deadline,
            drain_viewers=viewers,
            drain_moved=0,
        )

    async def drain_has_begun(self, node: Node) -> None:
        if not drain_is_over(node, 1, self._clock.now()):
            self._losses.taken_back(node.id)  # whoever was told to go at an earlier deadline has time again
        self._losses.wake.set()

    async def undrain(self, node_id: str, actor: str) -> DrainView:
        """Take a drain back: in service again, and wanted again.

        Seats that are kept for its viewers elsewhere are given back, unless somebody has come to them: those
        finish their move. Who has moved stays where he is.
        """

        async def work(change: Change) -> Node:
            node = await self._existing(change, node_id)
            if node.state is not NodeState.DRAINING:
                raise Conflict(
                    f"{node.id} is {spoken(node.state)}: only a node that is draining can be taken back.",
                    code="not_draining",
                )
            await self._wish(change, node, +1)
            await give_back(change, [new for old, new in self._board.moves() if old.node == node.id])
            moved = f", with {counted(node.drain_moved, 'viewer')} moved" if node.drain_moved else ""
            return await change.move_node(
                *(node, NodeState.IN_SERVICE, f"{actor} took the drain back{moved}"),
                actor=actor,
                drain_deadline=None,
                drain_viewers=None,
                drain_moved=0,
            )

        node = await self._books.change(work)
        self._losses.taken_back(node.id)
        return DrainView(
            node=node.id, state=node.state, viewers=self._board.seats_on(node.id), deadline_s=None
        )

    async def _existing(self, change: Change, node_id: str) -> Node:
        node = await change.tx.node(node_id)
        if node is None or node.state in GONE:
            raise NotFound(f"There is no node {node_id}. showcaller nodes lists them.", code="no_such_node")
        return node

    async def _wish(self, change: Change, node: Node, difference: int) -> None:
        group = await change.tx.group(node.role, node.region)
        if group is not None and node.managed:
            up_at = change.now if difference > 0 else group.scaled_up_at
            desired = max(0, group.desired + difference)
            await change.save_group(replace(group, desired=desired, scaled_up_at=up_at))

    # launching

    async def _request(
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
            return await self._runs(change, node, instance)
        return await change.update_node(node, pid=instance.pid, start_time=instance.start_time)

    async def replace_missing(self) -> None:
        """Launch what groups lack, unless faults have stopped a group."""
        for key, group in list(self._board.groups.items()):
            lacking = missing(group, self._board.nodes.values())
            if lacking == 0 or not self._launches or await self._stopped_by_faults(group):
                continue
            if group.policy is not None:  # also what died is replaced no faster than it says
                lacking = min(lacking, group.policy.launches - self._coming_up(group))
            lacking = await self._within_budget(group, lacking)
            for _ in range(lacking):
                requested = await self._books.change(self._request_missing, key)
                if requested is not None:
                    self._begin_launch(requested.id)

    async def _within_budget(self, group: Group, lacking: int) -> int:
        """Of what a group lacks, what the budget is there for; the journal is told once a minute of the rest.

        This holds for what died as well: a budget that grows by itself is none.
        """
        room, why = self._money.room()
        if room is None or room >= lacking:
            return lacking
        now, key = self._clock.monotonic(), (group.role, group.region)
        if now - self._told_budget.get(key, -math.inf) >= TOLD_EVERY_S:
            held = counted(lacking - max(0, room), group.role)
            text = f"{held} that {group.id} lacks is held back: {why}. {REMEDY}."
            await self._books.change(Change.note, "fleet.budget", group.id, text)
            self._told_budget[key] = now
        return max(0, room)

    def _lacking(self) -> int:
        """Nodes that groups want, and have no row yet."""
        nodes = self._board.nodes.values()
        return sum(missing(it, nodes) for it in self._board.groups.values() if not self.stopped_by_faults(it))

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
        if group is None or (lacking := missing(group, await change.tx.nodes())) == 0:
            return None  # somebody was quicker
        why = f"{group.desired} wanted in {group.region}, {group.desired - lacking} there"
        return await self._request(change, group, why)

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

    # end

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


def _cannot_be_asked(node: Node) -> bool:
    """Whether it has enrolled, and cannot be told from somebody else at its address."""
    enrolled = node.enrolled_at is not None and node.state not in LEAVING
    return enrolled and node.control_fingerprint is None


async def _launch_of(node_id: str, tx: Transaction) -> Act | None:
    return await tx.launch_of(node_id)
