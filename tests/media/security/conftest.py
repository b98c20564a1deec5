"""A show for every test that asks: a real worker, and a publisher on air."""

from collections.abc import AsyncIterator

import pytest

from tests.media.security.stand import Show, running_show


@pytest.fixture
async def show() -> AsyncIterator[Show]:
    async with running_show() as made:
        yield made
