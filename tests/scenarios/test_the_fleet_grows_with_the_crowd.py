"""A policy from the command line, a crowd, and an edge more: all of it, with real viewers and real nodes."""

import json
import subprocess

import pytest

from tests.support.show import PATIENCE_S, node_state
from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_until

pytestmark = pytest.mark.stage

POLICY = [
    *("--capacity", "10", "--alarm", "60%", "--in-fraction", "0.4", "--min", "1", "--max", "2"),
    *("--up-periods", "1", "--down-periods", "2", "--down-cooldown", "1s", "--drain-deadline", "2s"),
]


def test_an_edge_comes_with_the_crowd_and_goes_with_it(stage: Stage) -> None:
    stage.publish_test("main", "--bitrate", "500k", "--size", "640x360")
    assert "has no policy" in stage.run("fleet", "policy", "show", "edge", check=False).stderr
    shown = stage.run("fleet", "policy", "set", "edge", "--capacity", "10")
    assert "one node takes 400; the policy plans with 10" in shown.stderr
    done = stage.run("fleet", "evaluate", "edge", "--with", '[{"connections": 3}, {}]', check=False)
    assert (done.returncode, "nodes.1.connections" in done.stderr) == (1, True), done.stderr
    stage.run("fleet", "policy", "clear", "edge")

    policy = stage.json("fleet", "policy", "set", "edge", *POLICY)
    assert (policy["capacity"], policy["alarm"], policy["drain_deadline_s"]) == (10, 0.6, 2.0)
    assert stage.json("fleet", "policy", "show", "edge@local") == policy
    assert stage.json("fleet", "evaluate", "edge", "--with", '[{"connections": 6}]')["actions"] == []
    asked = stage.json("fleet", "evaluate", "edge", "--with", '[{"connections": 7}]')
    assert asked["actions"] == [{"kind": "add", "count": 1}]
    assert stage.json("fleet", "why") == []

    crowd = subprocess.Popen(
        command_line("swarm", f"{stage.api}/whep/main", "--viewers", "7", "--seconds", "60", "--json"),
        env=environment(stage.home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: node_state(stage, "edge-2") == "in_service", PATIENCE_S)
        (why,) = stage.json("fleet", "why", "edge")
        assert (why["group"], why["decision"], why["inputs"]["load"]) == ("edge@local", "+1", 7)
        assert why["because"] in stage.run("fleet", "why").stdout
    finally:
        crowd.terminate()
        crowd.wait(20)

    def shrunk() -> bool:
        (edge,) = [group for group in stage.get("groups") if group["id"] == "edge@local"]
        return (edge["desired"], edge["in_service"]) == (1, 1)

    wait_until(shrunk, 30)
    assert stage.json("fleet", "why")[0]["decision"] == "-1"
    assert set(stage.json("fleet", "groups")[0]) == {
        "id", "role", "region", "desired", "in_service", "connections", "capacity",
    }  # fmt: skip


def test_what_cannot_be_a_policy_is_refused_with_each_fault_and_changes_nothing(stage: Stage) -> None:
    done = stage.run(
        "fleet", "policy", "set", "edge", "--min", "5", "--max", "4", "--alarm", "2", check=False
    )
    assert done.returncode == 1
    assert "min: 5 is above max, 4" in done.stderr
    assert "alarm: 2 is not above 0 and at most 1" in done.stderr
    for words, said in (
        (("--alarm", "much"), "is not a number"),
        (("--up-cooldown", "-5s"), "is not a duration"),
        (("--file", "/nowhere/policy.json"), "cannot be read"),
    ):
        done = stage.run("fleet", "policy", "set", "edge", *words, check=False)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    for figures in ('[{"connections": -1}]', "nonsense", '[{"people": 1}]'):
        done = stage.run("fleet", "evaluate", "edge", "--with", figures, check=False)
        assert (done.returncode, "Write it like" in done.stderr) == (2, True), done.stderr
    assert "has no policy" in stage.run("fleet", "policy", "show", "edge", check=False).stderr
    error = json.loads(stage.run("fleet", "policy", "show", "nobody", "--json", check=False).stderr)["error"]
    assert error["code"] == "no_group"


def test_a_policy_goes_through_a_file_and_comes_back_as_it_was(stage: Stage) -> None:
    policy = stage.json("fleet", "policy", "set", "edge", "--spend-cap", "1.25", "--prestage", "1")
    path = stage.home / "policy.json"
    window = {"nodes": 3, "start": "20:00", "end": "23:30", "days": ["fri", "sat"]}
    policy["prestage"]["schedule"] = {"zone": "Europe/Berlin", "windows": [window]}
    path.write_text(json.dumps(policy))
    again = stage.json("fleet", "policy", "set", "edge", "--file", str(path), "--spend-cap", "none")
    assert again["spend_cap"] is None
    assert again["prestage"]["schedule"]["windows"] == [window | {"date": None}]
    assert again["prestage"]["nodes"] == 1
    shown = stage.run("fleet", "policy", "show", "edge").stdout
    assert "3 nodes fri sat 20:00 to 23:30 (Europe/Berlin)" in shown
    stage.run("fleet", "policy", "clear", "edge")
    assert "has no policy" in stage.run("fleet", "policy", "show", "edge", check=False).stderr


def test_a_policy_is_tried_on_a_crowd_from_the_command_line(stage: Stage) -> None:
    words = ("fleet", "whatif", "edge", "--crowd", "0=0 5m=2000, 20m=2000", "--boot", "30s")
    assert "has no policy" in stage.run(*words, check=False).stderr
    stage.run("fleet", "policy", "set", "edge", "--max", "3")
    view = stage.json(*words, "--max", "20", "--party", "8")
    assert (view["today"]["most_nodes"], view["changed"]["most_nodes"]) == (3, 9)
    shown = stage.run(*words, "--max", "20").stdout.splitlines()
    assert any("nodes, today" in line and "nodes, changed" in line for line in shown)
    assert next(line.split() for line in shown if line.startswith("most nodes")) == [
        "most",
        "nodes",
        "3",
        "9",
    ]
    assert not any("\x1b" in line for line in shown)
    for curve in ("x", "0=1", "0=0 1m=much", "0=0 soon=5"):
        done = stage.run("fleet", "whatif", "edge", "--crowd", curve, check=False)
        assert done.returncode == 2, done.stderr
    done = stage.run("fleet", "whatif", "edge", "--crowd", "5m=1 4m=2", check=False)
    assert (done.returncode, "the first point is at 0" in done.stderr) == (1, True)
