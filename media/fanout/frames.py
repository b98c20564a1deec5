"""Packets gathered into batches: what is protected and sent to a viewer in one go.

A batch holds packets of one frame, at most `MAX_BATCH` of them, so that a key frame of a hundred packets goes
round the viewers in slices and nobody waits for all of it. A run is the part of a batch that one UDP_SEGMENT
send can carry: equal sizes, only the last may be shorter (udp(7); at most 64 segments and 65,507 bytes).

Not every publisher's packets are so even: a browser splits a picture about equally, aiortc makes its first
fragments longer, each slice of a picture begins anew: tests/media/golden has what they send. `evened` pads
what is nearly even, so that a picture leaves as one run: for a few bytes each viewer costs one message less.
"""

from dataclasses import dataclass, field

from media.core.rtp import pad

MAX_BATCH = 32
MAX_RUN_BYTES = 60_000
MAX_PADDING_SHARE = 0.02  # of a batch's bytes
DIFFERENCES = (255, 64, 16)  # bytes, tried in turn, between packets that are made alike; 255 is RTP's limit


@dataclass(slots=True)
class Batch:
    """Consecutive packets as they go out, payload type 0; `first` is the extended number of the first one."""

    first: int
    packets: list[bytes] = field(default_factory=list)


def runs(packets: list[bytes], overhead: int = 16) -> list[list[bytes]]:
    """Split a batch where the sizes ask for it. `overhead` is what protection adds to each packet."""
    sizes = list(map(len, packets))
    if _is_run(sizes) and sum(sizes) + overhead * len(sizes) <= MAX_RUN_BYTES:
        return [packets]
    result: list[list[bytes]] = []
    run: list[bytes] = []
    size = total = 0
    closed = True  # a shorter packet has ended the run, or there is none yet
    for packet in packets:
        length = len(packet)
        if closed or length > size or total + length + overhead > MAX_RUN_BYTES:
            run = [packet]
            result.append(run)
            size, total, closed = length, length + overhead, False
            continue
        run.append(packet)
        total += length + overhead
        closed = length < size
    return result


def _is_run(sizes: list[int]) -> bool:
    """Whether the sizes of some packets are those of one run."""
    return bool(sizes) and sizes[:-1].count(sizes[0]) == len(sizes) - 1 and sizes[-1] <= sizes[0]


def evened(packets: list[bytes]) -> list[bytes]:
    """The packets, some padded so that they make fewer runs; the very same list where that gains nothing.

    Where padding all that is nearly even would cost too much, only what is more nearly even is padded: the
    slices of a picture differ more than the fragments of a slice.
    """
    sizes = list(map(len, packets))
    if _is_run(sizes):  # as whatever comes from another node of ours
        return packets
    total = sum(sizes)
    for difference in DIFFERENCES:
        wanted = _evened_sizes(sizes, difference)
        extra = sum(wanted) - total
        if extra <= MAX_PADDING_SHARE * total:
            break
    else:
        return packets
    if not extra:
        return packets
    return [
        packet if len(packet) == size else pad(packet, size)
        for packet, size in zip(packets, wanted, strict=True)
    ]


def _evened_sizes(sizes: list[int], difference: int) -> list[int]:
    """The sizes, those alike that follow one another and differ by so many bytes at most."""
    wanted = list(sizes)
    start = 0
    while start < len(sizes):
        low = high = sizes[start]
        end = start + 1  # of what is to have one size
        while end < len(sizes):
            low, high = min(low, sizes[end]), max(high, sizes[end])
            if high - low > difference:
                break
            end += 1
        high = max(sizes[start:end])
        # The last one of a run may stay shorter, whether it is the batch's or the one that broke the rule.
        closes = end < len(sizes) and sizes[end] < high
        last = end if closes else end - 1
        wanted[start:last] = [high] * (last - start)
        start = end + closes
    return wanted


class FrameBatcher:
    """Gathers one track's packets; a batch is ready at the marker, when full, or when another frame begins.

    Packets are given in sending order. What has been gathered and is not yet ready is `pending`: whoever
    drives the batcher calls `flush` when no packet followed for a moment (a frame whose end was lost).
    """

    __slots__ = ("_batch", "_timestamp")

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._timestamp = -1

    @property
    def pending(self) -> bool:
        return self._batch is not None

    @property
    def held(self) -> int:
        """How many packets have been gathered and not yet handed out."""
        return 0 if self._batch is None else len(self._batch.packets)

    def add(self, first: int, packets: list[bytes], timestamp: int, *, marker: bool) -> list[Batch]:
        """The batches that packets of one frame made ready, oldest first; the last one has the marker or not.

        They are in a row, the first one's number is `first`.
        """
        ready: list[Batch] = []
        batch = self._batch
        if batch is not None and (timestamp != self._timestamp or first != batch.first + len(batch.packets)):
            ready.append(batch)
            batch = None
        at = 0
        while at < len(packets):
            if batch is None:
                batch = Batch(first + at)
            some = packets[at : at + MAX_BATCH - len(batch.packets)]
            batch.packets += some
            at += len(some)
            if len(batch.packets) >= MAX_BATCH:
                ready.append(batch)
                batch = None
        if marker and batch is not None:
            ready.append(batch)
            batch = None
        self._timestamp = timestamp
        self._batch = batch
        return ready

    def flush(self) -> Batch | None:
        batch, self._batch = self._batch, None
        return batch
