"""A run of RTP packets in one piece of memory: what one UDP_SEGMENT send becomes again in one UDP_GRO read.

A frame comes from another worker of ours in a few reads, not in twenty. Taken apart packet by packet, each
costs more in Python than its decryption; so a run is looked at as a whole, by slices with a stride, and stays
one until it is in the ring.

    | header payload tag | header payload tag | ... | header payload tag |
    <------ stride ------>                          <-- may be shorter --->

Only runs as our own nodes make them are read: one SSRC, payload type and timestamp, numbers in a row, no
CSRCs, no extensions, the marker on the last packet alone. Anything else is no run, and no error: it is handed
on packet by packet.
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from media.core.codecs import VideoCodec

MAX_PACKETS: Final = 64  # of one UDP_SEGMENT send: udp(7), the kernel's UDP_MAX_SEGMENTS
HEADER: Final = 12
_FIXED = struct.Struct("!BBHII")
_PLAIN, _PADDED = 0x80, 0xA0  # version 2 without and with padding, nothing else
_ROW = _FIXED.format.removeprefix("!")


class RunHeader(NamedTuple):
    """What the headers of a run say. They are not encrypted: believe them when all of it has authenticated."""

    packets: int
    payload_type: int
    marker: bool  # of the last packet
    sequence: int  # of the first packet, 16 bit; the run does not wrap
    timestamp: int
    ssrc: int
    padded: tuple[int, ...]  # numbers of the packets with padding, from 0


@lru_cache(maxsize=256)
def _rows(stride: int) -> struct.Struct:
    """All headers of packets a stride apart, in one go."""
    return struct.Struct(f"!{_ROW}{stride - HEADER}x")


def parse_run(data: memoryview, stride: int) -> RunHeader | None:
    """Read the headers of packets `stride` bytes apart; None when they are no run. Copies nothing."""
    size = len(data)
    if stride <= HEADER or size <= stride:
        return None
    whole = size // stride
    rest = size - whole * stride
    if 0 < rest < HEADER or whole + (rest > 0) > MAX_PACKETS:
        return None
    rows = list(_rows(stride).iter_unpack(data[: whole * stride]))
    if rest:
        rows.append(_FIXED.unpack_from(data, whole * stride))
    firsts, seconds, sequences, timestamps, ssrcs = zip(*rows, strict=True)
    count, start, second = len(rows), sequences[0], seconds[0]
    if (
        second > 0x7F  # a marker is on the last one alone
        or 192 <= seconds[-1] <= 223  # RTCP: RFC 5761 section 4
        or seconds[:-1] != (second,) * (count - 1)
        or seconds[-1] & 0x7F != second
        or sequences != tuple(range(start, start + count))
        or timestamps != timestamps[:1] * count
        or ssrcs != ssrcs[:1] * count
    ):
        return None
    padded: tuple[int, ...] = ()
    if firsts != (_PLAIN,) * count:
        if not {_PLAIN, _PADDED}.issuperset(firsts):
            return None
        padded = tuple(number for number, first in enumerate(firsts) if first == _PADDED)
    return RunHeader(count, second, seconds[-1] > 0x7F, start, timestamps[0], ssrcs[0], padded)


class PlainRun:
    """An authenticated run: packets in plaintext, still `stride` bytes apart, `tag` bytes unused after each."""

    __slots__ = ("_data", "_ends", "_starts", "header", "stride")

    def __init__(self, header: RunHeader, data: bytes, stride: int, tag: int) -> None:
        self.header = header
        self.stride = stride
        self._data = memoryview(data)
        self._starts = range(0, header.packets * stride, stride)
        self._ends: list[int] = [*range(stride - tag, (header.packets - 1) * stride, stride), len(data) - tag]

    @property
    def size(self) -> int:
        """Bytes of all packets, headers and padding included."""
        return sum(self._ends) - sum(self._starts)

    @property
    def longest(self) -> int:
        """Bytes of the longest packet."""
        return self._ends[0]

    def padding(self) -> int | None:
        """Bytes of padding in all packets; None when one has more than it can have, or says it has none."""
        total = 0
        for number in self.header.padded:
            end = self._ends[number]
            count = self._data[end - 1]
            if not 0 < count <= end - self._starts[number] - HEADER:
                return None
            total += count
        return total

    def packets(self) -> list[bytes]:
        """Each by itself, as it came."""
        data = self._data
        return [data[start:end].tobytes() for start, end in zip(self._starts, self._ends, strict=True)]

    def begins_keyframe(self, codec: VideoCodec) -> bool:
        """Whether a decoder can start with one of the packets."""
        data, first, second = self._data, self._data[HEADER :: self.stride], self._data[HEADER + 1 :: self.stride]
        short = self._ends[-1] - self._starts[-1] < HEADER + 2
        if not short and not any(map(codec.may_start_keyframe, *zip(*set(zip(first, second)), strict=True))):
            return False
        return any(
            codec.is_keyframe_start(data[start + HEADER : end])
            for start, end in zip(self._starts, self._ends, strict=True)
        )

    def rewritten(self, sequence: int, timestamp: int, ssrc: int) -> list[bytes]:
        """Each by itself with these numbers on (the first sequence number, modulo 2**16), payload type 0.

        What has padding keeps it: a sender that made the packets even need not do so again.
        """
        data, header = self._data, self.header
        firsts = [_PLAIN] * header.packets
        for number in header.padded:
            firsts[number] = _PADDED
        seconds = [0] * header.packets
        seconds[-1] = 0x80 if header.marker else 0
        return [
            _FIXED.pack(first, second, number & 0xFFFF, timestamp, ssrc) + data[start + HEADER : end]
            for first, second, number, start, end in zip(
                firsts, seconds, range(sequence, sequence + header.packets), self._starts, self._ends, strict=True
            )
        ]
