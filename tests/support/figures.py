"""What a test measured, printed at the end of the test run also when everything passed.

The suite asserts generous bounds; the figures themselves are for people (`make bench` holds them to more).
"""

from collections.abc import Callable

import pytest

Figure = Callable[[str], None]

_NAME = "figure"  # among the properties of a test's report, which also comes from another process


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """`figure("first frame 210 ms")`"""
    node = request.node

    def note(line: str) -> None:
        node.user_properties.append((_NAME, f"{node.name}: {line}"))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for state in ("passed", "failed") for report in terminalreporter.getreports(state)]
    lines = [
        str(line)
        for report in reports
        if report.when == "call"
        for name, line in report.user_properties
        if name == _NAME
    ]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.line(line)
