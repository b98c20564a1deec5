"""`showcaller event`: the commands as people type them, against a real manager in this process."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.cli.main import main
from tests.controlplane.stage import OPERATOR, on_thread


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A manager without nodes, on a thread of its own: the commands have this one."""
    with on_thread(tmp_path_factory.mktemp("stage")) as url:
        yield url


class Events:
    """`showcaller event ...`, what it prints, and how it ends."""

    def __init__(self, capsys: pytest.CaptureFixture[str], channel: str) -> None:
        self._capsys = capsys
        self.channel = channel  # of this test alone: the manager is shared

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(["event", *words])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def add(self, title: str, *words: str) -> Any:
        return self.json("add", title, "--channel", self.channel, *words)


@pytest.fixture
def events(
    manager: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Events:
    token = tmp_path / "token"
    token.write_text(OPERATOR)
    token.chmod(0o600)
    monkeypatch.setenv("SHOWCALLER_API", manager)
    monkeypatch.setenv("SHOWCALLER_TOKEN_FILE", str(token))
    monkeypatch.setenv("SHOWCALLER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    name: str = request.node.name
    return Events(capsys, name.removeprefix("test_")[:60])


def test_an_event_is_planned_in_the_zone_of_the_machine_and_said_back_in_words(events: Events) -> None:
    code, out, _ = events.run(
        "add", "Cup final", "--start", "2027-07-10T20:00", "--for", "2h", "--channel", events.channel,
        "--expected", "8000",
    )  # fmt: skip
    assert code == 0
    assert "Cup final" in out
    assert "Sat 10 Jul 2027 20:00 to 22:00 Europe/Berlin" in out
    assert "8,000" in out
    view = events.json("show", "cup final")
    assert (view["start"], view["zone"], view["expected"]) == (
        "2027-07-10T20:00:00+02:00",
        "Europe/Berlin",
        8000,
    )
    assert out.startswith(view["id"])
    tokyo = events.add("Early", "--start", "2027-07-10T20:00", "--end", "21:30", "--zone", "Asia/Tokyo")
    assert (tokyo["start"], tokyo["end"]) == ("2027-07-10T20:00:00+09:00", "2027-07-10T21:30:00+09:00")


def test_they_are_listed_with_what_is_next(events: Events) -> None:
    events.add("In half an hour", "--start", "+30m", "--for", "1h", "--expected", "1200")
    code, out, _ = events.run("list")
    assert code == 0
    line = next(line for line in out.splitlines() if "In half an hour" in line)
    assert "coming" in line
    assert "in 30 min" in line
    assert line.endswith("1,200")
    assert "In half an hour" in [it["title"] for it in events.json("list", "--past")]


def test_what_is_edited_is_said_back_and_the_rest_stays(events: Events) -> None:
    event = events.add("Rehearsal", "--start", "2027-05-01T18:00", "--for", "90m")
    moved = events.json("edit", event["id"], "--start", "2027-05-01T19:00", "--expected", "50")
    assert (moved["start"], moved["end"]) == ("2027-05-01T19:00:00+02:00", "2027-05-01T20:30:00+02:00")
    assert (moved["expected"], moved["channel"]) == (50, events.channel)
    code, _, err = events.run("edit", event["id"])
    assert (code, "nothing is to be changed" in err) == (2, True)


def test_cancelling_asks_first_and_keeps_the_reason(events: Events) -> None:
    event = events.add("Matinee", "--start", "+2d", "--for", "1h", "--expected", "300")
    code, out, _ = events.run("cancel", event["id"], "--dry-run")
    assert (code, "(begins in 2 days, 300 expected)" in out, "(not done)" in out) == (0, True, True)
    code, _, err = events.run("cancel", event["id"])
    assert (code, "add --yes" in err) == (2, True)
    assert events.json("show", event["id"])["state"] == "coming"
    view = events.json("cancel", event["id"], "--because", "no crew", "--yes")
    assert (view["state"], view["cancel_reason"]) == ("cancelled", "no crew")
    code, out, _ = events.run("show", event["id"])
    assert (code, "no crew" in out) == (0, True)
    code, _, err = events.run("cancel", event["id"], "--yes", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (1, "event_cancelled")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--start", "soon", "--for", "1h", "--expected", "-5"),
            ("start: 'soon' is no time", "expected: -5"),
        ),
        (("--start", "+1h"), ("end: it is missing",)),
        (("--start", "2027-03-28T02:30", "--for", "1h"), ("there is no 02:30 on 2027-03-28",)),
        (("--start", "+1h", "--end", "+2h", "--for", "1h"), ("say one of them",)),
        (("--start", "+1h", "--for", "1h", "--zone", "Mars"), ("zone: there is no time zone 'Mars'",)),
    ],
)
def test_every_fault_is_named(events: Events, words: tuple[str, ...], says: tuple[str, ...]) -> None:
    code, out, err = events.run("add", "Faulty", *words)
    assert (code, out) == (1, "")
    for text in says:
        assert text in err


def test_what_cannot_be_asked_is_a_fault_of_use(events: Events) -> None:
    assert events.run("add", "x", "--start", "+1h", "--for", "a while")[0] == 2
    assert events.run("add", "x")[0] == 2
    assert events.run("cancel", "ev-1", "--because", "x" * 201, "--yes")[0] == 2
    code, _, err = events.run("show", "nobody knows it")
    assert (code, "showcaller event list" in err) == (1, True)


def test_a_no_go_ends_with_1_and_a_go_with_0_and_each_line_says_what_to_do(events: Events) -> None:
    soon = events.add("Soon", "--start", "+1m", "--for", "1h", "--expected", "50")
    code, out, _ = events.run("preflight", soon["id"])
    assert code == 1
    assert re.search(rf"^  red    publisher {events.channel} +nothing is on air", out, re.MULTILINE)
    assert re.search(r"^  red    viewer.* there is nothing to watch", out, re.MULTILINE)
    assert f"next: showcaller publish SOURCE --channel {events.channel}" in out
    assert re.search(r"^NO-GO: \d+ lines are red \(coming, in \d+ s\)$", out, re.MULTILINE)
    code, out, _ = events.run("preflight", soon["id"], "--json", "--no-viewer")
    view = json.loads(out)
    assert (code, view["go"], view["event"]["id"]) == (1, False, soon["id"])
    assert "viewer" not in {line["check"] for line in view["checks"]}
    later = events.add("Much later", "--start", "+40d", "--for", "1h")
    code, out, _ = events.run("preflight", later["id"])
    assert (code, "GO: nothing is red" in out) == (0, True), out
