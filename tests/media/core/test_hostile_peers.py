"""What strangers may try on a node's socket (facts: who may speak, and what they are told)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import stun
from media.core.ice import MAX_VALIDATED
from media.core.session import PARTING_PATIENCE, Connected, DtlsReady, RemoteChanged, RtpPacket
from tests.media.core.emulated_network import EDGE, ORIGIN, Network, Pair, certificate, subscribe

ATTACKER = ("203.0.113.66", 6666)


def binding(pair: Pair, *, password: bytes, username: str | None = None, fingerprint: bool = True) -> bytes:
    """A nominating request to the origin, right in all but what the caller changes."""
    local = pair.origin.session.config.credentials.ufrag
    remote = pair.origin.session.config.remote.credentials.ufrag
    request = stun.Message(
        stun.Class.REQUEST,
        pair.network.random.randbytes(12),
        (
            (stun.Attribute.USERNAME, (username or f"{local}:{remote}").encode()),
            (stun.Attribute.ICE_CONTROLLING, b"\xff" * 8),
            (stun.Attribute.PRIORITY, b"\x7f\xff\xff\xff"),
            (stun.Attribute.USE_CANDIDATE, b""),
        ),
    )
    return request.to_bytes(password, fingerprint=fingerprint)


def connected() -> Pair:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    return pair


def told(network: Network, pair: Pair, to: tuple[str, int]) -> list[bytes]:
    network.drain(pair.origin)
    return [item.data for item in pair.origin.sent if item.to == to]


def test_ten_thousand_forged_requests_move_nothing_and_are_told_nothing() -> None:
    pair = connected()
    origin = pair.origin.session
    before = len(pair.origin.events)
    for index in range(10_000):
        password = pair.network.random.randbytes(24)
        source = (ATTACKER[0], 1024 + index % 60_000)
        origin.receive(binding(pair, password=password), source if index % 2 else EDGE, pair.network.now)
    pair.network.drain(pair.origin)
    assert origin.remote == EDGE
    assert pair.origin.events[before:] == []
    assert not [item for item in pair.origin.sent if item.to[0] == ATTACKER[0]]
    assert origin.stats(pair.network.now).datagrams_dropped >= 10_000
    assert origin.drops.unauthentic >= 10_000
    outbound = origin.outbound
    assert outbound is not None
    pair.network.run_for(5)
    assert pair.ready
    assert not pair.origin.seen(RemoteChanged)


@pytest.mark.parametrize("kind", ["wrong user", "no integrity", "no fingerprint", "short user"])
def test_requests_that_lack_something_are_dropped_in_silence(kind: str) -> None:
    pair = connected()
    key = pair.origin.session.config.credentials.password.encode()
    good = binding(pair, password=key)
    forged = {
        "wrong user": binding(pair, password=key, username="someone:else"),
        "short user": binding(pair, password=key, username=pair.origin.session.config.credentials.ufrag),
        "no fingerprint": binding(pair, password=key, fingerprint=False),
        "no integrity": stun.Message(
            stun.Class.REQUEST, b"0" * 12, stun.Message.parse(good).attributes
        ).to_bytes(None),
    }[kind]
    pair.origin.session.receive(forged, ATTACKER, pair.network.now)
    assert told(pair.network, pair, ATTACKER) == []
    pair.origin.session.receive(good, ATTACKER, pair.network.now)  # the same, whole: it does count
    answer, *questions = (stun.Message.parse(data) for data in told(pair.network, pair, ATTACKER))
    assert answer.kind is stun.Class.SUCCESS
    assert [question.kind for question in questions] == [stun.Class.REQUEST]  # is the peer there?


def test_an_answer_is_never_larger_than_its_question() -> None:
    pair = connected()
    question = binding(pair, password=pair.origin.session.config.credentials.password.encode())
    pair.origin.session.receive(question, ATTACKER, pair.network.now)
    assert all(len(answer) <= len(question) for answer in told(pair.network, pair, ATTACKER))


def test_client_hellos_from_elsewhere_do_not_disturb_a_handshake() -> None:
    for seed in range(20):
        pair = subscribe(seed=seed)
        rogue = subscribe(seed=1000 + seed)
        hellos: list[bytes] = []
        assert rogue.network.run_until(lambda rogue=rogue: rogue.edge.connected)  # type: ignore[misc]
        hellos += [item.data for item in rogue.edge.sent if 20 <= item.data[0] <= 63]
        assert hellos
        answered_before = 0
        while not pair.ready:
            for hello in hellos * 5:
                pair.origin.session.receive(hello, ATTACKER, pair.network.now)
            pair.network.drain(pair.origin)
            assert pair.network.step()
        answered_before += len([item for item in pair.origin.sent if item.to == ATTACKER])
        assert answered_before == 0


def test_media_from_an_address_that_is_not_validated_is_not_looked_at() -> None:
    pair = connected()
    outbound = pair.edge.session.outbound
    assert outbound is not None
    genuine = outbound.protect(b"\x80\x60" + bytes(30))
    pair.origin.session.receive(genuine, ATTACKER, pair.network.now)
    pair.network.drain(pair.origin)
    assert not pair.origin.seen(RtpPacket)
    pair.origin.session.receive(genuine, EDGE, pair.network.now)  # not spent by the attempt
    pair.network.drain(pair.origin)
    assert len(pair.origin.seen(RtpPacket)) == 1


def test_a_flood_of_bad_tags_leaves_the_genuine_media_alone() -> None:
    pair = connected()
    outbound = pair.edge.session.outbound
    assert outbound is not None
    chance = random.Random(5)
    for sequence in range(1000):
        genuine = outbound.protect(b"\x80\x60" + sequence.to_bytes(2, "big") + bytes(8) + b"picture")
        for _ in range(20):
            forged = genuine[:2] + chance.randbytes(2) + genuine[4:-4] + chance.randbytes(4)
            pair.origin.session.receive(forged, EDGE, pair.network.now)
        pair.origin.session.receive(genuine, EDGE, pair.network.now)
        pair.origin.session.receive(genuine, EDGE, pair.network.now)
    pair.network.drain(pair.origin)
    assert len(pair.origin.seen(RtpPacket)) == 1000


def test_forged_media_is_no_sign_of_life() -> None:
    pair = connected()
    pair.network.blocked.add(EDGE)
    start = pair.network.now
    while not pair.origin.session.closed and pair.network.now < start + 60:
        pair.origin.session.receive(b"\x80\x60" + bytes(60), EDGE, pair.network.now)
        pair.network.run_for(0.25)
    assert pair.network.now - start <= 31


def test_the_addresses_a_peer_may_hold_open_are_bounded() -> None:
    pair = connected()
    key = pair.origin.session.config.credentials.password.encode()
    for port in range(2000, 3000):
        pair.origin.session.receive(binding(pair, password=key), ("198.51.100.7", port), pair.network.now)
        pair.network.drain(pair.origin)
    ice = pair.origin.session._ice
    open_ports = [port for port in range(2000, 3000) if ice.is_valid(("198.51.100.7", port))]
    assert len(open_ports) <= MAX_VALIDATED
    assert open_ports[-1] == 2999


def test_a_role_conflict_is_answered_and_changes_nothing() -> None:
    pair = connected()
    config = pair.origin.session.config
    request = stun.Message(
        stun.Class.REQUEST,
        b"conflict....",
        (
            (
                stun.Attribute.USERNAME,
                f"{config.credentials.ufrag}:{config.remote.credentials.ufrag}".encode(),
            ),
            (stun.Attribute.ICE_CONTROLLED, b"\x01" * 8),
            (stun.Attribute.USE_CANDIDATE, b""),
        ),
    )
    key = config.credentials.password.encode()
    pair.origin.session.receive(request.to_bytes(key), ATTACKER, pair.network.now)
    [answer] = told(pair.network, pair, ATTACKER)
    message = stun.Message.parse(answer)
    message.verify(key)
    assert message.error_code == stun.ROLE_CONFLICT
    assert pair.origin.session.remote == EDGE


def test_an_unknown_required_attribute_is_named() -> None:
    pair = connected()
    config = pair.origin.session.config
    request = stun.Message(
        stun.Class.REQUEST,
        b"unknown.....",
        (
            (
                stun.Attribute.USERNAME,
                f"{config.credentials.ufrag}:{config.remote.credentials.ufrag}".encode(),
            ),
            (0x7ABC, b"what?"),
        ),
    )
    key = config.credentials.password.encode()
    pair.origin.session.receive(request.to_bytes(key), ATTACKER, pair.network.now)
    [answer] = told(pair.network, pair, ATTACKER)
    message = stun.Message.parse(answer)
    assert message.error_code == stun.UNKNOWN_ATTRIBUTE
    assert message.get(stun.Attribute.UNKNOWN_ATTRIBUTES) == b"\x7a\xbc"


def test_a_forged_answer_does_not_nominate() -> None:
    pair = subscribe()
    [check] = [item for item in _first_checks(pair) if item]
    request = stun.Message.parse(check)
    forged = stun.Message(
        stun.Class.SUCCESS,
        request.transaction,
        (stun.xor_mapped_address(EDGE, request.transaction),),
    )
    pair.edge.session.receive(forged.to_bytes(b"guess"), ORIGIN, pair.network.now)
    pair.edge.session.receive(forged.to_bytes(None), ORIGIN, pair.network.now)
    right_key_wrong_place = forged.to_bytes(pair.origin.session.config.credentials.password.encode())
    pair.edge.session.receive(right_key_wrong_place, ATTACKER, pair.network.now)
    pair.network.drain(pair.edge)
    assert not pair.edge.seen(Connected)
    assert pair.network.run_until(lambda: pair.ready)


def _first_checks(pair: Pair) -> list[bytes]:
    pair.edge.session.handle_timeout(pair.network.now)
    pair.network.drain(pair.edge)
    return [item.data for item in pair.edge.sent]


DTLS_RECORDS = st.builds(
    lambda kind, epoch, number, body: (
        bytes((kind, 0xFE, 0xFD))
        + epoch.to_bytes(2, "big")
        + number.to_bytes(6, "big")
        + len(body).to_bytes(2, "big")
        + body
    ),
    st.integers(20, 26),
    st.integers(0, 2),
    st.integers(0, 20) | st.integers(0, 2**48 - 1),
    st.binary(max_size=80)
    | st.builds(  # a handshake message in one fragment, of any type
        lambda kind, sequence, body: (
            bytes((kind,))
            + len(body).to_bytes(3, "big")
            + sequence.to_bytes(2, "big")
            + bytes(3)
            + len(body).to_bytes(3, "big")
            + body
        ),
        st.integers(0, 24),
        st.integers(0, 8),
        st.binary(max_size=80),
    ),
)


@given(st.lists(DTLS_RECORDS, min_size=1, max_size=6))
def test_forged_dtls_after_the_handshake_ends_nothing(records: list[bytes]) -> None:
    """Even from the peer's own address, as someone on the path can forge it."""
    pair = connected()
    for record in records:
        pair.origin.session.receive(record, EDGE, pair.network.now)
        pair.edge.session.receive(record, ORIGIN, pair.network.now)
    pair.network.drain(pair.origin)
    pair.network.drain(pair.edge)
    pair.network.run_for(2 * PARTING_PATIENCE)  # among them may be alerts, which nobody can authenticate
    assert pair.ready


@given(
    st.lists(DTLS_RECORDS | st.binary(max_size=80).map(lambda b: b"\x16" + b), max_size=6), st.integers(0, 8)
)
def test_rubbish_inside_a_handshake_raises_nothing(records: list[bytes], steps: int) -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.edge.connected and pair.origin.connected)
    for _ in range(steps):
        pair.network.step()
    for record in records:
        pair.origin.session.receive(record, EDGE, pair.network.now)
        pair.edge.session.receive(record, ORIGIN, pair.network.now)
    pair.network.drain(pair.origin)
    pair.network.drain(pair.edge)
    pair.network.run_until(lambda: pair.ready or pair.origin.session.closed, limit=20)


def test_certificates_of_the_two_sides_differ() -> None:
    """The wrong-certificate tests mean something."""
    assert certificate("edge").fingerprint != certificate("origin").fingerprint
    assert connected().edge.seen(DtlsReady)
