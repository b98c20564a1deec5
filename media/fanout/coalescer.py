"""Small packets of many tracks, gathered for a moment, so that they leave in few messages and fewer calls.

A member of a party gets seven webcams and seven microphones beside the live feed: hundreds of small packets a
second, of which no two are the same for two members (each member's seats are numbered for it alone). Sent as
they come each would cost a system call. Here they wait, 5 ms at most, and then

    the packets of one member lie one behind another, protected in place, and those of equal size are one
    message with UDP_SEGMENT: a run, whose last packet may be shorter (udp(7))
    what is nearly of one size is padded to it (RFC 3550 section 5.1), by a few bytes each
    the messages of all members leave in one sendmmsg(2)

Which order packets of different tracks leave in does not matter, so a member's are sorted by size; those of
one track stay in order. docs/decisions/0018 has what was measured.

Rule of use: after `add`, ask `next_deadline()`, and call `handle_timeout(now)` when it has come.
"""

import struct
from itertools import starmap
from typing import Any, Protocol

from pylibsrtp._binding import ffi, lib

from media.core.rtp import pad
from media.fanout.destinations import Destination
from media.fanout.frames import MAX_RUN_BYTES
from media.fanout.sender import MAX_PACKET, MAX_TAG, FanoutSender
from media.fanout.sendmany import PackedAddress

HOLD_S = 0.005  # seconds that a packet waits at most
MAX_PAD = 64  # bytes: what a member is sent for its seats grows by less than a hundredth
MAX_SEGMENTS = 64  # of one message (udp(7))
WORK_BYTES = 1 << 19
MOST_PACKETS = 1024  # protected in one go

_protect = lib.srtp_protect


class Messages(Protocol):
    """What sends: see sendmany.Outbox."""

    count: int

    @property
    def full(self) -> bool: ...

    def add(self, to: PackedAddress, place: int, length: int, segment: int) -> None: ...

    def send(self, first: int) -> int: ...

    def clear(self) -> None: ...


def arranged(packets: list[bytes], overhead: int = MAX_TAG) -> list[list[bytes]]:
    """The packets as runs, some of them padded: in each all are of one size, the last may be shorter.

    Packets of one SSRC stay in order. `overhead` is what protection adds to each.
    """
    if len(packets) == 1:
        return [packets]
    if len({packet[8:12] for packet in packets}) == len(packets):
        ordered = sorted(packets, key=len, reverse=True)
    else:
        ordered = _by_size_in_order(packets)
    result: list[list[bytes]] = []
    run: list[bytes] = []
    first = room = 0  # the size of a run's packets; how many more it can take
    for packet in ordered:
        size = len(packet)
        if room and size <= first:
            missing = first - len(run[-1])
            if missing and missing <= MAX_PAD and not run[-1][0] & 0x20:  # it is not the last any more
                run[-1] = pad(run[-1], first)
                missing = 0
            if not missing:
                run.append(packet)
                room -= 1
                continue
        run = [packet]
        result.append(run)
        first = size
        room = min(MAX_SEGMENTS, MAX_RUN_BYTES // (size + overhead)) - 1
    return result


def _by_size_in_order(packets: list[bytes]) -> list[bytes]:
    """The largest first, but none before an earlier one of its SSRC."""
    least: dict[bytes, int] = {}  # of an SSRC so far: what is larger is taken for that small
    sizes: list[int] = []
    for packet in packets:
        ssrc, size = packet[8:12], len(packet)
        known = least.get(ssrc)
        if known is None or size < known:
            least[ssrc] = known = size
        sizes.append(known)
    return [packets[number] for number in sorted(range(len(packets)), key=sizes.__getitem__, reverse=True)]


class Coalescer:
    """Gathers for the destinations of one socket. Single-threaded, as its sender is."""

    def __init__(self, sender: FanoutSender, messages: Messages) -> None:
        """`messages` sends through the very socket of `sender`, and is nobody else's."""
        self._sender = sender
        self._messages = messages
        self._waiting: dict[Destination, list[bytes]] = {}
        self._due: float | None = None
        self._work = ffi.new("char[]", WORK_BYTES)
        self._view = memoryview(ffi.buffer(self._work))
        self._base = int(ffi.cast("uintptr_t", self._work))
        self._at = 0  # in the work buffer
        self._lengths = ffi.new("int[]", MOST_PACKETS)
        self._lengths_view = ffi.buffer(self._lengths)
        self._length_places = [self._lengths + number for number in range(MOST_PACKETS)]
        self._contexts: list[Any] = []  # of the packets that lie in the work buffer, in their order
        self._places: list[Any] = []
        self._sizes: list[int] = []
        self._runs: list[tuple[Destination, int, int]] = []  # whose, its first packet, how many

    def add(self, destination: Destination, packet: bytes, now: float) -> None:
        """A packet as it is to be read, in plaintext: SSRC, sequence number and payload type are final.

        Raises ValueError when it is longer than MAX_PACKET. Over TCP nothing is gathered: it leaves at once.
        """
        if len(packet) > MAX_PACKET:
            raise ValueError(f"a packet of {len(packet)} bytes is longer than {MAX_PACKET}")
        if destination.stream is not None:
            self._sender.send_packets([packet], 0, destination, now)
            return
        waiting = self._waiting.get(destination)
        if waiting is None:
            self._waiting[destination] = [packet]
        else:
            waiting.append(packet)
        if self._due is None:
            self._due = now + HOLD_S

    def forget(self, destination: Destination) -> None:
        """It has left: what waits for it is dropped."""
        self._waiting.pop(destination, None)

    def next_deadline(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        if self._due is not None and now >= self._due:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Send all that waits, whoever it is for."""
        waiting, self._waiting, self._due = self._waiting, {}, None
        gso = self._sender.uses_gso(now)
        for destination, packets in waiting.items():
            if destination.stream is not None:  # it has moved to TCP meanwhile
                self._sender.send_packets(packets, 0, destination, now)
                continue
            tag = destination.tag_length
            if gso and now >= destination.gso_after:
                runs = arranged(packets, tag)
            else:
                runs = [[packet] for packet in packets]
            for run in runs:
                room = WORK_BYTES - self._at
                if len(run) * (len(run[0]) + tag) > room or len(self._sizes) + len(run) > MOST_PACKETS:
                    self._send(now)
                self._lay_out(destination, run)
        self._send(now)

    def _lay_out(self, destination: Destination, run: list[bytes]) -> None:
        """Copy a run into the work buffer, each packet with a gap for its tag."""
        tag, at, work, view = destination.tag_length, self._at, self._work, self._view
        self._runs.append((destination, len(self._sizes), len(run)))
        for packet in run:
            size = len(packet)
            view[at : at + size] = packet
            self._places.append(work + at)
            self._sizes.append(size)
            at += size + tag
        self._contexts += [destination.context] * len(run)
        self._at = at

    def _send(self, now: float) -> None:
        """Protect and send what lies in the work buffer."""
        sizes, runs = self._sizes, self._runs
        packed = struct.pack(f"@{len(sizes)}i", *sizes)
        self._lengths_view[: len(packed)] = packed
        arguments = zip(self._contexts, self._places, self._length_places, strict=False)
        said = list(starmap(_protect, arguments))  # see sender.py
        refused = any(said)
        at = 0
        batch: list[tuple[Destination, int, int, int]] = []  # whose, its first packet, how many, where
        for destination, first, count in runs:
            tag = destination.tag_length
            length = sum(sizes[first : first + count]) + count * tag
            if refused and any(said[first : first + count]):
                self._send_each(destination, first, count, at, said)
            else:
                if self._messages.full:
                    self._send_batch(batch, now)
                    batch = []
                segment = sizes[first] + tag if count > 1 else 0
                self._messages.add(destination.packed, self._base + at, length, segment)
                batch.append((destination, first, count, at))
            at += length
        self._send_batch(batch, now)
        self._at = 0
        for kept in (self._contexts, self._places, sizes, runs):
            kept.clear()

    def _send_batch(self, batch: list[tuple[Destination, int, int, int]], now: float) -> None:
        """The messages that have been made, of these runs."""
        counters, sizes = self._sender.counters, self._sizes
        done = 0
        while done < len(batch):
            try:
                taken = self._messages.send(done)
            except OSError as error:
                destination, first, count, at = batch[done]
                if count > 1 and self._sender.refuses_gso(error, destination, now):
                    self._send_each(destination, first, count, at, None)
                else:
                    destination.drops += count
                    self._sender.count_refusal(error, count)
                done += 1
                continue
            for destination, first, count, _ in batch[done : done + taken]:
                length = sum(sizes[first : first + count]) + count * destination.tag_length
                destination.count(count, length)
                counters.packets += count
                counters.sent_bytes += length
            done += taken
        self._messages.clear()

    def _send_each(
        self, destination: Destination, first: int, count: int, at: int, said: list[int] | None
    ) -> None:
        """Plain sends of a run, without what libsrtp refused."""
        for number in range(first, first + count):
            size = self._sizes[number] + destination.tag_length
            if said is not None and said[number]:
                destination.drops += 1
                self._sender.counters.unprotected += 1
            elif self._sender.send_raw(self._view[at : at + size], destination.address):
                destination.count(1, size)
            else:
                destination.drops += 1
            at += size
