"""Every page at three sizes of terminal, and each dialog, as text."""

import pytest
from textual.widgets import Input

from console.messages import DrillSeen, DrillStep, DrillWaits
from console.screens.fleet.drill import DrillProgress
from controlplane.wire.api import Snapshot
from controlplane.wire.drills import Milestone
from tests.console.screens.compare import assert_golden
from tests.console.screens.conftest import OpenStand
from tests.console.screens.policies import answering, rejected
from tests.console.screens.stand import bare, drill, events_planned, money, quiet, snapshot

SIZES = [(80, 24), (120, 40), (200, 50)]
PAGES = {"overview": "1", "fleet": "2", "broadcast": "3", "journal": "4", "events": "5"}
STAGES = {"busy": snapshot, "quiet": quiet, "bare": bare}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("page", PAGES)
async def test_a_busy_evening(stand: OpenStand, page: str, size: tuple[int, int]) -> None:
    async with stand(snapshot(), size=size, page=PAGES[page], events=events_planned()) as it:
        await assert_golden(f"{page}-busy-{size[0]}x{size[1]}", it)


@pytest.mark.parametrize("stage", ["quiet", "bare"])
@pytest.mark.parametrize("page", PAGES)
async def test_a_stage_with_little_on_it(stand: OpenStand, page: str, stage: str) -> None:
    first: Snapshot = STAGES[stage]()
    async with stand(first, size=(80, 24), page=PAGES[page], events=[]) as it:
        await assert_golden(f"{page}-{stage}-80x24", it)


DIALOGS = {
    "drain": ("2", "down", "d"),
    "start-test": ("b",),
    "start-file": ("b", "right"),
    "add": ("2", "plus"),
    "stop": ("3", "S"),
    "plan": ("5", "n"),
    "edit": ("5", "e"),
    "cancel": ("5", "x"),
    "quit": ("q",),
    "help": ("question_mark",),
}


@pytest.mark.parametrize("dialog", DIALOGS)
async def test_dialogs(stand: OpenStand, dialog: str) -> None:
    async with stand(snapshot(), size=(80, 24), events=events_planned()) as it:
        for key in DIALOGS[dialog]:
            await it.press(key)
            if key == "5":
                await it.until_shown("Cup final")
        await assert_golden(f"dialog-{dialog}-80x24", it)


async def test_a_drill_states_its_blast_radius(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(80, 24), page="2") as it:
        it.app.post_message(DrillSeen(drill()))
        await it.until_shown("Drill: kill edge-1")
        await assert_golden("dialog-drill-80x24", it)


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_drill_goes_on(stand: OpenStand, size: tuple[int, int]) -> None:
    async with stand(snapshot(), size=size, page="2") as it:
        it.app.drilling = DrillProgress("kill edge-1")
        await it.app.push_screen(it.app.drilling)
        for name, at_s, words in (("noticed", 0.04, "noticed"), ("asked", 0.1, "edge-5 asked for")):
            it.app.post_message(DrillStep(Milestone(name=name, at_s=at_s, words=words)))
        it.app.post_message(DrillWaits("viewers 120/241, another edge, a picture"))
        await it.until_shown("viewers 120/241")
        await assert_golden(f"dialog-drill-goes-on-{size[0]}x{size[1]}", it)


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_policy_is_looked_at_refused_and_tried(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    manager = answering(monkeypatch)
    faults = {"min": "30 is above max, 8", "alarm": "2 is not above 0 and at most 1"}
    named = f"{size[0]}x{size[1]}"
    async with stand(snapshot(), size=size, page="2") as it:
        await it.press("down", "p")
        await it.until_shown("Policy of edge@local")
        await assert_golden(f"dialog-policy-{named}", it)
        form = it.app.screen
        form.query_one("#max", Input).value = "20"
        await form.run_action("choose('try')")
        await it.until_shown("▲ 1,204")
        await assert_golden(f"dialog-whatif-{named}", it)
        await it.press("escape")
        manager.error = rejected("policy_refused", "No", faults=faults)
        await form.run_action("choose('save')")
        await it.until_shown("2 fields have faults")
        await assert_golden(f"dialog-policy-refused-{named}", it)
        await form.run_action("choose('remove')")
        await it.until_shown("steered by hand")
        await assert_golden(f"dialog-policy-remove-{named}", it)


async def test_a_budget_that_is_used_up_is_exceeded_on_purpose(stand: OpenStand) -> None:
    over = "Nothing more is launched: 5 nodes and the egress are $4.10 an hour. Raise [budget]."
    async with stand(snapshot(money=money(warning=over)), size=(80, 24), page="2") as it:
        await it.press("plus")
        await it.until_shown("Add over the budget")
        await assert_golden("dialog-add-over-80x24", it)


async def test_the_link_is_lost(stand: OpenStand) -> None:
    async with stand(snapshot(), size=(120, 40), page="2") as it:
        it.clock.now += 12
        it.feed.down(3)
        await it.until_shown("retry 3")
        await assert_golden("fleet-stale-120x40", it)
