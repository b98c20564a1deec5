"""What a manager finds that starts, or that begins to lead: what runs is adopted, what does not is given up.

What an earlier holder of the lease launched is adopted; sessions and streams stay as they are. When nothing
at all of the stage runs any more at a start it is a cold one: names begin again at 1. A node that an earlier
version enrolled, without a certificate for its control endpoint, is replaced.
"""

import functools
from dataclasses import replace

import structlog

from controlplane.config import FleetConfig, StageConfig
from controlplane.domain.managers.model import Act
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import LAUNCHING, LEAVING, REPORTING
from controlplane.ports.control import NodeControl
from controlplane.ports.provisioner import Provisioner, ProvisionUnknown
from controlplane.ports.store import Transaction
from controlplane.services.board import Board
from controlplane.services.books import MANAGER, Books, Change
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.provisioning import Provisioning
from controlplane.wire.nodes import NodeState, Role

log = structlog.get_logger(__name__)

NOT_RUNNING = "it was not running when the stream manager started"
NO_CERTIFICATE = "it was enrolled by an earlier version, without a certificate to know it by"


class Adoption:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        control: NodeControl,
        losses: Losses,
        provisioning: Provisioning,
        config: FleetConfig,
        stage: StageConfig,
        lease: Leading,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._provisioner = provisioner
        self._control = control
        self._losses = losses
        self._provisioning = provisioning
        self._config = config
        self._stage = stage
        self._lease = lease

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
                    await self._books.change(self._provisioning.launched, launch, instance)
                else:  # by an earlier version
                    await self._books.change(self._provisioning.runs, node, instance)
            running.add(node.id)
        return running, dead

    @staticmethod
    async def _pardon(change: Change, node: Node) -> None:
        """What is wrong with a node is none of its group's fault."""
        group = await change.tx.group(node.role, node.region)
        if group is not None:
            await change.save_group(replace(group, faults_from=change.now))

    async def _see_to_group(self, change: Change, role: Role, at_first: int, *, cold: bool) -> None:
        region = self._stage.region
        group = await change.tx.group(role, region)
        if group is None:
            await change.save_group(Group(role=role, region=region, desired=at_first))
        elif cold:
            # A stage that was left with none of a role could not show anything.
            desired = max(group.desired, min(1, at_first))
            await change.save_group(replace(group, desired=desired, last_number=0))


def _cannot_be_asked(node: Node) -> bool:
    """Whether it has enrolled, and cannot be told from somebody else at its address."""
    enrolled = node.enrolled_at is not None and node.state not in LEAVING
    return enrolled and node.control_fingerprint is None


async def _launch_of(node_id: str, tx: Transaction) -> Act | None:
    return await tx.launch_of(node_id)
