"""The pipe between the publisher's media loop and its encoder process.

Encoder to publisher, one item after another:

    header   length of the payload (u32), kind (u8), flags (u8), pts (i64), capture (f64); big endian
    payload  video: one access unit, Annex B, or one VP8 frame.  sound: one Opus packet.  The others: JSON.

`pts` is in units of 1/90000 s for pictures and 1/48000 s for sound, both from the same show time 0;
`capture` is the Unix time in seconds at which the picture or sound was taken. Flag bit 0 marks a key frame.

Publisher to encoder: orders of nine bytes, kind (u8) and a value (f64).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

VIDEO_CLOCK, SOUND_CLOCK = 90_000, 48_000

_HEADER = struct.Struct("!IBBqd")
_ORDER = struct.Struct("!Bd")
HEADER_SIZE, ORDER_SIZE = _HEADER.size, _ORDER.size
MAX_PAYLOAD = 32 << 20  # a header that claims more is garbage


class Kind(IntEnum):
    VIDEO = 1
    SOUND = 2
    READY = 3  # JSON: the SourceInfo; the encoder now waits for GO
    REJECTED = 4  # JSON: {"what", "next"}; the encoder ends
    FIGURES = 5  # JSON: EncoderFigures, twice a second
    END = 6  # the source is over; the encoder ends


class Order(IntEnum):
    GO = 1  # value: the monotonic time (shared by all processes of a machine) of show time 0
    KEY_FRAME = 2  # value: not used
    BITRATE = 3  # value: bits per second, for everything


class PipeError(Exception):
    """What came through the pipe is not what this page says: a bug or two different versions."""


@dataclass(frozen=True)
class Item:
    kind: Kind
    payload: bytes
    pts: int = 0
    capture: float = 0.0
    key: bool = False


def pack_header(item: Item) -> bytes:
    return _HEADER.pack(len(item.payload), item.kind, item.key, item.pts, item.capture)


def unpack_header(header: bytes) -> tuple[int, Kind, bool, int, float]:
    """Length of the payload, kind, key, pts, capture."""
    length, kind, flags, pts, capture = _HEADER.unpack(header)
    if length > MAX_PAYLOAD or kind not in Kind.__members__.values():
        raise PipeError(f"no item begins like this: length {length}, kind {kind}")
    return length, Kind(kind), bool(flags & 1), pts, capture


def pack_order(order: Order, value: float = 0.0) -> bytes:
    return _ORDER.pack(order, value)


def read_order(stream: BinaryIO) -> tuple[Order, float] | None:
    """The next order; None when the other side has gone. Waits."""
    data = stream.read(ORDER_SIZE)
    if len(data) < ORDER_SIZE:
        return None
    kind, value = _ORDER.unpack(data)
    return Order(kind), value
