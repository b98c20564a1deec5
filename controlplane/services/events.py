"""Events: added, edited, cancelled, and known to those who plan for them.

What is known of them between two looks is for those who cannot wait for the database: it is read anew each
second by the one who plans (`refresh`), so that an event that was added elsewhere counts too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controlplane.domain.events.model import Event
from controlplane.domain.events.rules import named, overlapping, planned
from controlplane.domain.events.times import iso, place, spoken
from controlplane.domain.fleet.policy import Fault
from controlplane.errors import BadRequest, Conflict, NotFound
from controlplane.ports.registrations import Registrations
from controlplane.ports.store import Transaction
from controlplane.services.books import Books, Change
from controlplane.services.words import lasting
from controlplane.wire.events import EventChanges, EventRequest, EventState, EventView

SHOWN_S = 86_400.0  # what is over is listed so long with what is to come


class Events:
    def __init__(self, books: Books, registrations: Registrations) -> None:
        self._books = books
        self._clock = books.clock
        self.registrations = registrations
        self._due: Sequence[tuple[Event, int]] = ()  # with those who registered

    # what is there

    async def all(self, *, past: bool) -> list[EventView]:
        """What is on, what is to come, and what was over lately; with `past` everything that is kept."""
        since = 0.0 if past else self._clock.now() - SHOWN_S
        events = await self._books.store.read(lambda tx: tx.events(since))
        counts = await self.registrations.count([it.id for it in events])
        return [self._view(it, counts.get(it.id, 0)) for it in events]

    async def one(self, name: str) -> EventView:
        """By its name (ev-7), its title, or how that begins. Raises NotFound, Conflict for several."""
        event = await self.find(name)
        return await self._shown(event)

    async def find(self, name: str) -> Event:
        """As `one`."""
        return await self._books.store.read(lambda tx: self._find(tx, name))

    async def refresh(self) -> None:
        """Learn what is on and to come. Raises StoreBusy."""
        now = self._clock.now()
        events = [it for it in await self._books.store.read(lambda tx: tx.events(now)) if it.is_due(now)]
        counts = await self.registrations.count([it.id for it in events])
        self._due = [(it, counts.get(it.id, 0)) for it in events]

    def due(self) -> list[tuple[Event, int]]:
        """What is on and to come, as it was a second ago, each with the crowd to be ready for."""
        now = self._clock.now()
        return [(it, max(it.expected, came)) for it, came in self._due if it.is_due(now)]

    async def during(self, start: float, end: float) -> list[tuple[Event, int]]:
        """What was known of in a time that has passed, whether it was on, to come, or cancelled meanwhile.

        Each with its crowd as it was said last: what is over is not edited. Raises StoreBusy.
        """
        rows = await self._books.store.read(lambda tx: tx.events(start))
        events = [
            it for it in rows if it.created_at < end and (it.cancelled_at is None or it.cancelled_at > start)
        ]
        counts = await self.registrations.count([it.id for it in events])
        return [(it, max(it.expected, counts.get(it.id, 0))) for it in events]

    # what changes them

    async def add(self, asked: EventRequest, actor: str) -> EventView:
        """Raises BadRequest with every fault; Conflict where the channel is taken then."""
        now = self._clock.now()
        read = planned(asked, now)
        _refuse(read.faults)

        async def work(change: Change) -> EventView:
            await self._check_channel(change.tx, read.event, now)
            event = await change.tx.add_event(read.event)
            await change.note(
                "event.added", event.name, f"{actor} added {_told(event)}.", actor=actor, data=_data(event)
            )
            return change.answer(self._view(event, 0))

        return await self._after(await self._books.change(work))

    async def edit(self, name: str, changes: EventChanges, actor: str) -> EventView:
        """Raises NotFound; Conflict: it is over, was cancelled, or its channel is taken; BadRequest."""
        came = await self._registered(name)

        async def work(change: Change) -> EventView:
            before = await self._find(change.tx, name)
            self._check_due(before, "edited")
            read = planned(changes, self._clock.now(), before)
            _refuse(read.faults)
            event = read.event
            if event == before:
                return change.answer(self._view(event, came.get(event.id, 0)))
            await self._check_channel(change.tx, event, change.now)
            await change.tx.save_event(event)
            said = f"{actor} edited {before.name}: it is now {_told(event)}."
            await change.note("event.edited", event.name, said, actor=actor, data=_data(event))
            return change.answer(self._view(event, came.get(event.id, 0)))

        return await self._after(await self._books.change(work))

    async def cancel(self, name: str, reason: str, actor: str) -> EventView:
        """Raises NotFound, and Conflict where there is nothing to cancel any more."""
        why = " ".join(reason.split())
        came = await self._registered(name)

        async def work(change: Change) -> EventView:
            before = await self._find(change.tx, name)
            self._check_due(before, "cancelled")
            event = replace(before, cancelled_at=change.now, cancel_reason=why)
            await change.tx.save_event(event)
            because = f": {why}" if why else ""
            said = f"{actor} cancelled {event.name} {event.title!r}{because}."
            await change.note("event.cancelled", event.name, said, actor=actor, data={"reason": why})
            return change.answer(self._view(event, came.get(event.id, 0)))

        return await self._after(await self._books.change(work))

    # what they need

    async def _find(self, tx: Transaction, name: str) -> Event:
        events = await tx.events(0.0)
        found = named(name, events, self._clock.now())
        if len(found) == 1:
            return found[0]
        if found:
            which = ", ".join(f"{it.name} {it.title!r}" for it in found[:5])
            raise Conflict(
                f"{name!r} may mean {which}. Say which by its name, {found[0].name} say.",
                code="several_events",
                title="Several events are meant",
            )
        raise NotFound(
            f"There is no event {name!r}. showcaller event list shows what there is.", code="no_event"
        )

    def _check_due(self, event: Event, done: str) -> None:
        state = event.state(self._clock.now())
        there = place(event.zone)
        if state is EventState.ENDED:
            raise Conflict(
                f"{event.name} {event.title!r} ended {spoken(event.ends_at, there)}: it is {done} no more. "
                "Add another one: showcaller event add.",
                code="event_ended",
                title="The event is over",
            )
        if state is EventState.CANCELLED:
            at = spoken(event.cancelled_at or 0.0, there)
            raise Conflict(
                f"{event.name} {event.title!r} was cancelled {at}: it is {done} no more. "
                "Add another one: showcaller event add.",
                code="event_cancelled",
                title="The event was cancelled",
            )

    async def _check_channel(self, tx: Transaction, event: Event, now: float) -> None:
        other = overlapping(event, await tx.events_on(event.channel, now))
        if other is not None:
            there = place(other.zone)
            raise Conflict(
                f"channel: {other.name} {other.title!r} is on {event.channel} from "
                f"{spoken(other.starts_at, there)} to {spoken(other.ends_at, there)}. "
                "Take another channel, or another time. Nothing was changed.",
                code="events_overlap",
                title="The channel is taken then",
            )

    async def _after(self, view: EventView) -> EventView:
        await self.refresh()
        return view

    async def _registered(self, name: str) -> Mapping[int, int]:
        """How many have registered for an event, before it is changed: in a change others are not waited for.
        Raises as `one`."""
        return await self.registrations.count([(await self.find(name)).id])

    async def _shown(self, event: Event) -> EventView:
        return self._view(event, (await self.registrations.count([event.id])).get(event.id, 0))

    def _view(self, event: Event, registered: int) -> EventView:
        there = place(event.zone)
        return EventView(
            id=event.name,
            title=event.title,
            state=event.state(self._clock.now()),
            start=iso(event.starts_at, there),
            end=iso(event.ends_at, there),
            zone=event.zone,
            starts_at=event.starts_at,
            ends_at=event.ends_at,
            channel=event.channel,
            expected=event.expected,
            registered=registered,
            crowd=max(event.expected, registered),
            created_at=event.created_at,
            cancelled_at=event.cancelled_at,
            cancel_reason=event.cancel_reason or "",
            checked_at=event.checked_at,
        )


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise BadRequest(
            "; ".join(f"{fault.place}: {fault.text}" for fault in faults) + ". Nothing was changed.",
            code="event_refused",
            title="The event cannot be planned so",
            status=422,
        )


def _told(event: Event) -> str:
    return (
        f"{event.name} {event.title!r}, {spoken(event.starts_at, place(event.zone))} for "
        f"{lasting(event.ends_at - event.starts_at)}, on {event.channel}, {event.expected:,} expected"
    )


def _data(event: Event) -> dict[str, object]:
    return {
        "title": event.title,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "zone": event.zone,
        "channel": event.channel,
        "expected": event.expected,
    }
