"""Media is UDP/TLS/RTP/SAVPF with keys from DTLS, or there is none: offers of less are refused."""

import re

import pytest

from tests.media.security.stand import Peer, Publisher, Refused, Show, heard_by, udp

SDES = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
TRANSPORTS = (
    *("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/AVPF"),
    *("TCP/TLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVPF", "DTLS/RTP/SAVPF", "udp/tls/rtp/savpf", ""),
)


def with_transport(offer: str, transport: str, kinds: str = "video|audio") -> str:
    return re.sub(rf"^(m=(?:{kinds}) \d+) \S+", rf"\1 {transport}", offer, flags=re.MULTILINE)


def downgraded(offer: str) -> dict[str, str]:
    found = {f"transport {name or 'none'}": with_transport(offer, name) for name in TRANSPORTS}
    found["sound in clear"] = with_transport(offer, "RTP/AVP", "audio")
    found["keys in the session"] = offer.replace("t=0 0\r\n", f"t=0 0\r\n{SDES}\r\n")
    found["keys in a section"] = offer + f"{SDES}\r\n"
    found["keys beside a downgrade"] = with_transport(offer, "RTP/SAVPF") + f"{SDES}\r\n"
    found["no fingerprint"] = re.sub(r"a=fingerprint.*\r\n", "", offer)
    found["fingerprint of SHA-1"] = re.sub(
        r"a=fingerprint:\S+ \S+", "a=fingerprint:sha-1 " + ":".join(["AB"] * 20), offer
    )
    found["no password"] = re.sub(r"a=ice-pwd.*\r\n", "", offer)
    return found


CASES = sorted(downgraded("t=0 0\r\n"))


async def test_offers_of_less_are_refused_and_nothing_is_sent(show: Show) -> None:
    before = await show.worker.report()
    with udp() as sock:
        for make, kind in ((Peer, "whep"), (Publisher, "whip")):
            peer = make()
            try:
                offers = downgraded(peer.offer)
                assert sorted(offers) == CASES
                for name, offer in offers.items():
                    assert offer != peer.offer, name
                    with pytest.raises(Refused) as refused:
                        await peer.ask(show.worker, kind, offer)
                    assert 400 <= refused.value.status < 500, name
                await peer.ask(show.worker, kind)  # as it was, it is taken
            finally:
                peer.socket.close()
        assert heard_by(sock) == []
    after = await show.worker.report()
    made = {row["id"] for row in after["sessions"]} - {row["id"] for row in before["sessions"]}
    assert len(made) == 2


async def test_an_answer_offers_nothing_in_clear(show: Show) -> None:
    viewer = show.peer()
    answer = await viewer.ask(show.worker)
    transports = re.findall(r"^m=\S+ \d+ (\S+)", answer, flags=re.MULTILINE)
    assert set(transports) == {"UDP/TLS/RTP/SAVPF"}
    assert "crypto" not in answer
    viewer.begin(answer)


async def test_what_a_viewer_gets_can_only_be_read_with_its_keys(show: Show) -> None:
    """The picture's bytes are in no datagram, and no two viewers are sent the same."""
    first, second = show.peer(), show.peer()
    wire: dict[str, list[bytes]] = {}
    for peer in (first, second):
        seen = wire[peer.name] = []
        await peer.join(show.worker)
        assert peer.session is not None
        real = peer.session.receive

        def receive(data: bytes, source: tuple[str, int], now: float, real=real, seen=seen) -> None:  # type: ignore[no-untyped-def]
            seen.append(data)
            real(data, source, now)

        peer.session.receive = receive  # type: ignore[method-assign]
    assert await show.nothing_lost(await show.viewer())
    media = [{data[12:] for data in seen if 128 <= data[0] <= 191} for seen in wire.values()]
    assert all(len(seen) > 20 for seen in media)
    assert not media[0] & media[1]
    assert not [data for seen in media for data in seen if b"xxxxxxxx" in data]
