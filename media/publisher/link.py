"""The publisher's end of the encoder process: starts it, reads its items, gives it orders, ends it."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from media.publisher.pipe import HEADER_SIZE, Item, Order, pack_order, unpack_header

_LIMIT = 4 << 20  # bytes read ahead of us; a full pipe holds the encoder back


class EncoderLink:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, settings: dict[str, Any]) -> "EncoderLink":
        environment = {name: value for name, value in os.environ.items() if name != "SHOWCALLER_TOKEN"}
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "media.publisher.encoder",
                json.dumps(settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                limit=_LIMIT,
                process_group=0,  # a Ctrl-C in the terminal reaches the publisher alone
            )
        )
        try:
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:
            # A start that is cancelled half-way may wait for ever for the process it has just made (CPython
            # 3.11): it is let come to its end, which takes milliseconds, and what it started is ended.
            await cls(await starting).close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    async def items(self) -> AsyncIterator[Item]:
        """Until the process closes its end."""
        assert self._process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length, kind, key, pts, capture = unpack_header(
                    await self._process.stdout.readexactly(HEADER_SIZE)
                )
                payload = await self._process.stdout.readexactly(length)
                yield Item(kind, payload, pts, capture, key)

    def order(self, order: Order, value: float = 0.0) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(pack_order(order, value))

    async def wait(self) -> int:
        return await self._process.wait()

    async def close(self) -> None:
        """Closes the pipe, and ends what does not end by that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 0.5)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
