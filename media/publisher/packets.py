"""Coded pictures to RTP payloads: H.264 (RFC 6184, packetization mode 1) and VP8 (RFC 7741).

Fragments of one picture are all of the same size and only the last is shorter, because a node can then hand
a whole run of them to the kernel at once (UDP_SEGMENT); aiortc's own packetiser makes the first ones longer.
"""

from media.publisher import annexb

MAX_PAYLOAD = (
    1180  # bytes; with RTP header, extensions, SRTP tag, UDP and IPv6 well under any real path's MTU
)
_STAP_A, _FU_A = 24, 28
_NRI = 0x60
_VP8_START, _VP8_MORE = b"\x10", b"\x00"  # descriptors of the first piece of a frame, and of the others


def vp8_payloads(frame: bytes) -> list[bytes]:
    """The payloads of one VP8 frame, in order; the last one carries the marker bit.

    The descriptor is its one mandatory byte (RFC 7741 section 4.2): whoever lost a packet knows by the
    sequence number, and a picture id would jump for viewers when a publisher comes back.
    """
    if not frame:
        return []
    count = -(-len(frame) // (MAX_PAYLOAD - 1))
    size = -(-len(frame) // count)
    return [(_VP8_MORE if at else _VP8_START) + frame[at : at + size] for at in range(0, len(frame), size)]


def payloads(access_unit: bytes) -> list[bytes]:
    """The payloads of one H.264 picture, in order; the last one carries the marker bit."""
    out: list[bytes] = []
    small: list[bytes] = []
    room = MAX_PAYLOAD - 1
    for unit in annexb.units(access_unit):
        if annexb.is_idle(unit):
            continue
        if len(unit) + 2 > room:
            out += _aggregate(small)
            small, room = [], MAX_PAYLOAD - 1
        if len(unit) > MAX_PAYLOAD:
            out += _fragments(unit)
        elif len(unit) + 2 > MAX_PAYLOAD - 1:
            out.append(unit)
        else:
            small.append(unit)
            room -= len(unit) + 2
    return out + _aggregate(small)


def _aggregate(units: list[bytes]) -> list[bytes]:
    if len(units) < 2:
        return units
    header = _STAP_A | max(unit[0] & _NRI for unit in units)
    return [bytes([header]) + b"".join(len(unit).to_bytes(2) + unit for unit in units)]


def _fragments(unit: bytes) -> list[bytes]:
    body = len(unit) - 1
    count = -(-body // (MAX_PAYLOAD - 2))
    size = -(-body // count)
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    out = []
    for number in range(count):
        start = 0x80 if number == 0 else 0
        end = 0x40 if number == count - 1 else 0
        part = unit[1 + number * size : 1 + (number + 1) * size]
        out.append(bytes([indicator, start | end | kind]) + part)
    return out
