"""The history as files: a day each, so many of them, whatever is done to them and to the disk meanwhile."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from controlplane.adapters.history import FileHistory, first_and_last, read_days
from controlplane.ports.history import HistoryUnwritable
from controlplane.wire.history import FutureHistory, HistoryLine, header, written
from tests.controlplane.histories import GROUP, minute
from tests.scenarios.test_a_full_disk_ends_nothing import fill, small_disk
from tests.support.need import need, need_root

NOON = 1_764_158_400  # 2025-11-26T12:00:00Z
DAY = 86_400
TODAY = "2025-11-26.jsonl"


def history(folder: Path, keep_days: int = 14) -> FileHistory:
    return FileHistory(folder / "history", keep_days=keep_days, stage="test")


def append(folder: Path, lines: Sequence[HistoryLine], keep_days: int = 14) -> None:
    asyncio.run(history(folder, keep_days).append(lines))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "history").iterdir())


def kept(folder: Path) -> list[HistoryLine]:
    return read_days(folder / "history", 0, 4_000_000_000).lines


def test_what_is_appended_is_read_again_in_a_file_a_day(tmp_path: Path) -> None:
    lines = [minute(NOON + number * DAY // 4, [number, 3]) for number in range(9)]
    append(tmp_path, lines[:5])
    append(tmp_path, lines[5:])
    assert names(tmp_path) == [TODAY, "2025-11-27.jsonl", "2025-11-28.jsonl"]
    assert kept(tmp_path) == lines
    assert (tmp_path / "history" / TODAY).read_bytes().startswith(header("test") + written(lines[0]))
    assert (tmp_path / "history" / TODAY).stat().st_mode & 0o777 == 0o600
    only = read_days(tmp_path / "history", NOON + DAY, NOON + DAY)
    assert {line.at // DAY for line in only.lines} == {NOON // DAY + 1}
    assert first_and_last(tmp_path / "history", GROUP) == (lines[0].at, lines[-1].at + 60)
    assert first_and_last(tmp_path / "history", "edge@mars") is None
    assert first_and_last(tmp_path / "nowhere", GROUP) is None


def test_the_newest_days_stay_and_what_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    store = history(tmp_path, keep_days=3)
    (tmp_path / "history").mkdir()
    for name in ("notes.jsonl", "2025-11-01.txt", "2025-13-99.jsonl"):
        (tmp_path / "history" / name).write_text("mine")
    for day in range(6):
        asyncio.run(store.append([minute(NOON + day * DAY, [1])]))
    ours = ["2025-11-29.jsonl", "2025-11-30.jsonl", "2025-12-01.jsonl"]
    assert names(tmp_path) == sorted([*ours, "notes.jsonl", "2025-11-01.txt", "2025-13-99.jsonl"])


def test_a_clock_that_was_years_ahead_for_a_while_costs_no_history(tmp_path: Path) -> None:
    for day in (0, 1, 2, 5000, 3):
        append(tmp_path, [minute(NOON + day * DAY, [1])], keep_days=4)
    assert len(kept(tmp_path)) == 4, "the oldest is gone, as it would be on the fifth day"
    append(tmp_path, [minute(NOON + 4 * DAY, [1])], keep_days=1)
    assert names(tmp_path) == ["2025-11-30.jsonl"], "the day that is written stays"


@pytest.mark.parametrize("torn", [0, 1, 7, 30])
def test_a_restart_goes_on_in_the_same_file_and_cuts_off_what_a_crash_tore(tmp_path: Path, torn: int) -> None:
    append(tmp_path, [minute(NOON, [1])])
    path = tmp_path / "history" / TODAY
    whole = path.read_bytes()
    path.write_bytes(whole + written(minute(NOON + 60, [2]))[:torn])
    append(tmp_path, [minute(NOON + 120, [3])])
    assert path.read_bytes() == whole + written(minute(NOON + 120, [3]))


@pytest.mark.parametrize("torn", range(0, len(header("test")), 5))
def test_a_header_that_a_crash_tore_is_written_again(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "history" / TODAY
    path.parent.mkdir()
    path.write_bytes(header("test")[:torn])
    append(tmp_path, [minute(NOON, [1])])
    assert path.read_bytes() == header("test") + written(minute(NOON, [1]))


@pytest.mark.parametrize("strange", [b'{"showcaller_history": 2}\n{"a": 1}\n', b"diary\n", b"diary"])
def test_a_file_that_cannot_be_gone_on_with_stays_as_it_is_and_another_is_begun(
    tmp_path: Path, strange: bytes
) -> None:
    path = tmp_path / "history" / TODAY
    path.parent.mkdir()
    path.write_bytes(strange)
    append(tmp_path, [minute(NOON, [1])])
    append(tmp_path, [minute(NOON + 60, [2])])
    assert path.read_bytes() == strange
    assert names(tmp_path) == ["2025-11-26.1.jsonl", TODAY]
    if strange.startswith(b"{"):
        with pytest.raises(FutureHistory, match=r"^2025-11-26\.jsonl is a history of version 2"):
            kept(tmp_path)
        assert read_days(path.parent, NOON + DAY, NOON + 2 * DAY).lines == [], "other days are read"
    else:
        recorded = read_days(path.parent, NOON, NOON)
        assert recorded.lines == [minute(NOON, [1]), minute(NOON + 60, [2])]
        assert recorded.damaged_in_all == 1
        assert recorded.damaged[0].startswith(f"{TODAY} is no recorded history")


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way")
    with pytest.raises(HistoryUnwritable, match="File exists"):
        append(tmp_path, [minute(NOON, [1])])


def test_a_full_disk_takes_a_line_whole_or_not_at_all_and_it_goes_on_when_there_is_room() -> None:
    need("mount")
    need_root("mounting a small disk")
    with small_disk("64k") as disk:
        append(disk, [minute(NOON, [1])])
        path = disk / "history" / TODAY
        fill(disk / "filling")
        why = None
        for number in range(1, 1000):
            size = path.stat().st_size
            try:
                append(disk, [minute(NOON + 60 * number, [1])])
            except HistoryUnwritable as error:
                why = error
                break
        assert why is not None
        assert "No space left on device" in str(why)
        assert (why.written, path.stat().st_size) == (0, size)
        before = kept(disk)
        (disk / "filling").unlink()
        append(disk, [minute(NOON + 7200, [1])])
        assert kept(disk) == [*before, minute(NOON + 7200, [1])]


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from tests.controlplane.adapters.test_history import append, minute, NOON\n"
        "append(pathlib.Path(sys.argv[1]), [minute(NOON, [5])])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -9
    assert kept(tmp_path) == [minute(NOON, [5])]
    append(tmp_path, [minute(NOON + 60, [6])])
    assert len(kept(tmp_path)) == 2
    assert names(tmp_path) == [TODAY]


def test_a_busy_day_of_two_groups_takes_far_less_than_a_megabyte(tmp_path: Path) -> None:
    """Tens of thousands of viewers who come and go all day, and an origin that sends them all."""
    lines = []
    for number in range(1440):
        loads = [48_000 + (number * 37 + second * second) % 61 for second in range(60)]
        at = NOON - NOON % DAY + 60 * number
        lines.append(minute(at, loads, in_service=170, mbps=[96_000 + number]))
        lines.append(
            minute(at, [4], group="origin@local", publishers=[21], mbps=[24_000 + number], capacity=20)
        )
    append(tmp_path, lines)
    size = (tmp_path / "history" / TODAY).stat().st_size
    assert 400_000 < size < 700_000
    assert kept(tmp_path) == lines


def test_a_file_that_cannot_be_read_is_said_and_one_that_went_away_is_not(tmp_path: Path) -> None:
    append(tmp_path, [minute(NOON, [1]), minute(NOON + DAY, [2])])
    folder = tmp_path / "history"
    (folder / TODAY).unlink()
    (folder / TODAY).symlink_to(folder / "gone")
    assert read_days(folder, NOON, NOON + DAY).lines == [minute(NOON + DAY, [2])]
    (folder / TODAY).unlink()
    os.mkdir(folder / TODAY)
    with pytest.raises(IsADirectoryError):
        read_days(folder, NOON, NOON + DAY)
