"""What a test measured, printed at the end of the test run also when everything passed.

The suite asserts generous bounds; the figures themselves are for people (`make bench` holds them to more).
"""

from collections.abc import Callable

import pytest

Figure = Callable[[str], None]

_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """`figure("first frame 210 ms")`"""
    lines = request.config.stash.setdefault(_LINES, [])
    name = request.node.name

    def note(line: str) -> None:
        lines.append(f"{name}: {line}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.line(line)
