"""The console's core and the commands where Linux's modules are missing, as far as can be told from here.

A `sitecustomize` on PYTHONPATH takes away what another system lacks, before anything else runs, in the
command and in every Python that it starts: so the publisher, its encoder and the probe meet it as well. What
looks at the system's name as it loads is loaded before that is changed: what it would want is not here.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stage import Stage, command_line, environment
from tests.support.wait import wait_until

PATIENCE_S = 60.0

WITHOUT_LINUX = """
import asyncio, multiprocessing.connection, os, platform, select, shutil, signal, socket, ssl, subprocess
import sys, sysconfig, tempfile
import httpx, keyring, platformdirs, psutil, pydantic, typer, websockets.asyncio.client
sysconfig.get_config_vars()
platformdirs.user_data_dir("x")
for name in ("fcntl", "termios", "pwd", "grp", "resource", "tty", "pty"):
    sys.modules[name] = None
del os.pidfd_open, signal.pidfd_send_signal
del asyncio.open_unix_connection, asyncio.start_unix_server
sys.platform = "other"
"""

# What Windows lacks beside that; its event loop says so of itself (asyncio's "Platform Support").
WINDOWS = (
    WITHOUT_LINUX
    + """
def lacks(*_):
    raise NotImplementedError
for name in ("add_signal_handler", "remove_signal_handler", "add_reader", "add_writer"):
    setattr(asyncio.SelectorEventLoop, name, lacks)
for name in ("fork", "getuid", "geteuid", "killpg", "setsid", "wait4", "sendfile"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "sigwait", "pthread_kill"):
    delattr(signal, name)
sys.modules["uvloop"] = None
sys.platform = "win32"
"""
)

SYSTEMS = {"other": WITHOUT_LINUX, "win32": WINDOWS}


@pytest.fixture(scope="module", params=SYSTEMS)
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes a Python think that it is on such a system."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SYSTEMS[request.param])
    own = {"PYTHONPATH": str(folder), "SHOWCALLER_TOKEN": "x" * 43}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.platform)"],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (request.param, "")
    return own


@pytest.fixture
def system(named: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a command there."""
    return environment(tmp_path / "home") | named


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stage", "up"], 1, "needs Linux"),
        (["serve"], 1, "needs Linux"),
        (["stage", "status", "--json"], 0, '"down"'),
        (["stage", "down", "--json"], 0, '"down"'),
        (["nodes", "--api", "http://127.0.0.1:1"], 3, "connection refused"),
        (["streams", "--api", "http://127.0.0.1:1"], 3, "connection refused"),
        (["publish", "test", "--channel", "main"], 3, "no stage is up"),
        (["publish", "test", "--channel", "main", "--detach"], 3, "no stage is up"),
        (["publish", "test", "--channel", "main", "--api", "http://127.0.0.1:1"], 3, "connection refused"),
        (["probe", "http://127.0.0.1:1/whep/main"], 3, "nobody answers"),
        (["logs"], 0, ""),
        (["doctor"], 1, "Linux"),
        (["--help"], 0, "stage"),
    ],
)
def test_commands_work_or_say_what_they_need(
    system: dict[str, str], words: list[str], code: int, said: str
) -> None:
    done = run(system, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def run(system: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command_line(*words),
        env=system,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.stage
def test_a_broadcast_to_a_stage_elsewhere_is_seen_and_ends_cleanly_by_ctrl_c(
    stage: Stage, named: dict[str, str], tmp_path: Path
) -> None:
    system = environment(tmp_path / "home") | {"PYTHONPATH": named["PYTHONPATH"]}
    there = ["--api", stage.api, "--token-file", str(stage.home / "config" / "operator.token")]
    publishing = subprocess.Popen(
        command_line("publish", "test", "--channel", "main", "--bitrate", "1M", "--json", *there),
        env=system,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        wait_until(
            lambda: (
                publishing.poll() is not None or [one["state"] for one in stage.json("streams")] == ["live"]
            ),
            PATIENCE_S,
            "it is live",
        )
        assert publishing.poll() is None, publishing.communicate()
        seen = run(system, "probe", "main", "--seconds", "2", "--json", *there)
        assert seen.returncode == 0, seen.stderr
        figures = json.loads(seen.stdout)
        assert figures["frames"] > 20
        assert figures["timecodes"] > 0.9 * figures["frames"]
        # As a terminal does: to the command, and to all that it started.
        os.killpg(publishing.pid, signal.SIGINT)
        out, err = publishing.communicate(timeout=PATIENCE_S)
    finally:
        if publishing.poll() is None:
            os.killpg(publishing.pid, signal.SIGKILL)
            publishing.communicate()
    assert (publishing.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["state"] == "ended"
    assert stage.json("streams") == []


@pytest.mark.parametrize("named", ["win32"], indirect=True)
def test_a_swarm_says_where_it_can_be_run(system: dict[str, str]) -> None:
    """Windows' event loop watches no sockets for others."""
    done = run(system, "swarm", "http://127.0.0.1:1/whep/main", "--viewers", "2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a swarm needs Linux or macOS.")
    assert len(done.stderr.splitlines()) == 1
