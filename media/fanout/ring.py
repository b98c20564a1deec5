"""The last seconds of one track, shared by all its viewers: retransmissions and late joins come from here.

Packets are kept as they go out (our SSRC, sequence and timestamp, no extensions, payload type 0), keyed by
their *extended* sequence number: an integer that never wraps, whose low 16 bits are on the wire. A packet is
never changed once it has been sent: SRTP with AES-GCM must not see two plaintexts under one sequence number.
"""

SEQUENCE_SPACE = 1 << 16


class PacketRing:
    """A fixed number of slots; a packet stays until one `capacity` later takes its slot."""

    __slots__ = ("_mask", "_numbers", "_packets", "gop_start", "newest")

    def __init__(self, capacity: int = 4096) -> None:
        """`capacity` is a power of two: 4096 video packets are 8 s of 4.5 Mbps."""
        if capacity & (capacity - 1) or capacity <= 0:
            raise ValueError(f"capacity {capacity} is not a power of two")
        self._mask = capacity - 1
        self._numbers: list[int] = [-1] * capacity
        self._packets: list[bytes] = [b""] * capacity
        self.newest = -1
        self.gop_start: int | None = None  # first packet of the newest key frame

    @property
    def capacity(self) -> int:
        return self._mask + 1

    def insert(self, number: int, packet: bytes) -> bool:
        """Keep a packet; False when it is already here or too old to keep."""
        if number <= self.newest - self.capacity:
            return False
        slot = number & self._mask
        if self._numbers[slot] == number:
            return False
        self._numbers[slot] = number
        self._packets[slot] = packet
        if number > self.newest:
            self.newest = number
        return True

    def append(self, first: int, packets: list[bytes]) -> None:
        """Keep packets in a row, all of them newer than the newest one, and no more than there are slots."""
        slot, count = first & self._mask, len(packets)
        if slot + count <= self.capacity:
            self._numbers[slot : slot + count] = range(first, first + count)
            self._packets[slot : slot + count] = packets
        else:
            for number, packet in enumerate(packets, first):
                self._numbers[number & self._mask] = number
                self._packets[number & self._mask] = packet
        self.newest = first + count - 1

    def replace(self, number: int, packet: bytes) -> None:
        """Another form of a packet that nobody has been sent yet."""
        slot = number & self._mask
        if self._numbers[slot] == number:
            self._packets[slot] = packet

    def get(self, number: int) -> bytes | None:
        slot = number & self._mask
        return self._packets[slot] if self._numbers[slot] == number else None

    def find(self, sequence: int) -> int | None:
        """The extended number of a 16-bit sequence number, as near below the newest as it can be."""
        if self.newest < 0:
            return None
        number = self.newest - ((self.newest - sequence) % SEQUENCE_SPACE)
        return number if number >= 0 and self.get(number) is not None else None

    def holds_gop(self) -> bool:
        """Whether every packet since the newest key frame began is here: fit to be burst to a joiner."""
        start = self.gop_start
        if start is None or start <= self.newest - self.capacity:
            return False
        return all(self._numbers[n & self._mask] == n for n in range(start, self.newest + 1))
