"""Golden text: what a screen shows, kept as a file beside the tests.

A screen that differs from its file is a failure that shows the lines. `SHOWCALLER_GOLDEN=new make test
PYTEST_ARGS=tests/console/screens/test_golden.py` writes the files anew;
the difference is then read in the commit.
"""

import contextlib
import difflib
import os
from pathlib import Path

from tests.console.screens.stand import Stand
from tests.support.wait import NotInTime, wait_for

GOLDEN = Path(__file__).parent / "golden"
DRAWN_S = 5.0
AT_REST_S = 0.5  # before a file is written anew


async def assert_golden(name: str, it: Stand) -> None:
    """The screen comes to be what its file says, and is so still when the console has nothing left to do."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SHOWCALLER_GOLDEN") == "new":
        await it.pilot.pause(AT_REST_S)
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(_shown(it), encoding="utf-8")
        return
    assert path.exists(), f"no golden file {path.name}: look at the screen, then SHOWCALLER_GOLDEN=new"
    kept = path.read_text(encoding="utf-8")

    async def drawn() -> bool:
        await it.pilot.pause(0.02)
        return _shown(it) == kept

    with contextlib.suppress(NotInTime):  # the lines that differ say more
        await wait_for(drawn, DRAWN_S, interval=0)
        await it.pilot.pause()
    text = _shown(it)
    if kept != text:
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), "golden", "shown", lineterm="")
        raise AssertionError(f"{path.name} differs:\n" + "\n".join(lines))


def _shown(it: Stand) -> str:
    return it.text().rstrip("\n") + "\n"
