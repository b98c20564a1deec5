"""Reading logs: the last lines, the words of a failure, lines as they come."""

import json
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from console.core.logs import Follower, error_words, last_lines, readable


def test_the_last_lines_of_a_long_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(5000)))
    assert [line.split()[1] for line in last_lines(path, 3)] == ["4997", "4998", "4999"]
    assert len(last_lines(path, 10_000)) == 5000


def test_lines_before_a_start_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    since = path.stat().st_size
    with path.open("a") as file:
        file.write("new\n")
    assert last_lines(path, 10, since=since) == ["new"]


def test_a_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none.log", 3) == []


def test_the_words_of_a_failure_are_found_between_other_lines() -> None:
    words = json.dumps({"error": {"code": "x", "what": "port in use", "next": "Choose another."}})
    assert error_words(["{}", words, "Traceback ..."]) == "port in use. Choose another."
    assert error_words(["error: no such file. Give one.", "{"]) == "no such file. Give one."
    assert error_words([json.dumps({"event": "tried", "error": "not mine"})]) == ""
    assert error_words([]) == ""


def test_a_json_line_is_made_readable_and_others_are_left() -> None:
    line = json.dumps({"event": "listens", "level": "info", "at": "2026-01-02T03:04:05.678Z", "pid": 7})
    assert readable(line) == "03:04:05.678 listens pid=7"
    assert readable("plain") == "plain"
    assert readable('{"event": "bad", "level": "error"}') == "error: bad"


@given(st.text())
@example('{"a":' * 5000)
def test_no_line_makes_reading_fail(line: str) -> None:
    readable(line)
    error_words([line])


def test_a_follower_gives_whole_lines_once_and_starts_over_when_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    follower = Follower(path)
    assert list(follower.read()) == []
    path.write_text("one\ntw")
    assert list(follower.read()) == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert list(follower.read()) == ["two"]
    path.rename(tmp_path / "x.log.1")
    path.write_text("three\n")
    assert list(follower.read()) == ["three"]
