"""The console's core and the commands where Linux's modules are missing, as far as can be told from here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stage import environment

MISSING = ("fcntl", "termios", "pwd", "grp", "resource", "tty", "pty")


def run_without(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command in a Python that lacks them, on a system that says it is not Linux."""
    code = (
        "import sys, os, select, asyncio\n"
        "import signal, subprocess, socket, ssl, tempfile, shutil, platform\n"
        "import httpx, websockets.asyncio.client, psutil, platformdirs, keyring, typer, pydantic, sysconfig\n"
        "sysconfig.get_config_vars(); platformdirs.user_data_dir('x')\n"
        f"for name in {MISSING!r}: sys.modules[name] = None\n"
        "del os.pidfd_open, signal.pidfd_send_signal\n"
        "del asyncio.open_unix_connection, asyncio.start_unix_server\n"
        "sys.platform = 'other'\n"
        "from console.cli.main import main\n"
        f"sys.exit(main({list(words)!r}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home) | {"SHOWCALLER_TOKEN": "x" * 43},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stage", "up"], 1, "needs Linux"),
        (["serve"], 1, "needs Linux"),
        (["stage", "status", "--json"], 0, '"down"'),
        (["stage", "down", "--json"], 0, '"down"'),
        (["nodes", "--api", "http://127.0.0.1:1"], 3, "connection refused"),
        (["streams", "--api", "http://127.0.0.1:1"], 3, "connection refused"),
        (["logs"], 0, ""),
        (["doctor"], 1, "Linux"),
        (["--help"], 0, "stage"),
    ],
)
def test_commands_work_or_say_that_they_need_linux(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = run_without(tmp_path / "home", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
