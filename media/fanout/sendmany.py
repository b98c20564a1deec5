"""Datagrams for many viewers in one system call: sendmmsg(2), each message with its own UDP_SEGMENT run.

The packets of a run lie in slots, one slot a viewer, all laid out alike. So the message headers of a class of
viewers are made once, when it changes; a run only sets the length of a message and the size of its segments.
Python has no sendmmsg, so libc's is called through ctypes: once for a round of slots that costs nothing.

    slot 0    packet packet packet ...   <- iovec 0  <- header of viewer 0, 32, 64, ...
    slot 1    packet packet packet ...   <- iovec 1  <- header of viewer 1, 33, 65, ...

A single packet (sound, a small picture) has slots of its own kind: close to one another and many more, so
that a round of them is one copy and one call.
"""

import ctypes
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from typing import Any, Protocol

from pylibsrtp._binding import ffi

SOL_UDP = 17
UDP_SEGMENT = 103
SLOTS = 32  # of runs: more would not stay in the processor's cache, fewer are more calls
SINGLE_SLOTS = 256  # of single packets; sendmmsg(2) takes 1024 messages (UIO_MAXIOV)
_LINE = 64  # bytes: two slots share no line of the cache

#: (host, port) of an IPv4 socket, (host, port, flow, scope) of an IPv6 one
SocketAddress = tuple[Any, ...]
_CONTROL = struct.Struct("@NiiH")  # struct cmsghdr and the 16-bit size of a segment
_CONTROL_BYTES = 3 * ctypes.sizeof(ctypes.c_size_t)  # CMSG_SPACE of it
_NAME_BYTES = 28  # struct sockaddr_in6
_NAME_STEP = 32  # from one to the next
_FEW = 8  # recipients there is room for at first


#: struct mmsghdr: name and its length, vectors and how many, control and its length, flags; what was sent
_MESSAGE = struct.Struct("@PIPNPNi0PI0P")
_VECTOR = struct.Struct("@PN")  # struct iovec
_Name = ctypes.c_char * _NAME_BYTES  # a type that stays: see Headers
_Control = ctypes.c_char * _CONTROL_BYTES


class PackedAddress:
    """A socket address as the kernel reads it, at one place in memory for as long as its peer lives."""

    __slots__ = ("length", "memory", "place")

    def __init__(self, address: SocketAddress) -> None:
        self.memory = _Name()
        self.place = ctypes.addressof(self.memory)
        self.length = 0
        self.set(address)

    def set(self, address: SocketAddress) -> None:
        packed = pack(address)
        self.length = len(packed)
        self.memory.raw = packed.ljust(_NAME_BYTES, b"\0")


def pack(address: SocketAddress) -> bytes:
    """struct sockaddr_in or sockaddr_in6; ValueError when the host is no numeric address."""
    try:
        if len(address) == 2:
            host = socket.inet_pton(socket.AF_INET, address[0])
            return struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + host + bytes(8)
        host = socket.inet_pton(socket.AF_INET6, address[0])
        return (
            struct.pack("=H", socket.AF_INET6)
            + struct.pack("!HI", address[1], address[2])
            + host
            + struct.pack("=I", address[3])
        )
    except (OSError, IndexError) as error:
        raise ValueError(f"{address!r} is not a socket address") from error


class Recipient(Protocol):
    """What a message header needs of a viewer."""

    packed: PackedAddress


def single_slot_bytes(length: int) -> int:
    """How far apart the slots of single packets are, which are `length` bytes when they are protected."""
    return -(-length // _LINE) * _LINE


class SendMany:
    """Sends what lies in the slots of `work`, through one socket.

    Runs lie `slot_bytes` apart and go round SLOTS slots; single packets lie `single_slot_bytes` apart and go
    round SINGLE_SLOTS slots.
    """

    def __init__(self, sock: Any, work: Any, slot_bytes: int) -> None:
        """`work` is cdata of SLOTS * `slot_bytes` bytes and must outlive us."""
        self._descriptor: int = sock.fileno()
        self._base = int(ffi.cast("uintptr_t", work))
        self._runs = _Vectors(SLOTS)
        self._runs.lie(self._base, slot_bytes)
        self._singles = _Vectors(SINGLE_SLOTS)
        self._control = ctypes.create_string_buffer(_CONTROL_BYTES)
        self._segment = 0  # that it says
        # With the interpreter's lock held: the kernel copies and returns, and nobody else is to take a turn
        # in the middle of a frame.
        self._call = ctypes.PyDLL(None, use_errno=True).sendmmsg
        self._call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

    def headers(self) -> "Headers":
        """For a class of recipients, of whom there are none yet."""
        return Headers(self._singles, self._runs, ctypes.addressof(self._control))

    def send(self, headers: "Headers", first: int, count: int, length: int, segment: int) -> int:
        """Send `length` bytes out of each slot to `count` recipients from number `first` on.

        With `segment` above 0 they are runs, each cut into datagrams of that many bytes; else they are single
        packets. Recipient n has slot n modulo the number of slots, and the call must not go round them.
        Returns how many messages the kernel took, at least one; raises OSError when it refuses the first.
        """
        if segment:
            self._runs.hold(length)
            if segment != self._segment:
                self._segment = segment
                _CONTROL.pack_into(self._control, 0, _CONTROL.size, SOL_UDP, UDP_SEGMENT, segment)
        else:
            self._singles.lie(self._base, single_slot_bytes(length))
            self._singles.hold(length)
        taken: int = self._call(self._descriptor, headers.at(first, segmented=segment > 0), count, 0)
        if taken < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return taken


class _Vectors:
    """struct iovec of some slots, all of one length: as words, a base and a length each."""

    def __init__(self, count: int) -> None:
        self._words = array("L", bytes(count * ctypes.sizeof(ctypes.c_size_t) * 2))
        self._count = count
        self._step = self._length = -1
        # As long as it is there, the memory stays where it is.
        self._place = ctypes.c_char.from_buffer(self._words)

    def __len__(self) -> int:
        return self._count

    @property
    def place(self) -> int:
        return ctypes.addressof(self._place)

    def lie(self, base: int, step: int) -> None:
        """The slots begin at `base`, `step` bytes apart."""
        if step != self._step:
            self._words[0::2] = array("L", range(base, base + self._count * step, step))
            self._step = step

    def hold(self, length: int) -> None:
        """Each holds so many bytes."""
        if length != self._length:
            self._words[1::2] = array("L", (length,)) * self._count
            self._length = length


class Headers:
    """Message headers of a class of viewers, once for runs (UDP_SEGMENT) and once for single packets.

    They lie in plain memory: a ctypes array would be of a type of its own for every number of viewers, and
    what becomes of a type only the garbage collector can give back. The addresses lie beside one another:
    the kernel reads each for every frame. Who comes, goes or moves costs no more than its own header.
    """

    def __init__(self, singles: _Vectors, runs: _Vectors, control: int) -> None:
        self._layouts = ((singles, 0, 0), (runs, control, _CONTROL_BYTES))
        self._lengths: list[int] = []  # of the names
        self._names = bytearray()
        self._messages = (bytearray(), bytearray())
        self._places: list[Any] = []  # as long as these are there, the memory stays where it is
        self._starts: list[int] = []  # where that is: of both kinds of messages, and of the names
        self._hold(_FEW)

    def __len__(self) -> int:
        return len(self._lengths)

    def _hold(self, most: int) -> None:
        """Have room for so many."""
        self._names = self._names.ljust(most * _NAME_STEP, b"\0")
        self._messages = (bytearray(most * _MESSAGE.size), bytearray(most * _MESSAGE.size))
        self._places = [ctypes.c_char.from_buffer(memory) for memory in (*self._messages, self._names)]
        self._starts = [ctypes.addressof(place) for place in self._places]
        self._write(range(len(self)))

    def _write(self, numbers: range) -> None:
        """The headers of these, by their names and the slots they go round."""
        names, put, size = self._starts[2], _MESSAGE.pack_into, _MESSAGE.size
        for memory, (vectors, control, control_size) in zip(self._messages, self._layouts, strict=True):
            first, around = vectors.place, len(vectors)
            for number in numbers:
                vector = first + number % around * _VECTOR.size
                name, length = names + number * _NAME_STEP, self._lengths[number]
                put(memory, number * size, name, length, vector, 1, control, control_size, 0, 0)

    def fill(self, recipients: Sequence[Recipient]) -> None:
        """These, where there are none yet."""
        self._lengths = [recipient.packed.length for recipient in recipients]
        self._names = bytearray().join(
            recipient.packed.memory.raw.ljust(_NAME_STEP, b"\0") for recipient in recipients
        )
        self._hold(max(_FEW, len(recipients)))

    def add(self, recipient: Recipient) -> None:
        """One more, after all others."""
        number = len(self)
        if number * _NAME_STEP == len(self._names):
            self._hold(2 * number)
        self._lengths.append(0)
        self.move(number, recipient)

    def move(self, number: int, recipient: Recipient) -> None:
        """It is somewhere else now."""
        self._name(number)[:_NAME_BYTES] = recipient.packed.memory.raw
        self._lengths[number] = recipient.packed.length
        self._write(range(number, number + 1))

    def drop(self, number: int) -> None:
        """It has gone, and the last one takes its number."""
        last = len(self) - 1
        self._name(number)[:] = self._name(last)
        self._lengths[number] = self._lengths[last]
        self._write(range(number, number + 1))
        del self._lengths[last]

    def _name(self, number: int) -> memoryview:
        return memoryview(self._names)[number * _NAME_STEP : (number + 1) * _NAME_STEP]

    def at(self, number: int, *, segmented: bool) -> int:
        """The place in memory of a recipient's header."""
        return self._starts[segmented] + number * _MESSAGE.size


class Outbox:
    """Messages of any length to anybody in one sendmmsg(2), each with its own UDP_SEGMENT or none.

    Put some in with `add`, then `send` them; what lies at their places must stay until then.
    """

    def __init__(self, sock: Any, most: int = 256) -> None:
        """`most` messages at once: at most 1024 (UIO_MAXIOV)."""
        self._descriptor: int = sock.fileno()
        self._most = most
        self._messages = bytearray(most * _MESSAGE.size)
        self._vectors = bytearray(most * _VECTOR.size)
        # As long as these are there, the memory stays where it is.
        self._kept = [ctypes.c_char.from_buffer(memory) for memory in (self._messages, self._vectors)]
        self._first_message, self._first_vector = (ctypes.addressof(it) for it in self._kept)
        self._controls: dict[int, Any] = {}  # by size of segment: not more than there are sizes
        self._call = ctypes.PyDLL(None, use_errno=True).sendmmsg  # see SendMany
        self._call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count == self._most

    def add(self, to: PackedAddress, place: int, length: int, segment: int) -> None:
        """`length` bytes at `place`, to be cut into datagrams of `segment` bytes (0: one datagram)."""
        number = self.count
        vector = number * _VECTOR.size
        _VECTOR.pack_into(self._vectors, vector, place, length)
        control, control_bytes = (self._control(segment), _CONTROL_BYTES) if segment else (0, 0)
        _MESSAGE.pack_into(
            *(self._messages, number * _MESSAGE.size, to.place, to.length, self._first_vector + vector, 1),
            *(control, control_bytes, 0, 0),
        )
        self.count = number + 1

    def _control(self, segment: int) -> int:
        control = self._controls.get(segment)
        if control is None:
            control = self._controls[segment] = _Control()
            _CONTROL.pack_into(control, 0, _CONTROL.size, SOL_UDP, UDP_SEGMENT, segment)
        return ctypes.addressof(control)

    def send(self, first: int) -> int:
        """Send the messages from number `first` on; how many the kernel took, at least one.

        Raises OSError when it refuses the first. When all are sent or given up, `clear`.
        """
        at = self._first_message + first * _MESSAGE.size
        taken: int = self._call(self._descriptor, at, self.count - first, 0)
        if taken < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return taken

    def clear(self) -> None:
        self.count = 0
