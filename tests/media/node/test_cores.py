"""One worker a core: how many are counted, with groups laid out as kernels lay them out."""

import os
from pathlib import Path

import pytest

from media.node.cores import usable_cores
from media.node.start import parse


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def count(folder: Path, own: str, files: dict[str, str]) -> int:
    groups = folder / "groups"
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")
    (folder / "own").write_text(own)
    return usable_cores(groups, folder / "own")


V1 = "2:cpuacct,cpu:/box\n1:name=systemd:/box\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000"}, 3),
        ("0::/\n", {"cpu.max": "290000 100000"}, 2),  # a part of a core is none
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # but one worker there is
        ("0::/\n", {"cpu.max": "1600000 100000"}, 8),  # more than there are
        ("0::/slice/unit\n", {"slice/unit/cpu.max": "max 100000", "slice/cpu.max": "200000 50000"}, 4),
        ("0::/slice/unit\n", {"slice/unit/cpu.max": "500000 100000", "slice/cpu.max": "700000 100000"}, 5),
        ("0::/of/the/machine\n", {"cpu.max": "200000 100000"}, 2),  # a container sees its own at the top
        ("0::/../other\n", {"cpu.max": "200000 100000"}, 2),
        (V1, {f"cpuacct,cpu/box/{QUOTA}": "400000", f"cpuacct,cpu/box/{PERIOD}": "100000"}, 4),
        (V1, {f"cpu/{QUOTA}": "200000", f"cpu/{PERIOD}": "100000"}, 2),
        (V1, {f"cpu/box/{QUOTA}": "-1", f"cpu/box/{PERIOD}": "100000"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("0::/\n", {"cpu.max": "100000 0"}, 8),
        ("nonsense\n\n", {}, 8),
    ],
)
def test_whole_cores_that_are_ours(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    assert count(tmp_path, own, files) == cores


def test_without_control_groups_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert usable_cores(tmp_path / "none", tmp_path / "nowhere") == 2


@pytest.mark.parametrize(("words", "workers"), [([], 8), (["--workers", "3"], 3)])
def test_a_node_has_a_worker_a_core_unless_told(
    words: list[str], workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOWCALLER_ENROL_TOKEN", "token")
    monkeypatch.setattr("media.node.start.usable_cores", lambda: usable_cores(tmp_path, tmp_path / "own"))
    base = ["--role", "edge", "--manager", "http://127.0.0.1:1", "--run-dir", str(tmp_path)]
    assert parse(base + words).workers == workers
