"""One unbroken stream toward the viewers, whatever happens to the source behind it.

Viewers keep their SSRC, sequence numbers and timestamps while the source changes: the publisher comes back
with another SSRC, or an edge subscribes to another origin. Within one source the output is the input plus two
offsets, so gaps stay gaps and reordering stays reordering; at a change of source the offsets are chosen anew:
the next sequence number follows the last one sent, and the timestamp moves on by the time that passed.
"""

SEQUENCE_SPACE = 1 << 16
TIMESTAMP_SPACE = 1 << 32


def unwrap(value: int, reference: int, space: int) -> int:
    """The integer nearest to `reference` that equals `value` modulo `space`."""
    half = space // 2
    return reference + ((value - reference + half) % space) - half


class Continuity:
    """The offsets of one track. Extended output numbers start small, so the first wrap is far away."""

    __slots__ = ("_clock_rate", "_last_at", "_number_offset", "_source_newest", "_timestamp_offset", "floor",
                 "newest", "timestamp")  # fmt: skip

    def __init__(self, clock_rate: int, first_number: int, first_timestamp: int) -> None:
        """`clock_rate` in Hz; the very first packet gets `first_number` and `first_timestamp`."""
        self._clock_rate = clock_rate
        self._source_newest: int | None = None  # extended number of the source
        self._number_offset = 0
        self._timestamp_offset = 0
        self._last_at: float | None = None
        self.newest = first_number - 1  # extended output number
        self.floor = first_number  # the output number of this source's first packet
        self.timestamp = first_timestamp  # output timestamp of the newest packet

    @property
    def has_source(self) -> bool:
        return self._source_newest is not None

    def change_source(self) -> None:
        """The next packet comes from another source."""
        self._source_newest = None

    def map(self, sequence: int, timestamp: int, now: float) -> int:
        """The extended output number of a source packet. Updates the newest number, time and timestamp.

        A number below `floor` is a straggler from before this source's first packet: the caller drops it.
        """
        if self._source_newest is None:
            # An extended source number far from zero, so that stragglers before the first do not go negative.
            self._source_newest = sequence + SEQUENCE_SPACE
            self._number_offset = self.newest + 1 - self._source_newest
            elapsed = 0.0 if self._last_at is None else max(0.0, now - self._last_at)
            # At least one tick: two frames with one timestamp would be one frame to a viewer.
            step = 0 if self._last_at is None else max(1, round(elapsed * self._clock_rate))
            self._timestamp_offset = (self.timestamp + step - timestamp) % TIMESTAMP_SPACE
            number = self._source_newest
            self.floor = self.newest + 1
        else:
            number = unwrap(sequence, self._source_newest, SEQUENCE_SPACE)
        output = number + self._number_offset
        if number >= self._source_newest:
            self._source_newest = number
            self.newest = output
            self.timestamp = self.map_timestamp(timestamp)
            self._last_at = now
        return output

    def follow(self, sequence: int, timestamp: int, count: int, now: float) -> int | None:
        """The output number of the first of `count` packets in a row with one timestamp, if they come next.

        None, and nothing is changed, when they do not directly follow the newest one.
        """
        newest = self._source_newest
        if newest is None or unwrap(sequence, newest, SEQUENCE_SPACE) != newest + 1:
            return None
        first = self.newest + 1
        self._source_newest = newest + count
        self.newest += count
        self.timestamp = self.map_timestamp(timestamp)
        self._last_at = now
        return first

    def source_sequence(self, number: int) -> int:
        """The source's sequence number of an output number, to ask it again."""
        return (number - self._number_offset) % SEQUENCE_SPACE

    def map_timestamp(self, timestamp: int) -> int:
        return (timestamp + self._timestamp_offset) % TIMESTAMP_SPACE
