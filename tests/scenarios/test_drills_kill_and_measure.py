"""Drills on a whole stage: each kills for real; what the stage did and a viewer saw is told and written."""

from typing import Any

import pytest

from controlplane.wire.processes import alive
from tests.support.figures import Figure
from tests.support.stage import Stage

pytestmark = pytest.mark.stage


def drill(stage: Stage, *words: str) -> Any:
    found = stage.json("drill", *words, "--yes")
    assert found["recovered"], found
    assert found["missing"] == []
    return found


def names(found: Any) -> list[str]:
    return [milestone["name"] for milestone in found["milestones"]]


def journal(stage: Stage, kind: str) -> list[Any]:
    return [entry for entry in stage.get("journal?limit=1000") if entry["kind"] == kind]


def test_an_edge_an_origin_and_the_manager_die_one_after_the_other(stage: Stage, figure: Figure) -> None:
    stage.publish_test("main")

    edge = drill(stage, "kill-edge")
    assert edge["node"] == "edge-1"
    assert set(names(edge)) == {"noticed", "asked", "viewers", "whole", "picture"}
    seen = edge["watched"]
    assert (seen["edge"], seen["sessions"], seen["playing"]) == ("edge-1", 2, True)
    assert 0.5 < seen["longest_gap_s"] <= edge["took_s"]

    origin = drill(stage, "kill-origin")
    assert set(names(origin)) == {"noticed", "asked", "streams", "viewers", "whole", "picture"}
    seen = origin["watched"]
    assert (seen["edge"], seen["sessions"], seen["playing"]) == ("edge-2", 1, True)  # its session is kept
    assert seen["longest_gap_s"] > 0.2

    before = stage.process("manager")
    manager = drill(stage, "kill-manager")
    assert not alive(before)
    assert set(names(manager)) == {"noticed", "api", "feed", "streams", "viewers", "whole"}
    assert manager["watched"]["sessions"] == 1
    assert manager["watched"]["longest_gap_s"] < 1.0  # media does not pass it

    for found in (edge, origin, manager):
        gap = found["watched"]["longest_gap_s"]
        figure(
            f"{found['kind']}: as before after {found['took_s']:.1f} s, a viewer saw nothing for {gap:.1f} s"
        )
    ended = journal(stage, "drill.ended")
    assert [entry["message"] for entry in ended] == [it["message"] for it in (edge, origin, manager)]
    assert len(journal(stage, "drill.started")) == 3
