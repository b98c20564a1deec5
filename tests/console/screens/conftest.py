"""`stand(...)` opens the console on a feed of the test's own; see stand.py."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.wire.api import Snapshot
from controlplane.wire.events import EventView
from tests.console.screens.stand import Stand, make

OpenStand = Callable[..., AbstractAsyncContextManager[Stand]]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock on the wall is UTC, and nothing of this terminal changes what is drawn."""
    monkeypatch.setenv("TZ", "UTC")
    for name in ("NO_COLOR", "SHOWCALLER_ASCII", "SHOWCALLER_HOME", "SHOWCALLER_API"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    os.environ.get("TZ")
    time.tzset()


@pytest.fixture
def stand(tmp_path: Path) -> OpenStand:
    @asynccontextmanager
    async def open_stand(
        first: Snapshot | None = None,
        size: tuple[int, int] = (120, 40),
        page: str = "1",
        events: list[EventView] | None = None,
        **more: Any,
    ) -> AsyncIterator[Stand]:
        made = make(tmp_path, **more)
        made.feed.events = events
        async with made.app.run_test(size=size, notifications=True) as pilot:
            made.pilot = pilot
            if first is not None:
                made.feed.up(first)
                await made.until_shown("link ●" if not made.app.ascii_only else "link *")
                if page != "1":
                    await made.press(page)
            yield made

    return open_stand
