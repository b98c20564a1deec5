"""The harness of `python -m bench`: a table, a file, and a verdict that scripts can trust."""

import ast
import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

import bench.__main__ as harness
from bench.figures import Figure, NotRun, percentile


def test_percentiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 95), percentile([3.0], 99)) == (50.0, 95.0, 3.0)


def test_the_fan_out_row_is_found_by_its_file() -> None:
    assert "edge_fanout" in harness.row_names()
    with pytest.raises(SystemExit):
        harness.main(["no_such_row"])


@pytest.mark.parametrize(
    ("outcome", "code", "word"),
    [
        ([Figure("speed", 3.0, "x", "ratio", at_least=2.0)], 0, "ok"),
        ([Figure("wait", 300.0, "ms", "percentile", at_most=200.0)], 1, "MISSED"),
        (NotRun("no Chromium here"), 1, "no Chromium here"),
        (ValueError("broken"), 1, "failed: ValueError: broken"),
    ],
)
def test_a_missed_limit_or_a_row_that_cannot_run_fails_the_run(
    outcome: object, code: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class Row:
        TITLE = "a row"

        @staticmethod
        async def run() -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    monkeypatch.setattr(harness, "row_names", lambda: ["row"])
    monkeypatch.setattr(harness.importlib, "import_module", lambda name: Row)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results" / "latest.json")
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert harness.main([]) == code
    assert word in capsys.readouterr().out
    written = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert written["rows"][0]["row"] == "row"
    assert {"processor", "cpus", "memory_gb", "python", "system"} <= set(written["machine"])
    figures = outcome if isinstance(outcome, list) else []
    assert written["figures"] == {figure.name: figure.value for figure in figures}


def test_a_short_try_has_the_rounds_asked_for_and_leaves_the_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Row:
        TITLE = "a row"

        @staticmethod
        async def run(rounds: int = 5) -> list[Figure]:
            asked.append(rounds)
            return [Figure("speed", 3.0, "x", "ratio", at_least=2.0)]

    monkeypatch.setattr(harness, "row_names", lambda: ["row"])
    monkeypatch.setattr(harness.importlib, "import_module", lambda name: Row)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results" / "latest.json")
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert harness.main(["--rounds", "2"]) == 0
    assert not harness.RESULTS.exists()
    assert harness.main([]) == 0
    assert asked == [2, 5]
    assert harness.RESULTS.exists()


def test_a_row_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Row:
        TITLE = "a row"

        @staticmethod
        async def run() -> list[Figure]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(harness, "row_names", lambda: ["row"])
    monkeypatch.setattr(harness.importlib, "import_module", lambda name: Row)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results" / "latest.json")
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "ROW_S", 0.05)
    assert harness.main([]) == 1
    assert "it took longer than 0.05 s" in capsys.readouterr().out


#: what the goals are set for
KEYS = {
    "edge_us", "limit_ratio", "janus_ratio", "viewers_per_core", "last_viewer_p99_ms", "kb_per_viewer",
    "janus_kb_per_viewer", "handshake_ms", "storm_late_frames", "first_frame_p95_ms", "relay_us",
    "relay_ratio", "party_members_per_core",
}  # fmt: skip


def test_every_figure_has_a_name_of_its_own_and_none_that_has_a_goal_is_left_out() -> None:
    names: Counter[str] = Counter()
    for path in Path(harness.bench.rows.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Figure":
                name = node.args[0]
                names[name.value if isinstance(name, ast.Constant) else ast.unparse(name)] += 1
    assert [name for name, count in names.items() if count > 1] == []
    assert set(names) >= KEYS
