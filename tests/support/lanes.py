"""Two lanes of tests side by side: whole shows in one, everything else in the other.

A pytest plugin, loaded by tests/conftest.py. Most of the suite's time is spent waiting for real processes,
and two cores have room for two such waits, but not for two whole shows with browsers. So `make test` runs two
processes (pytest-xdist), and every test belongs to the lane its folder is in. Without `-n`, or with `-n 0`,
all run one after the other as ever.

A scheduler of our own and not `xdist_group` marks: pytest-xdist 3.8 hides a group in a test's name, where
pytest 9.2 does not look for it any more.
"""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

SHOWS = ("browser", "scenarios", "terminal")  # folders of tests/


def lane(name: str) -> str:
    """The lane of a test, by its name: its file as seen from the root of the project, and more."""
    folders = PurePosixPath(name.partition("::")[0]).parts
    return "shows" if len(folders) > 2 and folders[0] == "tests" and folders[1] in SHOWS else "pieces"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid)

    return Lanes(config, log)
