"""An event that begins soon: its nodes come before it, and the preflight goes from no-go to go for real."""

import json
import subprocess
import time
from typing import Any

import pytest

from tests.support.show import PATIENCE_S
from tests.support.stage import Stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.stage


def preflight(stage: Stage) -> tuple[int, dict[str, Any]]:
    """Its exit code, and its lines by their names."""
    done: subprocess.CompletedProcess[str] = stage.run("event", "preflight", "cup", "--json", check=False)
    view = json.loads(done.stdout)
    return done.returncode, {f"{it['check']} {it['subject']}".strip(): it for it in view["checks"]}


def test_nodes_come_before_it_and_a_real_viewer_says_go(stage: Stage) -> None:
    policy = ("--capacity", "10", "--alarm", "60%", "--max", "2", "--prestage-events", "--spend-cap", "1")
    set_to = stage.json("fleet", "policy", "set", "edge", *policy)
    assert set_to["prestage"]["events"] is True
    event = stage.json("event", "add", "Cup final", "--start", "+60s", "--for", "1h", "--expected", "11")

    code, lines = preflight(stage)
    assert code == 1
    assert lines["publisher main"]["verdict"] == "red"
    assert lines["viewer local"]["verdict"] == "red"

    def served() -> bool:
        groups = {group["id"]: group["in_service"] for group in stage.json("fleet", "groups")}
        return bool(groups["edge@local"] == 2)

    wait_until(served, PATIENCE_S)
    assert time.time() < event["starts_at"]
    (why,) = stage.json("fleet", "why", "edge")
    assert "prestage for 'Cup final', 11 expected: 2 nodes by " in why["because"]

    stage.publish_test("main", "--bitrate", "500k", "--size", "640x360")
    seen: dict[str, Any] = {}

    def go() -> bool:
        code, lines = preflight(stage)
        seen.update(lines)
        return code == 0

    wait_until(go, 45)
    for name in ("nodes edge@local", "publisher main", "viewer local", "database", "budget edge@local"):
        assert seen[name]["verdict"] == "green", seen[name]
    assert "the first picture came after" in seen["viewer local"]["says"]
