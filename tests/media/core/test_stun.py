"""STUN against the published vectors of RFC 5769, against itself, and against rubbish."""

import hashlib
import hmac
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import stun
from media.core.errors import IntegrityError, ParseError

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")


def _vectors() -> dict[str, bytes]:
    text = (Path(__file__).parent / "golden" / "rfc5769.txt").read_text()
    blocks = [block.splitlines() for block in text.split("\n\n")[1:]]
    return {lines[0]: bytes.fromhex("".join(lines[1:])) for lines in blocks}


VECTORS = _vectors()


def test_the_published_request_is_understood() -> None:
    message = stun.Message.parse(VECTORS["request"])
    message.verify(PASSWORD)
    assert message.kind is stun.Class.REQUEST
    assert message.transaction == TRANSACTION
    assert message.username == "evtj:h6vY"
    assert message.priority == 0x6E0001FF
    assert message.controlled == 0x932FF9B151263B36
    assert message.controlling is None
    assert not message.use_candidate
    assert stun.username(VECTORS["request"]) == "evtj:h6vY"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("ipv4-response", ("192.0.2.1", 32853)),
        ("ipv6-response", ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_published_responses_are_understood(name: str, address: tuple[str, int]) -> None:
    message = stun.Message.parse(VECTORS[name])
    message.verify(PASSWORD)
    assert message.kind is stun.Class.SUCCESS
    assert message.mapped_address == address
    assert stun.username(VECTORS[name]) is None


def test_the_published_long_term_request_authenticates() -> None:
    message = stun.Message.parse(VECTORS["long-term-request"])
    user = "マトリックス"
    assert message.username == user
    key = hashlib.md5(f"{user}:example.org:TheMatrIX".encode(), usedforsecurity=False).digest()
    message.verify(key)


@pytest.mark.parametrize("name", ["request", "ipv4-response", "ipv6-response"])
def test_one_changed_bit_is_always_noticed(name: str) -> None:
    original = VECTORS[name]
    for bit in range(len(original) * 8):
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ParseError, IntegrityError)):  # noqa: PT012
            message = stun.Message.parse(bytes(changed))
            # an attribute may turn into one that is not looked at; then the request lacks what ICE requires
            message.verify(PASSWORD)
            if not message.fingerprint_at:
                raise ParseError("no FINGERPRINT")


def test_a_wrong_password_is_noticed() -> None:
    with pytest.raises(IntegrityError):
        stun.Message.parse(VECTORS["request"]).verify(PASSWORD + b"x")


@given(
    st.lists(
        st.tuples(st.sampled_from([0x0006, 0x0024, 0x8022, 0x7000]), st.binary(max_size=40)), max_size=8
    ),
    st.sampled_from(list(stun.Class)),
    st.binary(min_size=12, max_size=12),
    st.binary(min_size=1, max_size=40),
)
def test_what_is_built_is_read_back(
    attributes: list[tuple[int, bytes]], kind: stun.Class, transaction: bytes, key: bytes
) -> None:
    built = stun.Message(kind, transaction, tuple(attributes)).to_bytes(key)
    message = stun.Message.parse(built)
    message.verify(key)
    assert (message.kind, message.transaction) == (kind, transaction)
    assert list(message.attributes) == attributes


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(min_size=12, max_size=12))
def test_mapped_addresses_survive(address: object, port: int, transaction: bytes) -> None:
    mapped = stun.xor_mapped_address((str(address), port), transaction)
    message = stun.Message.parse(stun.Message(stun.Class.SUCCESS, transaction, (mapped,)).to_bytes(b"k"))
    assert message.mapped_address == (str(address), port)


ADDRESSES = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))
CHECKS = st.lists(
    st.tuples(st.sampled_from([0x0006, 0x0024, 0x0025, 0x802A, 0xC057]), st.binary(max_size=40)), max_size=8
)


def _precedent(attributes: list[tuple[int, bytes]], address: tuple[str, int]) -> stun.Precedent:
    built = stun.Message(stun.Class.REQUEST, TRANSACTION, tuple(attributes)).to_bytes(PASSWORD)
    first = stun.Message.parse(built)
    first.verify(PASSWORD)
    return stun.Precedent(first, address, PASSWORD)


@given(CHECKS, ADDRESSES, st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=3))
def test_by_a_precedent_a_check_is_answered_as_by_reading_it(
    attributes: list[tuple[int, bytes]], address: tuple[str, int], transactions: list[bytes]
) -> None:
    precedent = _precedent(attributes, address)
    for transaction in transactions:
        check = stun.Message(stun.Class.REQUEST, transaction, tuple(attributes)).to_bytes(PASSWORD)
        mapped = stun.xor_mapped_address(address, transaction)
        answer = stun.Message(stun.Class.SUCCESS, transaction, (mapped,)).to_bytes(PASSWORD)
        assert precedent.answer(check) == answer


def test_a_check_with_more_between_its_integrity_and_its_fingerprint_is_no_precedent() -> None:
    plain = stun.Message(stun.Class.REQUEST, TRANSACTION, ((0x0006, b"evtj:h6vY"),)).to_bytes(PASSWORD)
    assert stun.Precedent.is_usual(stun.Message.parse(plain))
    more = plain[:-8] + bytes.fromhex("8022 0004") + b"more"
    more = more[:2] + (len(more) + 8 - 20).to_bytes(2, "big") + more[4:]
    more += bytes.fromhex("8028 0004") + (zlib.crc32(more) ^ 0x5354554E).to_bytes(4, "big")
    unusual = stun.Message.parse(more)
    unusual.verify(PASSWORD)
    assert not stun.Precedent.is_usual(unusual)
    bare = stun.Message(stun.Class.REQUEST, TRANSACTION, ()).to_bytes(PASSWORD, fingerprint=False)
    assert not stun.Precedent.is_usual(stun.Message.parse(bare))


def test_by_a_precedent_no_check_is_answered_that_has_one_bit_changed() -> None:
    attributes = [(stun.Attribute.USERNAME, b"evtj:h6vY"), (stun.Attribute.PRIORITY, b"\x6e\0\1\xff")]
    precedent = _precedent([*attributes], ("192.0.2.1", 32853))
    check = stun.Message(stun.Class.REQUEST, b"another time", tuple(attributes)).to_bytes(PASSWORD)
    assert precedent.answer(check) is not None
    for bit in range(len(check) * 8):
        changed = bytearray(check)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert precedent.answer(bytes(changed)) is None, f"bit {bit}"
        except IntegrityError:
            pass


@given(CHECKS, CHECKS, st.sampled_from(list(stun.Class)), st.binary(min_size=1, max_size=24), st.booleans())
def test_by_a_precedent_nothing_is_answered_that_says_anything_else(
    attributes: list[tuple[int, bytes]],
    others: list[tuple[int, bytes]],
    kind: stun.Class,
    key: bytes,
    fingerprint: bool,
) -> None:
    precedent = _precedent(attributes, ("192.0.2.1", 32853))
    message = stun.Message(kind, b"another time", tuple(others))
    for built in (
        message.to_bytes(key, fingerprint=fingerprint),
        message.to_bytes(None, fingerprint=fingerprint),
    ):
        try:
            answered = precedent.answer(built) is not None
        except IntegrityError:
            answered = False
        like = (kind, others, key, fingerprint) == (stun.Class.REQUEST, attributes, PASSWORD, True)
        assert not answered or like


def _poke(data: bytes) -> None:
    """Everything a datagram can reach before and after authentication."""
    stun.username(data)
    try:
        _precedent([(stun.Attribute.USERNAME, b"evtj:h6vY")], ("::1", 1)).answer(data)
    except IntegrityError:
        pass
    try:
        message = stun.Message.parse(data)
    except ParseError:
        return
    _ = (message.username, message.priority, message.mapped_address, message.error_code)
    _ = (message.controlled, message.controlling, message.use_candidate, message.unknown_required())
    try:
        message.verify(PASSWORD)
    except IntegrityError:
        pass


@given(st.binary(max_size=600))
def test_rubbish_raises_nothing_else(data: bytes) -> None:
    _poke(data)
    _poke(b"\x00\x01" + len(data).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION + data)


@given(st.sampled_from(sorted(VECTORS)), st.data())
def test_damaged_messages_raise_nothing_else(name: str, data: st.DataObject) -> None:
    damaged = bytearray(VECTORS[name])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    _poke(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


@given(st.binary(max_size=256), st.binary(max_size=80))
def test_message_integrity_is_the_hmac_of_rfc_2104(key: bytes, value: bytes) -> None:
    """Whatever the length of the password."""
    request = stun.Message(stun.Class.REQUEST, TRANSACTION, ((stun.Attribute.USERNAME, value),))
    sent = stun.Message.parse(request.to_bytes(key))
    sent.verify(key)
    covered = sent.raw[:2] + (sent.integrity_at + 4).to_bytes(2, "big") + sent.raw[4 : sent.integrity_at]
    assert sent.raw[sent.integrity_at + 4 :][:20] == hmac.digest(key, covered, hashlib.sha1)


@given(st.ip_addresses().map(str), st.integers(0, 65535), st.binary(min_size=1, max_size=80))
def test_a_success_is_what_a_message_of_the_mapped_address_is(host: str, port: int, key: bytes) -> None:
    mapped = stun.xor_mapped_address((host, port), TRANSACTION)
    whole = stun.Message(stun.Class.SUCCESS, TRANSACTION, (mapped,)).to_bytes(key)
    assert stun.success(TRANSACTION, (host, port), key) == whole
