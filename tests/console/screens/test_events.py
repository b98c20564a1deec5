"""The Events page: what it lists, what its dialogs ask and say, and what becomes of what is entered."""

from typing import Any

import pytest

from console.core.errors import Rejected
from console.core.planning import EventWords, WrongField, changes, request, words_of
from console.messages import PreflightArrived
from console.screens.events import widgets
from console.screens.shared.table import Table
from console.screens.shared.words import plain
from controlplane.wire.base import Problem
from controlplane.wire.events import CheckView, EventChanges, EventRequest, EventView, PreflightView, Verdict
from tests.console.screens.compare import assert_golden
from tests.console.screens.conftest import OpenStand
from tests.console.screens.stand import START, event, events_planned, snapshot


def check(name: str, subject: str, verdict: str, says: str, step: str = "") -> CheckView:
    return CheckView(check=name, subject=subject, verdict=Verdict(verdict), says=says, next=step)


PREFLIGHT = PreflightView(
    event=event(7, "Cup final", 1500, crowd=8000),
    at=START,
    go=False,
    regions=["local"],
    checks=[
        check("event", "ev-7", "green", "it begins Mon 21 Sep 2026 16:38:20 Europe/Berlin"),
        check(
            "nodes", "edge@local", "red",
            "1 edge in service, 34 needed: 33 are lacking, and the policy does not prestage for events",
            "showcaller fleet policy set edge@local --prestage-events",
        ),
        check("publisher", "main", "green", "4.48 Mbps, from 4.40 to 4.52 in the last 5 s"),
        check("viewer", "local", "green", "the first picture came after 312 ms, within 700 ms"),
        check("database", "", "green", "a write took 4 ms"),
        check(
            "budget", "edge@local", "amber",
            "34 edges at $0.031 cost $1.05 an hour, $2.11 in all; no spend cap is set",
            "showcaller fleet policy set edge@local --spend-cap DOLLARS",
        ),
    ],
)  # fmt: skip


async def test_the_preflight_stands_in_a_dialog_with_what_holds_it_up_first(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(80, 24), page="5", events=events_planned()) as it:
        await it.until_shown("Cup final")
        it.app.post_message(PreflightArrived(PREFLIGHT))
        await it.until_shown("NO-GO: 1 line is red, 1 amber.")
        await assert_golden("dialog-preflight-80x24", it)
        await it.press("escape")
        await it.until_gone("NO-GO")


async def test_a_preflight_that_comes_late_takes_no_keys_from_what_is_done_by_then(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40), page="2", events=events_planned()) as it:
        it.app.post_message(PreflightArrived(PREFLIGHT))
        await it.until_shown("Preflight of ev-7: NO-GO")
        assert it.app.screen is it.page


def test_a_go_says_so() -> None:
    good = [it for it in PREFLIGHT.checks if it.verdict is Verdict.GREEN]
    view = PREFLIGHT.model_copy(update={"go": True, "checks": good})
    assert plain(widgets.preflight_lines(view)[0]) == "GO: nothing is red."


async def test_what_is_on_and_to_come_stands_first_and_the_filter_hides(stand: OpenStand) -> None:
    async with stand(snapshot(), page="5", events=events_planned()) as it:
        await it.until_shown("Cup final", "Matinee")
        rows = it.page.query_one(Table).lines()
        assert [row.split()[0] for row in rows] == ["ev-7", "ev-8", "ev-9", "ev-4", "ev-3"]
        await it.press("slash")
        await it.type("second")
        await it.press("enter")
        text = await it.until_shown("2 of 5 shown")
        assert "Quiz" in text
        assert "Warm-up" not in text


async def test_an_answer_that_does_not_come_leaves_the_last_one_and_says_so(stand: OpenStand) -> None:
    async with stand(snapshot(), page="5", events=events_planned()) as it:
        await it.until_shown("Cup final")
        it.feed.events = None
        await it.until_shown("▲ no stream manager answers", "Cup final")


async def test_before_the_first_answer_the_page_says_what_it_waits_for(stand: OpenStand) -> None:
    async with stand(snapshot(), page="5") as it:
        await it.until_shown("no stream manager answers", "Trying again each second")


async def test_what_the_manager_refuses_is_asked_for_again_with_its_words(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EventRequest] = []
    async with stand(snapshot(), page="5", events=[]) as it:
        await it.until_shown("No event is planned")
        client: Any = it.app.client

        async def add_event(said: EventRequest) -> EventView:
            asked.append(said)
            if len(asked) == 1:
                title = "It cannot be planned so"
                raise Rejected(Problem(code="x", title=title, detail="start: no time", status=422))
            return event(1, said.title, 3600)

        monkeypatch.setattr(client, "add_event", add_event)
        await it.press("n")
        await it.until_shown("Plan an event")
        await it.type("Cup")
        await it.press("tab")
        await it.type("soon")
        await it.press("enter", "enter")
        await it.until_shown("It cannot be planned so", "start: no time", "Cup", "soon")
        await it.press("tab")
        await it.type("20:00")
        await it.press("enter", "enter")
        await it.until_shown("ev-1 Cup: ")
    assert [(it.title, it.start, it.lasts_s, it.zone) for it in asked] == [
        ("Cup", "soon", 7200.0, "UTC"),
        ("Cup", "20:00", 7200.0, "UTC"),
    ]


async def test_an_event_is_changed_by_what_differs_and_cancelled_after_a_question(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    cup = event(7, "Cup final", 3600)
    async with stand(snapshot(), page="5", events=[cup]) as it:
        await it.until_shown("Cup final")
        client: Any = it.app.client

        async def edit_event(name: str, said: EventChanges) -> EventView:
            done.append((name, said.model_dump(exclude_none=True)))
            return cup

        async def cancel_event(name: str, reason: str) -> EventView:
            done.append((name, reason))
            return cup

        monkeypatch.setattr(client, "edit_event", edit_event)
        monkeypatch.setattr(client, "cancel_event", cancel_event)
        await it.press("e")
        await it.until_shown("Edit ev-7")
        await it.press("tab", "tab", "tab", "tab")
        await it.type("8000")
        await it.press("enter", "enter")
        await it.until_shown("ev-7 Cup final: ")
        await it.press("x", "enter")  # it starts on Keep it
        await it.until_gone("Keep it")
        await it.press("x")
        await it.until_shown("Keep it")
        await it.press("tab", "enter")
        await it.until_shown("is cancelled")
    assert done == [("ev-7", {"expected": 8000}), ("ev-7", "")]


@pytest.mark.parametrize("key", ["e", "x"])
async def test_what_is_over_is_not_changed(stand: OpenStand, key: str) -> None:
    async with stand(snapshot(), page="5", events=[event(4, "Warm-up", -9000, 3600)]) as it:
        await it.until_shown("Warm-up")
        await it.press(key)
        await it.until_shown("ev-4 is over")


@pytest.mark.parametrize("key", ["e", "x", "p"])
async def test_without_an_event_the_keys_say_what_to_do(stand: OpenStand, key: str) -> None:
    async with stand(snapshot(), page="5", events=[]) as it:
        await it.until_shown("No event is planned")
        await it.press(key)
        await it.until_shown("No event is chosen: n plans one")


async def test_a_preflight_that_cannot_be_asked_for_says_why(stand: OpenStand) -> None:
    async with stand(snapshot(), page="5", events=events_planned()) as it:
        await it.until_shown("Cup final")
        await it.press("p")
        await it.until_shown("No preflight", "no stream manager answers")


def test_words_become_a_request_or_what_differs() -> None:
    words = EventWords("Cup", " 20:00 ", "22:00", "main", "8,000", "Europe/Berlin")
    asked = request(words)
    assert (asked.start, asked.end, asked.lasts_s, asked.expected) == ("20:00", "22:00", None, 8000)
    assert request(EventWords("Cup", "+30m", "90m")).lasts_s == 5400
    assert request(EventWords("Cup", "+30m", "")).end is None
    before = words_of(event(7, "Cup final", 3600, zone="Europe/Berlin"))
    assert (before.start, before.end) == ("2026-09-21T17:13:20", "2026-09-21T19:13:20")
    assert changes(before, before) == EventChanges()
    said = changes(EventWords(**{**{n: getattr(before, n) for n in before.__slots__}, "end": "3h"}), before)
    assert said == EventChanges(lasts_s=10_800.0)
    for text in ("many", "-5", "", "1e3", "٣"):
        with pytest.raises(WrongField) as wrong:
            request(EventWords("Cup", "20:00", "2h", "main", text))
        assert wrong.value.field == "expected"


def test_an_hour_that_comes_twice_stands_with_its_offset() -> None:
    twice = event(7, "Night", 0, 3600).model_copy(update={"starts_at": 1_792_888_200.0})
    assert words_of(twice).start == "2026-10-25T02:30+02:00"
