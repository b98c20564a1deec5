"""What the commands say and answer without any stage: usage, refusals, exit codes."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from console.cli import fleet
from controlplane.wire.api import DrainView
from controlplane.wire.nodes import NodeState, Role
from tests.support.commands import command_line, run
from tests.support.stage import environment


class Cli:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = environment(home)

    def __call__(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return run(words, self.env | env, timeout=60)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["publish", "test", "--channel", "Main Stage"], "small letters"),
        (["publish", "test", "--channel", "main", "--bitrate", "0"], "4.5M"),
        (["publish", "test", "--channel", "main", "--size", "big"], "1280x720"),
        (["publish", "test", "--channel", "main", "--fps", "0"], "--fps"),
        (["publish", "rtmp://x/y", "--channel", "main"], "file"),
        (["publish", "test", "--channel", "main", "--detach", "--api", "https://x"], "Leave one"),
        (["fleet", "add", "transformer"], "origin, edge"),
        (["fleet", "drain", "edge-1", "--deadline", "soon"], "60s"),
        (["token", "create", "--publish", "main", "--ttl", "0"], "30 days"),
        (["token", "create", "--publish", "../x"], "small letters"),
        (["token", "create"], "--publish"),
        (["stage", "up", "--port", "99999"], "65535"),
        (["stage", "up", "--tls-cert", "x"], "go together"),
        (["nodes", "--api", "stage.example"], "https://"),
        (["nodes", "--api", "https://stage.example"], "--token-file"),
        (["nodes", "--api", "https://stage.example", "--token-file", "/nonexistent"], "token file"),
        (["node", "--role", "edge", "--manager", "http://127.0.0.1:1"], "--token-file"),
        (["nodes", "--token-file", "/nonexistent"], "--api"),
        (["--token-file", "/nonexistent", "nodes"], "--api"),
        (["--token-file", "/nonexistent"], "--api"),
        (["node", "--role", "edge", "--token-file", "/nonexistent"], "--manager"),
        (["node", "--role", "edge", "--announce", "bogus"], "IP address"),
        (["node", "--role", "edge", "--announce", "0.0.0.0"], "IP address"),
        (["stage", "up", "--announce", "bogus"], "metadata"),
        (["node", "--role", "edge", "--tcp-port", "70000"], "65535"),
        (["stage", "up", "--listen", "not an address"], "0.0.0.0"),
        (["stage", "up", "--listen", ""], "0.0.0.0"),
        (["serve", "--listen", "not an address"], "0.0.0.0"),
        (["--port", "0", "nodes"], "after"),
        (["logs", "-f"], "logs NAME -f"),
        (["nonsense"], "--help"),
        (["fleet", "policy", "set", "edge", "--min"], "`showcaller fleet policy set --help`"),
        (["event", "edit", "ev-7"], "--expected or --zone"),
        (["fleet", "evaluate", "edge", "--with", "[1]"], "--with: nodes.0: 1 is no object"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_with_what_is_accepted(
    cli: Cli, words: list[str], accepted: str
) -> None:
    plain = cli(*words)
    assert plain.returncode == 2, plain.stderr
    assert plain.stdout == ""
    assert plain.stderr.startswith("error: ")
    assert accepted in plain.stderr
    assert "Traceback" not in plain.stderr
    as_json = cli(*words, "--json")
    if words[0] != "node":  # it prints nothing, so it has no --json
        error: dict[str, Any] = json.loads(as_json.stderr)["error"]
        assert error["exit"] == as_json.returncode == 2
        assert error["what"]


def test_a_node_taken_back_is_in_service_in_words_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    view = DrainView(node="edge-2", state=NodeState.IN_SERVICE, viewers=1, deadline_s=None)
    fleet._show(view, Role.EDGE, as_json=False)
    assert capsys.readouterr().out == "edge-2  in service  1 viewer\n"
    fleet._show(view, Role.ORIGIN, as_json=False)
    assert capsys.readouterr().out == "edge-2  in service  1 connection\n"
    fleet._show(view, Role.EDGE, as_json=True)
    assert json.loads(capsys.readouterr().out)["state"] == "in_service"


def test_a_source_that_is_no_file_is_told_at_once(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for source, says in (
        ("~nobody-of-this-name/x", "no file ~nobody-of-this-name/x"),
        (str(tmp_path / "pipe"), "is not a regular file"),
        (str(tmp_path), "is a folder"),
    ):
        done = cli("publish", source, "--channel", "main")
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_json_before_the_command_is_not_passed_over(cli: Cli) -> None:
    done = cli("--json", "nodes")
    assert done.returncode == 2
    assert "--json" in json.loads(done.stderr)["error"]["what"]


def test_a_token_file_named_in_the_environment_waits_for_a_manager_elsewhere(cli: Cli) -> None:
    local = cli("nodes", SHOWCALLER_TOKEN_FILE="/nonexistent")
    assert local.returncode == 3  # as without it: no stage is up here
    remote = cli("nodes", "--api", "https://stage.example", SHOWCALLER_TOKEN_FILE="/nonexistent")
    assert remote.returncode == 2
    assert "/nonexistent" in remote.stderr


@pytest.mark.parametrize(
    "words", [["nodes"], ["streams"], ["journal"], ["token", "create", "--publish", "main"]]
)
def test_without_a_stage_there_is_no_connection(cli: Cli, words: list[str]) -> None:
    done = cli(*words)
    assert done.returncode == 3
    assert "stage up" in done.stderr


def test_the_operators_token_is_not_sent_in_clear_to_another_machine(cli: Cli) -> None:
    done = cli("nodes", "--api", "http://192.0.2.1:8080", SHOWCALLER_TOKEN="a-secret-token")
    assert done.returncode == 1
    assert "https" in done.stderr
    assert "a-secret-token" not in done.stderr


def test_a_stage_that_is_down_is_told_and_ended_without_complaint(cli: Cli) -> None:
    for command in ("status", "down"):
        done = cli("stage", command, "--json")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"state": "down", "processes": []})


def test_a_file_that_is_not_there_is_said(cli: Cli, tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path):
        done = cli("publish", str(path), "--channel", "main")
        assert done.returncode == 1
        assert str(path) in done.stderr


def test_logs_stay_in_the_folder_of_logs(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("secret")
    for name in ("../../secret", "../secret", "/etc/passwd", "."):
        done = cli("logs", name)
        assert done.returncode == 1
        assert "secret\n" not in done.stdout
    assert cli("logs").returncode == 0


def test_a_home_that_cannot_be_written_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("stage", "up", SHOWCALLER_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1
    assert "SHOWCALLER_HOME" in done.stderr
    doctor = cli("doctor", "--json", SHOWCALLER_HOME=str(tmp_path / "file" / "home"))
    assert doctor.returncode == 1
    [home] = [check for check in json.loads(doctor.stdout) if check["name"] == "home"]
    assert not home["ok"]
    assert home["fix"]


def test_doctor_says_what_is_missing_and_is_content_with_this_machine(cli: Cli) -> None:
    done = cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0
    assert checks["python"]["ok"]
    assert all(check["fix"] for check in checks.values() if not check["ok"])
    plain = cli("doctor")
    assert plain.returncode == 0
    assert "\x1b" not in plain.stdout


def test_a_browser_that_cannot_be_run_is_said_by_doctor(cli: Cli) -> None:
    done = cli("doctor", CHROMIUM_PATH="/nonexistent/chrome")
    assert "CHROMIUM_PATH=/nonexistent/chrome cannot be run" in done.stdout


def run_on_terminal(cli: Cli, *words: str, answer: bytes = b"", **env: str) -> tuple[int, str]:
    """The command with a real terminal on all three; what it wrote there."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        command_line(*words), env=cli.env | env, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    if answer:
        os.write(controller, answer)
    written = b""
    while True:
        try:
            data = os.read(controller, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        written += data
    os.close(controller)
    return process.wait(timeout=30), written.decode()


def test_colour_only_on_a_terminal_and_not_with_no_color(cli: Cli) -> None:
    assert "\x1b[1m" in run_on_terminal(cli, "doctor", TERM="xterm-256color")[1]
    assert "\x1b" not in run_on_terminal(cli, "doctor", TERM="xterm-256color", NO_COLOR="1")[1]
    assert "\x1b" not in run_on_terminal(cli, "doctor", TERM="dumb")[1]
