"""What stands behind a path: only regular files are opened, and nobody waits for ever."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from console.core.media_files import IsFolder, NoMediaFile, aside, media_file


def test_a_file_is_found_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("clip.mp4", "~/clip.mp4"):
        found = media_file(text)
        assert (found.path, found.size) == (tmp_path / "clip.mp4", 5)


def test_a_user_nobody_knows_is_a_file_that_is_not_there() -> None:
    with pytest.raises(NoMediaFile, match="no file ~nobody-of-this-name/x"):
        media_file("~nobody-of-this-name/x")


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    with pytest.raises(NoMediaFile, match="pipe is not a regular file"):
        media_file(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("text", "says"), [("/dev/null", "not a regular file"), ("a\0b", "cannot name a file")]
)
def test_what_is_no_file(text: str, says: str) -> None:
    with pytest.raises(NoMediaFile, match=says):
        media_file(text)


def test_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(IsFolder):
        media_file(str(tmp_path))
    with pytest.raises(NoMediaFile, match="is empty"):
        media_file(str(tmp_path / "empty"))


async def test_a_call_that_never_returns_can_be_left() -> None:
    never = threading.Event()
    waiting = asyncio.ensure_future(aside(never.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    never.set()


async def test_what_a_call_raises_comes_back() -> None:
    with pytest.raises(NoMediaFile):
        await aside(media_file, "/nowhere/at/all")
