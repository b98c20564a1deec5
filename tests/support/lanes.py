"""Two lanes of tests side by side, and never two whole shows at once.

A pytest plugin, loaded by tests/conftest.py. Most of the suite's time is spent waiting for real processes,
and two cores have room for two such waits, but not for two whole shows with browsers. So `make test` runs two
processes (pytest-xdist): one takes all the shows, the other file after file of everything else, and whoever
is done helps with the files that are left. Without `-n`, or with `-n 0`, all run one after the other as ever.

A scheduler of our own and not `xdist_group` marks: pytest-xdist 3.8 hides a group in a test's name, where
pytest 9.2 does not look for it any more.
"""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

SHOWS = ("browser", "scenarios", "terminal")  # folders of tests/


def together(name: str) -> str:
    """What a test is kept in one process with, by its name: all the shows, or the tests of its file."""
    file = name.partition("::")[0]
    folders = PurePosixPath(file).parts
    return "shows" if len(folders) > 2 and folders[0] == "tests" and folders[1] in SHOWS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Lanes(config, log)
