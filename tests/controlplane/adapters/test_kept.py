"""Connections that are kept are made one after the other, and nobody waits for one that nobody makes."""

import asyncio
from typing import Any

import pytest

from controlplane.adapters.control.kept import Answer, KeptConnections
from controlplane.adapters.control.pinned import PinnedContext
from tests.controlplane.adapters.test_control import OURS, endpoint
from tests.support.wait import wait_for


class Counted(KeptConnections):
    """That counts how often a connection was begun, and how many were being made at once."""

    def __init__(self) -> None:
        super().__init__(at_once=8, connect_s=5.0, idle_s=5.0)
        self.context = PinnedContext(OURS.fingerprint)
        self.begun = self.now = self.most = 0
        self.held: asyncio.Event | None = None
        real = self._loop.create_connection

        async def create_connection(*args: Any, **more: Any) -> Any:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                if self.held is not None:
                    await self.held.wait()
                return await real(*args, **more)
            finally:
                self.now -= 1

        self._loop = _Loop(self._loop, create_connection)  # type: ignore[assignment]

    async def to(self, port: int) -> Answer:
        return await self.ask("POST", f"https://127.0.0.1:{port}", "/", self.context, {}, b"", 5.0)


class _Loop:
    def __init__(self, loop: asyncio.AbstractEventLoop, create_connection: Any) -> None:
        self._loop = loop
        self.create_connection = create_connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_a_storm_makes_one_connection_after_the_other() -> None:
    kept = Counted()
    async with endpoint(OURS.server_context()) as there:
        answers = await asyncio.gather(*(kept.to(there.port) for _ in range(200)))
        assert {it.status for it in answers} == {200}
        assert len(there.heard) == 200
        assert kept.most == 1
        assert there.connections == kept.begun <= 8
        await kept.close()


async def test_where_none_can_be_made_all_who_wait_are_told_at_once() -> None:
    kept = Counted()
    async with endpoint(OURS.server_context()) as there:
        port = there.port  # nobody listens there any more
    found = await asyncio.gather(*(kept.to(port) for _ in range(8)), return_exceptions=True)
    assert {type(it) for it in found} == {ConnectionRefusedError}
    assert kept.begun == 1
    await kept.close()


async def test_whoever_gives_up_making_one_leaves_it_to_the_next() -> None:
    kept = Counted()
    kept.held = asyncio.Event()
    async with endpoint(OURS.server_context()) as there:
        first, second, third = (asyncio.ensure_future(kept.to(there.port)) for _ in range(3))
        await wait_for(lambda: kept.begun == 1, 5, "the first makes one")
        first.cancel()
        await wait_for(lambda: kept.begun == 2, 5, "the next makes one")
        third.cancel()  # one who only waits
        kept.held.set()
        assert (await second).status == 200
        for given_up in (first, third):
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert (await kept.to(there.port)).status == 200
        assert (kept.begun, there.connections) == (2, 1)
        await kept.close()


async def test_whose_turn_it_is_and_who_has_gone_wakes_the_next() -> None:
    kept = Counted()
    kept.held = asyncio.Event()
    async with endpoint(OURS.server_context()) as there:
        tasks = [asyncio.ensure_future(kept.to(there.port)) for _ in range(4)]
        await wait_for(lambda: kept.begun == 1, 5, "the first makes one")
        (place,) = kept._places.values()
        await wait_for(lambda: len(place.waiting) == 3, 5, "the others wait")
        place.wake()
        tasks[1].cancel()  # in the very moment that it is woken
        kept.held.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(it, Answer) for it in found] == [True, False, True, True]
        await kept.close()
