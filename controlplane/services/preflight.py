"""Go or no-go before the doors open: what the manager knows, asked of everything an event needs.

A viewer is not among it: whoever asks sends one, through the door that viewers come through.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controlplane.config import IceServer
from controlplane.domain.events.model import Event
from controlplane.domain.events.preflight import (
    Crew,
    budget_check,
    database_check,
    event_check,
    is_go,
    nodes_check,
    publisher_check,
    stage_budget_check,
    unset,
)
from controlplane.domain.fleet.prestage import asked_for
from controlplane.domain.nodes.model import Group
from controlplane.domain.nodes.states import LAUNCHING
from controlplane.ports.store import StoreBusy
from controlplane.services.bitrates import Bitrates
from controlplane.services.books import Books, Change
from controlplane.services.events import Events
from controlplane.services.expecting import Expecting
from controlplane.services.money import Money
from controlplane.services.provisioning import Provisioning
from controlplane.services.scaling import Scaling
from controlplane.wire.events import CheckView, EventView, PreflightView
from controlplane.wire.nodes import NodeState, Role


class Preflight:
    def __init__(
        self,
        books: Books,
        provisioning: Provisioning,
        scaling: Scaling,
        events: Events,
        expecting: Expecting,
        bitrates: Bitrates,
        ice_servers: Sequence[IceServer],
        *,
        money: Money,
    ) -> None:
        self._books = books
        self._board = books.board
        self._clock = books.clock
        self._provisioning = provisioning
        self._scaling = scaling
        self._events = events
        self._expecting = expecting
        self._bitrates = bitrates
        self._turn = any(it.url.startswith("turn") for it in ice_servers)
        self._money = money

    async def check(self, name: str) -> PreflightView:
        """Raises NotFound, Conflict (several are meant), StoreBusy where not even reading is possible."""
        event = await self._events.find(name)
        await self._expecting.refresh()
        database = await self._write(event)
        view = await self._events.one(event.name)
        now = self._clock.now()
        groups = sorted(self._board.groups.values(), key=lambda it: (it.role, it.region))
        crews = [self._crew(group, event, view, now) for group in groups]
        stream = self._board.streams.get(event.channel)
        checks = [
            event_check(event, now),
            *(nodes_check(crew, event, now) for crew in crews),
            publisher_check(
                event, now, None if stream is None else stream.state.value, self._bitrates.of(event.channel)
            ),
            database,
            *(budget_check(crew, event, self._money.budget) for crew in crews),
            *self._stage_budget(crews, event, view.crowd, now),
            *self._unset(),
        ]
        regions = sorted({group.region for group in groups if group.role is Role.EDGE})
        return PreflightView(event=view, at=now, go=is_go(checks), checks=checks, regions=regions)

    async def _write(self, event: Event) -> CheckView:
        """A write like any other, and how long it took to be on disk: when the event was last looked at."""

        async def work(change: Change) -> None:
            now = await change.tx.event(event.id)
            if now is not None:
                await change.tx.save_event(replace(now, checked_at=change.now))

        began = self._clock.monotonic()
        try:
            await self._books.change(work)
        except StoreBusy as error:  # StoreFull is one
            return database_check(None, str(error))
        return database_check(self._clock.monotonic() - began)

    def _crew(self, group: Group, event: Event, view: EventView, now: float) -> Crew:
        policy = self._scaling.followed(group)
        launch = self._scaling.launch_time(group)
        mine = self._expecting.one(event, view.crowd, group, policy)
        others = [
            self._expecting.one(it, crowd, group, policy)
            for it, crowd in self._events.due()
            if it.id != event.id
        ]
        asked = next(
            (it for it in asked_for(policy, [*others, mine], now, launch.seconds) if it.event is mine), None
        )
        nodes = [
            it for it in self._board.nodes.values() if (it.role, it.region) == (group.role, group.region)
        ]
        serving = sum(1 for it in nodes if it.state is NodeState.IN_SERVICE)
        ages = [now - it.created_at for it in nodes if it.state in LAUNCHING and it.managed]
        lack = self._scaling.lacking(group)
        coming = len(ages) + lack.coming
        wait = max([0.0, *(launch.seconds - age for age in ages), launch.seconds if lack.coming else 0.0])
        needed = 0 if asked is None else asked.nodes
        rest = max(0, needed - serving - coming)
        return Crew(
            group=group.id,
            role=group.role.value,
            needed=needed,
            serving=serving,
            coming=coming,
            coming_by=now + wait,
            lacking_by=now + wait + -(-rest // policy.launches) * launch.seconds,
            asked_at=asked.at if asked is not None and self._prestages(group) else None,
            has_policy=group.policy is not None,
            launches=self._provisioning.launches,
            stopped=self._provisioning.stopped_by_faults(group),
            held=lack.because,
            most=policy.max if group.policy is not None else None,
            launch_words=launch.words(),
            least=group.desired if group.policy is None else policy.min,
            price=self._money.prices.node_hour,
            sign=self._money.prices.sign,
            cap=None if group.policy is None else group.policy.spend_cap,
        )

    def _stage_budget(
        self, crews: Sequence[Crew], event: Event, crowd: int, now: float
    ) -> Iterator[CheckView]:
        """Nothing about an event that is over."""
        if not event.is_due(now):
            return
        together = [(event, crowd)] + [
            (it, people)
            for it, people in self._events.due()
            if it.id != event.id and it.starts_at <= event.starts_at < it.ends_at
        ]
        mbps = sum(self._expecting.mbps(it) * people for it, people in together)
        takes = self._money.takes(
            event.starts_at,
            event.ends_at,
            nodes=sum(max(it.needed, it.least) for it in crews),
            egress_s=int(mbps * 125_000),
        )
        due = [it for it in crews if it.asked_at is not None and it.asked_at <= now]
        lacking = sum(max(0, it.needed - it.serving - it.coming) for it in due)
        room, why = self._money.room(self._provisioning.coming())
        yield stage_budget_check(
            takes,
            self._money.budget,
            event,
            sign=self._money.prices.sign,
            held=why if room is not None and room < lacking else "",
        )

    @staticmethod
    def _prestages(group: Group) -> bool:
        return group.policy is not None and group.policy.prestage.events

    def _unset(self) -> list[CheckView]:
        found = []
        if not self._turn:
            says = "no TURN server is named: a network that blocks UDP is crossed by TCP alone"
            found.append(unset("turn", says, "[ice] servers in the manager's settings"))
        if missing := self._events.registrations.missing:
            found.append(unset("registrations", missing, "say how many will watch: showcaller event edit"))
        return found
