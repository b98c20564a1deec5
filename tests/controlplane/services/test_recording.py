"""The load of a running stage is recorded, is there after a restart, and a policy is tried on it."""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.history import FileHistory, read_days
from controlplane.domain.events.model import Event
from controlplane.ports.history import HistoryUnwritable
from controlplane.services.recording import Recording
from controlplane.wire.history import HistoryLine, header, written
from tests.controlplane.histories import GROUP, minute
from tests.controlplane.services.test_scaling import TEN, set_policy
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for

NOON = 1_764_158_400  # 2025-11-26T12:00:00Z
ALWAYS = (0, 4_000_000_000)


def kept(folder: Path, group: str = GROUP) -> list[HistoryLine]:
    return [it for it in read_days(folder / "history", *ALWAYS).lines if it.group == group]


def keep(folder: Path, lines: Sequence[HistoryLine]) -> None:
    """As an earlier life of the manager may have left it."""
    FileHistory(folder / "history", keep_days=14, stage="local")._append(lines)


async def ask(show: Show, path: str, **query: Any) -> tuple[int, dict[str, Any]]:
    response = await show.http.get(f"/api/v1{path}", headers=AS_OPERATOR, params=query, timeout=60)
    return response.status_code, response.json()


async def what_if(show: Show, **body: Any) -> tuple[int, dict[str, Any]]:
    response = await show.http.post("/api/v1/groups/edge/whatif", headers=AS_OPERATOR, json=body, timeout=60)
    return response.status_code, response.json()


async def test_what_a_stage_carries_is_recorded_and_can_be_asked_for(show: Show, tmp_path: Path) -> None:
    await show.on_air()
    for _ in range(7):
        assert (await show.whep()).status_code == 201

    async def recorded() -> dict[str, Any] | None:
        status, view = await ask(show, "/groups/edge/history", last_s=600)
        return view if status == 200 and view["coverage"]["most"] == 7 else None

    view = await wait_for(recorded, 15, "seven viewers are recorded")
    assert view["coverage"]["group"] == GROUP
    assert view["lines"][-1]["capacity"] == 400
    assert {"at", "group", "connections", "in_service"} <= view["lines"][-1].keys()
    origin = (await ask(show, "/groups/origin/history", last_s=600))[1]
    assert (origin["coverage"]["most"], origin["lines"][-1]["unit"]) == (1, "publishers")
    assert kept(tmp_path)[-1].load("connections")[-1] == 7


async def test_the_last_seconds_are_written_when_the_manager_ends_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as show:
        await show.until({"edge-1": "in_service"})

        async def sampled() -> bool:
            return show.stage.manager.rehearsing._recording._sampled_at is not None

        await wait_for(sampled, 5, "it was looked at")
    lines = kept(tmp_path)
    assert lines
    async with running(tmp_path, provisioner=show.provisioner) as again:
        await wait_for(lambda: again.stage.manager.rehearsing._recording._sampled_at, 5, "again")
    assert kept(tmp_path)[: len(lines)] == lines
    assert len(kept(tmp_path)) > len(lines)
    assert len(list((tmp_path / "history").iterdir())) == 1 + (
        kept(tmp_path)[-1].at // 86_400 != lines[0].at // 86_400
    )


async def test_who_is_refused_is_recorded(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 0})) as show:
        await show.until({"origin-1": "in_service"})
        await show.on_air()
        for _ in range(3):
            assert (await show.whep()).status_code == 503

        async def recorded() -> bool:
            status, view = await ask(show, "/groups/edge/history", last_s=600)
            return status == 200 and view["coverage"]["refused"] == 3

        await wait_for(recorded, 15, "the refusals are recorded")
    assert max(line.waiting for line in kept(tmp_path)) == 3


async def test_a_policy_is_tried_on_what_was_recorded_beside_todays(show: Show, tmp_path: Path) -> None:
    """An hour with a gap: 300 people, ten minutes of nothing known, then 900."""
    loads = [(number, 300 if number < 20 else 900) for number in range(60) if not 20 <= number < 30]
    keep(tmp_path, [minute(NOON + 60 * number, [load]) for number, load in loads])
    await set_policy(show, capacity=400, max=2)
    before = await show.get("/groups")
    status, view = await what_if(
        show, on={"start": NOON - 3600, "end": NOON + 7200}, changes={"max": 20}, boot_s=30
    )
    assert status == 200, view
    coverage = view["recorded"]
    assert (coverage["first"], coverage["last"], coverage["known_s"]) == (NOON, NOON + 3599, 3000)
    assert coverage["gaps"] == [{"start": NOON + 1200, "end": NOON + 1800}]
    assert (coverage["most"], coverage["most_nodes"]) == (900, 1)
    assert coverage["node_hours"] == pytest.approx(50 / 60)
    today, changed = view["today"], view["changed"]
    assert (today["most_nodes"], changed["most_nodes"]) == (2, 4)
    assert today["waited_s"] == 100 * 1800
    assert [minute["known"] for minute in changed["minutes"]] == [True] * 20 + [False] * 10 + [True] * 30
    assert changed["decisions"][0]["because"].startswith("+1: 900 of 1,200 is 75 %"), "300 had two"
    assert [it["decision"] for it in today["decisions"][:2]] == ["+1", "held +2"]
    assert await show.get("/groups") == before
    assert await show.get("/decisions") == []


async def test_the_units_of_the_policies_are_replayed_each_in_its_own(show: Show, tmp_path: Path) -> None:
    keep(tmp_path, [minute(NOON + 60 * number, [300], mbps=[1900]) for number in range(10)])
    await set_policy(show, capacity=400)
    changes = {"unit": "mbps", "capacity": 1000, "max": 9}
    status, view = await what_if(show, on={"start": NOON, "end": NOON + 600}, changes=changes)
    assert status == 200, view
    assert view["today"]["minutes"][-1]["people"] == 300
    assert view["changed"]["minutes"][-1]["people"] == 1900
    assert view["changed"]["minutes"][-1]["in_service"] == 4


async def test_the_events_of_the_time_are_seen_as_they_were_then(show: Show, tmp_path: Path) -> None:
    """An hour with hardly anybody in it; 1,500 were expected from half past on."""
    keep(tmp_path, [minute(NOON + 60 * number, [10]) for number in range(60)])
    await set_policy(show, capacity=400, max=20)
    event = Event(
        id=0,
        title="Cup final",
        starts_at=NOON + 1800.0,
        ends_at=NOON + 9000.0,
        zone="UTC",
        channel="main",
        expected=1500,
        created_at=NOON + 600.0,
    )
    later = replace(event, title="Next day", starts_at=NOON + 86_400.0, ends_at=NOON + 90_000.0)
    saved = await show.stage.manager.books.store.write(lambda tx: tx.add_event(event))
    await show.stage.manager.books.store.write(lambda tx: tx.add_event(later))
    changes = {"prestage": {"events": True}}

    async def nodes(**more: Any) -> list[int]:
        body = {"on": {"start": NOON, "end": NOON + 3600}, "changes": changes | more, "boot_s": 30}
        status, view = await what_if(show, **body)
        assert status == 200, view
        return [it["in_service"] for it in view["changed"]["minutes"]]

    found = await nodes(launches=7)
    assert (found[27], found[30], found[59]) == (1, 7, 7)
    assert (await nodes(launches=1))[27] > 1, "earlier, where fewer are launched at once"
    await show.stage.manager.books.store.write(
        lambda tx: tx.save_event(replace(saved, cancelled_at=NOON + 2400.0))
    )
    found = await nodes(launches=7, down_cooldown_s=0, drain_deadline_s=0)
    assert (found[30], found[39], found[59]) == (7, 7, 1), "then it was taken back, and they went"
    await show.stage.manager.books.store.write(
        lambda tx: tx.save_event(replace(saved, created_at=NOON + 2400.0))
    )
    found = await nodes(launches=7)
    assert (found[39], found[42]) == (1, 7), "nobody knew of it as it began"


async def test_lines_that_are_sent_along_are_replayed_like_those_that_are_kept(
    show: Show, tmp_path: Path
) -> None:
    lines = [minute(NOON + 60 * number, [10 * number, 3]) for number in range(30)]
    keep(tmp_path, lines)
    await set_policy(show, **TEN)
    here = (await what_if(show, on={"start": NOON, "end": NOON + 1799}))[1]
    sent = (await what_if(show, recorded=[json.loads(written(line)) for line in lines]))[1]
    assert here["today"]["decisions"] == sent["today"]["decisions"]
    assert here["today"]["decisions"]
    assert sent["recorded"]["known_s"] == 1800


async def test_without_a_history_it_is_said_since_when_there_is_one(show: Show, tmp_path: Path) -> None:
    await set_policy(show, capacity=400)
    keep(tmp_path, [minute(NOON, [1]), minute(NOON + 60, [2])])
    for path, asked in (("whatif", {"start": NOON - 900, "end": NOON - 600}), ("history", (0, 60))):
        if path == "whatif":
            status, problem = await what_if(show, on=asked)
        else:
            status, problem = await ask(show, "/groups/edge/history", start=0, end=60)
        assert (status, problem["code"]) == (422, "no_history")
        assert "Nothing is recorded of edge@local from " in problem["detail"]
        assert "There is one from 2025-11-26 12:00:00 to " in problem["detail"]
    status, problem = await what_if(show, on={"start": NOON - 900, "end": NOON + 8})
    assert (status, problem["code"]) == (422, "no_history")
    assert "Only 9 s are recorded" in problem["detail"]


async def test_a_history_of_a_newer_version_is_refused_whole(show: Show, tmp_path: Path) -> None:
    await set_policy(show, capacity=400)
    keep(tmp_path, [minute(NOON, [1]), minute(NOON + 86_400, [2])])
    file = tmp_path / "history" / "2025-11-26.jsonl"
    file.write_bytes(header("local").replace(b"1", b"7", 1) + written(minute(NOON, [1])))
    status, problem = await what_if(show, on={"start": NOON, "end": NOON + 86_500})
    assert (status, problem["code"]) == (422, "history_version")
    assert "2025-11-26.jsonl is a history of version 7" in problem["detail"]
    assert "Use a newer Showcaller" in problem["detail"]
    assert (await what_if(show, on={"start": NOON + 43_300, "end": NOON + 86_500}))[0] == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "one of crowd, on and recorded is needed, and there is none of them"),
        ({"on": {"last_s": 60}, "crowd": [{"at_s": 0, "people": 0}] * 2}, "crowd.1: 0 s is not after 0 s"),
        ({"on": {"last_s": 60}, "crowd": [{"at_s": 0, "people": 0}] * 2}, "there is crowd and on"),
        ({"on": {}}, "on: it has last_s, or else start and end"),
        ({"on": {"last_s": 60, "end": 5}}, "on: it has last_s, or else start and end"),
        ({"on": {"start": 60}}, "on: start and end belong together"),
        ({"on": {"start": 60, "end": 60}}, "on.end: 60 is not after 60"),
        ({"on": {"start": 0, "end": 604_801}}, "on.end: more than 7 days after the start"),
        ({"on": {"last_s": 60}, "began": 5}, "began: what was recorded has its own time"),
        ({"recorded": [{"at": 0, "group": "a"}, {"at": 60, "group": "b"}]}, "recorded.1.group: b is not a"),
        (
            {"recorded": [{"at": 0, "group": "a"}, {"at": 604_800, "group": "a"}]},
            "recorded: more than 7 days",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_with_each_fault(
    show: Show, body: dict[str, Any], said: str
) -> None:
    status, problem = await what_if(show, **body, changes={"max": 3})
    assert (status, problem["code"]) == (422, "bad_crowd")
    assert said in problem["detail"]
    for wrong in ({"last_s": 0}, {"last_s": 700_000}, {"start": -1}, {"hours": 3}):
        assert (await what_if(show, on=wrong, changes={}))[1]["code"] == "invalid_request"


class Full:
    """A history on a disk that is full, until there is room."""

    def __init__(self) -> None:
        self.lines: list[HistoryLine] = []
        self.room = 0

    async def append(self, lines: Sequence[HistoryLine]) -> None:
        taken = lines[: self.room]
        self.lines += taken
        self.room -= len(taken)
        if len(taken) < len(lines):
            raise HistoryUnwritable(f"the disk: {errno.ENOSPC}", len(taken))

    def place(self) -> str:
        return "/nowhere"


async def test_what_finds_no_room_is_kept_for_a_while_and_written_in_its_order(show: Show) -> None:
    manager = show.stage.manager
    full = Full()
    recording = Recording(manager.books, manager.scaling, manager.rehearsing._scaling._waiting, full)
    for number in range(600):
        recording._unwritten.append(minute(NOON + 60 * number, [number]))
    await recording.flush()
    assert full.lines == []
    full.room = 250
    await recording.flush()
    assert len(full.lines) == 250
    for number in range(600, 1300):
        recording._unwritten.append(minute(NOON + 60 * number, [number]))
    full.room = 10_000
    await recording.flush()
    numbers = [line.load("connections")[0] for line in full.lines]
    assert numbers == [*range(250), *range(300, 1300)], "the oldest had to go"
    assert not recording._unwritten
