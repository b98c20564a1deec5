"""The send path: one plaintext, many viewers, as few system calls as the kernel allows.

`FanoutSender.send_batch(batch, classes)` is the whole hot path. For each class of viewers
(destinations.py: same payload type, same SRTP tag length) a template with gaps for the tags is made once;
it is copied into the slots of the work buffer, one a viewer, and every packet is protected in place by
libsrtp. A run of equal sizes is one message with UDP_SEGMENT (generic segmentation offload, udp(7)), and
the messages of a whole round of slots leave in ONE sendmmsg (sendmany.py). libsrtp is called straight
through pylibsrtp's cffi binding, by ONE `starmap` a round: a Python method around each call was measured
to cost half as much again, a loop over viewers an eighth, and `map` a tenth, which makes a tuple of
arguments for each call where `zip` fills the same one anew.

What the kernel refuses, and what we do then:

    EMSGSIZE, EINVAL   this destination (a small MTU on its way): plain sends to it for 60 s, then try again
    EIO                the socket's device cannot checksum segments: plain sends for the whole socket for 60 s
    EAGAIN, ENOBUFS    the send buffer is full: the packets are dropped and counted, NACK brings them back
    anything else      unreachable and the like: dropped and counted; consent expiry ends the session

A packet that libsrtp refuses to protect is never sent.

Viewers over TCP are kept apart in their class and served after all others (streams.py): whoever has no room
for a batch is named to the caller, and gets nothing more of the track until it is put back.
"""

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import repeat, starmap
from operator import length_hint
from typing import Any, Protocol

from pylibsrtp._binding import ffi, lib

from media.core.errors import SrtpError
from media.fanout.destinations import Destination, MessageHeaders, ViewerClass
from media.fanout.frames import MAX_BATCH, Batch, runs
from media.fanout.histogram import Histogram
from media.fanout.sendmany import (
    SINGLE_SLOTS,
    SLOTS,
    SOL_UDP,
    UDP_SEGMENT,
    SendMany,
    SocketAddress,
    single_slot_bytes,
)
from media.fanout.streams import framed_bytes, send_framed

GSO_RETRY_AFTER = 60.0  # seconds
MAX_TAG = 16
MAX_PACKET = 2048
SLOT_BYTES = MAX_BATCH * (MAX_PACKET + MAX_TAG)
WORK_BYTES = max(SLOTS * SLOT_BYTES, framed_bytes(MAX_PACKET + MAX_TAG))
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.EINTR)

_ONE_BYTE = [bytes((byte,)) for byte in range(256)]  # as cdata chars are set
_INT_BYTES = struct.calcsize("@i")
_protect = lib.srtp_protect
_memmove = ffi.memmove


class SendSocket(Protocol):
    """The part of a datagram socket that the send path uses for single datagrams."""

    def sendto(self, data: Any, address: SocketAddress, /) -> int: ...


class ManySends(Protocol):
    """What sends a round of slots: see SendMany."""

    def headers(self) -> MessageHeaders: ...

    def send(self, headers: Any, first: int, count: int, length: int, segment: int) -> int: ...


class Counters:
    """What a socket's send path did since the start; packets over TCP are among those it counts."""

    __slots__ = ("fanout", "full", "gso_refused", "no_room", "packets", "sent_bytes", "unprotected",
                 "unreachable")  # fmt: skip

    def __init__(self) -> None:
        self.packets = 0
        self.sent_bytes = 0  # UDP payload
        self.gso_refused = 0  # times the kernel refused UDP_SEGMENT
        # Packets that were not sent, and why:
        self.full = 0  # the socket's send buffer was
        self.no_room = 0  # in a viewer's TCP connection
        self.unprotected = 0  # libsrtp refused to protect them
        self.unreachable = 0  # the kernel refused the address
        #: from a batch's last packet read until it was sent to its last viewer; one observation a batch
        self.fanout = Histogram(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)

    @property
    def dropped(self) -> int:
        """For want of room: NACK brings them back."""
        return self.full + self.no_room

    @property
    def refused(self) -> int:
        return self.unprotected + self.unreachable


def kernel_has_gso(sock: socket.socket) -> bool:
    """Whether this socket takes UDP_SEGMENT at all (Linux 4.18 and later)."""
    try:
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


class FanoutSender:
    """Sends through one UDP socket. Single-threaded: the work buffer is reused all the time."""

    def __init__(
        self,
        sock: SendSocket,
        *,
        gso: bool,
        many: Callable[[Any, Any, int], ManySends] = SendMany,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`many(sock, work, SLOT_BYTES)` makes what sends a round of slots of the work buffer.

        With `clock`, on which the `now` of all calls is, it is measured how long a fan-out takes.
        """
        self._socket = sock
        self._clock = clock
        self._gso = gso
        self._gso_after = 0.0  # for the whole socket
        self._narrow_until = 0.0  # until then some destination takes no UDP_SEGMENT
        self.counters = Counters()
        self._work = ffi.new("char[]", WORK_BYTES)
        self._view = memoryview(ffi.buffer(self._work))
        self._slots = [self._work + slot * SLOT_BYTES for slot in range(SLOTS)]
        self._many = many(sock, self._work, SLOT_BYTES)
        # libsrtp writes each packet's new length: packets of a round lie in a row here, slot after slot.
        self._lengths = ffi.new("int[]", SLOTS * MAX_BATCH)
        self._length_places = [self._lengths + n for n in range(SLOTS * MAX_BATCH)]
        self._single_places: dict[int, list[Any]] = {}  # by the size of a slot: at most 33 of them

    def uses_gso(self, now: float) -> bool:
        return self._gso and now >= self._gso_after

    def send_batch(self, batch: Batch, classes: Collection[ViewerClass], now: float) -> Sequence[Destination]:
        """Send a batch to every destination of every class, a slice of the batch at a time.

        Returns those over TCP that had no room for it and got nothing of it.
        """
        full = self._send_batch(batch, classes, now)
        if self._clock is not None:
            self.counters.fanout.observe(self._clock() - now)
        return full

    def _send_batch(
        self, batch: Batch, classes: Collection[ViewerClass], now: float
    ) -> Sequence[Destination]:
        for packets in runs(batch.packets, MAX_TAG):
            for viewers in classes:
                if viewers.destinations:
                    self._send_run(packets, viewers, now)
        full: list[Destination] = []
        for viewers in classes:
            if viewers.streams:
                full += self._send_streams(batch.packets, viewers, now)
        return full

    def send_packets(
        self, packets: list[bytes], payload_type: int, destination: Destination, now: float
    ) -> bool:
        """Send consecutive packets to one destination (a late joiner's burst, a packet that came late).

        False when a connection had no room for all of them.
        """
        if len(packets) == 1 and destination.stream is None:
            self._send_alone(packets[0], payload_type, destination)
            return True
        alone = ViewerClass(payload_type, destination.tag_length, passing=True)
        alone.add(destination)
        for start in range(0, len(packets), MAX_BATCH):
            if self._send_batch(Batch(0, packets[start : start + MAX_BATCH]), (alone,), now):
                return False
        return True

    def send_control(self, packet: bytes, destination: Destination) -> bool:
        """Send one packet of RTCP to a destination, whichever way it is reached; False: it was dropped."""
        if destination.stream is None:
            return self.send_raw(packet, destination.address)
        if not destination.stream.write_control(packet):
            self.counters.no_room += 1
            return False
        self.counters.packets += 1
        return True

    def send_raw(self, data: bytes | memoryview, address: SocketAddress) -> bool:
        """Send one datagram as it is (STUN, DTLS, RTCP); False when it was dropped."""
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            self.count_refusal(error, 1)
            return False
        self.counters.packets += 1
        self.counters.sent_bytes += len(data)
        return True

    def count_refusal(self, error: OSError, packets: int) -> None:
        if error.errno in FULL:
            self.counters.full += packets
        else:
            self.counters.unreachable += packets

    def _send_streams(self, packets: list[bytes], viewers: ViewerClass, now: float) -> list[Destination]:
        """A batch to those of a class that are reached over TCP; returns who had no room."""
        sent, full = send_framed(
            packets, viewers.payload_type, viewers.tag_length, viewers.streams, self._work, now
        )
        counters = self.counters
        counters.packets += sent.packets
        counters.no_room += sent.dropped
        counters.unprotected += sent.refused
        return full

    def _send_alone(self, packet: bytes, payload_type: int, destination: Destination) -> None:
        """Protect and send one packet to one destination over UDP: a retransmission, the sound of a relay.

        What comes before the two calls in a round of slots would cost three times as much as they do.
        """
        size = len(packet)
        if size > MAX_PACKET:
            raise ValueError(f"a packet of {size} bytes is longer than {MAX_PACKET}")
        work = self._work
        _memmove(work, packet, size)
        if payload_type:
            work[1] = _ONE_BYTE[packet[1] | payload_type]
        try:
            size = destination.outbound.protect_into(work, 0, size)
        except SrtpError:
            destination.drops += 1
            self.counters.unprotected += 1
            return
        if self.send_raw(self._view[:size], destination.address):
            destination.count(1, size)
        else:
            destination.drops += 1

    def _send_run(self, packets: list[bytes], viewers: ViewerClass, now: float) -> None:
        """Protect and send one run to a class, a round of slots at a time."""
        everyone = viewers.destinations
        if len(packets) == 1 and len(everyone) == 1:
            self._send_alone(packets[0], viewers.payload_type, everyone[0])
            return
        run = _Run(packets, viewers.tag_length)
        count = run.count
        headers = viewers.headed(self._many.headers)
        around = SINGLE_SLOTS if count == 1 else SLOTS
        laid_out = run.laid_out(packets, viewers.payload_type)
        if count == 1:
            laid_out *= min(around, len(everyone))
        template = ffi.from_buffer(laid_out)
        places = self._places_of(run, min(around, len(everyone)))
        lengths = ffi.from_buffer(run.plain_lengths)
        viewers.count(count, run.size)
        first = 0
        for contexts in viewers.rounds(count, around):
            some = len(contexts) // count
            if count == 1:
                _memmove(self._work, template, some * run.slot)
            else:
                slots = self._slots if some == SLOTS else self._slots[:some]
                deque(map(_memmove, slots, repeat(template), repeat(run.size)), maxlen=0)
            _memmove(self._lengths, lengths, _INT_BYTES * len(contexts))
            left = iter(contexts)
            words = starmap(_protect, zip(left, places, self._length_places, strict=False))
            refusals: dict[int, set[int]] = {}  # slot -> which of its packets libsrtp refused
            while any(words):  # which stops behind each that is refused, and makes no list of all the others
                number = len(contexts) - length_hint(left) - 1
                refusals.setdefault(number // count, set()).add(number % count)
            if refusals or (count > 1 and (now < self._narrow_until or not self.uses_gso(now))):
                self._send_slots(run, viewers, headers, range(first, first + some), refusals, now)
            else:
                self._send_range(run, viewers, headers, first, range(some), now)
            first += some

    def _places_of(self, run: "_Run", slots: int) -> list[Any]:
        """Where the packets of the run begin, of one slot after another; at least so many."""
        if run.count == 1:
            places = self._single_places.get(run.slot)
            if places is None:
                places = [self._work + at for at in range(0, SINGLE_SLOTS * run.slot, run.slot)]
                self._single_places[run.slot] = places
            return places
        offsets = range(0, run.count * run.stride, run.stride)
        return [slot + offset for slot in self._slots[:slots] for offset in offsets]

    def _send_slots(
        self,
        run: "_Run",
        viewers: ViewerClass,
        headers: MessageHeaders,
        some: range,
        refusals: dict[int, set[int]],
        now: float,
    ) -> None:
        """Send what lies in the slots to those of a class who have these numbers, slot by slot."""
        by_one = set(refusals)  # whose packets leave one by one
        if run.count > 1:
            if not self.uses_gso(now):
                by_one.update(range(len(some)))
            elif now < self._narrow_until:
                destinations = viewers.destinations[some.start : some.stop]
                by_one.update(slot for slot, it in enumerate(destinations) if now < it.gso_after)
        slot = 0
        for single in sorted(by_one):
            self._send_range(run, viewers, headers, some.start, range(slot, single), now)
            self._send_each(run, viewers.destinations[some.start + single], single, refusals.get(single, ()))
            slot = single + 1
        self._send_range(run, viewers, headers, some.start, range(slot, len(some)), now)

    def _send_range(
        self,
        run: "_Run",
        viewers: ViewerClass,
        headers: MessageHeaders,
        first: int,
        slots: range,
        now: float,
    ) -> None:
        """Neighbouring slots in as few calls as the kernel takes; the first slot is number `first`'s."""
        slot, end = slots.start, slots.stop
        count, size, counters = run.count, run.size, self.counters
        segment = run.stride if count > 1 else 0
        while slot < end:
            if segment and not self.uses_gso(now):  # it has just turned out
                self._send_each(run, viewers.destinations[first + slot], slot, ())
                slot += 1
                continue
            try:
                taken = self._many.send(headers, first + slot, end - slot, size, segment)
            except OSError as error:
                self._refused(error, run, viewers.destinations[first + slot], slot, now)
                slot += 1
                continue
            counters.packets += count * taken
            counters.sent_bytes += size * taken
            slot += taken

    def _refused(self, error: OSError, run: "_Run", destination: Destination, slot: int, now: float) -> None:
        """React to a message that the kernel refused; its packets are still in their slot, protected."""
        if run.count > 1 and self.refuses_gso(error, destination, now):
            self._send_each(run, destination, slot, ())
            return
        destination.count(-run.count, -run.size)
        destination.drops += run.count
        self.count_refusal(error, run.count)

    def refuses_gso(self, error: OSError, destination: Destination, now: float) -> bool:
        """Whether it was UDP_SEGMENT that the kernel refused; then it is not used there for a while."""
        if error.errno not in (errno.EMSGSIZE, errno.EINVAL, errno.EIO):
            return False
        if error.errno == errno.EIO:
            self._gso_after = now + GSO_RETRY_AFTER
        else:
            self._narrow_until = destination.gso_after = now + GSO_RETRY_AFTER
        self.counters.gso_refused += 1
        return True

    def _send_each(self, run: "_Run", destination: Destination, slot: int, refusals: Collection[int]) -> None:
        """Plain sends of what is in a slot, without the packets that libsrtp refused."""
        start = slot * run.slot
        for number, length in enumerate(run.protected()):
            at = start + number * run.stride
            if number in refusals:
                self.counters.unprotected += 1
            elif self.send_raw(self._view[at : at + length], destination.address):
                continue
            destination.count(-1, -length)  # its class has counted the whole run
            destination.drops += 1


class _Run:
    """Where the packets of a run lie in a slot: a stride apart, each with room for its tag."""

    __slots__ = ("count", "last", "plain_lengths", "size", "slot", "stride", "tag")

    def __init__(self, packets: list[bytes], tag: int) -> None:
        plain = list(map(len, packets))
        if max(plain) > MAX_PACKET:
            raise ValueError(f"a packet of {max(plain)} bytes is longer than {MAX_PACKET}")
        if len(plain) > MAX_BATCH:  # the slots' ends are not looked at again
            raise ValueError(f"a run of {len(plain)} packets is longer than {MAX_BATCH}")
        self.count = len(plain)
        self.tag = tag
        self.stride = plain[0] + tag
        self.last = plain[-1] + tag  # the only one that may be shorter
        self.size = (self.count - 1) * self.stride + self.last  # of all, protected
        single = self.count == 1
        self.slot = single_slot_bytes(self.size) if single else SLOT_BYTES  # from one slot to the next
        self.plain_lengths = struct.pack(f"@{self.count}i", *plain) * (SINGLE_SLOTS if single else SLOTS)

    def laid_out(self, packets: list[bytes], payload_type: int) -> bytearray:
        """A slot's contents: the packets with a class's payload type, and the room.

        Of a single packet it is the whole slot, to the beginning of the next.
        """
        gap = bytes(self.tag)
        template = bytearray(gap.join(packets))
        template += gap
        template[1 :: self.stride] = template[1 :: self.stride].translate(_with_payload_type(payload_type))
        return template if self.count > 1 else template.ljust(self.slot, b"\0")

    def protected(self) -> list[int]:
        """The packets' lengths once they are protected."""
        return [self.stride] * (self.count - 1) + [self.last]


@lru_cache(maxsize=128)
def _with_payload_type(payload_type: int) -> bytes:
    """What becomes of a packet's second byte: its marker stays."""
    return bytes(byte | payload_type for byte in range(256))
