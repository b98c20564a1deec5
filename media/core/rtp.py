"""RTP packets (RFC 3550), header extensions (RFC 8285), retransmissions (RFC 4588), sequence arithmetic.

The hot path touches packets through `parse_header` and byte offsets; nothing here copies a payload unless
it says so. All parsers raise ParseError and nothing else.
"""

import struct
from typing import NamedTuple

from media.core.errors import ParseError

__all__ = [
    "RtpHeader",
    "SequenceExtender",
    "build",
    "build_rtx",
    "extensions",
    "is_rtcp",
    "parse_header",
    "restore_rtx",
    "sequence_difference",
    "strip_extensions",
    "timestamp_difference",
]

_FIXED = struct.Struct("!BBHII")


class RtpHeader(NamedTuple):
    """Where things are in one packet. Offsets and lengths are bytes from the start of the packet."""

    payload_type: int
    marker: bool
    sequence: int  # 16 bit
    timestamp: int  # 32 bit, in the codec's clock
    ssrc: int
    header_length: int  # fixed header and CSRCs, without the extension
    payload_offset: int  # where the payload begins, after the extension
    padding: int  # bytes of padding at the end, its count byte included

    def payload(self, packet: bytes | memoryview) -> memoryview:
        return memoryview(packet)[self.payload_offset : len(packet) - self.padding]


def is_rtcp(packet: bytes | memoryview) -> bool:
    """RFC 5761 section 4: with rtcp-mux a second byte of 192..223 is RTCP."""
    return len(packet) > 1 and 192 <= packet[1] <= 223


def parse_header(packet: bytes | memoryview) -> RtpHeader:
    """Read the header of a plaintext packet; raises ParseError when it cannot be RTP."""
    size = len(packet)
    if size < 12:
        raise ParseError("RTP packet shorter than its fixed header")
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(packet)
    if first >> 6 != 2:
        raise ParseError("not RTP version 2")
    header = offset = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        if size < offset + 4:
            raise ParseError("RTP packet ends in its extension header")
        offset += 4 + 4 * (packet[offset + 2] << 8 | packet[offset + 3])
    padding = 0
    if first & 0x20:
        padding = packet[-1]
        if padding == 0:
            raise ParseError("RTP padding of length 0")
    if offset + padding > size:
        raise ParseError("RTP packet shorter than its header says")
    return RtpHeader(second & 0x7F, second > 0x7F, sequence, timestamp, ssrc, header, offset, padding)


def build(
    *, payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool = False
) -> bytes:
    """A packet without CSRCs, extension or padding."""
    return (
        _FIXED.pack(
            0x80,
            payload_type | (0x80 if marker else 0),
            sequence & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            ssrc,
        )
        + payload
    )


def extensions(packet: bytes | memoryview, header: RtpHeader) -> dict[int, bytes]:
    """Header extension elements by id, of the one-byte (0xBEDE) and two-byte (0x100x) forms of RFC 8285."""
    if header.payload_offset == header.header_length:
        return {}
    at = header.header_length
    profile = packet[at] << 8 | packet[at + 1]
    at += 4
    end = header.payload_offset
    found: dict[int, bytes] = {}
    if profile == 0xBEDE:
        while at < end:
            ident, size = packet[at] >> 4, (packet[at] & 0x0F) + 1
            if ident == 0:  # padding
                at += 1
                continue
            if ident == 15 or at + 1 + size > end:
                break
            found[ident] = bytes(packet[at + 1 : at + 1 + size])
            at += 1 + size
    elif profile & 0xFFF0 == 0x1000:
        while at < end:
            ident = packet[at]
            if ident == 0:
                at += 1
                continue
            if at + 2 > end or at + 2 + packet[at + 1] > end:
                break
            size = packet[at + 1]
            found[ident] = bytes(packet[at + 2 : at + 2 + size])
            at += 2 + size
    return found


def strip_extensions(packet: bytes, header: RtpHeader | None = None) -> bytes:
    """The packet with a 12-byte header and its payload only: no extension, CSRC or padding.

    That is the form every hop forwards: extension ids belong to one connection's negotiation. Returns the
    very same object when there is nothing to take off.
    """
    if packet and packet[0] == 0x80 and len(packet) >= 12:
        return packet
    header = header or parse_header(packet)
    return b"\x80" + packet[1:12] + packet[header.payload_offset : len(packet) - header.padding]


def pad(packet: bytes, size: int) -> bytes:
    """A stripped packet, padded to `size` bytes (RFC 3550 section 5.1): 1 to 255 more than it has."""
    count = size - len(packet)
    return bytes((packet[0] | 0x20,)) + packet[1:] + bytes(count - 1) + bytes((count,))


def build_rtx(packet: bytes | memoryview, *, payload_type: int, ssrc: int, sequence: int) -> bytes:
    """A retransmission (RFC 4588) of a stripped packet: OSN before the payload, marker and timestamp kept.

    Padding is left out (section 4).
    """
    end = len(packet) - packet[-1] if packet[0] & 0x20 else len(packet)
    return b"".join(
        (
            b"\x80",
            bytes((packet[1] & 0x80 | payload_type,)),
            (sequence & 0xFFFF).to_bytes(2, "big"),
            packet[4:8],
            ssrc.to_bytes(4, "big"),
            packet[2:4],
            packet[12:end],
        )
    )


def restore_rtx(packet: bytes, *, payload_type: int, ssrc: int) -> bytes | None:
    """The original packet out of a retransmission, without extensions; None for bare padding (a probe)."""
    header = parse_header(packet)
    payload = packet[header.payload_offset : len(packet) - header.padding]
    if len(payload) < 2:
        return None
    return b"".join(
        (
            b"\x80",
            bytes((packet[1] & 0x80 | payload_type,)),
            payload[:2],
            packet[4:8],
            ssrc.to_bytes(4, "big"),
            payload[2:],
        )
    )


def sequence_difference(new: int, old: int) -> int:
    """Signed distance of two 16-bit sequence numbers: positive when `new` comes after `old`."""
    return ((new - old + 0x8000) & 0xFFFF) - 0x8000


def timestamp_difference(new: int, old: int) -> int:
    """Signed distance of two 32-bit timestamps."""
    return ((new - old + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class SequenceExtender:
    """Counts wraps: gives each 16-bit sequence number its place in a line that never wraps."""

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: int | None = None

    def extend(self, sequence: int) -> int:
        highest = self._highest
        if highest is None:
            self._highest = sequence
            return sequence
        extended = highest + sequence_difference(sequence, highest & 0xFFFF)
        if extended > highest:
            self._highest = extended
        return extended

    @property
    def highest(self) -> int | None:
        return self._highest
