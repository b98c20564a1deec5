"""Settles what was begun outside and whose end is not known: by what the provider says there is.

    a launch was begun, and the node is listed       it is adopted, and the act ends with "runs"
                        and it is not listed         after the provider's `settles_s` it counts as never done:
                                                     its row is given up, and what the group lacks is launched
    a node is on its way out, and is listed          it is told to end (again)
    an instance is listed that is nobody's           it is an orphan, and is ended: its row has gone, or its
                                                     node was launched with another retry token

Nothing is concluded from what is not in a listing that failed or is not complete. What this very process is
just launching is left to it. All of it is done under the lease, soon after it was taken and then once in a
while, as an answer that was lost may belong to a launch that comes about later.
"""

import math

import structlog

from controlplane.domain.managers.model import Act, ActKind
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE, LEAVING
from controlplane.ports.provisioner import Instance, Listing, Provisioner, ProvisionUnknown
from controlplane.ports.store import Transaction
from controlplane.services.books import Books, Change
from controlplane.services.lease import Leading
from controlplane.services.losses import Losses
from controlplane.services.provisioning import Provisioning
from controlplane.wire.nodes import NodeState

log = structlog.get_logger(__name__)

EVERY_S = 30.0
UNSETTLED_S = 1.0  # while there is something whose end is not known

NEVER = "its launch was never carried out"


class Reconciler:
    def __init__(
        self,
        books: Books,
        provisioner: Provisioner,
        provisioning: Provisioning,
        losses: Losses,
        lease: Leading,
    ) -> None:
        self._books = books
        self._provisioner = provisioner
        self._provisioning = provisioning
        self._losses = losses
        self._lease = lease
        self._due = -math.inf  # monotonic

    def soon(self) -> None:
        """At the next look: the lease was just taken."""
        self._due = -math.inf

    async def tick(self, now: float) -> None:
        """`now` is monotonic. Raises LeaseLost, StoreBusy."""
        if now >= self._due and self._provisioning.launches:
            self._due = now + (EVERY_S if await self.reconcile() else UNSETTLED_S)

    async def reconcile(self) -> bool:
        """Compare once. True when the end of everything that was begun is known."""
        try:
            listing = await self._provisioner.listing()
        except ProvisionUnknown as error:
            log.warning("the provider does not say what there is; nothing is concluded", error=str(error))
            return False
        if not listing.complete:
            log.warning("the provider's listing is not complete; nothing is concluded of what it lacks")
        busy = self._provisioning.launching
        unsettled = False
        for instance in listing.instances:
            try:
                if instance.node not in busy:
                    await self._compare(instance)
            except ProvisionUnknown as error:
                log.warning("the provider gave no answer", node=instance.node, error=str(error))
                unsettled = True
        for act in await self._books.store.read(lambda tx: tx.open_acts()):
            if act.node in busy or not await self._settle(act, listing):
                unsettled = True
        return listing.complete and not unsettled

    async def _compare(self, instance: Instance) -> None:
        """One that is there, with the row that it should have."""

        async def read(tx: Transaction) -> tuple[Node | None, Act | None]:
            return await tx.node(instance.node), await tx.launch_of(instance.node)

        node, launch = await self._books.store.read(read)
        if node is not None and not node.managed:
            return
        if launch is None and not instance.retry:
            return  # started by hand, or by an earlier version: it is known by its name alone
        same = launch is not None and instance.retry in ("", launch.retry)
        if node is None or launch is None or not same or node.state in GONE:
            await self._end_orphan(instance)
        elif node.state in LEAVING:
            self._losses.end_again(node.id)
            if await self._provisioner.adopt(node.id, instance.pid, instance.start_time) is None:
                await self._end_orphan(instance)  # not by its name, so it is ended by what it is
            else:
                await self._losses.end(node.id)
        elif node.state is NodeState.CREATING or launch.outcome is None:
            await self._adopt(launch, instance)  # also one that has enrolled before its launch was answered

    async def _adopt(self, launch: Act, instance: Instance) -> None:
        adopted = await self._provisioner.adopt(instance.node, instance.pid, instance.start_time)
        if adopted is not None:
            log.info("a node was adopted whose launch had no known end", node=instance.node)
            await self._books.change(self._provisioning.launched, launch, adopted)

    async def _end_orphan(self, instance: Instance) -> None:
        act = await self._books.change(Change.begin_act, ActKind.END, instance.node)
        if not self._lease.held:
            return
        log.warning("an instance that is nobody's is ended", node=instance.node, retry=instance.retry)
        await self._provisioner.end_orphan(instance)
        await self._books.change(Change.end_act, act, "orphan ended")

    async def _settle(self, act: Act, listing: Listing) -> bool:
        """An act that was begun, by what is not there. Whether its end is known now."""
        there = [it for it in listing.instances if it.node == act.node]
        if act.kind is ActKind.END:
            if there or not listing.complete:
                return False  # told again, by _compare
            await self._books.change(Change.end_act, act, "gone")
            return True
        if any(it.retry in ("", act.retry) for it in there):
            return False  # it is told to end, or could not be adopted: it is looked at again
        if not listing.complete:
            return False

        async def give_up(change: Change) -> bool:
            if await change.tx.time() - act.at < self._provisioner.settles_s:
                return False
            await change.end_act(act, "never carried out")
            node = await change.tx.node(act.node)
            if node is not None and node.state is NodeState.CREATING:
                await change.move_node(node, NodeState.TERMINATED, NEVER)
            return True

        settled = await self._books.change(give_up)
        if settled:
            self._losses.wake.set()
        return settled
