"""What commands about the fleet say, and what they refuse, by a stream manager's answers."""

import asyncio
import json
import re
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from console.cli import chart, context, cost, fleet, main
from console.core.client import Client
from console.core.errors import Rejected, UsageError
from controlplane.wire.api import DrainView, GroupView, NodeDetail
from controlplane.wire.events import EventState, EventView
from controlplane.wire.fleet import MomentView, Policy, PolicyView, WhatIfView
from controlplane.wire.history import HistoryLine, header, written
from controlplane.wire.money import PricesView
from controlplane.wire.nodes import NodeState, Role
from tests.console.screens.policies import COVERAGE, course
from tests.console.screens.stand import node, stream


class Manager:
    """Of two edges and an origin; `main` is on air."""

    def __init__(self, found: list[NodeDetail], *, drain_s: float = 60.0, most: int | None = None) -> None:
        self.found, self.drain_s, self.most = found, drain_s, most
        self.drained: list[tuple[Any, ...]] = []
        self.planned: list[EventView] = []

    async def nodes(self) -> list[NodeDetail]:
        return self.found

    async def streams(self) -> list[Any]:
        return [stream().model_copy(update={"origin": "origin-1"})]

    async def groups(self) -> list[GroupView]:
        return [
            GroupView(
                id=f"{role}@local", role=role, region="local", desired=2, in_service=2, connections=0,
                capacity=800, egress_bps=None, drain_s=self.drain_s, most=self.most,
            )
            for role in (Role.EDGE, Role.ORIGIN)
        ]  # fmt: skip

    async def cost(self) -> Any:
        prices = PricesView(
            currency="$", node_hour=Decimal("0.21"), egress_gb=Decimal("0.01"), egress_free_gb=0
        )
        return SimpleNamespace(prices=prices)

    async def events(self) -> list[EventView]:
        return self.planned

    async def drain(self, *said: Any) -> DrainView:
        self.drained.append(said)
        return DrainView(node=said[0], state=NodeState.DRAINING, viewers=1, deadline_s=60)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command against a manager: its exit code, and what it printed on both streams."""

    def run(manager: Any, *words: str) -> tuple[int, str, str]:
        def call(api: Any, token_file: Any, use: Any, trust: Any = None) -> Any:
            return context.run(use(manager))

        monkeypatch.setattr(context, "call", call)
        code = main.main(words)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


TWO = [node("origin-1", connections=1), node("edge-1", connections=390), node("edge-2", connections=14)]


def test_a_dry_run_says_where_the_viewers_go_and_until_when(ask: Any) -> None:
    _, out, _ = ask(Manager(TWO, drain_s=300), "fleet", "drain", "edge-2", "--dry-run")
    assert out == (
        "edge-2: 14 viewers; 2 -> 1 edges; -$0.21 an hour; room for 10 of them on edge-1: add one first "
        "(showcaller fleet add edge); it ends when it is empty, in 5 min at the latest (not done)\n"
    )
    _, out, _ = ask(Manager(TWO), "fleet", "drain", "edge-2", "--dry-run", "--json")
    said = json.loads(out)
    assert (said["viewers"], said["deadline_s"], said["to_name"]) == (14, 60, [])


@pytest.mark.parametrize("last", ["edge-1", "origin-1"])
def test_the_dry_run_of_the_last_one_says_which_name_will_be_asked(ask: Any, last: str) -> None:
    manager = Manager(TWO[:2])
    _, out, _ = ask(manager, "fleet", "drain", last, "--dry-run")
    assert f"main will have no {last[:-2]}; that is to be named: --yes main (not done)" in out
    code, _, err = ask(manager, "fleet", "drain", last, "--yes")
    assert (code, manager.drained) == (2, [])
    assert "Add: --yes main" in err
    code, out, _ = ask(manager, "fleet", "drain", last, "--yes", "main")
    assert (code, manager.drained) == (0, [(last, None, ["main"])])
    assert ("1 viewer" in out) == (last == "edge-1")


def planned(number: int, state: EventState, channel: str = "main") -> EventView:
    return EventView(
        id=f"ev-{number}", title=f"The show {number}", state=state, start="", end="", zone="UTC",
        starts_at=0.0, ends_at=1.0, channel=channel, expected=9, registered=0, crowd=9, created_at=0.0,
    )  # fmt: skip


def test_where_an_event_is_on_its_name_is_asked_for(ask: Any) -> None:
    manager = Manager(TWO[:2])
    manager.planned = [
        planned(2, EventState.ON),
        planned(3, EventState.COMING),
        planned(4, EventState.ON, "b"),
    ]
    _, out, _ = ask(manager, "fleet", "drain", "edge-1", "--dry-run")
    assert "main (The show 2) will have no edge; that is to be named: --yes ev-2 (not done)" in out
    code, _, err = ask(manager, "fleet", "drain", "edge-1", "--yes")
    assert (code, manager.drained) == (2, [])
    assert "Add: --yes ev-2" in err
    code, _, err = ask(manager, "fleet", "drain", "edge-1", "--yes", "ev-3")
    assert (code, manager.drained) == (2, [])
    assert "ev-3 is not on air" in err
    for word in ("ev-2", "main"):
        code, _, _ = ask(manager, "fleet", "drain", "edge-1", "--yes", word)
        assert (code, manager.drained.pop()) == (0, ("edge-1", None, ["main"]))


def test_a_word_that_is_no_channel_on_air_is_not_passed_over(ask: Any) -> None:
    manager = Manager(TWO)
    code, _, err = ask(manager, "fleet", "drain", "edge-1", "edge-2", "--yes")
    assert (code, manager.drained) == (2, [])
    assert "edge-2 is not on air. One node is drained at a time" in err


def test_one_more_than_the_policy_has_is_said_before_it_is_added(ask: Any) -> None:
    _, out, _ = ask(Manager(TWO, most=2), "fleet", "add", "edge", "--dry-run")
    assert "; the policy of edge@local has 2 at most: it is refused without --over-policy (not done)" in out
    _, out, _ = ask(Manager(TWO, most=2), "fleet", "add", "edge", "--dry-run", "--over-policy")
    assert out.endswith("; the policy of edge@local has 2 at most (not done)\n")


def test_a_node_without_a_name_is_named_so(ask: Any) -> None:
    _, _, err = ask(Manager(TWO), "fleet", "undo", "")
    assert err == "error: there is no node ''. Nodes: origin-1, edge-1, edge-2.\n"


async def test_who_stops_waiting_is_told_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    async def wait() -> None:
        with fleet._told_if_interrupted("the drain goes on"):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert capsys.readouterr().err == "the drain goes on\n"


def test_nodes_are_shown_with_the_age_of_their_state(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 10_000.0)
    young = node("edge-3", NodeState.SUSPECT, state_since=9_988.0, created_at=1.0)
    _, out, _ = ask(Manager([young]), "nodes")
    heading, row = out.splitlines()
    assert heading.split()[3:5] == ["state", "for"]
    assert "suspect  12 s" in row


@pytest.mark.parametrize("name", ["", " ", "a/b", "/", ".", ".."])
async def test_a_name_that_cannot_be_one_is_refused_before_anything_is_sent(name: str) -> None:
    async with Client("http://127.0.0.1:9", "x" * 43) as client:
        for call in (client.event, client.policy, client.clear_policy, client.undrain, client.stop_stream):
            with pytest.raises(Rejected) as refused:
                await call(name)
            assert refused.value.status == 404
            assert refused.value.what.endswith(f" {name!r}")


def test_what_could_not_be_read_of_a_file_is_in_the_answer(ask: Any, tmp_path: Path) -> None:
    line = HistoryLine(at=0, group="edge@local", connections=[1])
    path = tmp_path / "cut.jsonl"
    path.write_bytes(header() + written(line) + b"rubbish\n" + written(line)[:20])
    view = whatif_view()

    class Simulating:
        async def what_if(self, group: str, question: Any) -> Any:
            assert question.recorded == [line]
            return view

    _, out, _ = ask(Simulating(), "fleet", "whatif", "edge", "--on", str(path), "--json")
    recorded = json.loads(out)["recorded"]
    assert (recorded["torn"], recorded["damaged_in_all"]) == (1, 1)
    assert "line 3" in recorded["damaged"][0]


def whatif_view(**more: Any) -> Any:
    fields: dict[str, Any] = {"boot_s": 2, "price": 0.21, "today": course(Policy()), "changed": None}
    return WhatIfView(**(fields | {"recorded": COVERAGE} | more))


def test_a_file_is_no_time_of_which_a_cost_is_known() -> None:
    with pytest.raises(UsageError) as refused:
        cost._asked("banana")
    assert "file" not in str(refused.value)


def shown(ask: Any, view: Any, *words: str) -> str:
    class Simulating:
        async def what_if(self, group: str, question: Any) -> Any:
            return view

    return str(ask(Simulating(), "fleet", "whatif", "edge", *words)[1])


def test_a_recorded_load_is_told_by_the_time_of_day_and_an_invented_crowd_by_minutes(ask: Any) -> None:
    moment = MomentView(at=300, decision="+2", because="+2: so many.")
    begun = time.mktime((2026, 11, 26, 18, 30, 0, 0, 0, -1))
    coverage = COVERAGE.model_copy(update={"first": int(begun)})
    today = course(Policy(), minutes=41).model_copy(update={"decisions": [moment]})
    today = today.model_copy(
        update={
            "minutes": [it.model_copy(update={"headroom": 70 + it.at}) for it in today.minutes],
            "least_headroom": 130,
        }
    )
    view = whatif_view(today=today, changed=course(Policy(), minutes=41), recorded=coverage)
    out = shown(ask, view, "--on", "last:24h")
    assert re.search(r"18:30 +18:40 +18:50 +19:00 +19:10\n", out)
    assert "by the clock of this machine; " in out
    assert "  Thu 18:35  +2 " in out
    assert "changed\n  nothing was to be decided: the nodes stay as they are\n" in out
    assert re.search(r"least headroom +- +130 +-?[0-9]+\n", out)
    view = view.model_copy(update={"recorded": None, "changed": None})
    out = shown(ask, view, "--crowd", "0=0 10m=10")
    assert re.search(r"  0 +10 +20 +30 +40\n", out)
    assert "minutes; " in out
    assert "headroom, today" in out
    assert "     5 min  +2 " in out


@pytest.mark.parametrize("most", [1.0, 2.0, 2.4, 3.0, 4.0, 7.0, 40.0])
def test_the_figures_beside_a_chart_are_evenly_apart(most: float) -> None:
    rows = chart.draw([0.0, 1.0], [chart.Line("nodes", [most, 0.0], "*", "*", 39)]).splitlines()
    ticked = [number for number, row in enumerate(rows) if "┤" in row]
    assert len({after - before for before, after in pairwise(ticked)}) == 1
    assert ticked[0] == 0


def test_a_day_and_more_has_its_days_below() -> None:
    begun = time.mktime((2026, 11, 26, 18, 0, 0, 0, 0, -1))
    marked, _ = chart.time_ticks(0.0, 2880.0, begun)
    assert next(iter(marked.values())) == "Thu 18:00"
    assert list(marked) == [0, 720, 1440, 2160, 2880]
    assert chart.time_ticks(0.0, 420.0, None) == (
        {0.0: "0", 105.0: "1.8", 210.0: "3.5", 315.0: "5.2", 420.0: "7"},
        "hours",
    )


def test_a_policy_that_is_taken_away_is_named_by_its_group_and_one_that_was_not_there_too(ask: Any) -> None:
    class Cleared:
        def __init__(self, usual: bool) -> None:
            self.usual, self.cleared = usual, list[str]()

        async def policy(self, group: str, *, usual: bool = False) -> PolicyView:
            return PolicyView(group="origin@local", policy=Policy(), usual=self.usual)

        async def clear_policy(self, group: str) -> None:
            self.cleared.append(group)

    had, had_none = Cleared(False), Cleared(True)
    assert ask(had, "fleet", "policy", "clear", "origin")[1] == "origin@local has no policy any more\n"
    out = ask(had_none, "fleet", "policy", "clear", "origin")[1]
    assert out == "origin@local has no policy: nothing was changed\n"
    assert (had.cleared, had_none.cleared) == (["origin@local"], [])
    assert json.loads(ask(had, "fleet", "policy", "clear", "origin", "--json")[1])["group"] == "origin@local"
