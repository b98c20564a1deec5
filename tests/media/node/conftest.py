"""The stand of the node tests, one a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.media.node.stand import Stand, stand


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path) as made:
        yield made
