"""Two sessions over an emulated network: an edge (controlling, DTLS client) and an origin (ICE-lite)."""

import pytest

from media.core import rtcp, rtp, stun
from media.core.session import (
    PARTING_PATIENCE,
    Closed,
    Connected,
    DtlsReady,
    RemoteChanged,
    RtcpPacket,
    RtpPacket,
    RtpRun,
    Transmit,
)
from media.core.srtp import AEAD_AES_128_GCM
from tests.media.core.emulated_network import EDGE, ORIGIN, Link, Pair, subscribe

ROUGH = Link(delay=0.02, jitter=0.06, loss=0.2, duplication=0.15)


def connect(link: Link | None = None, seed: int = 1) -> Pair:
    pair = subscribe(link, seed)
    assert pair.network.run_until(lambda: pair.ready, limit=15)
    return pair


def video(sequence: int, payload: bytes = b"picture") -> bytes:
    return rtp.build(
        payload_type=102, sequence=sequence, timestamp=sequence * 3000, ssrc=0x11111111, payload=payload
    )


def send_rtp(pair: Pair, sequence: int) -> None:
    """As the fan-out does it: outbound and remote, past the session."""
    session = pair.origin.session
    assert session.outbound is not None
    assert session.remote is not None
    pair.network.send(session.outbound.protect(video(sequence)), ORIGIN, session.remote)


def test_connects_in_four_round_trips_on_a_clean_link() -> None:
    pair = subscribe(Link(delay=0.010))
    start = pair.network.now
    assert pair.network.run_until(lambda: pair.ready)
    # check, nomination, ClientHello, ClientKeyExchange: a round trip of 20 ms each
    assert pair.network.now - start == pytest.approx(0.080, abs=0.001)
    for host in (pair.edge, pair.origin):
        assert [type(event) for event in host.events] == [Connected, DtlsReady]
        assert host.session.outbound is not None
        assert host.session.outbound.profile is AEAD_AES_128_GCM
    assert pair.edge.session.remote == ORIGIN
    assert pair.origin.session.remote == EDGE
    assert pair.edge.session.stats(pair.network.now).rtt == pytest.approx(0.020, abs=1e-6)


@pytest.mark.parametrize("seed", range(25))
def test_connects_and_delivers_over_a_rough_link(seed: int) -> None:
    pair = connect(ROUGH, seed)
    for sequence in range(200):
        send_rtp(pair, sequence)
    pair.network.run_for(1)
    got = [event.data for event in pair.edge.events if isinstance(event, RtpPacket)]
    assert len(got) > 120  # of 200 at 20 % loss
    assert len(set(got)) == len(got)  # each at most once, though the network doubled some
    assert set(got) <= {video(sequence) for sequence in range(200)}


def test_no_handshake_datagram_is_larger_than_1200_bytes() -> None:
    pair = connect()
    assert max(len(item.data) for host in (pair.edge, pair.origin) for item in host.sent) <= 1200


def test_rtcp_goes_both_ways() -> None:
    pair = connect()
    now = pair.network.now
    report = rtcp.SenderReport(0x11111111, rtcp.ntp_from_unix(1_760_000_000.5), 90_000, 10, 1000)
    pair.origin.session.send_rtcp([report, rtcp.SourceDescription(((0x11111111, "cname"),))], now)
    pair.edge.session.send_rtcp([rtcp.Pli(1, 0x11111111)], now)
    pair.network.drain(pair.origin)
    pair.network.drain(pair.edge)
    pair.network.run_for(0.1)
    assert pair.edge.events[-1] == RtcpPacket([report, rtcp.SourceDescription(((0x11111111, "cname"),))])
    assert pair.origin.events[-1] == RtcpPacket([rtcp.Pli(1, 0x11111111)])


def test_a_wrong_certificate_gets_no_keys_and_ends_within_a_second() -> None:
    def forge(answer: str) -> str:
        start = answer.index("sha-256 ") + 8
        return answer.replace(answer[start : start + 95], "AB:" * 31 + "CD")

    pair = subscribe(change_answer=forge)
    start = pair.network.now
    assert pair.network.run_until(lambda: pair.edge.session.closed)
    assert pair.network.now - start < 1
    assert "certificate does not match" in (pair.edge.closed_because or "")
    pair.network.run_for(2)
    assert pair.origin.session.closed  # it was told by an alert
    assert not pair.edge.seen(DtlsReady)
    assert not pair.origin.seen(DtlsReady)


def test_the_server_checks_the_clients_certificate_too() -> None:
    def forge(offer: str) -> str:
        start = offer.index("sha-256 ") + 8
        return offer.replace(offer[start : start + 95], "AB:" * 31 + "CD")

    pair = subscribe(change_offer=forge)
    assert pair.network.run_until(lambda: pair.origin.session.closed, limit=1)
    assert "certificate does not match" in (pair.origin.closed_because or "")
    assert not pair.origin.seen(DtlsReady)


def test_consent_ends_media_30_seconds_after_the_viewer_vanished() -> None:
    pair = connect()
    pair.network.run_for(20)
    assert pair.ready
    pair.network.blocked.add(EDGE)
    gone = pair.network.now
    assert pair.network.run_until(lambda: pair.origin.session.closed, limit=60)
    assert 26 <= pair.network.now - gone <= 31
    assert "vanished" in (pair.origin.closed_because or "")
    assert pair.origin.session.outbound is None
    assert pair.origin.session.next_timeout() is None


def test_reports_put_the_end_of_consent_off_without_stirring() -> None:
    pair = connect()
    origin = pair.origin.session
    ends = origin.next_timeout()
    assert ends is not None
    assert not origin.stirred
    for _ in range(5):
        pair.network.now += 1.0
        pair.edge.session.send_rtcp([rtcp.ReceiverReport(1)], pair.network.now)
        report = pair.edge.session.poll()
        assert isinstance(report, Transmit)
        origin.receive(report.data, EDGE, pair.network.now)
        assert isinstance(origin.poll(), RtcpPacket)
        assert not origin.stirred
    later = origin.next_timeout()
    assert later is not None
    assert later == pytest.approx(pair.network.now + origin.config.consent_timeout)
    assert later > ends
    origin.handle_timeout(ends)
    assert origin.stirred, "a driver that still had the old moment asks for the new one"
    assert origin.next_timeout() == later


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_media_taken_the_short_way_is_what_is_polled_the_other_way(from_elsewhere: bool) -> None:
    """Also where it gives cause to ask whether the peer has moved."""
    short, usual = connect(seed=7), connect(seed=7)
    said: list[list[object]] = []
    for pair in (short, usual):
        session, source, now = pair.origin.session, EDGE, pair.network.now
        if from_elsewhere:
            source = ("10.0.0.9", 9)
            config = session.config
            name = f"{config.credentials.ufrag}:{config.remote.credentials.ufrag}".encode()
            check = stun.Message(stun.Class.REQUEST, b"from the new", ((stun.Attribute.USERNAME, name),))
            session.receive(check.to_bytes(config.credentials.password.encode()), source, now)
            pair.network.drain(pair.origin)
            session._ice._following.moved()  # type: ignore[attr-defined] # nothing is in doubt yet
        assert pair.edge.session.outbound is not None
        heard: list[object] = []
        for packet in (video(1), video(2)):
            data = pair.edge.session.outbound.protect(packet)
            if pair is short:
                heard.append(session.receive_media(data, source, now))
            else:
                session.receive(data, source, now)
            while (item := session.poll()) is not None:
                heard.append((len(item.data), item.to) if isinstance(item, Transmit) else item)
        forged = bytes(len(video(1)) + 16)
        assert session.receive_media(b"\x80\x66" + forged, source, now) is None
        assert not session.pending
        said.append(heard)
    assert said[0] == said[1]
    assert [item.data for item in said[0] if isinstance(item, RtpPacket)] == [video(1), video(2)]
    assert len(said[0]) == (4 if from_elsewhere else 2)


def test_a_controlling_peer_needs_answers_not_only_media() -> None:
    pair = connect()
    gone = pair.network.now
    end = gone + 40
    pair.origin.session.receive = lambda *_: None  # type: ignore[method-assign]  # deaf to checks
    outbound = pair.origin.session.outbound
    assert outbound is not None
    sequence = 0
    while pair.network.now < end and not pair.edge.session.closed:
        pair.network.send(outbound.protect(video(sequence)), ORIGIN, EDGE)
        sequence += 1
        pair.network.run_for(0.5)
    assert pair.edge.session.closed
    assert 26 <= pair.network.now - gone <= 34


def test_stays_connected_for_an_hour_of_quiet() -> None:
    pair = connect(Link(delay=0.05, jitter=0.05, loss=0.1))
    pair.network.run_for(3600)
    assert pair.ready
    checks = len(pair.edge.sent)
    assert checks < 3600 / 2 + 20  # the pace of consent, not more


def test_closing_tells_the_peer() -> None:
    pair = connect()
    pair.origin.session.close(pair.network.now, "drained")
    pair.origin.session.close(pair.network.now, "again")
    pair.network.drain(pair.origin)
    pair.network.run_for(0.1)
    assert pair.origin.events[-1] == Closed("drained")
    assert pair.edge.events[-1] == Closed("the peer closed the connection")
    assert pair.edge.session.remote is None


def test_a_peer_that_says_good_bye_and_falls_silent_is_gone_in_seconds() -> None:
    """Its good-bye cannot be authenticated any more: the silence after it is what counts."""
    pair = connect()
    pair.edge.session.close(pair.network.now, "drained")
    pair.network.drain(pair.edge)
    left = pair.network.now
    assert pair.network.run_until(lambda: pair.origin.session.closed, limit=30)
    assert pair.origin.closed_because == "the peer closed the connection"
    assert pair.network.now - left <= PARTING_PATIENCE + 0.1


def test_a_peer_that_never_answers_is_given_up() -> None:
    pair = subscribe()
    pair.network.blocked.add(ORIGIN)
    assert pair.network.run_until(lambda: pair.edge.session.closed and pair.origin.session.closed, limit=16)
    assert pair.edge.closed_because == "no address of the peer answered"
    assert pair.origin.closed_because == "no address of the peer was validated in time"


def test_a_handshake_cut_in_the_middle_is_given_up() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.edge.connected and pair.origin.connected)
    pair.network.blocked.add(EDGE)
    assert pair.network.run_until(lambda: pair.edge.session.closed and pair.origin.session.closed, limit=20)
    assert pair.origin.closed_because == "the DTLS handshake took too long"


def test_the_best_candidate_that_answers_is_chosen() -> None:
    dead = ("10.9.9.9", 1)
    pair = subscribe(origin_addresses=(dead, ORIGIN))
    assert pair.network.run_until(lambda: pair.ready, limit=2)
    assert pair.edge.session.remote == ORIGIN


@pytest.mark.parametrize("lost", ["client", "server"])
@pytest.mark.parametrize("nth", range(6))
def test_any_one_lost_handshake_datagram_is_made_good_within_a_second(lost: str, nth: int) -> None:
    pair = subscribe(Link(delay=0.005))
    network, sender = pair.network, pair.edge if lost == "client" else pair.origin
    dropped = 0
    send = network.send

    def lossy(data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        nonlocal dropped
        if source == sender.address and 20 <= data[0] <= 63:
            dropped += 1
            if dropped == nth + 1:
                return
        send(data, source, to)

    network.send = lossy  # type: ignore[method-assign]
    start = network.now
    assert network.run_until(lambda: pair.ready, limit=5)
    assert network.now - start < 1


def test_a_lost_last_flight_is_sent_again_on_demand() -> None:
    """The server is done when its last flight is lost; the client asks by resending."""
    pair = subscribe(Link(delay=0.005))
    network = pair.network
    assert network.run_until(lambda: bool(pair.origin.seen(DtlsReady)))
    network._flying.clear()
    assert network.run_until(lambda: pair.ready, limit=1)


def test_the_viewer_moves_and_media_follows() -> None:
    pair = connect()
    moved = ("10.7.7.7", 4242)
    pair.network.blocked.add(EDGE)
    pair.edge.address = moved
    assert pair.network.run_until(lambda: bool(pair.origin.seen(RemoteChanged)), limit=15)
    assert pair.origin.session.remote == moved
    send_rtp(pair, 7)
    pair.network.run_for(0.1)
    assert RtpPacket(video(7)) in pair.edge.events


def test_receive_before_and_after_everything_never_raises() -> None:
    pair = subscribe()
    for first in range(256):
        pair.origin.session.receive(bytes((first,)) * 40, EDGE, pair.network.now)
    pair.origin.session.receive(b"", EDGE, pair.network.now)
    assert pair.origin.session.poll() is None
    assert pair.network.run_until(lambda: pair.ready)
    for first in range(256):
        pair.origin.session.receive(bytes((first,)) * 40, EDGE, pair.network.now)
    pair.network.run_for(1)
    assert pair.ready
    pair.origin.session.close(pair.network.now)
    pair.origin.session.receive(b"\x80" * 40, EDGE, pair.network.now)
    pair.origin.session.handle_timeout(pair.network.now)
    pair.origin.session.send_rtcp(b"\x80\xc9\x00\x01\x00\x00\x00\x01", pair.network.now)
    pair.network.drain(pair.origin)
    assert pair.origin.events[-1] == Closed("closed")


def test_a_peer_that_wants_to_be_dtls_server_gets_its_way() -> None:
    """`setup:passive` in an offer: the lite side then is the DTLS client."""
    pair = subscribe(change_offer=lambda text: text.replace("setup:actpass", "setup:passive"))
    assert "a=setup:active" in pair.agreed_origin.answer
    assert pair.network.run_until(lambda: pair.ready)
    assert pair.origin.session.config.dtls_role == "client"


def test_an_answer_without_candidates_is_given_up_at_once() -> None:
    pair = subscribe(origin_addresses=())
    start = pair.network.now
    assert pair.network.run_until(lambda: pair.edge.session.closed, limit=1)
    assert pair.network.now - start < 0.1
    assert pair.edge.closed_because == "no address of the peer answered"


def run_of(pair: Pair, first: int, count: int = 4) -> tuple[bytearray, int]:
    """Protected packets of one picture as a GRO read has them, and their stride."""
    session = pair.origin.session
    assert session.outbound is not None
    packets = [
        session.outbound.protect(
            rtp.build(
                payload_type=102,
                sequence=first + number,
                timestamp=9000,
                ssrc=0x11111111,
                payload=bytes([number]) * (50 if number < count - 1 else 20),
                marker=number == count - 1,
            )
        )
        for number in range(count)
    ]
    return bytearray(b"".join(packets)), len(packets[0])


def taken(pair: Pair, data: bytearray, stride: int) -> tuple[bool, list[object]]:
    """Whether the edge took it as a run, and the events of it."""
    pair.network.drain(pair.edge)
    before = len(pair.edge.events)
    said = pair.edge.session.receive_run(memoryview(data), stride, ORIGIN, pair.network.now)
    pair.network.drain(pair.edge)
    return said, list(pair.edge.events[before:])


def test_a_run_of_a_source_that_is_known_is_taken_at_once() -> None:
    pair = connect()
    first, stride = run_of(pair, 1)
    intact = bytes(first)
    assert taken(pair, first, stride) == (False, [])  # nobody has authenticated with this SSRC yet
    assert first == intact
    send_rtp(pair, 0)
    pair.network.run_for(1)
    received = pair.edge.session.stats(pair.network.now).datagrams_in
    said, (event,) = taken(pair, first, stride)
    assert said
    assert isinstance(event, RtpRun)
    assert [packet[12:] for packet in event.run.packets()] == [
        b"\0" * 50,
        b"\1" * 50,
        b"\2" * 50,
        b"\3" * 20,
    ]
    assert event.run.header.sequence == 1
    assert pair.edge.session.stats(pair.network.now).datagrams_in == received + 4


def test_of_a_run_with_a_forged_packet_the_others_are_taken_and_none_twice() -> None:
    pair = connect()
    send_rtp(pair, 0)
    pair.network.run_for(1)
    data, stride = run_of(pair, 1)
    again = bytearray(data)
    data[stride + 20] ^= 1
    said, events = taken(pair, data, stride)
    assert said
    assert all(isinstance(event, RtpPacket) for event in events)
    assert [event.data[2:4] for event in events if isinstance(event, RtpPacket)] == [
        b"\0\1",
        b"\0\3",
        b"\0\4",
    ]
    assert pair.edge.session.stats(pair.network.now).datagrams_dropped == 1
    said, (event,) = taken(pair, again, stride)
    assert isinstance(event, RtpPacket)  # the one that had been spoilt; the others are replays
    assert event.data[2:4] == b"\0\2"
    assert pair.edge.session.stats(pair.network.now).datagrams_dropped == 4
    drops = pair.edge.session.drops
    assert (drops.unauthentic, drops.replayed, drops.malformed, drops.unvalidated) == (1, 3, 0, 0)


def test_what_is_not_taken_is_counted_by_its_reason() -> None:
    pair = connect()
    now, edge, origin = pair.network.now, pair.edge.session, pair.origin.session
    assert origin.outbound is not None
    genuine = origin.outbound.protect(video(7))
    edge.receive(genuine, ("192.0.2.66", 6), now)  # from where ICE knows nobody
    assert (edge.drops.unvalidated, edge.drops.total()) == (1, 1)
    edge.receive(genuine, ORIGIN, now)
    assert edge.drops.total() == 1
    edge.receive(genuine, ORIGIN, now)
    assert (edge.drops.replayed, edge.drops.total()) == (1, 2)
    edge.receive(genuine[:-1] + bytes((genuine[-1] ^ 1,)), ORIGIN, now)
    edge.receive(b"\x80\x60" + bytes(40), ORIGIN, now)
    assert edge.drops.total() == 4
    unreadable = origin.outbound.protect_rtcp(b"\x81\xc9\x00\x01" + bytes(4))  # a report that is cut short
    edge.receive(unreadable, ORIGIN, now)
    assert (edge.drops.malformed, edge.drops.total()) == (1, 5)
    assert edge.drops.unauthentic + edge.drops.replayed == 3


def test_a_run_from_anywhere_else_or_of_anything_else_is_left_alone() -> None:
    pair = connect()
    send_rtp(pair, 0)
    pair.network.run_for(1)
    data, stride = run_of(pair, 1)
    session, now = pair.edge.session, pair.network.now
    intact = bytes(data)
    assert not session.receive_run(memoryview(data), stride, ("203.0.113.9", 9), now)
    assert not session.receive_run(memoryview(data), stride + 1, ORIGIN, now)
    assert data == intact
    session.close(now)
    assert not session.receive_run(memoryview(data), stride, ORIGIN, now)
