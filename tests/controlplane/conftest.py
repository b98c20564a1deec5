"""Fixtures: a stage in service, made anew for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.controlplane.stage import Show, running


@pytest.fixture
async def show(tmp_path: Path) -> AsyncIterator[Show]:
    """A stream manager with one origin and one edge in service."""
    async with running(tmp_path) as stage:
        await stage.until({"origin-1": "in_service", "edge-1": "in_service"})
        yield stage
