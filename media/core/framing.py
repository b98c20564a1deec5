"""Packets over a byte stream (RFC 4571, as ICE-TCP uses it): two bytes of length, then the packet."""

from typing import Final

LENGTH_BYTES: Final = 2
MAX_FRAME: Final = 2048  # no WebRTC peer sends larger packets


def frame(packet: bytes | memoryview) -> bytes:
    """A packet of at most 65,535 bytes with its length before it."""
    return len(packet).to_bytes(LENGTH_BYTES, "big") + packet


class Deframer:
    """Takes what a stream brings, in pieces of any size; gives whole packets.

    It keeps less than one frame. The packets do not depend on where the pieces were cut.
    """

    __slots__ = ("broken", "rest")

    def __init__(self) -> None:
        self.rest = b""  # of a frame that is not whole yet
        self.broken = False  # a frame said that it is longer than MAX_FRAME: nothing comes after it

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now, in order. Null packets (length 0, section 2) are passed over."""
        if self.broken:
            return []
        if self.rest:
            data = self.rest + data
        packets: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= LENGTH_BYTES:
            length = data[at] << 8 | data[at + 1]
            if length > MAX_FRAME:
                self.broken = True
                at = end
                break
            after = at + LENGTH_BYTES + length
            if after > end:
                break
            if length:
                packets.append(data[at + LENGTH_BYTES : after])
            at = after
        self.rest = data[at:]
        return packets
