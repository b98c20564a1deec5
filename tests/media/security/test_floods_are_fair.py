"""A flood on one socket delays nobody else: each turn of reading is bounded, in datagrams and in time."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from media.core.session import Address
from media.drive.timers import Timers
from media.drive.udp import TURN_S, UdpEndpoint, bind
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
        self.soon: list[Any] = []

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, callback: Any) -> None:
        self.callback = callback

    def remove_reader(self, fd: int) -> None: ...

    def call_soon(self, callback: Any) -> Any:
        self.soon.append(callback)
        return SimpleNamespace(cancel=self.soon.clear)

    def turn(self) -> None:
        """One turn of the loop: what was to come soon, then what can be read."""
        soon, self.soon = self.soon, []
        for callback in (*soon, self.callback):
            callback()


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
            clock.turn()
            turns.append(clock.now - began)
            assert len(taken) > before
    assert max(turns) <= 0.005 + 2 * step
    endpoint.close()


HELLO, MEDIA = b"\x16", b"\x80"  # RFC 7983


@pytest.mark.parametrize("step", [0.0002, 0.001, 0.002])
def test_media_waits_for_the_rest_of_a_turn_and_no_longer(step: float) -> None:
    """A crowd's handshakes are there, all of them; a publisher sends a packet each 10 ms while they are dealt
    with."""
    clock = SlowClock(step)
    hellos: list[int] = []
    sent: dict[bytes, float] = {}
    waited: list[float] = []

    def take(data: bytes, source: Address, now: float) -> None:
        if data[:1] == MEDIA:
            waited.append(now - sent[data])
            return
        hellos.append(int.from_bytes(data[1:], "big"))
        clock.now += step
        if clock.now >= 0.010 * (len(sent) + 1):
            packet = MEDIA + len(sent).to_bytes(4, "big")
            sent[packet] = clock.now
            sender.sendto(packet, ("127.0.0.1", endpoint.port))

    endpoint = UdpEndpoint(clock, bind(None, dual_stack=False), take, lambda now: None)  # type: ignore[arg-type]
    with udp() as sender:
        for number in range(1500):
            sender.sendto(HELLO + number.to_bytes(4, "big"), ("127.0.0.1", endpoint.port))
        while len(hellos) < 1500 or len(waited) < len(sent):
            clock.turn()
    assert hellos == list(range(1500)), "each once, in the order in which they came"
    assert len(waited) >= 25
    assert max(waited) <= TURN_S + step
    endpoint.close()


def test_what_may_wait_is_bounded_and_media_is_never_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.drive.udp.WAITING", 100)
    clock = SlowClock(0.001)
    taken: list[bytes] = []

    def take(data: bytes, source: Address, now: float) -> None:
        taken.append(data)
        clock.now += clock.step * (data[:1] == HELLO)

    endpoint = UdpEndpoint(clock, bind(None, dual_stack=False), take, lambda now: None)  # type: ignore[arg-type]
    with udp() as sender:
        for number in range(300):
            sender.sendto((HELLO, MEDIA, HELLO)[number % 3] + b"x", ("127.0.0.1", endpoint.port))
        for _ in range(100):
            clock.turn()
    assert taken.count(MEDIA + b"x") == 100
    assert len(taken) + endpoint.datagrams_dropped == 300
    assert endpoint.datagrams_dropped >= 80
    endpoint.close()


def test_a_closed_socket_hands_on_nothing_of_what_waited() -> None:
    clock = SlowClock(0.010)
    taken: list[bytes] = []

    def take(data: bytes, source: Address, now: float) -> None:
        taken.append(data)
        clock.now += clock.step

    endpoint = UdpEndpoint(clock, bind(None, dual_stack=False), take, lambda now: None)  # type: ignore[arg-type]
    with udp() as sender:
        for _ in range(10):
            sender.sendto(HELLO, ("127.0.0.1", endpoint.port))
        clock.turn()
        assert (len(taken), len(clock.soon)) == (1, 1)
        endpoint.close()
        assert not clock.soon
    assert len(taken) == 1


def test_a_relays_socket_keeps_its_order_also_where_the_kernel_coalesces_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of its handshake and the first picture may come in one read."""
    monkeypatch.setattr(UdpEndpoint, "_enable_gro", lambda self: False)
    clock = SlowClock(0.0)
    taken: list[bytes] = []
    endpoint = UdpEndpoint(
        clock,  # type: ignore[arg-type]
        bind(None, dual_stack=False),
        lambda data, source, now: taken.append(data),
        lambda now: None,
        on_run=not_taken,
    )
    with udp() as sender:
        for kind in (HELLO, MEDIA, HELLO, MEDIA):
            sender.sendto(kind, ("127.0.0.1", endpoint.port))
        clock.turn()
    assert taken == [HELLO, MEDIA, HELLO, MEDIA]
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
