"""Where a stage keeps its things, and what is said when it cannot."""

import errno
import os
import stat
from pathlib import Path

import pytest

from console.core.errors import StageError
from console.core.paths import SOCKET_PATH_BYTES, Home, home_from, unusable


def test_showcaller_home_moves_everything(tmp_path: Path) -> None:
    home = home_from({"SHOWCALLER_HOME": str(tmp_path / "elsewhere")})
    for folder in (home.data, home.config, home.logs, home.run, home.processes, home.publishers):
        assert folder.is_relative_to(tmp_path / "elsewhere")


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_from({"SHOWCALLER_HOME": "here"}).root == tmp_path / "here"


def test_without_a_home_the_platform_says_where() -> None:
    assert home_from({}).root.is_absolute()
    assert home_from({}).root.name == "showcaller"


def test_folders_are_made_and_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.prepare()
    for folder in (home.root, home.data, home.run, home.processes):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_others_may_write_is_closed_to_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.run.mkdir(parents=True)
    home.run.chmod(0o777)
    home.prepare()
    assert stat.S_IMODE(home.run.stat().st_mode) & 0o022 == 0


def test_a_short_home_has_its_sockets_in_run(tmp_path: Path) -> None:
    assert Home(Path("/srv/show")).sockets({}) == Path("/srv/show/run")


def test_a_long_home_has_only_its_sockets_in_a_short_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 20) / ("longer" * 10))
    for runtime in ({}, {"XDG_RUNTIME_DIR": "/run/user/1000"}, {"XDG_RUNTIME_DIR": "/x" * 60}):
        folder = home.sockets(runtime)
        assert not folder.is_relative_to(home.root)
        assert len(os.fsencode(folder / "supervisor.sock")) < SOCKET_PATH_BYTES
    assert home.run.is_relative_to(home.root)
    assert home.sockets({}) != Home(home.root / "other").sockets({})


def test_a_home_that_cannot_be_made_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StageError) as refused:
        Home(tmp_path / "file" / "home").prepare()
    assert "SHOWCALLER_HOME" in str(refused.value)
    assert refused.value.exit_code == 1


def test_a_full_disk_is_called_a_full_disk() -> None:
    words = str(unusable(Path("/x"), OSError(errno.ENOSPC, "No space left on device")))
    assert "no room left" in words
    assert "Free some disk space" in words


def test_a_file_on_a_full_disk_is_refused_in_those_words() -> None:
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError) as error:
        file.write(b"x")
    assert "no room left" in str(unusable(Path("/dev/full"), error.value))
