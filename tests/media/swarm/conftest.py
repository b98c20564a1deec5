"""A server to watch, and the command that watches."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from tests.media.swarm.server import WhepServer

PATIENCE_S = 60.0


@pytest.fixture
async def server() -> AsyncIterator[WhepServer]:
    async with WhepServer() as it:
        yield it


async def run_swarm(*words: str) -> tuple[int, str, str]:
    """`python -m media.swarm WORDS`, with nothing on stdin: its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "media.swarm", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(b""), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
