"""Detached publishers: real ones, kept on air by the supervisor."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from console.core import stage
from console.core.errors import ConsoleError, StageError
from console.core.target import ConsoleOptions, find_target
from controlplane.wire.publishing import PublishState
from tests.console.core.stage.conftest import StageUnderTest
from tests.support.wait import wait_for

pytestmark = pytest.mark.stage


async def publish(running: StageUnderTest, source: str = "test", **more: object) -> stage.PublisherStatus:
    spec = stage.PublisherSpec(channel="main", source=source, **more)  # type: ignore[arg-type]
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        return await stage.start_publisher(running.home, client, spec)


async def on_air(running: StageUnderTest) -> bool:
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        try:
            stream = await client.stream("main")
        except ConsoleError:  # a manager that is just coming back
            return False
    return stream is not None and stream.state == "live"


def another(running: StageUnderTest, name: str, before: int) -> bool:
    return running.pids().get(name, before) != before


async def test_a_broadcast_is_live_when_it_returns_and_is_kept_on_air_through_every_death(
    running: StageUnderTest,
) -> None:
    await running.up()
    status = await publish(running, bitrate_bps=1e6)
    assert status.line is not None
    assert status.line.state is PublishState.LIVE
    first = running.pids()["publisher-main"]
    assert status.pid == first
    order = running.home.publishers / "main.json"
    assert order.stat().st_mode & 0o777 == 0o600

    with pytest.raises(StageError, match="already on air"):
        await publish(running)

    running.kill("publisher-main")  # its supervisor starts it again
    await running.until(lambda: another(running, "publisher-main", first), "another publisher runs")
    await wait_for(lambda: on_air(running), 20, "the broadcast is live again")

    second = running.pids()["publisher-main"]
    running.kill("supervisor")  # a new one adopts the publisher as it is
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")
    await running.up()
    assert running.pids()["publisher-main"] == second
    [adopted] = await stage.list_publishers(running.home)
    assert (adopted.state, adopted.pid) == ("running", second)

    running.kill("publisher-main")  # and starts it again although it never was its child
    await running.until(lambda: another(running, "publisher-main", second), "another publisher runs")
    await wait_for(lambda: on_air(running), 20, "the broadcast is live again")

    third = running.pids()["publisher-main"]
    running.kill("supervisor")
    running.kill("publisher-main")  # both dead: the order stands in its file
    await running.until(lambda: not {"supervisor", "publisher-main"} & set(running.pids()), "both are dead")
    await running.up()
    await running.until(lambda: another(running, "publisher-main", third), "another publisher runs")
    await wait_for(lambda: on_air(running), 20, "the broadcast is live again")

    stopped = await stage.stop_publisher(running.home, "main")
    assert stopped.state == "ended"
    assert not order.exists()
    await wait_for(
        lambda: running.pids().keys().isdisjoint({"publisher-main", "encoder-main"}), 5, "it ended"
    )
    await running.down()


async def test_a_broadcast_ended_through_the_manager_is_not_started_again(running: StageUnderTest) -> None:
    await running.up()
    await publish(running, bitrate_bps=1e6)
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        await client.stop_stream("main")

    async def state() -> bool:
        return [status.state for status in await stage.list_publishers(running.home)] == ["ended"]

    await wait_for(state, 15, "the supervisor knows that it has ended")
    assert "publisher-main" not in running.pids()
    await running.down()


async def test_the_next_broadcast_waits_for_the_end_of_one_that_the_manager_has_ended(
    running: StageUnderTest,
) -> None:
    await running.up()
    await publish(running, bitrate_bps=1e6)
    first = running.pids()["publisher-main"]
    os.kill(first, signal.SIGSTOP)  # it has yet to find out
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        await client.stop_stream("main")
    again = asyncio.create_task(publish(running, bitrate_bps=1e6))
    await running.until(
        lambda: again.done() or "waiting for the end of the broadcast before" in running.log("supervisor"),
        "the supervisor waits",
    )
    os.kill(first, signal.SIGCONT)
    status = await again
    assert status.state == "running"
    assert status.pid not in (None, first)
    await running.down()


async def test_a_file_that_is_no_media_is_said_in_the_publishers_words_and_not_tried_again(
    running: StageUnderTest, tmp_path: Path
) -> None:
    await running.up()
    text = tmp_path / "letter.txt"
    text.write_text("Dear viewer,\n" * 200)
    with pytest.raises(StageError, match=r"letter\.txt") as failed:
        await publish(running, source=str(text))
    assert failed.value.exit_code == 1
    [status] = await stage.list_publishers(running.home)
    assert (status.state, status.restarts) == ("failed", 0)
    async with find_target(ConsoleOptions(stage=running.options())).client() as client:
        written = [entry for entry in await client.journal() if entry.kind.startswith("token.")]
    assert [entry.kind for entry in written] == ["token.created", "token.revoked"]
    assert "did not come on air" in written[-1].message
    await running.down()


async def test_down_ends_broadcasts_first_and_a_later_stage_does_not_resume_them(
    running: StageUnderTest,
) -> None:
    await running.up()
    await publish(running, bitrate_bps=1e6)
    running.kill("supervisor")
    await running.until(lambda: "supervisor" not in running.pids(), "the supervisor is dead")
    await running.down()
    assert any("publisher-main" in line for line in running.said)
    await running.up()
    assert await stage.list_publishers(running.home) == []
    await running.down()
