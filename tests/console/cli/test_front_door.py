"""`showcaller` where there is no terminal, and `showcaller serve`."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.wire.processes import read_alive
from tests.console.cli.test_words import Cli
from tests.support.stage import command_line, environment
from tests.support.wait import wait_until

pytestmark = pytest.mark.stage


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    if (pid := newborn(home)) is not None:
        os.kill(pid, signal.SIGCONT)  # a test that failed may have left it stopped
    Cli(home)("stage", "down")
    left = read_alive(home / "run" / "processes")
    for record in left:
        os.kill(record.pid, signal.SIGKILL)
    assert left == []


def start(home: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command_line(*words),
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names(home: Path) -> set[str]:
    return {record.name for record in read_alive(home / "run" / "processes")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_the_show_runs_until_a_signal_and_leaves_nothing(
    home: Path, number: signal.Signals
) -> None:
    console = start(home, "--port", "0", "--json")
    assert console.stdout is not None
    lines = [json.loads(console.stdout.readline()) for _ in range(3)]
    assert lines[-1]["state"] == "live"
    assert lines[-1]["watch"].endswith("/watch/main")
    assert {"supervisor", "manager", "origin-1", "edge-1", "publisher-main"} <= names(home)
    console.send_signal(number)
    _, said = console.communicate(timeout=60)
    assert console.returncode == 0, said
    assert names(home) == set()


def test_a_signal_while_the_stage_is_still_starting_leaves_nothing(home: Path) -> None:
    console = start(home, "--port", "0")
    wait_until(lambda: "manager" in names(home), 30, "the manager has been started")
    console.send_signal(signal.SIGTERM)
    _, said = console.communicate(timeout=60)
    assert console.returncode == 0, said
    assert names(home) == set()


def newborn(home: Path) -> int | None:
    """The pid of a supervisor of this home, also while it has written no record yet."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if b"console.core.stage.supervisor" in words and os.fsencode(home) in words:
                return int(folder.name)
    return None


@pytest.mark.parametrize("words", [(), ("stage", "up")], ids=["the console", "stage up"])
def test_a_signal_in_the_first_moment_of_a_supervisor_leaves_nothing(
    home: Path, words: tuple[str, ...]
) -> None:
    command = start(home, *words, "--port", "0")
    pid = wait_until(lambda: newborn(home), 30, "a supervisor was launched", interval=0.001)
    os.kill(pid, signal.SIGSTOP)  # before it has said anything of itself
    assert names(home) == set()
    command.send_signal(signal.SIGTERM)
    down = start(home, "stage", "down")
    with pytest.raises(subprocess.TimeoutExpired):  # it does not take a stage for down that is on its way
        down.wait(2)
    os.kill(pid, signal.SIGCONT)
    for process in (down, command):
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM), said
    assert newborn(home) is None
    assert names(home) == set()


MOMENTS = (
    "",  # before Python has begun
    "run/lock",
    "run/processes/supervisor.json",
    "run/processes/manager.json",
    "run/processes/origin-1.json",
    "run/processes/publisher-main.json",
)


def test_a_signal_at_any_moment_of_the_start_leaves_nothing(home: Path) -> None:
    for moment in MOMENTS:
        console = start(home, "--port", "0")
        if moment:
            wait_until((home / moment).exists, 30, f"{moment} is there")
        console.send_signal(signal.SIGINT)
        _, said = console.communicate(timeout=60)
        assert console.returncode in (0, 130, -signal.SIGINT), said  # the last: before Python has begun
        assert "Traceback" not in said
        assert newborn(home) is None, f"as {moment} is there"
        assert names(home) == set()
        shutil.rmtree(home, ignore_errors=True)  # the next one finds nothing


@pytest.mark.parametrize(
    ("module", "words"), [("typer", ["nodes"]), ("controlplane.wire.nodes", ["--api", "http://127.0.0.1:1"])]
)
def test_ctrl_c_while_the_program_loads_is_quiet(tmp_path: Path, module: str, words: list[str]) -> None:
    """The interpreter says when it loads this module; then the signal comes, where an exception is lost."""
    program = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}':\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        "                pass\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from console.cli.entry import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_installed_command_begins_where_ctrl_c_is_quiet() -> None:
    assert "from console.cli.entry import main" in Path(command_line()[0]).read_text()


def test_stage_up_that_is_interrupted_ends_what_it_began_and_says_so(home: Path) -> None:
    command = start(home, "stage", "up", "--port", "0")
    wait_until(lambda: "manager" in names(home), 30, "the manager has been started")
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130, said
    assert "interrupted: ending the stage that was being started" in said
    assert names(home) == set()


def test_stage_up_that_is_interrupted_leaves_a_stage_that_was_there(home: Path) -> None:
    assert Cli(home)("stage", "up", "--port", "0").returncode == 0
    before = names(home)
    manager = next(r.pid for r in read_alive(home / "run" / "processes") if r.name == "manager")
    os.kill(manager, signal.SIGSTOP)  # `stage up` will wait for its answer
    try:
        command = start(home, "stage", "up")
        assert command.stderr is not None
        first = command.stderr.readline()  # it says what it waits for
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=60)
    finally:
        os.kill(manager, signal.SIGCONT)
    assert command.returncode == 130, first + said
    assert "was there before" in said
    assert names(home) == before


def test_a_stage_that_was_there_before_is_left_running(home: Path) -> None:
    cli = Cli(home)
    assert cli("stage", "up", "--port", "0").returncode == 0
    console = start(home)
    assert console.stdout is not None
    assert "/watch/main" in console.stdout.readline()
    console.send_signal(signal.SIGTERM)
    _, said = console.communicate(timeout=60)
    assert console.returncode == 0
    assert "left running" in said
    assert "publisher-main" not in names(home)
    assert {"supervisor", "manager", "origin-1", "edge-1"} <= names(home)


def test_serve_runs_one_stream_manager_that_local_commands_find(home: Path) -> None:
    cli = Cli(home)
    server = start(home, "serve", "--port", "0", "--json")
    assert server.stdout is not None
    ready = json.loads(server.stdout.readline())
    assert ready["ready"]
    view = json.loads(cli("stage", "status", "--json").stdout)
    assert view["api"] == ready["api"]
    assert cli("nodes").returncode == 0
    second = cli("serve", "--port", "0")
    assert second.returncode == 1
    assert "stage down" in second.stderr
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    assert server.returncode == 0
    assert names(home) == set()


def test_a_manager_that_is_served_is_ended_by_stage_down(home: Path) -> None:
    server = start(home, "serve", "--port", "0", "--json")
    assert server.stdout is not None
    server.stdout.readline()
    assert Cli(home)("stage", "down").returncode == 0
    server.communicate(timeout=30)
    assert names(home) == set()


def test_serve_on_a_port_in_use_says_so(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = Cli(home)("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "in use" in done.stderr


def test_with_the_default_port_taken_the_next_free_one_is_used_and_said(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another program has it already: all the same here
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        done = Cli(home)("stage", "up", "--json")
    assert done.returncode == 0, done.stderr
    api = json.loads(done.stdout)["api"]
    assert not api.endswith(":8080")
    assert "port 8080 is in use by" in done.stderr
    assert api.rpartition(":")[2] in done.stderr


@pytest.mark.parametrize(
    "words", [("stage", "up", "--port", "0"), ("serve", "--port", "0")], ids=["up", "serve"]
)
def test_where_the_token_is_kept_without_a_keyring_is_said_the_first_time_and_no_more(
    home: Path, words: tuple[str, ...]
) -> None:
    kept = home / "config" / "operator.token"
    for notices in (1, 0):
        command = start(home, *words, "--json")
        assert command.stdout is not None
        assert json.loads(command.stdout.readline())  # it is up, or ready
        Cli(home)("stage", "down")
        _, said = command.communicate(timeout=60)
        notice = f"no keyring works here: the operator token is kept in {kept} (mode 0600)"
        assert said.splitlines().count(notice) == notices, said
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_settings_file_counts_and_a_mistake_in_it_is_said(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "console.toml").write_text("[stage]\nport = 0\nlisten = '127.0.0.2'\n")
    done = Cli(home)("stage", "up", "--json")
    assert json.loads(done.stdout)["api"].startswith("http://127.0.0.2:")
    (home / "config" / "console.toml").write_text("[stage]\nprot = 0\n")
    wrong = Cli(home)("stage", "up")
    assert wrong.returncode == 1
    assert "stage.prot" in wrong.stderr
