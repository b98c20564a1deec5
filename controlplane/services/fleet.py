"""What an operator does with nodes: add one, invite one that is started by hand, drain one, take that back.

Each group has in the database how many nodes are desired: `add` raises it, `drain` lowers it. What is missing
is launched in provisioning.py. What a plan drains (scaling.py) is drained here as well.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from controlplane.config import StageConfig
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.rules import drain_is_over, missing, policy_room
from controlplane.domain.nodes.states import COUNTED, GONE, LAUNCHING, LEAVING
from controlplane.errors import Conflict, NotFound
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.losses import Losses
from controlplane.services.money import REMEDY, Money
from controlplane.services.provisioning import NOTHING_LACKS, Provisioning
from controlplane.services.rehoming import give_back
from controlplane.services.tokens import new_secret
from controlplane.services.words import counted, spoken
from controlplane.wire.api import DRAIN_S, DrainView, EnrolmentView
from controlplane.wire.events import EventState
from controlplane.wire.nodes import NodeState, Role


class Fleet:
    def __init__(
        self, books: Books, provisioning: Provisioning, losses: Losses, money: Money, stage: StageConfig
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._provisioning = provisioning
        self._losses = losses
        self._money = money
        self._stage = stage

    async def add(
        self,
        role: Role,
        region: str | None,
        actor: str,
        *,
        over_budget: bool = False,
        over_policy: bool = False,
    ) -> DrainView:
        """One more node of a role: the group's desired number rises, and a launch begins. Where one that is
        wanted is held back, it is that one, and the number stays.

        Raises NotFound, and Conflict where no nodes are launched, or one more would be beyond the max or the
        cap of the group's policy, or the budget, and `over_policy` or `over_budget` does not say that it may.
        """
        region = region or self._stage.region
        self._provisioning.check_launches()
        if (role, region) not in self._board.groups:
            known = ", ".join(sorted(f"{r} in {where}" for r, where in self._board.groups))
            raise NotFound(f"There is no group of {role} in {region}. There are: {known}.", code="no_group")

        async def work(change: Change) -> DrainView:
            group = await change.tx.group(role, region)  # ours from here on: of two who add one waits
            assert group is not None
            nodes = await change.tx.nodes()
            lacks = self._provisioning.lacking()
            own = lacks.get((role, region), NOTHING_LACKS)
            allowed, beyond = policy_room(group, nodes, self._money.prices, coming=own.coming)
            over = []
            if allowed is not None and allowed < 1:
                if not over_policy:
                    raise Conflict(
                        f"No {role} was added: {beyond}. Change the policy (showcaller fleet policy set "
                        f"{group.id}), or add one all the same: showcaller fleet add {role} --over-policy",
                        code="over_policy",
                        title="It would be more than the policy allows",
                    )
                over.append(f"beyond its policy: {beyond}")
            coming = sum(it.coming for it in lacks.values())
            room, why = self._money.room(coming, unseen=self._provisioning.unseen(nodes))
            if room is not None and room < 1:
                if not over_budget:
                    raise Conflict(
                        f"No {role} was added: {why}. {REMEDY}.",
                        code="over_budget",
                        title="It would be over the budget",
                    )
                over.append("over the budget")
            costs = ", ".join((self._money.add_words(1), *over))
            now = group.desired
            held = min(own.held, missing(group, nodes) - own.coming)  # one that comes by itself comes as well
            wanted = now if held > 0 else now + 1
            group = replace(group, desired=wanted, faults_from=change.now, scaled_up_at=change.now)
            number = f"{now} -> {wanted}" if held <= 0 else f"{now}, as before, of which one was held back"
            await change.note(
                "fleet.add",
                f"{role} {region}",
                f"{actor} asked for one more {role}: {number}; {costs}.",
                actor=actor,
                data={"desired": group.desired},
            )
            why = f"{actor} asked for one more"
            node = await self._provisioning.request(change, group, why, actor=actor)
            return change.answer(DrainView(node=node.id, state=node.state, viewers=0, deadline_s=None))

        view = await self._books.change(work)
        self._losses.wake.set()
        return view

    async def invite(self, role: Role, ttl_s: float, actor: str) -> EnrolmentView:
        """A row and an enrolment token for a node that somebody starts by hand, anywhere, within `ttl_s`."""
        region = self._stage.region

        async def work(change: Change) -> EnrolmentView:
            group = await change.tx.group(role, region)
            if group is None:
                raise NotFound(f"There is no group of {role} in {region}.", code="no_group")
            token = new_secret()
            node = await self._provisioning.request(
                change,
                group,
                f"{actor} will start it by hand",
                actor=actor,
                by_hand=(token, change.now + ttl_s),
            )
            node = await change.move_node(
                node, NodeState.BOOTING, "waiting for it to be started by hand", actor=actor
            )
            expires = datetime.fromtimestamp(node.enrol_expires, UTC).isoformat(timespec="seconds")
            return change.answer(EnrolmentView(node=node.id, token=token, expires=expires))

        return await self._books.change(work)

    async def drain(
        self, node_id: str, deadline_s: float | None, actor: str, *, named: Collection[str] = ()
    ) -> DrainView:
        """No new sessions, and its viewers are moved (services.moving); it ends when it is empty, or at its
        deadline. Not replaced.

        `deadline_s` None is the policy's, DRAIN_S without one; a node that drains already keeps the deadline
        it has. The last edge of what is on air, and the last origin with a broadcast on it, is drained only
        where the channels are `named`: Conflict says which.
        """

        async def work(change: Change) -> tuple[Node, DrainView]:
            await self._check_last(change, await self._existing(change, node_id), named)
            node = await self.begin_drain(change, node_id, deadline_s, actor)
            waits = None
            if node.state is NodeState.DRAINING and node.drain_deadline is not None:
                waits = max(0.0, round(node.drain_deadline - change.now, 3))
            viewers = self._board.seats_on(node.id)
            view = DrainView(node=node.id, state=node.state, viewers=viewers, deadline_s=waits)
            return node, change.answer(view)

        node, view = await self._books.change(work)
        await self.drain_has_begun(node)
        return view

    async def _check_last(self, change: Change, node: Node, named: Collection[str]) -> None:
        """Raises Conflict where what is on air could not be watched, or published, any more, and whoever
        drains has not said that he knows: by its channel, or the name of the event that is on there."""
        if node.state not in (NodeState.IN_SERVICE, NodeState.SUSPECT):
            return
        others = (it for it in self._board.nodes.values() if it.role is node.role and it.id != node.id)
        channels = {
            stream.channel
            for stream in self._board.streams.values()
            if node.role is Role.EDGE or stream.origin == node.id
        }
        if not channels - set(named) or any(it.state in COUNTED for it in others):
            return
        due = await change.tx.events(change.now)
        events = {it.channel: it for it in due if it.state(change.now) is EventState.ON}
        known = channels & set(named) | {it.channel for it in events.values() if it.name in named}
        if unnamed := sorted(channels - known):
            words = {it: events[it].name if it in events else it for it in channels}
            shown = [f"{it} ({events[it].title})" if it in events else it for it in unnamed]
            raise Conflict(
                f"{node.id} is the last {node.role}, and {' and '.join(shown)} would have none. Add one "
                f"first (showcaller fleet add {node.role}), or name what is on air: showcaller fleet drain "
                f"{node.id} --yes {' '.join(words[it] for it in sorted(channels))}",
                code=f"last_{node.role}",
                title=f"It is the last {node.role} of a live stream",
            )

    async def begin_drain(self, change: Change, node_id: str, deadline_s: float | None, actor: str) -> Node:
        """The rows of a drain; `drain_has_begun` after the commit does the rest."""
        node = await self._existing(change, node_id)
        group = await change.tx.group(node.role, node.region)
        policy = None if group is None else group.policy
        usual_s = DRAIN_S if policy is None else policy.drain_deadline_s
        within_s = usual_s if deadline_s is None else deadline_s
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

        async def work(change: Change) -> DrainView:
            node = await self._existing(change, node_id)
            if node.state is not NodeState.DRAINING:
                raise Conflict(
                    f"{node.id} is {spoken(node.state)}: only a node that is draining can be taken back.",
                    code="not_draining",
                )
            await self._wish(change, node, +1)
            await give_back(change, [new for old, new in self._board.moves() if old.node == node.id])
            moved = f", with {counted(node.drain_moved, 'viewer')} moved" if node.drain_moved else ""
            node = await change.move_node(
                *(node, NodeState.IN_SERVICE, f"{actor} took the drain back{moved}"),
                actor=actor,
                drain_deadline=None,
                drain_viewers=None,
                drain_moved=0,
            )
            viewers = self._board.seats_on(node.id)
            return change.answer(DrainView(node=node.id, state=node.state, viewers=viewers, deadline_s=None))

        view = await self._books.change(work)
        self._losses.taken_back(view.node)
        return view

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
