"""H.264 access units as a byte stream (Annex B): finding the NAL units in it."""

from collections.abc import Iterator

IDR, SEI, SPS, PPS, AUD, FILLER = 5, 6, 7, 8, 9, 12
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
