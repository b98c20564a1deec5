"""The send path: one plaintext, many viewers, as few system calls as the kernel allows.

`FanoutSender.send_batch(batch, classes)` is the whole hot path. For each class of viewers (same payload type,
same SRTP tag length) a template with gaps for the tags is made once; for each viewer it is copied into one
reused buffer, every packet is protected in place by libsrtp, and a run of equal sizes leaves in ONE `sendmsg`
carrying UDP_SEGMENT (generic segmentation offload, udp(7)). libsrtp is called straight through pylibsrtp's
cffi binding: a Python method around each call was measured to cost half as much again.

What the kernel refuses, and what we do then:

    EMSGSIZE, EINVAL   this destination (a small MTU on its way): plain sends to it for 60 s, then try again
    EIO                the socket's device cannot checksum segments: plain sends for the whole socket for 60 s
    EAGAIN, ENOBUFS    the send buffer is full: the packets are dropped and counted, NACK brings them back
    anything else      unreachable and the like: dropped and counted; consent expiry ends the session

A packet that libsrtp refuses to protect is never sent.
"""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any, Protocol

from pylibsrtp._binding import ffi, lib

from media.core.srtp import OutboundSrtp
from media.fanout.frames import MAX_BATCH, Batch, runs

SOL_UDP = 17
UDP_SEGMENT = 103
GSO_RETRY_AFTER = 60.0  # seconds
MAX_TAG = 16
MAX_PACKET = 2048
KEPT_LAYOUTS = 256  # of 5 kB; most frames of a real encoder have sizes that do not come again

SocketAddress = tuple[Any, ...]
_protect = lib.srtp_protect
_memmove = ffi.memmove


class SendSocket(Protocol):
    """The part of a datagram socket that the send path uses."""

    def sendto(self, data: Any, address: SocketAddress, /) -> int: ...

    def sendmsg(self, buffers: Any, ancdata: Any = ..., flags: int = ..., address: Any = ..., /) -> int: ...


class Destination:
    """One peer as the send path sees it: its SRTP context, its address, what it was sent."""

    __slots__ = ("address", "bytes_sent", "context", "drops", "gso_after", "outbound", "packets_sent",
                 "tag_length")  # fmt: skip

    def __init__(self, outbound: OutboundSrtp, address: SocketAddress) -> None:
        self.outbound = outbound
        self.context = outbound._context
        self.tag_length = outbound.tag_length
        self.address = address
        self.gso_after = 0.0  # UDP_SEGMENT is not used toward it before this time
        self.packets_sent = 0
        self.bytes_sent = 0
        self.drops = 0


class ViewerClass:
    """Destinations that get the very same plaintext of one track."""

    __slots__ = ("destinations", "payload_type", "tag_length")

    def __init__(self, payload_type: int, tag_length: int) -> None:
        self.payload_type = payload_type
        self.tag_length = tag_length
        self.destinations: list[Destination] = []


class Counters:
    """What a socket's send path did since the start."""

    __slots__ = ("dropped", "gso_refused", "packets", "refused", "sent_bytes")

    def __init__(self) -> None:
        self.packets = 0
        self.sent_bytes = 0  # UDP payload
        self.dropped = 0  # send buffer full
        self.gso_refused = 0  # times the kernel refused UDP_SEGMENT
        self.refused = 0  # packets libsrtp refused, or addresses the kernel refused


def kernel_has_gso(sock: socket.socket) -> bool:
    """Whether this socket takes UDP_SEGMENT at all (Linux 4.18 and later)."""
    try:
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


class FanoutSender:
    """Sends through one UDP socket. Single-threaded: the work buffer is reused for every viewer."""

    def __init__(self, sock: SendSocket, *, gso: bool) -> None:
        self._socket = sock
        self._gso = gso
        self._gso_after = 0.0  # for the whole socket
        self.counters = Counters()
        self._work = ffi.new("char[]", MAX_BATCH * (MAX_PACKET + MAX_TAG))
        self._view = memoryview(ffi.buffer(self._work))
        self._lengths = ffi.new("int[]", MAX_BATCH)
        self._length_slots = [self._lengths + n for n in range(MAX_BATCH)]
        self._template = bytearray(len(self._view))
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    def uses_gso(self, now: float) -> bool:
        return self._gso and now >= self._gso_after

    def send_batch(self, batch: Batch, classes: Iterable[ViewerClass], now: float) -> None:
        """Send a batch to every destination of every class, a slice of the batch at a time."""
        for run in runs(batch.packets, MAX_TAG):
            for viewers in classes:
                if viewers.destinations:
                    self._send_run(run, viewers.payload_type, viewers.tag_length, viewers.destinations, now)

    def send_packets(
        self, packets: list[bytes], payload_type: int, destination: Destination, now: float
    ) -> None:
        """Send consecutive packets to one destination (a late joiner's burst, a packet that came late)."""
        for start in range(0, len(packets), MAX_BATCH):
            for run in runs(packets[start : start + MAX_BATCH], MAX_TAG):
                self._send_run(run, payload_type, destination.tag_length, (destination,), now)

    def send_raw(self, data: bytes, address: SocketAddress) -> bool:
        """Send one datagram as it is (STUN, DTLS, RTCP); False when it was dropped."""
        try:
            self._socket.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            self.counters.dropped += 1
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.counters.dropped += 1
            else:
                self.counters.refused += 1
            return False
        self.counters.packets += 1
        self.counters.sent_bytes += len(data)
        return True

    def _layout(self, run: list[bytes], tag: int) -> "_Layout":
        key = (tag, *map(len, run))
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= KEPT_LAYOUTS:  # forget rather than grow
                self._layouts.clear()
            layout = _Layout(self._work, self._view, self._template, self._length_slots, run, tag)
            self._layouts[key] = layout
        return layout

    def _send_run(
        self,
        run: list[bytes],
        payload_type: int,
        tag: int,
        destinations: Iterable[Destination],
        now: float,
    ) -> None:
        layout = self._layout(run, tag)
        template = layout.fill(run, payload_type)
        size = layout.size
        count = len(run)
        work, lengths, length_template = self._work, self._lengths, layout.lengths
        length_bytes = 4 * count
        slots = layout.slots
        buffers = layout.buffers
        ancillary = layout.ancillary
        sendmsg = self._socket.sendmsg
        memmove, protect = _memmove, _protect
        counters = self.counters
        gso = count > 1 and self._gso and now >= self._gso_after
        for destination in destinations:
            memmove(work, template, size)
            memmove(lengths, length_template, length_bytes)
            context = destination.context
            refused = 0
            for index, (packet, length) in enumerate(slots):
                if protect(context, packet, length):
                    refused |= 1 << index
            if refused or not gso or now < destination.gso_after:
                self._send_each(destination, layout, refused)
                continue
            try:
                sendmsg(buffers, ancillary, 0, destination.address)
            except (BlockingIOError, InterruptedError):
                destination.drops += count
                counters.dropped += count
            except OSError as error:
                self._gso_failed(error, destination, layout, now)
                gso = self._gso and now >= self._gso_after
            else:
                destination.packets_sent += count
                destination.bytes_sent += size
                counters.packets += count
                counters.sent_bytes += size

    def _gso_failed(self, error: OSError, destination: Destination, layout: "_Layout", now: float) -> None:
        """React to a refused UDP_SEGMENT send; the protected packets are still in the work buffer."""
        counters = self.counters
        if error.errno in (errno.EMSGSIZE, errno.EINVAL):
            destination.gso_after = now + GSO_RETRY_AFTER
        elif error.errno == errno.EIO:
            self._gso_after = now + GSO_RETRY_AFTER
        elif error.errno == errno.ENOBUFS:
            destination.drops += len(layout.parts)
            counters.dropped += len(layout.parts)
            return
        else:
            destination.drops += len(layout.parts)
            counters.refused += len(layout.parts)
            return
        counters.gso_refused += 1
        self._send_each(destination, layout, 0)

    def _send_each(self, destination: Destination, layout: "_Layout", refused: int) -> None:
        """Plain sends of what is in the work buffer, without the packets whose bit is set in `refused`."""
        counters = self.counters
        sendto = self._socket.sendto
        address = destination.address
        for index, part in enumerate(layout.parts):
            if refused >> index & 1:
                destination.drops += 1
                counters.refused += 1
                continue
            try:
                sendto(part, address)
            except (BlockingIOError, InterruptedError):
                destination.drops += 1
                counters.dropped += 1
            except OSError as error:
                destination.drops += 1
                if error.errno == errno.ENOBUFS:
                    counters.dropped += 1
                else:
                    counters.refused += 1
            else:
                destination.packets_sent += 1
                destination.bytes_sent += len(part)
                counters.packets += 1
                counters.sent_bytes += len(part)


class _Layout:
    """Where the packets of a run with these sizes lie in the work buffer; made once and kept.

    The template is one for all layouts: it is filled anew for every run.
    """

    __slots__ = ("_offsets", "_template", "ancillary", "buffers", "lengths", "parts", "size", "slots")

    def __init__(
        self,
        work: Any,
        view: memoryview,
        template: bytearray,
        length_slots: list[Any],
        run: list[bytes],
        tag: int,
    ) -> None:
        sizes = [len(packet) for packet in run]
        if max(sizes) > MAX_PACKET:
            raise ValueError(f"a packet of {max(sizes)} bytes is longer than {MAX_PACKET}")
        stride = sizes[0] + tag
        self._offsets = [index * stride for index in range(len(sizes))]
        self.size = self._offsets[-1] + sizes[-1] + tag
        self._template = template
        self.lengths = ffi.new("int[]", sizes)
        self.slots = [(work + offset, length_slots[n]) for n, offset in enumerate(self._offsets)]
        self.buffers = [view[: self.size]]
        self.parts = [
            view[offset : offset + size + tag] for offset, size in zip(self._offsets, sizes, strict=True)
        ]
        self.ancillary = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", stride))]

    def fill(self, run: list[bytes], payload_type: int) -> Any:
        """The template of this run for one class: its packets, with the class's payload type."""
        template = self._template
        for offset, packet in zip(self._offsets, run, strict=True):
            template[offset : offset + len(packet)] = packet
            template[offset + 1] |= payload_type
        return ffi.from_buffer(template)
