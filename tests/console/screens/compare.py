"""Golden text: what a screen shows, kept as a file beside the tests.

A screen that differs from its file is a failure that shows the lines. `SHOWCALLER_GOLDEN=new make test
PYTEST_ARGS=tests/console/screens/test_golden.py` writes the files anew;
the difference is then read in the commit.
"""

import difflib
import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = text.rstrip("\n") + "\n"
    if os.environ.get("SHOWCALLER_GOLDEN") == "new":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"no golden file {path.name}: look at the screen, then SHOWCALLER_GOLDEN=new"
    kept = path.read_text(encoding="utf-8")
    if kept != text:
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), "golden", "shown", lineterm="")
        raise AssertionError(f"{path.name} differs:\n" + "\n".join(lines))
