"""STUN (RFC 8489) as ICE uses it (RFC 8445): parse, authenticate, build.

A message is a class, the binding method, a 96-bit transaction id and attributes. Only short-term credentials
are known: MESSAGE-INTEGRITY is HMAC-SHA1 with the ICE password. FINGERPRINT tells STUN from other traffic
and is required of ICE messages.

`Message.parse` raises ParseError; `verify` raises IntegrityError. Nothing of a message may be believed before
`verify` has returned.
"""

import hashlib
import hmac
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final, Self

from media.core.errors import IntegrityError, ParseError

MAGIC: Final = 0x2112A442
_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "big")
_FINGERPRINT_XOR: Final = 0x5354554E
_sha1 = hashlib.sha1
#: RFC 2104 section 2: what each byte of a key becomes
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")  # name and size of one
_BINDING: Final = 0x0001
_MAX_ATTRIBUTES: Final = 64


class Class(IntEnum):
    REQUEST = 0x000
    INDICATION = 0x010
    SUCCESS = 0x100
    ERROR = 0x110


class Attribute(IntEnum):
    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


_MAPPED: Final = struct.Struct("!BBH")  # of XOR-MAPPED-ADDRESS, before the address
_REQUEST: Final = (Class.REQUEST | _BINDING).to_bytes(2, "big")
# As plain numbers: to read a name of an enumeration takes longer than to compare it.
_USERNAME, _USE_CANDIDATE = int(Attribute.USERNAME), int(Attribute.USE_CANDIDATE)
_MESSAGE_INTEGRITY, _FINGERPRINT = int(Attribute.MESSAGE_INTEGRITY), int(Attribute.FINGERPRINT)
_MAPPED_ADDRESS = int(Attribute.XOR_MAPPED_ADDRESS)
_CLASSES: Final = {int(item): item for item in Class}
_SUCCESS: Final = Class.SUCCESS | _BINDING
_INTEGRITY_HEADER: Final = _ATTRIBUTE.pack(Attribute.MESSAGE_INTEGRITY, 20)
_FINGERPRINT_HEADER: Final = _ATTRIBUTE.pack(Attribute.FINGERPRINT, 4)
_KNOWN: Final = frozenset(int(item) for item in Attribute)

ROLE_CONFLICT: Final = 487
UNAUTHENTICATED: Final = 401
UNKNOWN_ATTRIBUTE: Final = 420


@dataclass(frozen=True, slots=True)
class Message:
    """A binding message. `attributes` keep their order; those after MESSAGE-INTEGRITY are not in it."""

    kind: Class
    transaction: bytes  # 12 bytes
    attributes: tuple[tuple[int, bytes], ...] = ()
    raw: bytes = b""  # as it came, for `verify`
    integrity_at: int = 0  # offset of MESSAGE-INTEGRITY in `raw`; 0: there is none
    fingerprint_at: int = 0

    @classmethod
    def parse(cls, datagram: bytes) -> Self:
        """Read a datagram; raises ParseError when it is not one well-formed binding message."""
        if len(datagram) < 20:
            raise ParseError("shorter than a STUN header")
        kind, length, magic, transaction = _HEADER.unpack_from(datagram)
        if kind & 0xC000 or magic != MAGIC:
            raise ParseError("not STUN")
        if length % 4 or 20 + length != len(datagram):
            raise ParseError("STUN length does not fit its datagram")
        if kind & 0x3EEF != _BINDING:
            raise ParseError("not a STUN binding message")
        attributes: list[tuple[int, bytes]] = []
        at = 20
        integrity = fingerprint = 0
        while at < len(datagram):
            if len(attributes) == _MAX_ATTRIBUTES:
                raise ParseError("too many STUN attributes")
            name, size = _ATTRIBUTE.unpack_from(datagram, at)
            if at + 4 + size > len(datagram):
                raise ParseError("STUN attribute longer than its message")
            if fingerprint:
                raise ParseError("STUN attribute after FINGERPRINT")
            if name == _FINGERPRINT:
                if size != 4:
                    raise ParseError("STUN FINGERPRINT of a wrong length")
                fingerprint = at
            elif name == _MESSAGE_INTEGRITY and not integrity:
                if size != 20:
                    raise ParseError("STUN MESSAGE-INTEGRITY of a wrong length")
                integrity = at
            elif not integrity:
                attributes.append((name, datagram[at + 4 : at + 4 + size]))
            at += 4 + size + (-size % 4)
        if at != len(datagram):
            raise ParseError("STUN attribute padding is cut short")
        return cls(_CLASSES[kind & 0x110], transaction, tuple(attributes), datagram, integrity, fingerprint)

    def verify(self, key: bytes) -> None:
        """Check FINGERPRINT where present, and MESSAGE-INTEGRITY, which must be; raises IntegrityError."""
        raw = self.raw
        if self.fingerprint_at:
            claimed = raw[self.fingerprint_at + 4 : self.fingerprint_at + 8]
            if _fingerprint(raw[: self.fingerprint_at]) != claimed:
                raise IntegrityError("STUN FINGERPRINT does not match")
        if not self.integrity_at:
            raise IntegrityError("STUN message without MESSAGE-INTEGRITY")
        claimed = raw[self.integrity_at + 4 : self.integrity_at + 24]
        covered = _with_length(raw[: self.integrity_at], self.integrity_at + 4)
        if not hmac.compare_digest(_hmac(key, covered), claimed):
            raise IntegrityError("STUN MESSAGE-INTEGRITY does not match")

    def get(self, name: int) -> bytes | None:
        for found, value in self.attributes:
            if found == name:
                return value
        return None

    @property
    def username(self) -> str | None:
        value = self.get(_USERNAME)
        if value is None:
            return None
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None

    @property
    def priority(self) -> int:
        value = self.get(Attribute.PRIORITY)
        return int.from_bytes(value, "big") if value is not None and len(value) == 4 else 0

    @property
    def use_candidate(self) -> bool:
        return self.get(_USE_CANDIDATE) is not None

    @property
    def controlled(self) -> int | None:
        """The tie-breaker of a peer that thinks itself controlled."""
        return self._tie_breaker(Attribute.ICE_CONTROLLED)

    @property
    def controlling(self) -> int | None:
        return self._tie_breaker(Attribute.ICE_CONTROLLING)

    def _tie_breaker(self, name: int) -> int | None:
        value = self.get(name)
        return int.from_bytes(value, "big") if value is not None and len(value) == 8 else None

    @property
    def error_code(self) -> int | None:
        value = self.get(Attribute.ERROR_CODE)
        if value is None or len(value) < 4:
            return None
        return (value[2] & 7) * 100 + value[3]

    @property
    def mapped_address(self) -> tuple[str, int] | None:
        """XOR-MAPPED-ADDRESS: where the answerer saw the request come from; None if absent or malformed."""
        value = self.get(Attribute.XOR_MAPPED_ADDRESS)
        if value is None or len(value) < 8:
            return None
        port = int.from_bytes(value[2:4], "big") ^ MAGIC >> 16
        mask = _MAGIC_BYTES + self.transaction
        plain = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
        if value[1] == 1 and len(value) == 8:
            return str(IPv4Address(plain)), port
        if value[1] == 2 and len(value) == 20:
            return str(IPv6Address(plain)), port
        return None

    def unknown_required(self) -> list[int]:
        """Comprehension-required attributes (RFC 8489 section 14) that we do not know."""
        return [name for name, _ in self.attributes if name < 0x8000 and name not in _KNOWN]

    def to_bytes(self, key: bytes | None = None, *, fingerprint: bool = True) -> bytes:
        """The datagram; with MESSAGE-INTEGRITY when a key is given, FINGERPRINT at the end."""
        body = bytearray(_HEADER.pack(self.kind | _BINDING, 0, MAGIC, self.transaction))
        for name, value in self.attributes:
            body += struct.pack("!HH", name, len(value)) + value + b"\x00" * (-len(value) % 4)
        if key is not None:
            covered = _with_length(bytes(body), len(body) + 4)
            body += struct.pack("!HH", Attribute.MESSAGE_INTEGRITY, 20)
            body += _hmac(key, covered)
        if fingerprint:
            covered = _with_length(bytes(body), len(body) - 12)
            return covered + struct.pack("!HH", Attribute.FINGERPRINT, 4) + _fingerprint(covered)
        return _with_length(bytes(body), len(body) - 20)


def _with_length(message: bytes, length: int) -> bytes:
    return message[:2] + length.to_bytes(2, "big") + message[4:]


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA1 (RFC 2104). What `hmac.digest` gives, which looks its algorithms up anew for each message."""
    block = _key_block(key)
    return _sha1(block.translate(_OUTER) + _sha1(block.translate(_INNER) + message).digest()).digest()


def _key_block(key: bytes) -> bytes:
    """A key as long as a block of SHA-1 (RFC 2104 section 2)."""
    return (_sha1(key).digest() if len(key) > 64 else key).ljust(64, b"\0")


def _fingerprint(message: bytes) -> bytes:
    return (zlib.crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def xor_mapped_address(address: tuple[str, int], transaction: bytes) -> tuple[int, bytes]:
    """The XOR-MAPPED-ADDRESS attribute for an IP address and port; raises ParseError for any other host."""
    packed = _packed(address[0])
    size = len(packed)
    mask = int.from_bytes((_MAGIC_BYTES + transaction)[:size], "big")
    value = _MAPPED.pack(0, 1 if size == 4 else 2, address[1] ^ MAGIC >> 16)
    return Attribute.XOR_MAPPED_ADDRESS, value + (int.from_bytes(packed, "big") ^ mask).to_bytes(size, "big")


def success(transaction: bytes, address: tuple[str, int], key: bytes) -> bytes:
    """The success response to the request with this transaction id that came from this address, whole.

    As `Message.to_bytes` makes it of XOR-MAPPED-ADDRESS alone; raises what `xor_mapped_address` does.
    """
    _, value = xor_mapped_address(address, transaction)
    mapped = _ATTRIBUTE.pack(_MAPPED_ADDRESS, len(value)) + value
    size = len(mapped) + 24
    mac = _hmac(key, _HEADER.pack(_SUCCESS, size, MAGIC, transaction) + mapped)
    answer = _HEADER.pack(_SUCCESS, size + 8, MAGIC, transaction) + mapped + _INTEGRITY_HEADER + mac
    return answer + _FINGERPRINT_HEADER + _fingerprint(answer)


@lru_cache(maxsize=1024)
def _packed(host: str) -> bytes:
    try:
        return ip_address(host).packed
    except (ValueError, AddressValueError):
        raise ParseError(f"{host!r} is not an IP address") from None


class Precedent:
    """An authentic binding request that was answered, by which the next ones of its kind are answered.

    The checks by which a peer shows its consent, from one address, differ in their transaction ids,
    MESSAGE-INTEGRITY and FINGERPRINT alone. What else they say was read and judged in the first of them; in
    the next ones it is only seen to be the same, to the last bit. That each is authentic is looked at anew.
    """

    __slots__ = ("_at", "_body", "_covered", "_head", "_key", "_mac", "_mapped", "_source", "request")

    def __init__(self, request: Message, source: tuple[str, int], key: bytes) -> None:
        """`request` is usual, has passed `verify(key)`, and was answered by success to `source`."""
        raw, at = request.raw, request.integrity_at
        self.request = request
        self._source = source
        self._key = key
        self._mac: _Mac | None = None  # made when it is needed: not for who checks once
        self._mapped = b""  # the attribute, once it is known that it does not depend on the transaction
        self._at = at
        self._head, self._body = raw[:8], raw[20 : at + 4]
        self._covered = _with_length(raw[:8], at + 4)

    @staticmethod
    def is_usual(request: Message) -> bool:
        """Whether it ends with MESSAGE-INTEGRITY and FINGERPRINT, as `answer` takes them to."""
        at = request.integrity_at
        return bool(at) and request.fingerprint_at == at + 24 and len(request.raw) == at + 32

    def answer(self, datagram: bytes) -> bytes | None:
        """The success response to another request of this kind; None when it is of another.

        Raises IntegrityError when it would be of this kind, and is not authentic.
        """
        at = self._at
        if (
            len(datagram) != at + 32
            or datagram[20 : at + 4] != self._body
            or datagram[:8] != self._head
            or datagram[at + 24 : at + 28] != _FINGERPRINT_HEADER
        ):
            return None
        if _fingerprint(datagram[: at + 24]) != datagram[at + 28 :]:
            raise IntegrityError("STUN FINGERPRINT does not match")
        mac = self._mac
        if mac is None:
            mac = self._mac = _Mac(self._key)
        if not hmac.compare_digest(mac.of(self._covered + datagram[8:at]), datagram[at + 4 : at + 24]):
            raise IntegrityError("STUN MESSAGE-INTEGRITY does not match")
        transaction = datagram[8:20]
        said = transaction + (self._mapped or self._mapped_address(transaction))
        integrity = mac.of(_success_head(len(said) + 12) + said)  # RFC 8489 section 14.5: up to itself
        answer = _success_head(len(said) + 20) + said + _INTEGRITY_HEADER + integrity
        return answer + _FINGERPRINT_HEADER + _fingerprint(answer)

    def _mapped_address(self, transaction: bytes) -> bytes:
        """XOR-MAPPED-ADDRESS as it is on the wire: of IPv4 it is the same for every transaction."""
        _, value = xor_mapped_address(self._source, transaction)
        mapped = _ATTRIBUTE.pack(Attribute.XOR_MAPPED_ADDRESS, len(value)) + value
        if len(value) == 8:
            self._mapped = mapped
        return mapped


class _Mac:
    """HMAC-SHA1 (RFC 2104) with one key, many times over: both of its hashes have read the key already.

    Half of what a copy of `hmac.HMAC` costs, for which OpenSSL makes several objects.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = _key_block(key)
        self._inner = _sha1(block.translate(_INNER))
        self._outer = _sha1(block.translate(_OUTER))

    def of(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


@lru_cache(maxsize=4)
def _success_head(length: int) -> bytes:
    """The header of a success response of this length, up to the transaction."""
    return _HEADER.pack(_SUCCESS, length, MAGIC, b"")[:8]


def error(request: Message, code: int, reason: str) -> Message:
    """An error response to a request."""
    value = bytes((0, 0, code // 100, code % 100)) + reason.encode()
    attributes: list[tuple[int, bytes]] = [(Attribute.ERROR_CODE, value)]
    if code == UNKNOWN_ATTRIBUTE:
        names = request.unknown_required()[:8]
        attributes.append((Attribute.UNKNOWN_ATTRIBUTES, b"".join(n.to_bytes(2, "big") for n in names)))
    return Message(Class.ERROR, request.transaction, tuple(attributes))


def is_stun(datagram: bytes) -> bool:
    """RFC 7983: the first byte tells STUN (0..3) from DTLS (20..63) and RTP (128..191)."""
    return len(datagram) >= 20 and datagram[0] < 4 and datagram[4:8] == _MAGIC_BYTES


def transaction(datagram: bytes) -> bytes:
    """The transaction id of what `is_stun` took for STUN."""
    return datagram[8:20]


def username(datagram: bytes) -> str | None:
    """The USERNAME of a STUN binding request ("OURS:THEIRS"), unauthenticated; None if it is not one.

    For the driver's demux: the part before the colon is the ufrag of the session it is meant for. It trusts
    nothing, and reads no further: the session reads all of it, and checks MESSAGE-INTEGRITY.
    """
    if datagram[:2] != _REQUEST or not is_stun(datagram):
        return None
    at, end = 20, len(datagram)
    for _ in range(_MAX_ATTRIBUTES):
        if at + 4 > end:
            return None
        name, size = _ATTRIBUTE.unpack_from(datagram, at)
        if name == _USERNAME:
            value = datagram[at + 4 : at + 4 + size]
            try:
                return value.decode() if len(value) == size else None
            except UnicodeDecodeError:
                return None
        if name == _MESSAGE_INTEGRITY:
            return None  # what comes after it does not count
        at += 4 + size + (-size % 4)
    return None
