"""Nothing is amplified, and nothing is kept for strangers; sessions that nobody comes to are bounded."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import psutil
import pytest

from controlplane.wire.nodes import Role, SessionKind
from media.core.dtls import DtlsEndpoint
from media.drive import udp as drive
from media.node import engine
from tests.media.core.emulated_network import EDGE, ORIGIN, subscribe
from tests.media.security.stand import (
    Peer,
    Refused,
    Show,
    heard_by,
    nomination,
    own_certificate,
    spray,
    udp,
    until,
)
from tests.media.security.test_client_hellos_from_elsewhere import client_hello

SPOOFED = 100_000
A_SECOND = 20_000
SOURCES = 50
MIB = 1 << 20
OFFERS = 10_000


def kinds(ufrag: str) -> Iterator[bytes]:
    """One datagram of each kind that a stranger may send, the first bytes of RFC 7983 among them."""
    yield nomination(f"{ufrag}:them", os.urandom(24))
    yield nomination(f"{ufrag}:them", None)
    yield nomination("nobody:them", os.urandom(24))
    yield b"\x01\x01\x00\x00\x21\x12\xa4\x42" + os.urandom(12)  # a STUN answer
    yield client_hello()
    yield b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"  # a fatal alert
    yield b"\x80\x66" + os.urandom(1100)
    yield b"\x81\xc9\x00\x07" + os.urandom(40)
    yield from (bytes((first,)) + os.urandom(60) for first in (16, 64, 100, 200, 255))
    yield os.urandom(1400)
    yield b"\x00"
    yield b""


async def test_a_hundred_thousand_spoofed_datagrams(show: Show) -> None:
    viewer = await show.viewer()
    assert viewer.session is not None
    datagrams = list(kinds(viewer.session.config.remote.credentials.ufrag))
    show.publisher.pause()
    viewer.leave()
    show.peers.remove(viewer)
    await until(lambda: show.worker.ended(viewer.name), "the viewer has left")
    before, rss = await show.worker.report(), show.worker.rss
    with ExitStack() as stack:
        strangers = [stack.enter_context(udp(f"127.0.0.{number + 2}")) for number in range(SOURCES)]

        def send(number: int) -> None:
            strangers[number % SOURCES].sendto(datagrams[number % len(datagrams)], show.worker.address)

        assert await spray(send, SPOOFED, A_SECOND) == SPOOFED
        after = await show.worker.report()
        assert [heard_by(stranger) for stranger in strangers] == [[]] * SOURCES
    received = after["received"] - before["received"]
    assert received > SPOOFED * 100, "they have come"
    assert after["sent"] - before["sent"] <= received / 100, "what the publisher is told, and no more"
    assert show.worker.rss - rss < 64 * MIB


async def test_ten_thousand_offers_that_nobody_comes_to(show: Show) -> None:
    viewer = await show.viewer()
    nobody = Peer()
    rss, begun = show.worker.rss, len(viewer.rtp)
    codes: list[str] = []
    try:
        for number in range(OFFERS):
            try:
                await show.worker.session("whep", nobody.offer, f"nobody-{number}")
                codes.append("created")
            except Refused as refused:
                codes.append(f"{refused.status} {refused.code}")
    finally:
        nobody.socket.close()
    taken = codes.count("created")
    assert codes == ["created"] * taken + ["503 too_many_joining"] * (OFFERS - taken)
    assert taken == engine.JOINING_MAX
    assert show.worker.rss - rss < 64 * MIB
    assert len(viewer.rtp) > begun
    assert await show.nothing_lost(viewer)


@pytest.fixture
async def one_engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[engine.Engine]:
    monkeypatch.setattr(engine, "JOINING_MAX", 3)
    loop = asyncio.get_running_loop()
    sock = drive.bind(None, dual_stack=False)
    made = engine.Engine(loop, Role.EDGE, sock, ["127.0.0.1"], lambda _: None)
    yield made
    made.shutdown("the test ends")


async def test_who_connects_or_leaves_makes_room_for_the_next(one_engine: engine.Engine) -> None:
    peers = [Peer() for _ in range(5)]

    def create(peer: Peer) -> str:
        return one_engine.create(peer.name, SessionKind.WHEP, "main", peer.offer).answer

    try:
        answers = [create(peer) for peer in peers[:3]]
        with pytest.raises(engine.Refused) as refused:
            create(peers[3])
        assert refused.value.problem["status"] == 503
        peers[0].begin(answers[0])
        await until(lambda: peers[0].ready, "one is connected")
        create(peers[3])
        one_engine.close(peers[1].name, "it left")
        create(peers[4])
        with pytest.raises(engine.Refused):
            create(Peer())
    finally:
        for peer in peers:
            peer.close()


def test_a_session_nobody_comes_to_has_no_openssl_connection() -> None:
    pair = subscribe()
    origin = pair.origin.session
    assert origin._dtls._connection is None
    assert pair.network.run_until(lambda: bool(pair.origin.connected))
    assert origin._dtls._connection is None, "nor has one whose address is known"
    assert pair.network.run_until(lambda: pair.ready)
    assert origin._dtls._connection is None, "nor one whose keys are exported"
    assert pair.edge.session._dtls._connection is not None


def fragment(sequence: int, offset: int, length: int) -> bytes:
    """A record with a kilobyte of a handshake message that is said to be `length` bytes long."""
    body = b"x" * 1000
    message = b"\x10" + length.to_bytes(3, "big") + sequence.to_bytes(2, "big")
    message += offset.to_bytes(3, "big") + len(body).to_bytes(3, "big") + body
    number = (sequence * 1000 + offset // 1000).to_bytes(6, "big")
    return b"\x16\xfe\xfd\x00\x00" + number + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("length", [8_000, 100_000, 0xFFFFFF])
def test_messages_that_are_promised_and_never_come_hold_little_memory(length: int) -> None:
    """OpenSSL would keep a megabyte for nine of a hundred kilobytes."""
    process = psutil.Process()
    hello = client_hello()
    endpoints = [DtlsEndpoint(own_certificate(), "server", ()) for _ in range(60)]
    for endpoint in endpoints[:10]:  # what is made once is made
        endpoint.receive(hello, 0.0)
    before = process.memory_info().rss
    for endpoint in endpoints[10:]:
        endpoint.receive(hello, 0.0)
        for sequence in range(2, 11):
            for offset in range(0, 6_000, 1000):  # all of it is within MAX_HANDSHAKE
                endpoint.receive(fragment(sequence, offset, length), 0.0)
    assert (process.memory_info().rss - before) / 50 < 200_000


def test_a_last_flight_that_is_asked_for_again_is_no_lever() -> None:
    """Forged, it comes back about once each 50 ms; and not at all once the peer has sent media."""
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    origin, network = pair.origin.session, pair.network
    finished = b"\x16\xfe\xfd\x00\x01" + bytes(5) + b"\x00\x00\x28" + os.urandom(40)
    hello = client_hello()

    def forge(datagram: bytes, count: int, a_second: int) -> int:
        """Bytes that were sent for it."""
        network.drain(pair.origin)
        told = len(pair.origin.sent)
        for number in range(count):
            origin.receive(datagram, EDGE, network.now + number / a_second)
        network.drain(pair.origin)
        return sum(len(item.data) for item in pair.origin.sent[told:])

    assert 0 < forge(finished, 1000, 1000) <= 20 * 80
    network.run_for(2)
    assert forge(hello, 1000, 1000) == 0
    assert forge(finished[:13] + b"short", 1000, 1000) == 0
    network.run_for(2)
    outbound = pair.edge.session.outbound
    assert outbound is not None
    origin.receive(outbound.protect_rtcp(b"\x80\xc9\x00\x01\x00\x00\x00\x01"), EDGE, network.now)
    assert forge(finished, 1000, 1000) == 0
    assert pair.ready
    assert origin.remote == EDGE != ORIGIN
