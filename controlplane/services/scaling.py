"""The autoscaler: once a second each group with a policy is planned for, and the plan is acted on.

    board, reports --> figures --> snapshot --> plan --> desired number raised, or a drain begun; a decision
                                                        in the journal, in the same transaction

What is decided is only written here; launching what a group lacks, and ending what has drained, is the
fleet's and the rounds'. A plan that is held back for the same reason as in the second before is journalled
again only each minute.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import structlog

from controlplane.config import FleetConfig
from controlplane.domain.events.model import Event
from controlplane.domain.fleet.policy import faults
from controlplane.domain.fleet.prestage import floor, nodes_for
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.moving import largest_party
from controlplane.domain.nodes.states import LAUNCHING, REPORTING
from controlplane.errors import BadRequest, NotFound
from controlplane.fleet.figures import Figures
from controlplane.fleet.planner import Decision, plan, word
from controlplane.fleet.policies import COUNTING
from controlplane.fleet.snapshot import Around, Past, Snapshot, snapshot
from controlplane.ports.store import StoreBusy
from controlplane.services.board import Board
from controlplane.services.books import Books, Change
from controlplane.services.expecting import Expecting
from controlplane.services.fleet import Fleet
from controlplane.services.launches import Launches, LaunchTime
from controlplane.services.money import Money, Planned
from controlplane.services.provisioning import NOTHING_LACKS, Lacking, Provisioning
from controlplane.services.waiting import Waiting
from controlplane.wire.api import JournalEntry
from controlplane.wire.base import FaultView
from controlplane.wire.fleet import (
    ActionView,
    DecisionView,
    Evaluation,
    Expected,
    Policy,
    PolicyView,
    Prestage,
    Question,
    Unit,
)
from controlplane.wire.nodes import NodeState, Role

log = structlog.get_logger(__name__)

ACTOR = "autoscaler"
PERIOD_S = 0.9  # of an evaluation, at least: rounds are a second apart, and some
HELD_EVERY_S = 60.0  # how often the journal is told that a plan is still held back
PASSED = Past(agreed_up=1_000_000, agreed_down=1_000_000)


class Scaling:
    def __init__(
        self,
        books: Books,
        fleet: Fleet,
        provisioning: Provisioning,
        waiting: Waiting,
        expecting: Expecting,
        launches: Launches,
        config: FleetConfig,
        *,
        money: Money,
    ) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._fleet = fleet
        self._provisioning = provisioning
        self._waiting = waiting
        self._expecting = expecting
        self._launches = launches
        self._money = money
        self._config = config
        self._past: dict[str, Past] = {}  # by group: what outlives no restart
        self._told: dict[tuple[str, str], float] = {}  # by group and what held it back: when, monotonic
        self._evaluated_at: float | None = None

    # policies

    def policy(self, group_id: str, *, usual: bool = False) -> PolicyView:
        """With `usual`, where the group has none, what one begins with; else NotFound."""
        group = self.group(group_id)
        if group.policy is None and usual:
            return PolicyView(
                group=group.id, policy=self.usual(group), usual=True, node_takes=self._capacity(group)
            )
        if group.policy is None:
            raise NotFound(
                f"{group.id} has no policy: its nodes are added and ended by hand. "
                f"Give it one: showcaller fleet policy set {group.id}",
                code="no_policy",
                title="The group has no policy",
            )
        return PolicyView(group=group.id, policy=group.policy, node_takes=self._capacity(group))

    async def set_policy(self, group_id: str, changes: Policy, actor: str) -> PolicyView:
        """What of `changes` was said (its fields that are set) is changed, the rest stays, or is as usual.

        Raises NotFound, Conflict where no nodes are launched, and BadRequest with every fault of the policy
        that this would be.
        """
        group = self.group(group_id)
        self._provisioning.check_launches()

        async def work(change: Change) -> PolicyView:
            now = await change.tx.group(group.role, group.region)
            assert now is not None
            before = now.policy or self.usual(group)
            policy = merged(before, changes)
            self.check(group, policy)
            await change.save_group(replace(now, policy=policy))
            new = {name: getattr(policy, name) for name in Policy.model_fields}
            differs = [name for name, value in new.items() if getattr(before, name) != value]
            what = ", ".join(f"{name} {_short(new[name])}" for name in differs) or "as it was"
            await change.note(
                "fleet.policy", group.id, f"{actor} set the policy of {group.id}: {what}.", actor=actor,
                data=policy.model_dump(mode="json"),
            )  # fmt: skip
            view = PolicyView(group=group.id, policy=policy, node_takes=self._capacity(group))
            return change.answer(view)

        view = await self._books.change(work)
        self._past.pop(group.id, None)
        self._told = {key: at for key, at in self._told.items() if key[0] != group.id}
        return view

    def try_policy(self, group_id: str, changes: Policy) -> PolicyView:
        """The policy that `set_policy` would make; nothing is changed. Raises as that does."""
        group = self.group(group_id)
        self._provisioning.check_launches()
        policy = merged(group.policy or self.usual(group), changes)
        self.check(group, policy)
        return PolicyView(group=group.id, policy=policy, node_takes=self._capacity(group))

    async def clear_policy(self, group_id: str, actor: str) -> None:
        """From now on its nodes are added and ended by hand."""
        group = self.group(group_id)

        async def work(change: Change) -> None:
            now = await change.tx.group(group.role, group.region)
            assert now is not None
            if now.policy is not None:
                await change.save_group(replace(now, policy=None))
                await change.note(
                    "fleet.policy", group.id, f"{actor} took the policy of {group.id} away.", actor=actor
                )

        await self._books.change(work)

    def usual(self, group: Group) -> Policy:
        """What a policy begins with: a node of the role carries what its settings say."""
        unit = Unit.PUBLISHERS if group.role is Role.ORIGIN else Unit.CONNECTIONS
        return Policy(unit=unit.value, capacity=self._capacity(group))

    def check(self, group: Group, policy: Policy) -> None:
        """Raises BadRequest that names every fault of a policy for this group with its place."""
        found = [FaultView(place=fault.place, text=fault.text) for fault in faults(policy)]
        most = self._capacity(group)
        if policy.unit != Unit.MBPS.value and policy.capacity > most:
            key = "origin_capacity" if group.role is Role.ORIGIN else "edge_capacity"
            text = f"{policy.capacity} is more than a node takes, {most} ([fleet] {key})"
            found.append(FaultView(place="capacity", text=text))
        if found:
            raise BadRequest(
                "; ".join(f"{fault.place}: {fault.text}" for fault in found) + ". Nothing was changed.",
                code="policy_refused",
                title="The policy cannot be used",
                status=422,
                faults=found,
            )

    def followed(self, group: Group) -> Policy:
        """The policy it goes by; the usual one where it has none."""
        return self._followed(group, group.policy or self.usual(group))

    def _followed(self, group: Group, policy: Policy) -> Policy:
        """A node carries no more than the settings say by now, whatever was said when the policy was set."""
        if policy.unit == Unit.MBPS.value:
            return policy
        return policy.model_copy(update={"capacity": min(policy.capacity, self._capacity(group))})

    def counts_in(self, group: Group) -> tuple[str, int]:
        """The unit of its policy, and what one node carries; without one, of what a policy begins with."""
        policy = self.usual(group) if group.policy is None else self._followed(group, group.policy)
        return policy.unit, policy.capacity

    def _capacity(self, group: Group) -> int:
        fleet = self._config
        return fleet.origin_capacity if group.role is Role.ORIGIN else fleet.edge_capacity

    def group(self, group_id: str) -> Group:
        """By its id, or by its role where that is enough."""
        groups = sorted(self._board.groups.values(), key=lambda it: it.id)
        named = [it for it in groups if group_id == it.id] or [it for it in groups if group_id == it.role]
        if len(named) == 1:
            return named[0]
        known = ", ".join(it.id for it in groups)
        raise NotFound(f"There is no one group {group_id!r}. There are: {known}.", code="no_group")

    # questions

    def evaluate(self, group_id: str, question: Question) -> Evaluation:
        """What the policy would do now, or would do with other figures.

        Raises BadRequest that names with its place what the policy's unit is counted from, and one of the
        supposed nodes does not have: what is not known is no load of zero.
        """
        group = self.group(group_id)
        policy = self._followed(group, self.policy(group.id).policy)
        if found := _unknown(question, Unit(policy.unit)):
            raise BadRequest(
                "; ".join(f"{fault.place}: {fault.text}" for fault in found),
                code="figures_missing",
                title="The load of these nodes is not known",
                status=422,
                faults=found,
            )
        if question.nodes is None:
            figures: Sequence[Figures] = self.figures(group)
        else:
            figures = [
                Figures(
                    node=it.node or f"{group.role}-{number}",
                    state=it.state,
                    connections=it.connections,
                    reserved=it.reserved,
                    relays=it.relays,
                    mbps=it.mbps,
                )
                for number, it in enumerate(question.nodes, 1)
            ]
        around = self._around(group, policy)
        if question.nodes is not None or question.waiting is not None:
            around = replace(around, waiting=question.waiting or 0)
        if question.nodes is not None:  # those are all there are
            around = replace(around, held=0)
        made = self._snapshot(group, policy, figures, PASSED, around)
        decision = plan(made, policy, self._clock.now())
        elsewhere = self._provisioning.held_back() if decision.actions and question.nodes is None else ""
        return Evaluation(
            actions=[ActionView(kind=it.kind, count=it.count, node=it.node) for it in decision.actions],
            because=f"{decision.because} {elsewhere}".rstrip(),
        )

    async def decisions(self, group_id: str | None, limit: int) -> list[DecisionView]:
        """Newest first."""
        subject = None if group_id is None else self.group(group_id).id
        entries = await self._books.store.read(lambda tx: tx.decisions(subject, limit))
        return [_as_decision(entry) for entry in entries]

    def planned(self, event: Event, crowd: int) -> Planned:
        """What an event takes, as the policies of the groups would have it."""
        nodes = 0
        for group in self._board.groups.values():
            policy = self.followed(group)
            needed = nodes_for(self._expecting.one(event, crowd, group, policy).weight, policy)
            nodes += max(needed, policy.min)
        return Planned(
            name=event.name,
            starts=event.starts_at,
            ends=event.ends_at if event.cancelled_at is None else min(event.ends_at, event.cancelled_at),
            nodes=nodes,
            people=crowd,
            mbps=self._expecting.mbps(event),
        )

    # acting

    async def tick(self, now: float) -> None:
        """Plans for every group with a policy, and acts. `now` is monotonic: a period is a second, though the
        fleet is looked at more often when something happens."""
        if self._evaluated_at is not None and now - self._evaluated_at < PERIOD_S:
            return
        self._evaluated_at = now
        if not self._provisioning.launches:
            return
        try:
            await self._expecting.refresh()
        except StoreBusy as error:
            log.warning("the database is busy; events are as they were known", error=str(error))
        for group in list(self._board.groups.values()):
            if group.policy is not None:
                try:
                    await self._look_at(group, group.policy)
                except StoreBusy as error:
                    log.warning("the database is busy; a group is planned for again", error=str(error))
                except Exception:  # whatever is wrong with one group, the others and the rounds go on
                    log.exception("a group could not be planned for", group=group.id)

    async def _look_at(self, group: Group, policy: Policy) -> None:
        kept = self._past.get(group.id, Past())
        past = replace(kept, last_up=group.scaled_up_at, last_down=group.scaled_down_at)
        followed = self._followed(group, policy)
        made = self._snapshot(group, followed, self.figures(group), past, self._around(group, followed))
        decision = plan(made, followed, self._clock.now())
        if decision.actions:
            if not await self._act(group, policy, made, decision):
                return  # nothing was written: it is planned anew in a second, with the periods it has
        elif decision.outcome == "held":
            await self._say_held(group, policy, made, decision)
        self._past[group.id] = decision.after

    async def _act(self, group: Group, policy: Policy, made: Snapshot, decision: Decision) -> bool:
        """Whether it was written down: False when somebody was quicker."""

        async def work(change: Change) -> list[Node] | None:
            now = await change.tx.group(group.role, group.region)
            if now is None or (now.policy, now.desired) != (policy, group.desired):
                return None
            (action,) = decision.actions
            if action.kind == "add":
                desired = now.desired + action.count
                await change.save_group(replace(now, desired=desired, scaled_up_at=change.now))
                await self._note(change, group, policy, made, decision)
                return []
            draining: list[Node] = []
            if action.node is None:
                now = replace(now, desired=max(0, now.desired - action.count))
            else:
                node = await change.tx.node(action.node)
                if node is None or node.state not in LAUNCHING | {NodeState.IN_SERVICE}:
                    return None
                deadline = policy.drain_deadline_s
                draining.append(await self._fleet.begin_drain(change, node.id, deadline, ACTOR))
                now = await change.tx.group(group.role, group.region)
                assert now is not None
            if decision.after.last_down != made.past.last_down:  # nobody waits for what was only given up
                now = replace(now, scaled_down_at=change.now)
            await change.save_group(now)
            await self._note(change, group, policy, made, decision)
            return draining

        draining = await self._books.change(work)
        for node in draining or ():
            await self._fleet.drain_has_begun(node)
        return draining is not None

    async def _say_held(self, group: Group, policy: Policy, made: Snapshot, decision: Decision) -> None:
        key = (group.id, f"{decision.held_by} {'more' if decision.wanted > 0 else 'less'}")
        now = self._clock.monotonic()
        if now - self._told.get(key, -math.inf) < HELD_EVERY_S:
            return
        await self._books.change(self._note, group, policy, made, decision)
        self._told[key] = now

    async def _note(
        self, change: Change, group: Group, policy: Policy, made: Snapshot, decision: Decision
    ) -> None:
        followed = self._followed(group, policy)
        inputs = _inputs(followed, made, decision)
        if made.around.floor and followed.prestage.events:
            launch = self.launch_time(group)
            inputs |= {"launch_s": round(launch.seconds, 3), "launches_measured": launch.measured}
        said = {"decision": word(decision), "inputs": inputs}
        await change.note(f"scale.{decision.outcome}", group.id, decision.because, actor=ACTOR, data=said)

    # what is known

    def _snapshot(
        self, group: Group, policy: Policy, figures: Sequence[Figures], past: Past, around: Around
    ) -> Snapshot:
        return snapshot(figures, Unit(policy.unit), past=past, around=around, called=group.role.value)

    def _nodes(self, group: Group) -> list[Node]:
        return [
            node
            for node in self._board.nodes.values()
            if (node.role, node.region) == (group.role, group.region)
        ]

    def figures(self, group: Group) -> list[Figures]:
        """Of every node, and of those that are launched in a moment and have no row yet.

        Who was invited and has not come carries nothing, and may never come; nor does one that is held back,
        or is lacking while so many fail that none are launched.
        """
        figures = [
            self._figures_of(node)
            for node in self._nodes(group)
            if node.managed or node.enrolled_at is not None
        ]
        return figures + [Figures(state=NodeState.REQUESTED, reported=False)] * self.lacking(group).coming

    def lacking(self, group: Group) -> Lacking:
        """What is wanted, and has no row yet."""
        return self._provisioning.lacking().get((group.role, group.region), NOTHING_LACKS)

    def _figures_of(self, node: Node) -> Figures:
        heard = self._board.heard.get(node.id)
        report = None if heard is None else heard.report
        seats, reserved = self._board.seats_on(node.id), self._board.reserved_on(node.id)
        age = math.inf if heard is None else self._clock.monotonic() - heard.said_at
        return Figures(
            node=node.id,
            state=node.state,
            connections=seats if report is None else report.connections,
            reserved=reserved,
            moving=self._board.moving_from(node.id),
            relays=self._board.relays_from(node.id),
            mbps=0.0 if report is None else report.egress_bps / 1e6,
            fresh=age <= self._config.suspect_after_s,
            reported=node.in_service_at is not None,
            kept=not node.managed or any(it.origin == node.id for it in self._board.streams.values()),
            age_s=self._clock.now() - node.created_at,
            room=node.capacity - reserved,
            party=largest_party(self._board.party_sizes(node.id)),
        )

    def _around(self, group: Group, policy: Policy) -> Around:
        expected = self._expecting.of(group, policy)
        number, why = floor(policy, self._clock.now(), expected, self.launch_time(group).seconds)
        lacks = self._provisioning.lacking()
        room, over = self._money.room(sum(it.coming for it in lacks.values()))
        return Around(
            waiting=self._waiting.people(group.role),
            stopped=self._provisioning.stopped_by_faults(group),
            price=self._money.prices.node_hour,
            currency=self._money.prices.sign,
            budget_room=room,
            budget_because=over,
            floor=number,
            floor_because=why,
            held=lacks.get((group.role, group.region), NOTHING_LACKS).held,
            unplaced=sum(
                drain.unplaced
                for name, drain in self._board.drains.items()
                if (node := self._board.nodes.get(name)) is not None
                and (node.role, node.region) == (group.role, group.region)
            ),
        )

    def launch_time(self, group: Group) -> LaunchTime:
        """How long its launches take."""
        return self._launches.time(group)

    def crowds(self, group: Group) -> list[Expected]:
        """What events bring to it, counted in people."""
        policy = self.usual(group).model_copy(update={"unit": Unit.CONNECTIONS.value})
        return [it.model_copy(update={"load": None}) for it in self._expecting.of(group, policy)]

    async def expected_during(self, group: Group, policy: Policy, start: float, end: float) -> list[Expected]:
        """What they brought to it in a time that has passed, in the policy's unit. Raises StoreBusy."""
        return await self._expecting.during(group, policy, start, end)


def _unknown(question: Question, unit: Unit) -> list[FaultView]:
    """What of the supposed nodes that carry something has to be known, and is not said."""
    found = []
    for place, node in enumerate(question.nodes or ()):
        if node.state not in REPORTING:
            continue
        needs = list(COUNTING[unit].needs)
        if unit is Unit.MBPS and (node.reserved or question.waiting):  # they will take what connections do
            needs.append("connections")
        for need in needs:
            if node.model_fields_set.isdisjoint(names := need.split(" or ")):
                text = f"it is not said, and the policy counts in {unit} (of a node: {', '.join(needs)})"
                found.append(FaultView(place=f"nodes.{place}.{names[0]}", text=text))
    return found


def merged(before: Policy, changes: Policy) -> Policy:
    """What of `changes` was said (its fields that are set) is changed; so also within what is prestaged."""
    said = {name: getattr(changes, name) for name in changes.model_fields_set}
    if "prestage" in said:
        said["prestage"] = _merged_prestage(before.prestage, changes.prestage)
    return before.model_copy(update=said)


def _merged_prestage(before: Prestage, changes: Prestage) -> Prestage:
    said = {name: getattr(changes, name) for name in changes.model_fields_set}
    if "schedule" in said:
        of = changes.schedule
        schedule = {name: getattr(of, name) for name in of.model_fields_set}
        said["schedule"] = before.schedule.model_copy(update=schedule)
    return before.model_copy(update=said)


def _inputs(policy: Policy, made: Snapshot, decision: Decision) -> dict[str, Any]:
    """What the decision was made from: numbers, in the policy's unit where they are load."""
    numbers: dict[str, Any] = {
        "load": float(made.load),
        "waiting": float(made.waiting),
        "supply": policy.capacity * made.supplying,
        "in_service": made.in_service,
        "launching": made.launching,
        "suspect": made.suspect,
        "draining": made.draining,
        "unit": policy.unit,
        "alarm": float(policy.alarm),
        "in_fraction": float(policy.in_fraction),
        "min": policy.min,
        "max": policy.max,
        "wanted": decision.wanted,
        "held": made.around.held,
        "price": float(made.around.price),
    }
    if made.around.floor:
        numbers["floor"] = made.around.floor
    if decision.held_by:
        numbers["held_by"] = decision.held_by
    return numbers


def _as_decision(entry: JournalEntry) -> DecisionView:
    return DecisionView(
        at=entry.at,
        group=entry.subject,
        decision=str(entry.data.get("decision", "")),
        because=entry.message,
        inputs=dict(entry.data.get("inputs", {})),
    )


def _short(value: object) -> str:
    return str(value) if isinstance(value, int | float | str | Decimal) else "anew"
