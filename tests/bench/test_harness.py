"""The harness of `python -m bench`: a table, a file, and a verdict that scripts can trust."""

import json
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
    assert {"cpus", "python", "system"} <= set(written["machine"])


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
