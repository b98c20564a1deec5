"""H.264 access units as a byte stream (Annex B): finding the NAL units in it."""

from collections.abc import Iterator

IDR, SEI, SPS, PPS, AUD, FILLER = 5, 6, 7, 8, 9, 12
_TIMING = {0, 1}  # SEI messages: buffering period, picture timing
START_CODE = b"\x00\x00\x00\x01"


def units(data: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream, without their start codes and the zeros before those."""
    at = data.find(b"\x00\x00\x01")
    while at != -1:
        start = at + 3
        at = data.find(b"\x00\x00\x01", start)
        unit = data[start:] if at == -1 else data[start:at]
        if unit := unit.rstrip(b"\x00"):  # trailing_zero_8bits; a NAL unit never ends with a zero byte
            yield unit


def types(data: bytes) -> set[int]:
    """The types of the NAL units of a byte stream."""
    return {unit[0] & 0x1F for unit in units(data)}


def is_idle(unit: bytes) -> bool:
    """Whether a NAL unit tells a live viewer nothing: delimiters, and the timing of a constant bitrate.

    An encoder for broadcasting writes both before each picture (H.264 annex C, "nal-hrd"): a packet of its
    own that every viewer would get. Filler stays: it holds the bitrate that was asked for.
    """
    kind = unit[0] & 0x1F
    return kind == AUD or (kind == SEI and _sei_types(unit) <= _TIMING)


def _sei_types(unit: bytes) -> set[int]:
    """The payload types of an SEI unit's messages (H.264 section 7.3.2.3.1)."""
    body = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")  # emulation prevention, section 7.4.1
    types: set[int] = set()
    at = 0
    while at < len(body) - 1:  # the last byte holds the stop bit
        numbers = []
        for _ in range(2):  # type, then size: each a run of 255s and a last byte
            number = 0
            while at < len(body) and body[at] == 0xFF:
                number += 255
                at += 1
            number += body[at] if at < len(body) else 0
            at += 1
            numbers.append(number)
        types.add(numbers[0])
        at += numbers[1]
    return types
