"""What this machine has of what Showcaller needs: `showcaller doctor`, and the suite's own questions.

Nothing is installed or changed. `needed` says for what: "stage" must be there to run one; the others only
limit what can be done here.
"""

import importlib.util
import locale
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from console.core.browser import find_browser
from console.core.credentials import keyring_state
from console.core.errors import StageError
from console.core.paths import Home
from console.core.stage.model import DEFAULT_PORT

UDP_SEGMENT = 103  # linux/udp.h
SOL_UDP = 17
LEAST_COLUMNS, LEAST_ROWS = 80, 24
LEAST_FREE_BYTES = 500 * 2**20
PACKAGES = ("av", "aiortc", "OpenSSL", "pylibsrtp", "cffi", "fastapi", "uvicorn", "sqlalchemy", "textual")


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str  # what is there, in words
    fix: str = ""  # how to get it, when it is not as it should be
    needed: str = "stage"  # "stage" | "tests" | "comfort"

    @property
    def fatal(self) -> bool:
        return not self.ok and self.needed == "stage"


def run_checks(home: Home, environment: Mapping[str, str] = os.environ) -> list[Check]:
    """All of them, in the order of importance. Each looks for itself and never raises."""
    checks: list[Callable[[], Check]] = [
        check_system,
        check_python,
        check_packages,
        lambda: check_home(home),
        lambda: check_disk(home),
        check_port,
        check_gso,
        check_keyring,
        lambda: check_utf8(environment),
        check_terminal,
        lambda: check_browser(environment),
        lambda: check_program("tmux", "tests", "the console's tests in a real terminal"),
        lambda: check_program("ffmpeg", "tests", "making clips for the tests"),
    ]
    return [check() for check in checks]


def check_system() -> Check:
    ok = sys.platform == "linux"
    fix = "" if ok else "Stage and nodes run on Linux; from here, operate one with --api and --token-file"
    return Check("system", ok, sys.platform, fix)


def check_python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check(
        "python", ok, ".".join(map(str, sys.version_info[:3])), "" if ok else "Install Python 3.11 or newer"
    )


def check_packages() -> Check:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    fix = "Run `make setup`, or install the wheel with its dependencies" if missing else ""
    return Check("packages", not missing, f"missing: {', '.join(missing)}" if missing else "all there", fix)


def check_home(home: Home) -> Check:
    try:
        home.prepare()
    except StageError as error:
        return Check("home", False, error.what, error.next_step)
    return Check("home", True, f"{home.root} is writable")


def check_disk(home: Home) -> Check:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    ok = free >= LEAST_FREE_BYTES
    fix = "" if ok else "Free some, or move SHOWCALLER_HOME to a larger disk"
    return Check("disk space", ok, f"{free / 1e9:.1f} GB free", fix)


def check_port() -> Check:
    from console.core.stage.ports import pick_port

    try:
        picked = pick_port("127.0.0.1", None)
    except StageError as error:
        return Check("port", False, error.what, error.next_step)
    ok = picked.port == DEFAULT_PORT
    fix = "" if ok else "A new stage takes the next free one, or the one given with --port N"
    return Check(
        "port",
        ok,
        f"{DEFAULT_PORT} is free" if ok else f"{DEFAULT_PORT} is in use by {picked.holder}",
        fix,
        "comfort",
    )


def check_gso() -> Check:
    """Whether the kernel takes UDP_SEGMENT: one system call a frame and viewer instead of one a packet."""
    if sys.platform != "linux":
        return Check("UDP GSO", False, "Linux only", "", "comfort")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
    except OSError as error:
        fix = "Works without, at a third of the viewers a core; a kernel of 4.18 or newer has it"
        return Check("UDP GSO", False, (error.strerror or "refused").lower(), fix, "comfort")
    return Check("UDP GSO", True, "UDP_SEGMENT is taken", "", "comfort")


def check_keyring() -> Check:
    works, words = keyring_state()
    fix = "" if works else "The operator token is kept in a file of mode 0600 instead"
    return Check("keyring", works, words, fix, "comfort")


def check_utf8(environment: Mapping[str, str] = os.environ) -> Check:
    encoding = (sys.stdout.encoding or locale.getpreferredencoding(False)).lower().replace("-", "")
    ok = encoding == "utf8"
    fix = "" if ok else "Set LANG=C.UTF-8; until then the console draws with plain characters"
    return Check("UTF-8", ok, sys.stdout.encoding or "unknown", fix, "comfort")


def check_terminal() -> Check:
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        fix = "The console needs one; every action is a plain command, too"
        return Check("terminal", False, "stdout is no terminal", fix, "comfort")
    ok = columns >= LEAST_COLUMNS and rows >= LEAST_ROWS
    fix = "" if ok else f"The console wants at least {LEAST_COLUMNS}x{LEAST_ROWS}"
    return Check("terminal", ok, f"{columns}x{rows}", fix, "comfort")


def check_browser(environment: Mapping[str, str] = os.environ) -> Check:
    found = find_browser(environment)
    if found is not None:
        return Check("browser", True, str(found), "", "tests")
    named = environment.get("CHROMIUM_PATH")
    words = f"CHROMIUM_PATH={named} cannot be run" if named else "no Chromium or Chrome here"
    fix = "To watch here and for the tests: `apt-get install chromium`, or name one with CHROMIUM_PATH"
    return Check("browser", False, words, fix, "tests")


def check_program(name: str, needed: str, purpose: str) -> Check:
    found = shutil.which(name)
    if found:
        return Check(name, True, found, "", needed)
    return Check(name, False, "not found", f"For {purpose}: `apt-get install {name}`", needed)
