"""The send path to viewers over TCP, beside that over UDP (sender.py).

They get the same plaintext, laid out once a class with room for tags and with the lengths of RFC 4571 before
the packets. A viewer's copy is protected in place and goes to its connection in one piece, or not at all.
Never in the loop over the viewers of UDP: those are done first.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from pylibsrtp._binding import ffi, lib

from media.core.framing import LENGTH_BYTES
from media.fanout.frames import MAX_BATCH

_LENGTH = struct.Struct("!H")


class Stream(Protocol):
    """One TCP connection as the send path sees it."""

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that nothing should begin now."""

    def write(self, frames: bytes | memoryview, now: float) -> bool:
        """Send or queue whole frames of media; False when there is no room: then none of it is."""

    def write_control(self, packet: bytes) -> bool:
        """Send or queue one packet of RTCP, DTLS or STUN, for which there is always a little room."""

    def discard(self) -> None:
        """Forget what waits and has not begun to be sent: a newer key frame will take its place."""


class Recipient(Protocol):
    """What is needed of a destination."""

    context: Any
    stream: Stream | None
    drops: int

    def count(self, packets: int, size: int) -> None: ...


R = TypeVar("R", bound=Recipient)


class Sent:
    """What a round of writes came to."""

    __slots__ = ("dropped", "packets", "refused")

    def __init__(self) -> None:
        self.packets = 0
        self.dropped = 0  # packets for which there was no room
        self.refused = 0  # packets libsrtp refused


def send_framed(
    packets: Sequence[bytes],
    payload_type: int,
    tag: int,
    recipients: Iterable[R],
    work: Any,
    now: float,
) -> tuple[Sent, list[R]]:
    """Protect and write a batch for each recipient; returns the totals, and who had no room for it.

    `work` is cdata of at least `framed_bytes()` bytes, used for one recipient after the other.
    """
    layout = _Layout(packets, payload_type, tag)
    template = ffi.from_buffer(layout.template)
    view = memoryview(ffi.buffer(work, len(layout.template)))
    places = [work + place for place in layout.places]
    lengths = ffi.new("int[]", len(packets))
    total, full = Sent(), []
    for recipient in recipients:
        stream = recipient.stream
        if stream is None:
            continue
        ffi.memmove(work, template, len(layout.template))
        whole = True
        said = []
        for number, place in enumerate(places):
            lengths[number] = len(packets[number])
            said.append(lib.srtp_protect(recipient.context, place, lengths + number))
            whole = whole and not said[-1]
        count, data = len(packets), view
        if not whole:
            data = memoryview(
                b"".join(part for part, no in zip(layout.parts(view), said, strict=True) if not no)
            )
            count = said.count(0)
            total.refused += len(packets) - count
            recipient.drops += len(packets) - count
        if not count:
            continue
        if stream.write(data, now):
            recipient.count(count, len(data))
            total.packets += count
        else:
            recipient.drops += count
            total.dropped += count
            full.append(recipient)
    return total, full


def framed_bytes(longest: int) -> int:
    """What `work` must hold for packets of at most so many bytes, protected."""
    return MAX_BATCH * (LENGTH_BYTES + longest)


class _Layout:
    """A batch as it goes into a stream, tags still missing."""

    __slots__ = ("_ends", "places", "template")

    def __init__(self, packets: Sequence[bytes], payload_type: int, tag: int) -> None:
        self.template = bytearray()
        self.places: list[int] = []  # of the packets
        self._ends: list[int] = []  # of the frames
        for packet in packets:
            self.template += _LENGTH.pack(len(packet) + tag)
            self.places.append(len(self.template))
            self.template += packet
            self.template[self.places[-1] + 1] |= payload_type
            self.template += bytes(tag)
            self._ends.append(len(self.template))

    def parts(self, view: memoryview) -> list[memoryview]:
        """The frames one by one."""
        starts = [0, *self._ends[:-1]]
        return [view[start:end] for start, end in zip(starts, self._ends, strict=True)]
