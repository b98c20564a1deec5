"""The form of a policy: its fields, the manager's faults at them, and what is tried before it is saved."""

import asyncio
from typing import Any

import pytest
from textual.widgets import Input

from console.core.errors import Unreachable
from console.screens.fleet.policy import ROWS, PolicyDialog, peak
from console.screens.fleet.whatif import WhatIfDialog
from controlplane.wire.fleet import Policy, Prestage, Schedule, Window
from tests.console.screens.conftest import OpenStand
from tests.console.screens.policies import answering, rejected
from tests.console.screens.stand import bare, snapshot

EDGE = ("2", "down", "p")


def focus(it: Any) -> str:
    return str(it.app.focused.id)


async def write(it: Any, name: str, text: str) -> None:
    """Into a field, from the keyboard."""
    it.app.screen.set_focus(it.app.screen.query_one(f"#{name}"))
    await it.press("ctrl+u")
    await it.burst(text)


async def choose(it: Any, name: str) -> None:
    it.app.screen.set_focus(it.app.screen.query_one(f"#{name}"))
    await it.press("enter")


async def test_the_chosen_nodes_group_is_looked_at_with_all_that_its_policy_says(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = [Window(nodes=12, start="19:30", end="23:30", days=["fri"])]
    stage = Prestage(nodes=2, events=True, schedule=Schedule(zone="Europe/Berlin", windows=windows))
    answering(monkeypatch, policy=Policy(max=8, spend_cap=4, prestage=stage))
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local", "In force.", "$0.21 an hour each")
        for words in ("Capacity      400", "Spend cap     4", "Max           8", "Drain within  5m"):
            assert words in it.text()
        await it.until_shown("Prestage      2", "12 fri 19:30-23:30", "Zone          Europe/Berlin", "▐X▌")
        assert focus(it) == "capacity"
        await it.press("escape")
        assert it.app.screen is it.page


async def test_what_differs_is_saved_and_nothing_more_is_asked(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await choose(it, "save")
        await it.until_shown("Nothing differs from the policy in force")
        await write(it, "max", "20")
        assert "Nothing differs" not in it.text()
        await it.press("enter")
        assert focus(it) == "save"
        await it.press("enter")
        await it.until_shown("edge@local has a new policy")
    assert [said.model_dump(exclude_unset=True) for said in manager.saved] == [{"max": 20}]


async def test_each_fault_is_named_at_its_field_and_nothing_typed_is_lost(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    manager.error = rejected(
        "policy_refused",
        "The policy cannot be used",
        faults={
            "min": "30 is above max, 20",
            "alarm": "2 is not above 0 and at most 1",
            "prestage.schedule.windows.0.end": "20:00 is the start: it is never on",
        },
    )
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        for name, text in (("min", "30"), ("max", "20"), ("alarm", "2"), ("windows", "3 20:00-20:00")):
            await write(it, name, text)
        await choose(it, "save")
        text = await it.until_shown("3 fields have faults. Nothing was changed.")
        assert "✗ Alarm: 2 is not above 0 and at most 1" in text
        assert "✗ Min: 30 is above max, 20" in text
        assert "✗ Schedule: windows.0.end: 20:00 is the start: it is never on" in text
        assert focus(it) == "alarm"
        fields = {field.id: field.value for field in it.app.screen.query(Input)}
        assert (fields["min"], fields["max"], fields["alarm"]) == ("30", "20", "2")
        await write(it, "alarm", "0.7")  # mended: its fault goes, the others stay
        await it.until_gone("Alarm: 2 is not")
        assert "✗ Min: 30 is above max, 20" in it.text()
        manager.error = None
        await choose(it, "save")
        await it.until_shown("edge@local has a new policy")
    assert manager.saved[-1].model_dump(exclude_unset=True)["min"] == 30


async def test_what_the_manager_finds_is_named_beside_what_cannot_be_read(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    faults = {"alarm": "7 is not above 0 and at most 1", "min": "30 is above max, 8"}
    manager.error = rejected("policy_refused", "The policy cannot be used", faults=faults)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        for name, text in (("max", "many"), ("alarm", "7"), ("up_cooldown_s", "-5s")):
            await write(it, name, text)
        await choose(it, "save")
        text = await it.until_shown("3 fields have faults. Nothing was changed.")
        assert "✗ Alarm: 7 is not above 0 and at most 1" in text
        assert "✗ Up cooldown: '-5s' is not a duration" in text
        assert "above max" not in text, "of a max that could not be read"
        assert (manager.saved, [said.model_fields_set for said in manager.checked]) == ([], [{"alarm"}])


async def test_what_cannot_be_read_is_named_before_anything_is_asked(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await write(it, "max", "many")
        await write(it, "down_cooldown_s", "soon")
        await choose(it, "save")
        await it.until_shown(
            "✗ Max: 'many' is no whole number.", "✗ Down cooldown: 'soon' is not a duration."
        )
        assert manager.saved == []


async def test_a_manager_that_does_not_answer_loses_nothing(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch, error=Unreachable("no stream manager answers at there"))
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await write(it, "max", "20")
        await choose(it, "save")
        await it.until_shown("✗ no stream manager answers at there.", "Max           20")
        manager.error = None
        await choose(it, "save")
        await it.until_shown("edge@local has a new policy")


async def test_a_policy_is_removed_when_it_is_said_what_that_means(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("[ Remove ]")
        await choose(it, "remove")
        await it.until_shown("edge@local is then steered by hand: 4 nodes stay wanted", "[▸Keep it ]")
        await it.press("enter")
        assert isinstance(it.app.screen, PolicyDialog)
        assert manager.cleared == []
        await choose(it, "remove")
        await it.until_shown("[▸Keep it ]")
        await it.press("right", "enter")
        await it.until_shown("edge@local has no policy any more: it is steered by hand")
        assert it.app.screen is it.page
    assert manager.cleared == ["edge@local"]


async def test_a_group_without_a_policy_begins_as_usual_and_all_of_it_is_sent(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch, policy=None)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press("2", "p")
        text = await it.until_shown("Policy of origin@local", "No policy yet: as usual.")
        assert "[ Remove ]" not in text
        await choose(it, "save")
        await it.until_shown("origin@local has a new policy")
    assert manager.saved == [Policy()]
    assert manager.saved[0].model_fields_set == set(Policy.model_fields)


async def test_without_a_chosen_node_the_group_is_named(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch)
    first = snapshot()
    async with stand(bare().model_copy(update={"groups": first.groups}), page="2") as it:
        await it.press("p")
        await it.until_shown("Which group?", "edge@local, origin@local")
        await it.burst(":policy edge@local", "enter")
        await it.until_shown("Policy of edge@local")


async def test_up_and_down_walk_the_columns(stand: OpenStand, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        seen = [focus(it)]
        for _ in ROWS[1:]:
            await it.press("down")
            seen.append(focus(it))
        assert seen == [row[0] for row in ROWS[1:]] + ["save"]
        await it.press("down", "up")
        assert focus(it) == "save"
        await it.press("up", "up", "up")
        assert focus(it) == "zone"
        await it.press("tab", "up", "up")
        assert focus(it) == "drain_deadline_s"
        await it.press("tab", "up")
        assert focus(it) == "down_cooldown_s"


# --- trying it


async def test_a_change_is_tried_on_the_recorded_load_beside_the_policy_in_force(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await write(it, "max", "20")
        await choose(it, "try")
        text = await it.until_shown("On the last 24 h", "as it was", "in force", "as typed", "▲ 1,204")
        assert "node-hours" in text
        assert "cost" in text
        assert [(asked.on is not None, asked.changes) for asked in manager.tried] == [(True, Policy(max=20))]
        assert manager.tried[0].changes.model_fields_set == {"max"}
        await it.press("enter")  # back to the form, as it was
        assert isinstance(it.app.screen, PolicyDialog)
        assert it.app.screen.query_one("#max", Input).value == "20"
        assert manager.saved == []
        await choose(it, "try")
        await it.until_shown("[ Save ]", "▲ 1,204")
        await choose(it, "save")
        await it.until_shown("edge@local has a new policy")
    assert [said.max for said in manager.saved] == [20]


async def test_where_nothing_is_recorded_the_invented_crowd_of_the_form_is_tried(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch, recorded=False)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await choose(it, "try")
        text = await it.until_shown("Nothing is recorded yet", "in force")
        assert "as it was" not in text
        assert [(asked.on is None, asked.crowd is None) for asked in manager.tried] == [
            (False, True),
            (True, False),
        ]


async def test_a_crowd_is_picked_or_typed(stand: OpenStand, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = answering(monkeypatch)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        it.app.screen.set_focus(it.app.screen.query_one("#on"))
        await it.press("right", "right")
        high = peak(Policy(max=8))
        await it.until_shown(f"2h={high} 3h={high} 5h=0")
        await choose(it, "try")
        await it.until_shown("On a crowd of 0=0 1h=")
        assert [point.people for point in manager.tried[0].crowd or []][2:4] == [high, high]
        await it.press("enter")
        await write(it, "crowd", "0=7")
        await choose(it, "try")
        await it.until_shown("✗ Crowd: one moment is no crowd.")
        assert focus(it) == "crowd"
        assert len(manager.tried) == 1


async def test_a_long_one_shows_how_long_it_takes_and_can_be_given_up(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = answering(monkeypatch, held=asyncio.Event())
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await choose(it, "try")
        await it.until_shown("s of 70 s at most")
        it.app.screen._began -= 35
        await it.until_shown("██████████", " s of 70 s at most")
        await it.press("escape")
        async with asyncio.timeout(5):
            while not manager.given_up:
                await it.pilot.pause(0.02)
        assert isinstance(it.app.screen, PolicyDialog)


async def test_what_is_refused_while_it_is_tried_is_named_in_the_form(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = rejected("policy_refused", "No", faults={"max": "9999 is not from 0 to 1024"})
    answering(monkeypatch, error=error)
    async with stand(snapshot(), size=(80, 24)) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await write(it, "max", "9999")
        await choose(it, "try")
        await it.until_shown("✗ Max: 9999 is not from 0 to 1024")
        assert isinstance(it.app.screen, PolicyDialog)


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (80, 24), (120, 40)], ids=str)
async def test_every_field_can_be_reached_and_seen_at_every_size(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    answering(monkeypatch)
    async with stand(snapshot(), size=size) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        dialog = it.app.screen
        for name in [name for row in ROWS for name in row]:
            dialog.set_focus(dialog.query_one(f"#{name}"))
            async with asyncio.timeout(5):
                while not dialog.query_one("#scroll").region.contains_region(dialog.focused.region):
                    await it.pilot.pause(0.02)
            assert dialog.focused.region.width >= (7 if name == "events" else 8), name


@pytest.mark.parametrize("size", [(40, 10), (60, 16)], ids=str)
async def test_a_small_terminal_gets_sparks_and_the_figures(
    stand: OpenStand, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    answering(monkeypatch)
    async with stand(snapshot(), size=size) as it:
        await it.press(*EDGE)
        await it.until_shown("Policy of edge@local")
        await choose(it, "try")
        await it.until_shown("[▸Back ]", "[ Save ]")
        assert isinstance(it.app.screen, WhatIfDialog)
        await it.press("pagedown", "pagedown", "pagedown")
        await it.until_shown("refused joins")
