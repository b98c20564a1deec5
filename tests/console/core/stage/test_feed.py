"""The live feed and the journal of a real stage, over the death of its manager."""

import asyncio

import pytest

from console.core.journal import follow
from console.core.live import Link, LinkState
from console.core.model import State
from console.core.target import ConsoleOptions, find_target
from controlplane.wire.api import JournalEntry, LiveMessage
from controlplane.wire.nodes import NodeState, Role
from tests.console.core.stage.conftest import StageUnderTest

pytestmark = pytest.mark.stage


async def test_the_state_folded_from_the_feed_is_the_state_of_the_stage_also_after_a_new_life_of_its_manager(
    running: StageUnderTest,
) -> None:
    await running.up()
    target = find_target(ConsoleOptions(stage=running.options()))
    state, links, killed = State(), [], False
    async with asyncio.timeout(40), target.live() as source, target.client() as client:
        async for item in source:
            if isinstance(item, Link):
                links.append(item.state)
                continue
            assert isinstance(item, LiveMessage)
            state = state.apply(item)
            assert (state.epoch, state.n) == (item.epoch, item.n)
            if not killed and len(state.nodes) == 2:
                running.kill("manager")
                killed, epoch = True, state.epoch
            elif killed and state.epoch != epoch and len(state.nodes) == 2:
                break
        assert {node.id for node in await client.nodes()} == set(state.nodes)
    assert {node.state for node in state.nodes.values()} <= {NodeState.IN_SERVICE, NodeState.SUSPECT}
    assert links[:2] == [LinkState.CONNECTING, LinkState.UP]
    assert links[-1] is LinkState.UP
    assert LinkState.DOWN in links
    assert state.journal
    await running.down()


async def test_the_journal_is_followed_without_gap_or_repeat_over_a_new_life_of_the_manager(
    running: StageUnderTest,
) -> None:
    await running.up()
    target = find_target(ConsoleOptions(stage=running.options()))
    entries: list[JournalEntry] = []
    killed = False
    async with asyncio.timeout(60), target.client() as client, target.live() as source:
        async for item in follow(client, source, latest=3):
            if isinstance(item, JournalEntry):
                entries.append(item)
            if not killed and len(entries) == 3:
                running.kill("manager")
                killed = True
            elif killed and isinstance(item, Link) and item.state is LinkState.UP:
                await client.fleet_add(Role.EDGE)
            elif any(entry.kind == "node.in_service" and entry.subject == "edge-2" for entry in entries):
                break
        known = await client.journal(after=entries[0].id - 1)
    numbers = [entry.id for entry in entries]
    assert numbers == [entry.id for entry in known][: len(numbers)]
    await running.down()
