"""A peer whose address changes is followed, and nobody else is (media.core.following), on virtual time.

The viewer is a full, controlling agent with DTLS done; the NAT in front of it gives its packets another
source without its knowing. It checks as Chromium does: the pair in use each 2.5 s, not nominating again.
"""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp, sdp, stun
from media.core.following import ENOUGH, PATIENCE, REST, Following, Verdict
from media.core.ice import CONSENT_INTERVAL, MAX_VALIDATED, IceControlling
from media.core.session import RemoteChanged, RtcpPacket, RtpPacket, Transmit
from tests.media.core.emulated_network import EDGE, ORIGIN, Link, Pair, subscribe

AGAIN = ("10.0.0.2", 31_313)  # where the NAT puts the viewer next
VICTIM = ("203.0.113.9", 443)


class Natted(Pair):
    """A pair whose edge is behind a NAT, and whose origin is handed strays as the driver does it."""

    def rebind(self, address: tuple[str, int] = AGAIN) -> None:
        """The NAT has forgotten the mapping: what is sent to it is lost, what the viewer sends comes anew."""
        self.network.blocked.add(self.edge.address)
        self.edge.address = address
        self.network.blocked.discard(address)

    @property
    def moves(self) -> list[tuple[str, int]]:
        return [event.remote for event in self.origin.events if isinstance(event, RemoteChanged)]


def connected(link: Link | None = None, seed: int = 1) -> Natted:
    made = subscribe(link, seed)
    pair = Natted(made.network, made.edge, made.origin, made.agreed_edge, made.agreed_origin)
    session = pair.origin.session
    receive = session.receive

    def driven(datagram: bytes, source: tuple[str, int], now: float) -> None:
        """As media.drive.demux: media from elsewhere is a stray."""
        if datagram[0] >= 128 and not session.is_valid(source):
            session.receive_stray(datagram, source, now)
        else:
            receive(datagram, source, now)

    session.receive = driven  # type: ignore[method-assign]
    assert pair.network.run_until(lambda: pair.ready, limit=15)
    pair.network.run_for(0.5)
    return pair


def report(pair: Natted) -> None:
    """The viewer sends a receiver report from where it is."""
    pair.edge.session.send_rtcp([rtcp.ReceiverReport(1)], pair.network.now)
    pair.network.drain(pair.edge)


def run_until_moved(pair: Natted, limit: float) -> float:
    """Seconds until media goes to the viewer's present address, while it reports each second."""
    start = pair.network.now
    while pair.network.now < start + limit:
        if pair.origin.session.remote == pair.edge.address:
            return pair.network.now - start
        pair.network.run_for(0.05)
    raise AssertionError(f"still at {pair.origin.session.remote} after {limit} s")


def replay(pair: Natted, *, nominate: bool = True, transaction: bytes = b"recorded....") -> bytes:
    """A check of the peer's own, as somebody on the path could have recorded it."""
    ours, theirs = pair.origin.session.credentials[0]
    attributes = [
        (stun.Attribute.USERNAME, f"{ours.ufrag}:{theirs.ufrag}".encode()),
        (stun.Attribute.ICE_CONTROLLING, b"\xff" * 8),
        (stun.Attribute.PRIORITY, b"\x7f\xff\xff\xff"),
    ]
    attributes += [(stun.Attribute.USE_CANDIDATE, b"")] if nominate else []
    return stun.Message(stun.Class.REQUEST, transaction, tuple(attributes)).to_bytes(ours.password.encode())


@pytest.mark.parametrize("seed", range(8))
def test_a_report_from_a_new_port_is_enough_and_media_follows_within_a_second(seed: int) -> None:
    pair = connected(Link(delay=0.02, jitter=0.03, loss=0.05), seed)
    pair.rebind()
    report(pair)
    start = pair.network.now
    reports = itertools.count(1)
    while pair.origin.session.remote != AGAIN:
        assert pair.network.now < start + 3.5
        if pair.network.now > start + next(reports):
            report(pair)
        pair.network.run_for(0.05)
    assert pair.moves == [AGAIN]
    assert pair.origin.seen(RtcpPacket)
    outbound = pair.origin.session.outbound
    assert outbound is not None
    pair.network.link = Link()
    pair.network.send(outbound.protect(b"\x80\x66" + bytes(30)), ORIGIN, AGAIN)
    pair.network.run_for(0.1)
    assert pair.edge.seen(RtpPacket)


@pytest.mark.parametrize("delay", [0.01, 0.15, 0.3])
def test_the_old_address_has_twice_as_long_as_the_new_one_took(delay: float) -> None:
    pair = connected(Link(delay=delay))
    pair.rebind()
    report(pair)
    assert run_until_moved(pair, 3.0) == pytest.approx(delay + max(ENOUGH, 4 * delay), abs=0.06)


def test_a_check_that_does_not_nominate_is_enough_too() -> None:
    pair = connected()
    pair.rebind()
    assert run_until_moved(pair, 5.0) <= 1.2 * CONSENT_INTERVAL + ENOUGH + 0.1
    assert pair.moves == [AGAIN]


def test_a_nominating_check_from_a_new_address_moves_in_a_round_trip() -> None:
    pair = connected(Link(delay=0.01))
    pair.rebind()
    pair.network.send(replay(pair), AGAIN, ORIGIN)
    assert run_until_moved(pair, 1.0) <= 0.11


def test_it_is_followed_again_and_again() -> None:
    pair = connected(Link(delay=0.01))
    for port in range(40_000, 40_020):
        pair.rebind(("10.0.0.2", port))
        report(pair)
        run_until_moved(pair, 2.0)
        pair.network.run_for(1.5)
    assert len(pair.moves) == 20
    assert pair.ready


def test_media_of_a_publisher_that_moves_is_not_interrupted() -> None:
    """The packets count from the first one on: they authenticate. Where we send follows."""
    pair = connected(Link(delay=0.01))
    outbound = pair.edge.session.outbound
    assert outbound is not None

    def publish(count: int) -> None:
        for _ in range(count):
            packet = b"\x80\x66" + next(numbers).to_bytes(2, "big") + bytes(8) + b"picture"
            pair.network.send(outbound.protect(packet), pair.edge.address, ORIGIN)
            pair.network.run_for(0.01)

    numbers = itertools.count(1)
    publish(50)
    pair.rebind()
    publish(150)
    pair.network.run_for(0.1)
    assert len(pair.origin.seen(RtpPacket)) == 200
    assert pair.origin.session.remote == AGAIN


def test_what_was_on_its_way_when_the_peer_moved_does_not_hold_it_back() -> None:
    pair = connected(Link(delay=0.01))
    report(pair)  # from the old port
    pair.rebind()
    pair.network.blocked.discard(EDGE)
    report(pair)
    pair.network.run_for(0.012)  # both are there, almost at once
    pair.network.blocked.add(EDGE)
    assert run_until_moved(pair, 1.0) <= ENOUGH + 0.1


def test_a_second_path_of_a_peer_that_is_still_there_changes_nothing() -> None:
    """A browser keeps spare pairs warm: it checks from them too, without nominating."""
    pair = connected(Link(delay=0.01))
    for number in range(30):
        pair.network.send(replay(pair, nominate=False, transaction=b"%12d" % number), AGAIN, ORIGIN)
        pair.network.run_for(0.5)
    assert pair.origin.session.remote == EDGE
    assert pair.moves == []
    assert pair.ready


@pytest.mark.parametrize("nominate", [True, False])
def test_a_recorded_check_sent_from_a_victims_address_sends_it_no_media(nominate: bool) -> None:
    pair = connected(Link(delay=0.01))
    sent = len(pair.origin.sent)
    spoofed = 0
    for _ in range(500):
        datagram = replay(pair, nominate=nominate)
        spoofed += len(datagram)
        pair.origin.session.receive(datagram, VICTIM, pair.network.now)
        pair.network.drain(pair.origin)
        pair.network.run_for(0.02)
        assert pair.origin.session.remote == EDGE
    told = [item for item in pair.origin.sent[sent:] if item.to == VICTIM]
    assert all(stun.is_stun(item.data) for item in told)
    assert sum(len(item.data) for item in told) <= spoofed
    assert pair.moves == []
    assert pair.ready


def test_recorded_media_sent_from_a_victims_address_moves_nothing() -> None:
    """A copy that overtakes its original is authentic, and no replay: the content counts, its source not."""
    pair = connected(Link(delay=0.01))
    outbound = pair.edge.session.outbound
    assert outbound is not None
    for number in range(500):
        packet = outbound.protect(b"\x80\x66" + number.to_bytes(2, "big") + bytes(8) + b"picture")
        pair.origin.session.receive(packet, VICTIM, pair.network.now)
        pair.origin.session.receive(packet, EDGE, pair.network.now)
        pair.network.drain(pair.origin)
        pair.network.run_for(0.02)
    assert len(pair.origin.seen(RtpPacket)) == 500  # each once
    assert pair.origin.session.remote == EDGE
    assert pair.moves == []
    asked = [item for item in pair.origin.sent if item.to == VICTIM]
    assert all(stun.is_stun(item.data) for item in asked)
    assert len(asked) <= 10 / REST * 2 + 4  # of 500 in 10 s


def test_a_victim_is_not_sent_media_even_when_the_viewer_is_gone() -> None:
    pair = connected(Link(delay=0.01))
    pair.network.blocked.add(EDGE)
    for _ in range(100):
        report(pair)  # lost
        pair.edge.session.send_rtcp([rtcp.ReceiverReport(1)], pair.network.now)
        while (item := pair.edge.session.poll()) is not None:
            if isinstance(item, Transmit):  # recorded before it was lost
                pair.origin.session.receive(item.data, VICTIM, pair.network.now)
        pair.network.drain(pair.origin)
        pair.network.run_for(0.1)
    assert pair.origin.session.remote == EDGE


def test_forged_media_from_elsewhere_asks_nobody_anything() -> None:
    pair = connected()
    sent = len(pair.origin.sent)
    for number in range(1000):
        forged = b"\x80\x66" + number.to_bytes(2, "big") + bytes(8) + pair.network.random.randbytes(40)
        assert not pair.origin.session.receive_stray(forged, VICTIM, pair.network.now)
    pair.network.drain(pair.origin)
    assert pair.origin.sent[sent:] == []


def test_a_forged_answer_proves_nothing() -> None:
    pair = connected(Link(delay=0.01))
    pair.origin.session.receive(replay(pair), VICTIM, pair.network.now)
    pair.network.drain(pair.origin)
    question = stun.Message.parse([item.data for item in pair.origin.sent if item.to == VICTIM][-1])
    assert question.kind is stun.Class.REQUEST
    mapped = stun.xor_mapped_address(ORIGIN, question.transaction)
    forged = stun.Message(stun.Class.SUCCESS, question.transaction, (mapped,))
    theirs = pair.origin.session.credentials[0][1].password.encode()
    for answer, source in (
        (forged.to_bytes(b"a guess"), VICTIM),
        (forged.to_bytes(None), VICTIM),
        (forged.to_bytes(theirs), ("203.0.113.9", 444)),  # from where nobody was asked
    ):
        pair.origin.session.receive(answer, source, pair.network.now)
        pair.network.drain(pair.origin)
        assert pair.origin.session.remote == EDGE
    pair.origin.session.receive(forged.to_bytes(theirs), VICTIM, pair.network.now)  # the same, but right
    assert pair.origin.session.remote == VICTIM


def test_the_addresses_and_the_questions_of_a_peer_are_bounded() -> None:
    pair = connected()
    for port in range(2000, 3000):
        pair.origin.session.receive(replay(pair), (VICTIM[0], port), pair.network.now)
    assert sum(pair.origin.session.is_valid((VICTIM[0], port)) for port in range(2000, 3000)) < MAX_VALIDATED
    assert pair.origin.session.is_valid(EDGE)


# ICE restarts


def restart(pair: Natted) -> None:
    """The viewer restarts ICE: new credentials on both sides, and checks from another of its sockets.

    Its new ICE session is a controlling agent of its own here; DTLS and SRTP stay with the old one.
    """
    rand = pair.network.random.randbytes
    ours, theirs = sdp.new_credentials(rand), sdp.new_credentials(rand)
    pair.origin.session.restart_ice(ours, theirs)
    candidate = sdp.Candidate("1", 1, 1, ORIGIN[0], ORIGIN[1], "host")
    pair.edge.session._ice = IceControlling(theirs, ours, [candidate], rand, pair.network.now)
    pair.edge.session.stirred = True


def check(pair: Natted, generation: int, *, nominate: bool = False) -> bytes:
    """A check under the credentials of the origin's first or newest ICE session."""
    ours, theirs = pair.origin.session.credentials[generation]
    attributes = [
        (stun.Attribute.USERNAME, f"{ours.ufrag}:{theirs.ufrag}".encode()),
        (stun.Attribute.ICE_CONTROLLING, b"\xff" * 8),
        (stun.Attribute.PRIORITY, b"\x7f\xff\xff\xff"),
    ]
    attributes += [(stun.Attribute.USE_CANDIDATE, b"")] if nominate else []
    request = stun.Message(stun.Class.REQUEST, pair.network.random.randbytes(12), tuple(attributes))
    return request.to_bytes(ours.password.encode())


def test_an_ice_restart_keeps_dtls_and_srtp_and_media_goes_on() -> None:
    pair = connected(Link(delay=0.01))
    outbound = pair.origin.session.outbound
    assert outbound is not None
    before = pair.origin.session.credentials
    pair.rebind()
    restart(pair)
    assert pair.origin.session.ice_generation == 1
    assert pair.network.run_until(lambda: pair.origin.session.remote == AGAIN, limit=1)
    assert pair.origin.session.outbound is outbound
    assert len(pair.origin.session.credentials) == 1
    assert pair.origin.session.credentials != before
    pair.network.send(outbound.protect(b"\x80\x66" + bytes(30)), ORIGIN, AGAIN)
    pair.network.run_for(0.1)
    assert pair.edge.seen(RtpPacket)
    pair.network.run_for(60)
    assert pair.ready


def test_the_old_credentials_are_good_until_the_first_check_with_the_new_ones() -> None:
    pair = connected(Link(delay=0.01))
    rand = pair.network.random.randbytes
    session = pair.origin.session
    session.restart_ice(sdp.new_credentials(rand), sdp.new_credentials(rand))
    pair.network.run_for(20)  # the viewer does not know yet: its checks are answered as before
    assert pair.ready
    assert pair.edge.session.stats(pair.network.now).heard_age < 2 * CONSENT_INTERVAL  # type: ignore[operator]
    old, new = check(pair, 0), check(pair, 1)
    second = ("10.0.0.2", 5)

    def answered(datagram: bytes) -> bool:
        before = len(pair.origin.sent)
        session.receive(datagram, second, pair.network.now)
        pair.network.drain(pair.origin)
        return any(item.to == second for item in pair.origin.sent[before:])

    assert answered(old)
    assert answered(new)
    assert not answered(old)
    assert answered(new)
    assert session.remote == EDGE  # where media goes is another matter


def test_a_second_restart_takes_the_place_of_one_that_nobody_used() -> None:
    pair = connected()
    rand = pair.network.random.randbytes
    session = pair.origin.session
    first = session.credentials[0]
    for _ in range(1000):
        session.restart_ice(sdp.new_credentials(rand), sdp.new_credentials(rand))
    assert session.credentials[0] == first
    assert len(session.credentials) == 2
    assert session.ice_generation == 1000


def test_a_wrong_password_under_the_new_name_changes_nothing() -> None:
    pair = connected()
    rand = pair.network.random.randbytes
    session = pair.origin.session
    session.restart_ice(sdp.new_credentials(rand), sdp.new_credentials(rand))
    ours, theirs = session.credentials[1]
    forged = stun.Message(
        stun.Class.REQUEST, rand(12), ((stun.Attribute.USERNAME, f"{ours.ufrag}:{theirs.ufrag}".encode()),)
    )
    session.receive(forged.to_bytes(b"a guess"), VICTIM, pair.network.now)
    session.receive(forged.to_bytes(session.credentials[0][0].password.encode()), VICTIM, pair.network.now)
    assert session.poll() is None
    assert len(session.credentials) == 2


def test_the_side_that_controls_is_not_restarted() -> None:
    pair = connected()
    rand = pair.network.random.randbytes
    with pytest.raises(ValueError, match="lite"):
        pair.edge.session.restart_ice(sdp.new_credentials(rand), sdp.new_credentials(rand))


# the rules by themselves

OLD, NEW, OTHER = ("a", 1), ("b", 2), ("c", 3)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("doubt"), st.sampled_from([NEW, OTHER]), st.booleans()),
        st.tuples(st.just("answer"), st.sampled_from([OLD, NEW, OTHER])),
        st.tuples(st.just("old")),
        st.tuples(st.just("wait"), st.floats(0, 1)),
    ),
    max_size=30,
)


@given(steps)
def test_nobody_is_followed_who_has_not_answered(steps: list[tuple[object, ...]]) -> None:
    """Whatever happens, in whatever order: a move is to the address in question, and that has answered."""
    following, now, number = Following(), 0.0, 0
    following.settle()
    answered: set[object] = set()
    asked: dict[object, bytes] = {}
    for kind, *words in steps:
        before = following.new
        verdict = Verdict.WAIT
        if kind == "doubt":
            address, nominated = words
            verdict = following.doubt(OLD, address, now, nominated=nominated)  # type: ignore[arg-type]
        elif kind == "answer":
            if words[0] in asked and following.is_answer(words[0], asked[words[0]]):  # type: ignore[arg-type]
                answered.add(words[0])
                verdict = following.answered(words[0], now)  # type: ignore[arg-type]
        elif kind == "old":
            following.old_heard(now)
        else:
            now += words[0]  # type: ignore[operator]
            verdict = following.handle_timeout(now)
        if verdict is Verdict.MOVE:
            assert before in answered
            following.moved()
        if following.new != before:
            answered.discard(following.new)  # what was said in an earlier doubt says nothing in this one
        for address in following.due(now):
            number += 1
            asked[address] = number.to_bytes(12, "big")
            following.sent(address, asked[address])
        moment = following.next_timeout()
        assert (moment is None) == (following.new is None)
        assert moment is None or now < moment <= now + PATIENCE


def test_one_doubt_at_a_time_and_a_rest_after_it() -> None:
    following = Following()
    assert following.doubt(OLD, NEW, 0.0, nominated=False) is Verdict.WAIT
    assert following.new is None  # before DTLS is done the last nomination counts
    following.settle()
    following.doubt(OLD, NEW, 0.0, nominated=False)
    assert following.due(0.0) == (NEW, OLD)
    following.sent(OLD, b"1")
    assert following.due(0.1) == ()
    following.doubt(OLD, OTHER, 0.1, nominated=False)
    assert following.new == NEW
    assert following.answered(OLD, 0.2) is Verdict.STAY
    following.doubt(OLD, NEW, 0.3, nominated=False)
    assert following.new is None
    following.doubt(OLD, NEW, 0.3, nominated=True)  # the peer's own word does not wait
    assert following.due(0.3) == (NEW,)
    following.sent(NEW, b"2")
    assert following.handle_timeout(0.3 + ENOUGH) is Verdict.WAIT
    assert following.handle_timeout(0.3 + PATIENCE) is Verdict.UNPROVEN
    following.doubt(OLD, NEW, 0.3 + PATIENCE + REST, nominated=False)
    assert following.new == NEW


def test_a_session_without_dtls_takes_no_strays() -> None:
    """Nothing of it can be authentic."""
    pair = subscribe()
    assert not pair.origin.session.receive_stray(b"\x80\x66" + bytes(30), VICTIM, pair.network.now)


def _told(pair: Natted) -> tuple[list[tuple[bytes, object]], list[object], object]:
    """What the lite side sent in STUN and to where, whom it followed, and how it sees its peer now."""
    stun_sent = [(item.data, item.to) for item in pair.origin.sent if item.data[0] < 4]
    return stun_sent, list(pair.moves), pair.origin.session.ice_state(pair.network.now)


@given(st.lists(st.sampled_from(("run", "rebind", "report", "restart", "forge", "replay")), max_size=8))
def test_checks_by_the_short_way_come_to_the_same(steps: list[str]) -> None:
    pairs = [connected(seed=3), connected(seed=3)]
    pairs[1].network.short_ways = False
    for number, step in enumerate(["run", *steps, "run"]):
        for pair in pairs:
            network, session = pair.network, pair.origin.session
            match step:
                case "run":
                    network.run_for(6.0)
                case "rebind":
                    pair.rebind((AGAIN[0], AGAIN[1] + number))
                case "report":
                    report(pair)
                case "restart":  # which the peer never uses
                    theirs = session.credentials[0][1]
                    session.restart_ice(sdp.IceCredentials(f"new{number}", "p" * 22), theirs)
                case "forge":
                    network.send(replay(pair)[:-30] + bytes(30), pair.edge.address, ORIGIN)
                case "replay":
                    network.send(replay(pair, nominate=False), pair.edge.address, ORIGIN)
    assert _told(pairs[0]) == _told(pairs[1])
    told = [pair.origin.session.stats(pairs[0].network.now) for pair in pairs]
    assert told[0] == told[1]
    assert pairs[0].network.by_short_way > 0 == pairs[1].network.by_short_way


def test_a_forged_check_by_the_short_way_is_counted_and_not_answered() -> None:
    pair = connected()
    pair.network.run_for(6.0)
    check = next(item.data for item in reversed(pair.edge.sent) if item.data[:2] == b"\0\1")
    session, now = pair.origin.session, pair.network.now
    assert session.receive_check(check, pair.edge.address, now)
    forged = check[:-9] + bytes((check[-9] ^ 1,)) + check[-8:]  # of its MESSAGE-INTEGRITY, the last byte
    crc = (zlib.crc32(forged[:-8]) ^ 0x5354554E).to_bytes(4, "big")
    before = session.drops.unauthentic
    assert session.receive_check(forged[:-4] + crc, pair.edge.address, now + 1) == b""
    assert session.drops.unauthentic == before + 1
    assert session.stats(now + 1).heard_age == 1
    assert session.receive_check(check, AGAIN, now) is None, "elsewhere it may mean that the peer has moved"


def test_while_it_is_open_where_the_peer_is_every_check_goes_the_long_way() -> None:
    pair = connected()
    pair.network.run_for(6.0)
    check = next(item.data for item in reversed(pair.edge.sent) if item.data[:2] == b"\0\1")
    session = pair.origin.session
    assert session.receive_check(check, pair.edge.address, pair.network.now)
    assert pair.edge.session.outbound is not None
    stray = pair.edge.session.outbound.protect_rtcp(rtcp.ReceiverReport(1).to_bytes())
    assert session.receive_stray(stray, AGAIN, pair.network.now)
    assert session.receive_check(check, pair.edge.address, pair.network.now) is None
    pair.network.drain(pair.origin)
    pair.network.run_for(ENOUGH + PATIENCE + REST)
    assert session.receive_check(check, pair.edge.address, pair.network.now), "it was where it has been"
