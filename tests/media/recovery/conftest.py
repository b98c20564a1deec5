"""A virtual world a test."""

import pytest

from tests.media.recovery.world import Show


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    return Show(monkeypatch)
