"""The load of a stage is recorded while it runs, outlives its manager, and a policy is tried on it."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from controlplane.wire.history import header
from tests.controlplane.services.test_scaling import TEN, decided, set_policy
from tests.controlplane.stage import OPERATOR, Show, running
from tests.support.show import PATIENCE_S, kill
from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_for, wait_until


async def showcaller(show: Show, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The real command, against a stage in this process."""
    token = home / "operator"
    token.write_text(OPERATOR)
    return await asyncio.to_thread(
        subprocess.run,
        [*command_line(*words), "--api", show.url, "--token-file", str(token)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.stage
async def test_what_a_running_stage_carried_is_replayed_by_the_command_and_from_a_file(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        await set_policy(show, **TEN)
        for _ in range(7):
            assert (await show.whep()).status_code == 201
        await show.until({"edge-2": "in_service"})

        async def long_enough() -> bool:
            done = await showcaller(show, tmp_path, "fleet", "history", "edge", "--json")
            return done.returncode == 0 and json.loads(done.stdout)["coverage"]["known_s"] > 10

        await wait_for(long_enough, 25, "ten seconds are recorded", interval=1.0)
        asked = ("fleet", "whatif", "edge", "--on", "last:10m", "--alarm", "90%", "--boot", "5s")
        done = await showcaller(show, tmp_path, *asked, "--json")
        assert done.returncode == 0, done.stderr
        view = json.loads(done.stdout)
        assert [it["decision"] for it in view["today"]["decisions"]] == await decided(show) == ["+1"]
        assert view["today"]["decisions"][0]["because"].endswith("over the alarm of 60 %; +$0.031 an hour.")
        assert view["changed"]["decisions"] == []
        assert (view["recorded"]["most"], view["recorded"]["gaps"]) == (7, [])

        shown = await showcaller(show, tmp_path, *asked)
        assert "edge@local is recorded from " in shown.stdout
        assert "% of the time that was asked about" in shown.stdout
        table = [line.split() for line in shown.stdout.splitlines()]
        assert ["as", "it", "was", "today", "changed"] in table
        assert ["most", "nodes", "2", "2", "1"] in table

        printed = await showcaller(show, tmp_path, "fleet", "history", "edge", "--jsonl")
        file = tmp_path / "recorded.jsonl"
        file.write_text(printed.stdout)
        assert printed.stdout.encode().startswith(header())
        done = await showcaller(show, tmp_path, *asked[:4], str(file), *asked[5:], "--json")
        assert done.returncode == 0, done.stderr
        again = json.loads(done.stdout)
        assert again["today"]["decisions"] == view["today"]["decisions"]
        assert again["recorded"]["first"] == view["recorded"]["first"]

        refusals = (
            (("whatif", "edge"), 2, "Add --on last:24h, or --crowd CURVE"),
            (("whatif", "edge", "--on", "last:1h", "--crowd", "0=0 1m=5"), 2, "one alone"),
            (("whatif", "edge", "--on", "yesterday"), 2, "Write it like last:24h"),
            (("whatif", "edge", "--on", str(tmp_path / "showcaller.db")), 2, "is no recorded history"),
            (("whatif", "edge", "--on", "2020-01-01..2020-01-02"), 1, "Nothing is recorded of edge@local"),
            (("history", "edge", "--on", "2020-01-01..2020-01-02"), 1, "There is one from "),
            (("history", "edge", "--on", "a.jsonl"), 2, "a file is no time"),
            (("history", "edge", "--json", "--jsonl"), 2, "Choose one"),
            (("history", "nobody"), 1, "There is no one group"),
        )
        asking = (showcaller(show, tmp_path, "fleet", *words) for words, _, _ in refusals)
        for (_, code, said), done in zip(refusals, await asyncio.gather(*asking), strict=True):
            assert (done.returncode, said in done.stderr) == (code, True), done.stderr


@pytest.mark.stage
def test_a_manager_that_is_killed_goes_on_in_the_same_file(stage: Stage) -> None:
    def recorded() -> list[str]:
        done = stage.run("fleet", "history", "edge", "--on", "last:10m", "--jsonl", check=False)
        return done.stdout.splitlines()[1:]

    before = wait_until(recorded, PATIENCE_S, "something is recorded")
    kill(stage.process("manager"))
    lines = wait_until(lambda: recorded()[len(before) :], PATIENCE_S, "the next manager records as well")
    assert recorded()[: len(before)] == before
    assert json.loads(lines[0])["at"] >= json.loads(before[-1])["at"]
    days = {path.name for path in (stage.home / "data" / "history").iterdir()}
    assert all(name.count(".") == 1 for name in days), "no file is begun beside another"
    shown = stage.run("fleet", "history", "edge", "--on", "last:10m").stdout
    assert "greatest load, connections" in shown
    assert "left out" not in shown
