"""A peer over TCP: what its connection has shown counts for nothing else; it may come back by another."""

from media.core import rtcp
from media.core.address import TcpAddress
from media.core.session import Connected, RemoteChanged, RtcpPacket
from tests.media.core.emulated_network import EDGE, ORIGIN, Pair, subscribe

FIRST, SECOND = TcpAddress(*EDGE, 1), TcpAddress(*EDGE, 2)


def connected() -> Pair:
    """An edge over TCP, as the driver tells of it: its address names the connection."""
    pair = subscribe()
    pair.edge.address = FIRST
    assert pair.network.run_until(lambda: pair.ready, limit=15)
    return pair


def reports(pair: Pair) -> int:
    return len(pair.origin.seen(RtcpPacket))


def a_report(pair: Pair) -> bytes:
    """A protected report of the edge's; each is a new one."""
    pair.edge.session.send_rtcp([rtcp.Pli(1, 0x11111111)], pair.network.now)
    item = pair.edge.session.poll()
    assert item is not None
    return item.data


def test_it_connects_and_everything_goes_to_its_connection() -> None:
    pair = connected()
    assert [event.remote for event in pair.origin.seen(Connected)] == [FIRST]
    assert pair.origin.session.remote == FIRST
    assert {item.to for item in pair.origin.sent} == {FIRST}


def test_the_same_address_over_udp_or_by_another_connection_is_a_stranger() -> None:
    pair = connected()
    for stranger in (EDGE, SECOND):
        before = pair.origin.session.stats(pair.network.now).datagrams_dropped
        pair.network.send(a_report(pair), stranger, ORIGIN)
        pair.network.run_for(0.1)
        assert reports(pair) == 0
        assert pair.origin.session.stats(pair.network.now).datagrams_dropped == before + 1
    pair.network.send(a_report(pair), FIRST, ORIGIN)
    pair.network.run_for(0.1)
    assert reports(pair) == 1


def test_a_forged_check_from_another_connection_moves_nothing() -> None:
    pair = connected()
    check = next(item.data for item in pair.edge.sent if item.data[0] == 0)
    for at in (30, len(check) - 30, len(check) - 1):  # in the username, the integrity, the fingerprint
        forged = bytearray(check)
        forged[at] ^= 1
        pair.network.send(bytes(forged), SECOND, ORIGIN)
    pair.network.run_for(0.1)
    assert pair.origin.session.remote == FIRST
    assert not pair.origin.seen(RemoteChanged)
    assert SECOND not in {item.to for item in pair.origin.sent}


def test_a_peer_whose_connection_is_lost_comes_back_by_another() -> None:
    pair = connected()
    pair.origin.session.lost(FIRST, pair.network.now)
    pair.network.drain(pair.origin)
    assert not pair.origin.session.closed
    pair.network.send(a_report(pair), FIRST, ORIGIN)
    pair.network.run_for(0.1)
    assert reports(pair) == 0, "what it had shown by the first counts no more"
    pair.edge.address = SECOND
    assert pair.network.run_until(lambda: bool(pair.origin.seen(RemoteChanged)), limit=6)
    assert pair.origin.session.remote == SECOND
    pair.network.send(a_report(pair), SECOND, ORIGIN)
    pair.network.run_for(0.1)
    assert reports(pair) == 1


def test_a_peer_that_is_also_valid_over_udp_is_reached_there_when_its_connection_is_lost() -> None:
    pair = connected()
    check = next(item.data for item in pair.edge.sent if item.data[0] == 0)  # it nominates nothing
    pair.network.send(check, EDGE, ORIGIN)
    pair.network.run_for(0.1)
    assert pair.origin.session.remote == FIRST
    pair.origin.session.lost(FIRST, pair.network.now)
    pair.edge.address = EDGE
    pair.network.drain(pair.origin)
    assert pair.network.run_until(lambda: bool(pair.origin.seen(RemoteChanged)), limit=0.1)
    assert pair.origin.session.remote == EDGE


def test_a_recorded_check_takes_over_nothing_when_a_connection_is_lost() -> None:
    """A check has no replay protection: who has recorded one can say it again by a connection of its own."""
    pair = connected()
    recorded = [item.data for item in pair.edge.sent if item.data[0] == 0]
    thief = TcpAddress("203.0.113.66", 4000, 3)
    for check in recorded:
        pair.network.send(check, thief, ORIGIN)
    pair.network.run_for(0.05)
    pair.origin.session.lost(FIRST, pair.network.now)
    pair.network.drain(pair.origin)
    for check in recorded:
        pair.network.send(check, thief, ORIGIN)
    pair.network.run_for(2)
    assert pair.origin.session.remote == FIRST, "nowhere"
    to_thief = [item for item in pair.origin.sent if item.to == thief]
    assert all(item.data[0] < 4 for item in to_thief), "questions, and answers to what was authentic"
    pair.edge.address = SECOND
    assert pair.network.run_until(lambda: bool(pair.origin.seen(RemoteChanged)), limit=6)
    assert pair.origin.session.remote == SECOND


def test_a_connection_that_is_lost_during_the_handshake_is_followed_at_once() -> None:
    pair = subscribe()
    pair.edge.address = FIRST
    assert pair.network.run_until(lambda: pair.origin.connected, limit=5)
    pair.origin.session.lost(FIRST, pair.network.now)
    pair.network.drain(pair.origin)
    pair.edge.address = SECOND
    assert pair.network.run_until(lambda: pair.ready, limit=15)
    assert pair.origin.session.remote == SECOND


def test_one_that_does_not_come_back_loses_consent_in_time() -> None:
    pair = connected()
    pair.network.blocked.add(FIRST)
    lost_at = pair.network.now
    pair.origin.session.lost(FIRST, lost_at)
    pair.network.drain(pair.origin)
    assert pair.network.run_until(lambda: pair.origin.session.closed, limit=60)
    assert pair.network.now - lost_at <= pair.origin.session.config.consent_timeout + 1
    assert "no sign of consent" in (pair.origin.closed_because or "")
