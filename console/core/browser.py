"""A Chromium or Chrome on this machine: one rule for `doctor`, the tests and `make test`.

`CHROMIUM_PATH` names one by hand: it is taken as it is, and nothing else is guessed when it is wrong. Else
the usual names are looked for on PATH, and on macOS where applications are.

Only the standard library is imported here, since `.ci/system-packages` asks before anything is installed:
`python console/core/browser.py` prints the path; exit code 1 without one, 2 when `CHROMIUM_PATH` is wrong.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chrome", "chromium-browser", "microsoft-edge")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
HEAD_BYTES = 4096  # a stub is a short script


def find_browser(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The one that CHROMIUM_PATH names, else the first that is there and no snap stub."""
    named = environment.get("CHROMIUM_PATH")
    if named:
        path = Path(named)
        return path if path.is_file() and os.access(path, os.X_OK) else None
    search = environment.get("PATH", os.defpath)
    candidates = [Path(found) for name in NAMES if (found := shutil.which(name, path=search))]
    if sys.platform == "darwin":
        candidates += [Path(path) for path in MAC if Path(path).exists()]
    return next((path for path in candidates if not is_snap_stub(path)), None)


def is_snap_stub(path: Path) -> bool:
    """Ubuntu's chromium package is a script that calls a snap, or a link to one: no use to a headless test.

    A program that only has the word somewhere in it is none.
    """
    real = path.resolve()
    if "/snap/" in str(real) or real.name == "snap":
        return True
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return True
    return head.startswith(b"#!") and b"snap" in head


if __name__ == "__main__":
    browser = find_browser()
    if browser is not None:
        print(browser)
    sys.exit(0 if browser is not None else 2 if os.environ.get("CHROMIUM_PATH") else 1)
