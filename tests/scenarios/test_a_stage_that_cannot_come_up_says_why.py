"""`stage up` on what it cannot use: one clear error that says what to do, an exit code, nothing lost."""

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_until

PATIENCE_S = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "home")


def refused(stage: Stage, *words: str, code: int = 1) -> str:
    """Its words; and nothing runs of it afterwards."""
    done = stage.run("stage", "up", "--port", "0", *words, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert stage.json("stage", "status") == {"state": "down", "processes": []}
    stage.leaves_nothing()
    return done.stderr


@pytest.mark.stage
def test_a_database_of_a_newer_program_or_held_by_another(home: Stage) -> None:
    path = home.home / "data" / "showcaller.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        other.execute("INSERT INTO alembic_version VALUES ('9999')")
        other.commit()
    before = path.read_bytes()
    words = refused(home)
    assert "newer Showcaller" in words
    assert "move the file away" in words
    assert path.read_bytes() == before, "it was not touched"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        words = refused(home)
    assert "locked by another program" in words
    assert "start again" in words
    assert path.read_bytes() == before


@pytest.mark.stage
def test_nodes_that_never_serve_are_told_and_not_waited_for(home: Stage) -> None:
    settings = home.home / "config" / "manager.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[fleet]\nboot_timeout_s = 0.01\n")
    words = refused(home)
    assert "ends before it serves" in words
    assert "showcaller logs" in words


@pytest.mark.stage
def test_a_budget_that_is_spent_is_told_and_an_edge_is_added_all_the_same(home: Stage) -> None:
    settings = home.home / "config" / "manager.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[budget]\nper_hour = 0.04\n")  # of $0.031 a node: for the origin alone
    try:
        done = home.run("stage", "up", "--port", "0", timeout=PATIENCE_S, check=False)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert (
            "there is no edge, and nothing more is launched: 1 node and the egress are $0.031 an hour, and "
            f"one more would be over the budget of $0.04. Raise [budget] in {settings}, " in done.stderr
        )
        assert "showcaller fleet add ROLE --over-budget" in done.stderr
        home.run("fleet", "add", "edge", "--over-budget")
        home.up()
    finally:
        home.down()
    home.leaves_nothing()


def test_addresses_and_homes_that_cannot_be(home: Stage, tmp_path: Path) -> None:
    assert "'bogus' is not the IP address of a machine" in refused(home, "--announce", "bogus", code=2)
    assert "not an address of this machine" in refused(home, "--listen", "203.0.113.9")
    for word in ("up", "status", "down"):
        done = subprocess.run(
            command_line("stage", word),
            env=environment(tmp_path / ("x" * 300)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1
        assert "file name too long" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.stage
def test_interrupted_while_it_comes_up_and_begun_again(home: Stage) -> None:
    up = subprocess.Popen(
        command_line("stage", "up", "--port", "0"),
        env=environment(home.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = home.home / "run" / "processes" / "supervisor.json"
    try:
        wait_until(begun.exists, PATIENCE_S, "the supervisor has begun")
        up.send_signal(signal.SIGINT)
        _, words = up.communicate(timeout=PATIENCE_S)
    finally:
        up.kill()
    assert up.returncode == 130, words
    assert "Traceback" not in words
    home.up()
    home.down()
    home.leaves_nothing()
