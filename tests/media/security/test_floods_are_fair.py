"""A flood on one socket delays nobody else: each turn of reading is bounded, in datagrams and in time."""

import asyncio
import os
from typing import Any

import pytest

from media.core.session import Address
from media.drive.timers import Timers
from media.drive.udp import UdpEndpoint, bind
from tests.media.security.stand import Show, spray, udp, until

QUEUED = 3_000


def not_taken(data: memoryview, stride: int, source: Address, now: float) -> bool:
    return False


@pytest.mark.parametrize("gro", [False, True])
async def test_other_sockets_and_timers_get_their_turn_within_a_turn(gro: bool) -> None:
    """What is due while thousands of datagrams wait on one socket is done after one turn of them."""
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def take(name: str) -> Any:
        return lambda data, source, now: order.append(name)

    flooded = UdpEndpoint(
        loop, bind(None, dual_stack=False), take("flood"), lambda now: None, on_run=not_taken if gro else None
    )
    media = UdpEndpoint(
        loop, bind(None, dual_stack=False), take("media"), lambda now: None, on_run=not_taken if gro else None
    )
    timers = Timers(loop)
    with udp() as sender:
        for _ in range(QUEUED):
            sender.sendto(b"x" * 100, ("127.0.0.1", flooded.port))
        sender.sendto(b"picture", ("127.0.0.1", media.port))
        timers.set("timer", loop.time(), lambda now: order.append("timer"))
        await until(lambda: order.count("flood") == QUEUED, "all of it has been read")
    assert order.index("media") <= 128
    assert order.index("timer") <= 128
    flooded.close()
    media.close()


class SlowClock:
    """A loop whose time passes with every datagram, as if each were a step of a handshake."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, callback: Any) -> None:
        self.callback = callback

    def remove_reader(self, fd: int) -> None: ...


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize("step", [0.0002, 0.001, 0.010])
def test_a_turn_of_dear_datagrams_ends_by_the_clock(step: float, gro: bool) -> None:
    clock = SlowClock(step)
    taken: list[int] = []

    def take(data: bytes, source: Address, now: float) -> None:
        taken.append(1)
        clock.now += step

    endpoint = UdpEndpoint(
        clock, bind(None, dual_stack=False), take, lambda now: None, on_run=not_taken if gro else None
    )  # type: ignore[arg-type]
    with udp() as sender:
        for _ in range(500):
            sender.sendto(b"x" * 100, ("127.0.0.1", endpoint.port))
        turns = []
        while len(taken) < 500:
            began, before = clock.now, len(taken)
            clock.callback()
            turns.append(clock.now - began)
            assert len(taken) > before
    assert max(turns) <= 0.005 + 2 * step
    endpoint.close()


async def test_a_flood_from_everywhere_loses_a_viewer_nothing(show: Show) -> None:
    """On one core, at ten times what a worker with six hundred viewers hears from them."""
    viewer = await show.viewer()
    flood = [os.urandom(200), b"\x80" + os.urandom(1100), b"\x16\xfe\xfd" + os.urandom(200)]
    with udp("127.0.0.66") as stranger:
        await spray(lambda n: stranger.sendto(flood[n % 3], show.worker.address), 40_000, 15_000)
    assert await show.nothing_lost(viewer)
    report = await show.worker.report()
    assert report["received"] > 0
