"""Media goes where something is known to have arrived, and one peer's address is not another's to name.

Whoever has a session knows its password, and may write any source address into its datagrams. So here the
attacker is a viewer itself.
"""

import os

import pytest

from media.core import rtcp, stun
from media.core.ice import AMPLIFICATION, IceLite
from media.core.session import DtlsReady, RemoteChanged
from tests.media.core.emulated_network import EDGE, ORIGIN, Pair, subscribe
from tests.media.core.test_hostile_peers import binding
from tests.media.security.stand import Show, heard_by, spray, udp, until

VICTIM = ("203.0.113.66", 6666)
CONTESTS = 250  # at 150 a second: three times as long as an answer is waited for


def size(datagrams: list[bytes]) -> int:
    return sum(map(len, datagrams))


async def test_a_viewer_cannot_send_its_stream_to_somebody_else(show: Show) -> None:
    attacker = await show.viewer()
    with udp("127.0.0.66") as victim:
        asked = [attacker.nomination for _ in range(300)]
        await spray(lambda number: victim.sendto(asked[number], show.worker.address), len(asked), 200)
        before = len(attacker.rtp)
        await until(lambda: len(attacker.rtp) > before + 60, "the stream stays where it was")
        told = heard_by(victim)
        kinds = {stun.Message.parse(data).kind for data in told}  # nothing of it is media
        assert kinds == {stun.Class.SUCCESS, stun.Class.REQUEST}
        assert size(told) <= size(asked)
    assert await show.nothing_lost(attacker)


async def test_a_viewer_whose_address_changes_takes_its_stream_along(show: Show) -> None:
    viewer = await show.viewer()
    old = viewer.address
    viewer.move()
    assert viewer.address != old
    before = len(viewer.rtp)
    viewer.send(viewer.nomination, show.worker.address)
    await until(lambda: len(viewer.rtp) > before + 60, "the picture comes to the new address", 2)
    assert (await show.worker.row(viewer.name))["remote"] == f"127.0.0.1:{viewer.address[1]}"


async def test_a_viewer_that_names_anothers_address_does_not_get_what_the_other_sends(show: Show) -> None:
    """However often it does: the other one answers for itself each time it is asked."""
    viewer, attacker = await show.viewer(), await show.viewer()
    asked = 0

    def name_it(number: int) -> None:
        nonlocal asked
        viewer.send(attacker.nomination, show.worker.address)  # its words, the viewer's address
        if number == CONTESTS - 1:
            viewer.send_rtcp([rtcp.Pli(1, 1)])  # its first word of its own accord since it began
            asked += 1

    await spray(name_it, CONTESTS, 150)

    async def counted() -> bool:
        return bool((await show.worker.row(viewer.name))["plis"] == asked)

    await until(counted, "what the viewer asks for is counted as the viewer's", 2)
    assert (await show.worker.row(attacker.name))["plis"] == 0
    assert await show.nothing_lost(viewer)


def test_a_peer_that_says_nothing_by_itself_answers_each_question() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    origin, network = pair.origin.session, pair.network
    asked = 0
    for _ in range(100):
        asked += origin.ask(network.now)
        network.drain(pair.origin)
        network.run_for(0.05)
    assert 18 <= asked <= 26, "each fifth of a second, and not each time"
    age = origin.stats(network.now).heard_age
    assert age is not None
    assert age <= 0.25


async def test_who_gets_the_address_of_one_that_vanished_can_join(show: Show) -> None:
    gone = await show.viewer()
    port = gone.address[1]
    gone.close()
    show.peers.remove(gone)
    heir = show.peer(port=port)
    await heir.join(show.worker)
    await until(lambda: len(heir.rtp) > 30, "the heir sees the picture")


def moved(pair: Pair) -> bytes:
    """A nomination of the edge's, right in all."""
    return binding(pair, password=pair.origin.session.config.credentials.password.encode())


def test_media_only_moves_to_an_address_that_answers() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    origin = pair.origin.session
    origin.receive(moved(pair), VICTIM, pair.network.now)
    pair.network.drain(pair.origin)
    [_, question] = [item.data for item in pair.origin.sent if item.to == VICTIM]
    transaction = stun.Message.parse(question).transaction
    mapped = stun.xor_mapped_address(VICTIM, transaction)
    key = pair.edge.session.config.credentials.password.encode()
    right = stun.Message(stun.Class.SUCCESS, transaction, (mapped,)).to_bytes(key)
    guessed = stun.Message(stun.Class.SUCCESS, os.urandom(12), (mapped,)).to_bytes(key)
    unsigned = stun.Message(stun.Class.SUCCESS, transaction, (mapped,)).to_bytes(os.urandom(24))
    refused = stun.Message(stun.Class.ERROR, transaction).to_bytes(key)
    for answer, source in ((guessed, VICTIM), (unsigned, VICTIM), (right, EDGE), (right, ("192.0.2.1", 9))):
        origin.receive(answer, source, pair.network.now)
        pair.network.drain(pair.origin)
        assert origin.remote == EDGE
    origin.receive(right, VICTIM, pair.network.now)
    pair.network.drain(pair.origin)
    assert origin.remote == VICTIM
    assert len(pair.origin.seen(RemoteChanged)) == 1
    origin.receive(refused, VICTIM, pair.network.now)
    assert origin.remote == VICTIM


def test_not_even_when_the_address_before_has_long_been_silent() -> None:
    """Who wants its stream sent to a victim falls silent itself, and goes on checking as the victim."""
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    origin, network = pair.origin.session, pair.network
    network.blocked.add(EDGE)
    told = len(pair.origin.sent)
    for _ in range(60):
        origin.receive(moved(pair), VICTIM, network.now)
        network.drain(pair.origin)
        network.run_for(1)
        assert origin.remote == EDGE
    to_victim = [item.data for item in pair.origin.sent[told:] if item.to == VICTIM]
    assert all(stun.is_stun(data) for data in to_victim)
    assert not pair.origin.seen(RemoteChanged)


def test_a_handshake_sends_no_more_than_three_times_what_came() -> None:
    """To an address that never shows that anything arrives there, however long it is tried."""
    pair = subscribe()
    origin = pair.origin.session
    hellos: list[bytes] = []
    rogue = subscribe(seed=2)  # only for its ClientHello
    assert rogue.network.run_until(lambda: rogue.edge.connected)
    hellos += [item.data for item in rogue.edge.sent if item.data[0] == 22]
    given = [moved(pair), *hellos]
    for datagram in given:
        origin.receive(datagram, VICTIM, pair.network.now)
    pair.network.hosts.remove(pair.edge)
    assert pair.network.run_until(lambda: origin.closed, limit=60)
    dtls = [item.data for item in pair.origin.sent if item.to == VICTIM and 20 <= item.data[0] <= 63]
    checks = [item.data for item in pair.origin.sent if item.to == VICTIM and item.data[0] < 4]
    assert dtls, "it was answered"
    assert size(dtls) <= AMPLIFICATION * size(given)
    assert size(checks) <= size([datagram for datagram in given if datagram[0] == 0])


@pytest.mark.parametrize("answers", [True, False])
def test_a_handshake_whose_flights_went_to_two_addresses_has_not_reached_either(answers: bool) -> None:
    pair = subscribe()
    network, origin = pair.network, pair.origin.session

    def flown() -> bool:
        return any(item.data[0] == 22 for item in pair.origin.sent)

    assert network.run_until(flown)
    origin.receive(moved(pair), VICTIM, network.now)  # while the flight is on its way
    network.drain(pair.origin)
    assert origin.remote == VICTIM
    network.send(moved(pair), VICTIM, ORIGIN)
    if answers:  # both addresses are the edge's: it has two ways out
        second = VICTIM
        send = network.send

        def both(data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
            if to == second:
                pair.edge.session.receive(data, ORIGIN, network.now)
                was, pair.edge.address = pair.edge.address, second
                network.drain(pair.edge)
                pair.edge.address = was
            else:
                send(data, source, to)

        network.send = both  # type: ignore[method-assign]
    reached = network.run_until(lambda: bool(pair.origin.seen(DtlsReady)), limit=2)
    assert reached is answers
    assert (origin.outbound is not None) is answers


def test_a_path_to_the_peer_costs_little_and_there_are_few_of_them() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    origin = pair.origin.session
    for port in range(2000, 3000):
        origin.receive(moved(pair), ("198.51.100.7", port), pair.network.now)
    pair.network.drain(pair.origin)
    ice = origin._ice
    assert isinstance(ice, IceLite)
    assert len(ice._validated) <= 8
    assert len(ice._credit) == 0
    assert origin.remote == EDGE
