"""`showcaller --help` stays quick: nothing heavy is loaded for it."""

import subprocess
import sys

import pytest

HEAVY = (
    "textual",
    "httpx",
    "sqlalchemy",
    "av",
    "aiortc",
    "websockets",
    "keyring",
    "structlog",
    "fastapi",
)


def modules_after(*words: str) -> set[str]:
    code = (
        "import sys\n"
        "from console.cli.main import main\n"
        f"code = main({list(words)!r})\n"
        "print('\\n' + ' '.join(name for name in sys.modules if '.' not in name))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["stage", "--help"],
        ["publish", "--help"],
        ["drill", "--help"],
        ["node", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    assert modules_after(*words).isdisjoint(HEAVY)


def test_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "console.cli.main", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    commands = (
        "stage nodes streams publish fleet event drill token journal logs serve node probe swarm doctor"
    )
    assert all(f"  {command} " in done.stdout for command in [*commands.split(" "), "doctor"])
