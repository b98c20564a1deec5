"""Events over the API: planned, found, edited, cancelled, refused in words, written into the journal."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.stage import AS_OPERATOR, Show, running

GOLDEN = Path(__file__).parent / "golden"


async def send(show: Show, method: str, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = await show.http.request(method, f"/api/v1/events{path}", headers=AS_OPERATOR, json=body)
    return response.status_code, dict(response.json())


async def add(show: Show, **said: Any) -> dict[str, Any]:
    asked = {"title": "Cup final", "start": "+1h", "lasts_s": 7200} | said
    status, view = await send(show, "POST", "", **asked)
    assert status == 201, view
    return view


async def entries(show: Show, kind: str) -> list[dict[str, Any]]:
    return [it for it in await show.get("/journal?limit=1000") if it["kind"] == kind]


class At:
    """A clock that stands still until it is moved."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


async def test_the_answers_are_as_they_were(tmp_path: Path) -> None:
    """What scripts read. SHOWCALLER_GOLDEN=new writes them anew."""
    clock = At(1_795_682_096.0)  # 2026-11-26T08:34:56Z
    async with running(tmp_path, launches=False, clock=clock) as show:
        said = {"start": "2026-11-28T20:00", "zone": "Europe/Berlin", "expected": 8000}
        answers: dict[str, Any] = {"added": await add(show, **said)}
        await add(show, title="Matinee", start="+3d", channel="second")
        clock.at += 60
        status, answers["edited"] = await send(show, "PATCH", "/cup", expected=9000)
        assert status == 200
        status, answers["cancelled"] = await send(show, "POST", "/ev-2/cancel", reason="no crew")
        assert status == 200
        answers["list"] = await show.get("/events")
        answers["overlap"] = (await send(show, "POST", "", title="Rival", start="+2d11h", lasts_s=86400))[1]
        answers["refused"] = (await send(show, "POST", "", title="", start="soon"))[1]
        answers["journal"] = [
            {key: it[key] for key in ("kind", "actor", "subject", "message", "data")}
            for it in await show.get("/journal")
            if it["kind"].startswith("event.")
        ]
    file = GOLDEN / "events.json"
    if os.environ.get("SHOWCALLER_GOLDEN") == "new":
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(answers, indent=2, ensure_ascii=False) + "\n")
    assert answers == json.loads(file.read_text())


async def test_an_event_is_planned_once_and_found_by_what_people_type(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        view = await add(show, title="Cup final")
        assert (view["id"], view["state"], view["crowd"]) == ("ev-1", "coming", 0)
        await add(show, title="Cup semi-final", channel="second")
        for text in ("ev-1", "1", "Cup final", "cup f", "EV-1"):
            assert (await show.get(f"/events/{text}"))["id"] == "ev-1"
        status, problem = await send(show, "GET", "/cup")
        assert (status, problem["code"]) == (409, "several_events")
        assert "ev-1 'Cup final', ev-2 'Cup semi-final'" in problem["detail"]
        status, problem = await send(show, "GET", "/nobody")
        assert (status, problem["code"]) == (404, "no_event")


async def test_two_at_once_on_one_channel_are_refused_also_where_both_are_asked_for_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, launches=False) as show:
        asked = {"title": "A", "start": "+1h", "lasts_s": 7200}
        answers = await asyncio.gather(*(send(show, "POST", "", **asked | {"title": it}) for it in "ABCD"))
        assert sorted(status for status, _ in answers) == [201, 409, 409, 409]
        (one,) = await show.get("/events")
        refused = next(problem for status, problem in answers if status == 409)
        assert f"{one['id']} '{one['title']}' is on main from" in refused["detail"]
        after = await add(show, title="After", start="+3h")  # begins as the other ends
        status, problem = await send(show, "PATCH", f"/{after['id']}", start="+150m")
        assert (status, problem["code"]) == (409, "events_overlap")
        await send(show, "POST", f"/{one['id']}/cancel")
        assert (await send(show, "PATCH", f"/{after['id']}", start="+150m"))[0] == 200
        assert len(await entries(show, "event.edited")) == 1, "what was refused is in no journal"


async def test_what_is_over_or_cancelled_is_changed_no_more(tmp_path: Path) -> None:
    clock = At(1_795_682_096.0)
    async with running(tmp_path, launches=False, clock=clock) as show:
        await add(show, start="+1m", lasts_s=60)
        await add(show, title="Other", channel="second")
        await send(show, "POST", "/other/cancel", reason="rain")
        clock.at += 121
        for name, code in (("ev-1", "event_ended"), ("ev-2", "event_cancelled")):
            for method, path in (("PATCH", f"/{name}"), ("POST", f"/{name}/cancel")):
                status, problem = await send(show, method, path)
                assert (status, problem["code"]) == (409, code)
        states = {it["id"]: (it["state"], it["cancel_reason"]) for it in await show.get("/events")}
        assert states == {"ev-1": ("ended", ""), "ev-2": ("cancelled", "rain")}
        clock.at += 2 * 86_400
        assert await show.get("/events") == []
        assert len(await show.get("/events?past=true")) == 2


async def test_an_edit_that_changes_nothing_is_in_no_journal(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        view = await add(show)
        assert await send(show, "PATCH", "/ev-1", title="Cup final") == (200, view)
        assert await entries(show, "event.edited") == []


async def test_events_outlive_the_manager_and_are_forgotten_after_a_year(tmp_path: Path) -> None:
    async with running(tmp_path, launches=False) as show:
        view = await add(show)
    async with running(tmp_path, launches=False) as again:
        assert await again.get("/events/ev-1") == view
        await again.stage.manager.books.store.write(lambda tx: tx.purge_events(view["ends_at"] + 1))
        assert await again.get("/events?past=true") == []
        assert (await add(again))["id"] == "ev-2", "a name is never given twice"


@pytest.mark.parametrize(
    "body", [{"title": "x"}, {"title": "x", "start": 5}, {"title": "x", "start": "+1h", "colour": "red"}]
)
async def test_what_is_no_request_is_refused(show: Show, body: dict[str, Any]) -> None:
    assert (await send(show, "POST", "", **body))[1]["code"] == "invalid_request"
