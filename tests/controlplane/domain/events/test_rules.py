"""What an event may be, which may not be at the same time, and which one is meant."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.events.model import Event
from controlplane.domain.events.rules import named, overlapping, planned
from controlplane.wire.events import EventChanges, EventRequest, EventState

NOW = 1_795_000_000.0
EVENT = Event(
    id=7,
    title="Cup final",
    starts_at=NOW + 3600,
    ends_at=NOW + 10_800,
    zone="Europe/Berlin",
    channel="main",
    expected=8000,
    created_at=NOW,
)


def ask(**said: Any) -> EventRequest:
    return EventRequest(**{"title": "Cup final", "start": "+1h", "lasts_s": 7200.0} | said)


def faults(asked: EventRequest | EventChanges, before: Event | None = None) -> dict[str, str]:
    return {fault.place: fault.text for fault in planned(asked, NOW, before).faults}


def test_an_event_is_read_from_what_was_asked_for() -> None:
    read = planned(ask(zone="Europe/Berlin", expected=8000, title="  Cup \t final "), NOW)
    assert read.faults == ()
    assert read.event == replace(EVENT, id=0)


def test_its_state_is_told_by_the_clock() -> None:
    moments = (EVENT.starts_at - 0.1, EVENT.starts_at, EVENT.ends_at - 0.1, EVENT.ends_at)
    assert [EVENT.state(at) for at in moments] == [
        EventState.COMING,
        EventState.ON,
        EventState.ON,
        EventState.ENDED,
    ]
    cancelled = replace(EVENT, cancelled_at=NOW)
    assert {cancelled.state(at) for at in moments} == {EventState.CANCELLED}
    assert not cancelled.is_due(EVENT.starts_at)


@pytest.mark.parametrize(
    ("said", "place", "text"),
    [
        ({"title": ""}, "title", "empty"),
        ({"title": " \n "}, "title", "empty"),
        ({"title": "x" * 201}, "title", "201 characters are more than 200"),
        ({"title": "a\u202eb"}, "title", "cannot be shown"),
        ({"channel": "Main"}, "channel", "'Main' is none: a channel name has"),
        ({"expected": -1}, "expected", "-1 people"),
        ({"expected": 1_000_001}, "expected", "1,000,001 people are not from 0 to 1,000,000"),
        ({"zone": "Europe/Atlantis"}, "zone", "there is no time zone 'Europe/Atlantis'"),
        ({"zone": "../etc/passwd"}, "zone", "there is no time zone"),
        ({"start": "soon"}, "start", "'soon' is no time"),
        ({"start": "+2000d"}, "start", "days from now"),
        ({"start": "+999999999d"}, "start", "days from now"),
        ({"start": "2020-01-01T00:00Z"}, "start", "is not from 1 day ago"),
        ({"start": "0001-01-01T00:00"}, "start", "is not from 1 day ago"),
        ({"start": "9999-12-31T23:59-14:00"}, "start", "days from now"),
        ({"lasts_s": None}, "end", "it is missing"),
        ({"end": "+2h"}, "end", "say one of them"),
        ({"lasts_s": 0.0}, "lasts_s", "0 is not above 0"),
        ({"lasts_s": 1e9}, "lasts_s", "not above 0 and at most"),
        ({"lasts_s": None, "end": "+1h"}, "end", "it is not after the start"),
        ({"lasts_s": None, "end": "+30d"}, "end", "it would last more than 14 days"),
        ({"lasts_s": None, "end": "late"}, "end", "'late' is no time"),
        ({"start": "2026-11-18T10:00Z", "lasts_s": 60.0}, "end", "it would be over already"),
    ],
)
def test_what_an_event_cannot_be_is_named_with_its_place(said: dict[str, Any], place: str, text: str) -> None:
    found = faults(ask(**said))
    assert list(found) == [place]
    assert text in found[place]


def test_every_fault_is_named_at_once() -> None:
    asked = ask(title="", channel="!", expected=-1, start="soon", end="late", lasts_s=None)
    assert list(faults(asked)) == ["title", "channel", "expected", "start", "end"]


def test_the_bounds_themselves_are_good() -> None:
    assert faults(ask(title="x" * 200, expected=1_000_000, lasts_s=14 * 86_400.0)) == {}
    assert faults(ask(title="x", expected=0, start="2026-11-18T10:30:00+00:00")) == {}


def test_what_is_not_said_stays_and_a_start_that_is_moved_takes_the_end_along() -> None:
    moved = planned(EventChanges(start="+2h"), NOW, EVENT)
    assert moved.faults == ()
    assert moved.event == replace(EVENT, starts_at=NOW + 7200, ends_at=NOW + 14_400)
    assert planned(EventChanges(expected=5), NOW, EVENT).event == replace(EVENT, expected=5)
    assert planned(EventChanges(lasts_s=60.0), NOW, EVENT).event.ends_at == EVENT.starts_at + 60
    assert planned(EventChanges(end="+4h"), NOW, EVENT).event.ends_at == NOW + 4 * 3600
    assert faults(EventChanges(end="+1m"), EVENT).keys() == {"end"}
    assert faults(EventChanges(start="soon"), EVENT).keys() == {"start"}


def test_one_that_is_on_may_be_made_longer_though_it_began_long_ago() -> None:
    on = replace(EVENT, starts_at=NOW - 3 * 86_400, ends_at=NOW + 60)
    assert planned(EventChanges(end="+1h"), NOW, on).faults == ()
    assert faults(EventChanges(lasts_s=60.0), on) == {"end": faults(EventChanges(lasts_s=60.0), on)["end"]}


SPANS = st.tuples(st.integers(0, 40), st.integers(1, 20), st.sampled_from(["main", "b"]), st.booleans())


def event_of(number: int, span: tuple[int, int, str, bool]) -> Event:
    start, length, channel, cancelled = span
    return replace(
        EVENT,
        id=number,
        starts_at=float(start),
        ends_at=float(start + length),
        channel=channel,
        cancelled_at=1.0 if cancelled else None,
    )


@given(one=SPANS, others=st.lists(SPANS, max_size=6))
def test_two_overlap_where_some_moment_is_in_both(
    one: tuple[int, int, str, bool], others: list[tuple[int, int, str, bool]]
) -> None:
    event = event_of(1, one)
    rest = [event_of(number, span) for number, span in enumerate(others, 2)]
    found = overlapping(event, [event, *rest])

    def shares(other: Event) -> bool:
        moments = set(range(int(event.starts_at), int(event.ends_at)))
        both = moments & set(range(int(other.starts_at), int(other.ends_at)))
        return bool(both) and other.channel == event.channel and other.cancelled_at is None

    sharing = [it for it in rest if shares(it)]
    assert (found is not None) == bool(sharing)
    if found is not None:
        assert found in sharing
        assert found.starts_at == min(it.starts_at for it in sharing)


def test_one_is_meant_by_its_name_its_title_or_its_beginning() -> None:
    past = replace(EVENT, id=1, title="Cup final", ends_at=NOW - 1)
    semi = replace(EVENT, id=2, title="Cup semi-final")
    news = replace(EVENT, id=3, title="7 o'clock news")
    cup = replace(EVENT, id=7, title="Cup")
    all_ = [past, semi, news, cup]

    def meant(text: str) -> list[int]:
        return [it.id for it in named(text, all_, NOW)]

    assert meant("ev-2") == [2]
    assert meant("EV-2") == [2]
    assert meant("7") == [7]  # a name without its beginning, before a title
    assert meant("7 o") == [3]
    assert meant("cup") == [7]  # that title, before longer ones
    assert meant("cup s") == [2]
    assert meant(" CUP  FINAL ") == [1]  # it is over, and meant all the same
    assert meant("cu") == [2, 7]  # what is over is passed over
    assert meant("ev-9") == []
    assert meant("") == []
    assert meant("ev-") == []
