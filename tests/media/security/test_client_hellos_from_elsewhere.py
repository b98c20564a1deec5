"""DTLS is only looked at from an address that ICE has validated, however early a ClientHello is."""

import asyncio

from media.core.dtls import DtlsEndpoint
from tests.media.security.stand import Show, heard_by, own_certificate, spray, udp

HANDSHAKES = 500
AT_ONCE = 16
HELLOS_A_SECOND = 1_000


def client_hello() -> bytes:
    endpoint = DtlsEndpoint(own_certificate(), "client", ())
    endpoint.start(0.0)
    (hello,) = endpoint.outgoing()
    return hello


async def test_five_hundred_handshakes_under_a_spray_of_client_hellos(show: Show) -> None:
    hello = client_hello()
    places = asyncio.Semaphore(AT_ONCE)
    connected = 0

    async def join() -> None:
        nonlocal connected
        async with places:
            peer = show.peer()
            await peer.join(show.worker)
            connected += 1
            peer.leave()
            show.peers.remove(peer)

    with udp("127.0.0.66") as near, udp("127.1.2.3") as far:
        attackers = (near, far)
        joining = asyncio.gather(*(join() for _ in range(HANDSHAKES)))
        sprayed = await spray(
            lambda number: attackers[number % 2].sendto(hello, show.worker.address),
            1_000_000,
            HELLOS_A_SECOND,
            stop=joining.done,
        )
        await joining
        assert connected == HANDSHAKES
        assert sprayed > HANDSHAKES
        assert [heard_by(attacker) for attacker in attackers] == [[], []]
