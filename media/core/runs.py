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
from media.core.rtp import is_rtcp

MAX_PACKETS: Final = 64  # of one UDP_SEGMENT send: udp(7), the kernel's UDP_MAX_SEGMENTS
HEADER: Final = 12
_FIELDS = "HHQ"  # version to payload type, number, timestamp with SSRC
_ROW = struct.Struct(f"!{_FIELDS}")
_PLAIN, _PADDED = 0x8000, 0xA000  # version 2 without and with padding, and nothing else
_MARKER = 0x0080


class RunHeader(NamedTuple):
    """What the headers of a run say. Not encrypted: believe them when all of it has authenticated."""

    packets: int
    payload_type: int
    marker: bool  # of the last packet
    sequence: int  # of the first packet, 16 bit; the run does not wrap
    timestamp: int
    ssrc: int
    padded: tuple[int, ...]  # numbers of the packets with padding, from 0


@lru_cache(maxsize=256)
def _rows(stride: int) -> struct.Struct:
    """A packet of that many bytes, of which only the header is looked at."""
    return struct.Struct(f"!{_FIELDS}{stride - HEADER}x")


@lru_cache(maxsize=256)
def _packets(size: int, gap: int) -> struct.Struct:
    return struct.Struct(f"{size}s{gap}x")


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
        rows.append(_ROW.unpack_from(data, whole * stride))
    heads, sequences, tails = zip(*rows, strict=True)
    count, start, last = len(rows), sequences[0], heads[-1]
    if sequences != tuple(range(start, start + count)) or tails.count(tails[0]) != count:
        return None
    payload_type = last & 0x7F
    if is_rtcp(data[(count - 1) * stride :]):  # only there, where a marker may be, can it be taken for some
        return None
    padded: tuple[int, ...] = ()
    if heads[:-1] != (_PLAIN | payload_type,) * (count - 1) or last & ~_MARKER != _PLAIN | payload_type:
        padded = tuple(number for number, head in enumerate(heads) if head & _PADDED == _PADDED)
        kinds = {*heads[:-1], last & ~_MARKER}
        if not kinds <= {_PLAIN | payload_type, _PADDED | payload_type}:
            return None
    return RunHeader(
        count, payload_type, last & _MARKER > 0, start, tails[0] >> 32, tails[0] & 0xFFFFFFFF, padded
    )


class PlainRun:
    """An authenticated run: packets in plaintext, still `stride` bytes apart, `tag` bytes unused after each.

    It is where it was read, in memory that the next read takes again: use it up before.
    """

    __slots__ = ("_data", "_ends", "_starts", "header", "stride")

    def __init__(self, header: RunHeader, data: memoryview, stride: int, tag: int) -> None:
        self.header = header
        self.stride = stride
        self._data = data
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
        data, stride, longest = self._data, self.stride, self.longest
        whole = len(data) // stride * stride
        result = [packet for (packet,) in _packets(longest, stride - longest).iter_unpack(data[:whole])]
        if whole < len(data):
            result.append(data[whole : self._ends[-1]].tobytes())
        return result

    def begins_keyframe(self, codec: VideoCodec) -> bool:
        """Whether a decoder can start with one of the packets."""
        data, stride = self._data, self.stride
        if self._ends[-1] - self._starts[-1] >= HEADER + 2:
            first, second = data[HEADER::stride].tobytes(), data[HEADER + 1 :: stride].tobytes()
            openings = set(zip(first, second, strict=True))
            if not any(codec.may_start_keyframe(*opening) for opening in openings):
                return False
        return any(
            codec.is_keyframe_start(data[start + HEADER : end])
            for start, end in zip(self._starts, self._ends, strict=True)
        )

    def rewrite(self, sequence: int, timestamp: int, ssrc: int) -> list[bytes]:
        """Each by itself with these numbers on (the first sequence number, modulo 2**16), payload type 0.

        What has padding keeps it: a sender that made the packets even need not do so again.
        """
        header, data, stride = self.header, self._data, self.stride
        pack_into, tail = _ROW.pack_into, timestamp << 32 | ssrc
        for number, start in enumerate(self._starts, sequence):
            pack_into(data, start, _PLAIN, number & 0xFFFF, tail)
        for padded in header.padded:
            data[padded * stride] |= 0x20
        if header.marker:
            data[self._starts[-1] + 1] |= _MARKER
        return self.packets()
