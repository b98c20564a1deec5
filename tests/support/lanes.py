"""Two lanes of tests side by side: whole shows in one, everything else in the other.

A pytest plugin, loaded by tests/conftest.py. Most of the suite's time is spent waiting for real processes,
and two cores have room for two such waits, but not for two whole shows with browsers. So `make test` runs two
processes (pytest-xdist, `--dist loadgroup`), and every test belongs to the lane its folder is in. Without
`-n`, or with `-n 0`, all run one after the other as ever.
"""

from pathlib import Path

import pytest

SHOWS = ("browser", "scenarios", "terminal")  # folders below tests/
TESTS = Path(__file__).parent.parent


def lane(path: Path) -> str:
    """The lane of a test file."""
    inside = path.relative_to(TESTS) if path.is_relative_to(TESTS) else path
    return "shows" if inside.parts[0] in SHOWS else "pieces"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(lane(item.path)))
