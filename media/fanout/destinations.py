"""Who is sent to: destinations, and classes of them that get the very same packets.

A class is what the fan-out works on. It keeps in lists what a frame needs of each of its destinations, so
that none of them has to be looked at for it.
"""

from collections.abc import Callable, Sequence, Set
from itertools import chain, repeat
from typing import Any, Protocol

from pylibsrtp._binding import ffi

from media.core.srtp import OutboundSrtp
from media.fanout.sendmany import PackedAddress, SocketAddress
from media.fanout.streams import Stream

_CONTEXT = ffi.typeof("srtp_t")
NOWHERE: SocketAddress = ("0.0.0.0", 9)  # of who is reached over TCP


class MessageHeaders(Protocol):
    """See sendmany.Headers."""

    def fill(self, recipients: "Sequence[Destination]", /) -> None: ...

    def add(self, recipient: "Destination", /) -> None: ...

    def move(self, number: int, recipient: "Destination", /) -> None: ...

    def drop(self, number: int, /) -> None: ...


class Destination:
    """One peer as the send path sees it: its SRTP context, where it is, what it was sent."""

    __slots__ = ("_address", "_bytes", "_packets", "_shares", "context", "drops", "gso_after", "outbound",
                 "packed", "stream", "tag_length")  # fmt: skip

    def __init__(self, outbound: OutboundSrtp, where: SocketAddress | Stream) -> None:
        self.outbound = outbound
        self.context = outbound._context
        self.tag_length = outbound.tag_length
        self.stream: Stream | None = None  # of a viewer over TCP; then it has no address
        self._address: SocketAddress = NOWHERE
        self.packed = PackedAddress(NOWHERE)
        self.gso_after = 0.0  # UDP_SEGMENT is not used toward it before this time
        self.drops = 0
        # What it was sent by itself, and of which classes it has been a member since they had sent how much.
        self._packets = self._bytes = 0
        self._shares: list[tuple[ViewerClass, int, int]] = []
        self.go_to(where)

    @property
    def packets_sent(self) -> int:
        return self._packets + sum(viewers.packets - before for viewers, before, _ in self._shares)

    @property
    def bytes_sent(self) -> int:
        """Protected packets, without what UDP or TCP add."""
        sent = self._bytes
        for viewers, _, before in self._shares:
            sent += viewers.bytes - before
        return sent

    def count(self, packets: int, size: int) -> None:
        """So many packets, of so many bytes in all, were sent to it; below 0: less than to its class."""
        self._packets += packets
        self._bytes += size

    def filed(self, viewers: "ViewerClass") -> None:
        """What the class is sent counts for us from now on."""
        self._shares.append((viewers, viewers.packets, viewers.bytes))

    def unfiled(self, viewers: "ViewerClass") -> None:
        """No longer; what it was sent until now stays counted."""
        for share in self._shares:
            if share[0] is viewers:
                self.count(viewers.packets - share[1], viewers.bytes - share[2])
                self._shares.remove(share)
                return

    @property
    def address(self) -> SocketAddress:
        return self._address

    @address.setter
    def address(self, address: SocketAddress) -> None:
        self._address = address
        self.packed.set(address)
        for viewers, _, _ in self._shares:
            viewers.moved(self)

    @property
    def congested(self) -> bool:
        """Whether nothing should begin to be sent to it now. A datagram socket does not tell."""
        return self.stream is not None and self.stream.congested

    def go_to(self, where: SocketAddress | Stream) -> None:
        """Send there from now on. Classes that hold it must file it anew: see `ViewerClass.add`."""
        if isinstance(where, tuple):
            self.stream = None
            self.address = where
        else:
            self.stream = where


class ViewerClass:
    """Destinations that get the very same plaintext of one track.

    All of them are sent the same, so it is counted once, here: to look at every destination for every frame
    would be a miss of the processor's cache each. Where one was sent less, its own count says by how much.
    """

    __slots__ = ("_each", "_rest", "_rounds", "bytes", "destinations", "headers", "packets", "passing",
                 "payload_type", "streams", "tag_length")  # fmt: skip

    def __init__(self, payload_type: int, tag_length: int, *, passing: bool = False) -> None:
        """`passing`: made for one send; its destinations count for themselves."""
        self.payload_type = payload_type
        self.tag_length = tag_length
        self.passing = passing
        self.destinations: list[Destination] = []  # over UDP
        self.streams: list[Destination] = []  # over TCP
        self.headers: MessageHeaders | None = None  # the sender's, of `destinations` in this order
        self._each: list[Any] = []  # their contexts, in this order; made when needed
        self._rounds: dict[int, list[list[Any]]] = {}  # see `rounds`
        self._rest: tuple[frozenset[Destination], ViewerClass] | None = None  # see `without`
        self.packets = self.bytes = 0  # sent to each of `destinations`

    def add(self, destination: Destination) -> None:
        self._rest = None
        if destination.stream is not None:
            self.streams.append(destination)
            return
        self.destinations.append(destination)
        self._forget_contexts()
        if self.headers is not None:
            self.headers.add(destination)
        if not self.passing:
            destination.filed(self)

    def without(self, some: Set[Destination]) -> "ViewerClass":
        """The same class without these, for what is sent before it changes."""
        if self._rest is None or self._rest[0] != some:
            rest = ViewerClass(self.payload_type, self.tag_length, passing=True)
            for destination in (*self.destinations, *self.streams):
                if destination not in some:
                    rest.add(destination)
            self._rest = (frozenset(some), rest)
        return self._rest[1]

    def remove(self, destination: Destination) -> bool:
        """Whether it was in here, wherever it was when it was added."""
        self._rest = None
        if destination in self.streams:
            self.streams.remove(destination)
        elif destination in self.destinations:
            number = self.destinations.index(destination)
            self.destinations[number] = self.destinations[-1]
            self.destinations.pop()
            self._forget_contexts()
            if self.headers is not None:
                self.headers.drop(number)
            destination.unfiled(self)
        else:
            return False
        return True

    def dissolve(self) -> None:
        """Nobody is in here any more. What is dropped without it is a circle, which nobody collects."""
        for destination in self.destinations:
            destination.unfiled(self)
        self.destinations, self.streams = [], []
        self.headers = self._rest = None
        self._forget_contexts()

    def moved(self, destination: Destination) -> None:
        """It is at another address."""
        self._rest = None
        if self.headers is not None:
            self.headers.move(self.destinations.index(destination), destination)

    def headed(self, make: Callable[[], MessageHeaders]) -> MessageHeaders:
        """The headers of `destinations`, which the sender makes when it first needs them."""
        if self.headers is None:
            self.headers = make()
            self.headers.fill(self.destinations)
        return self.headers

    def rounds(self, times: int, around: int) -> list[list[Any]]:
        """The SRTP contexts of `destinations`, in this order, each `times` in a row; `around` to a round."""
        found = self._rounds.get(times)
        if found is None:
            if not self._each:
                # New objects, made in a row, so that they lie side by side in memory: to read those of the
                # destinations, each among what else was made when it joined, would be a cache miss each, for
                # every frame.
                self._each = [ffi.cast(_CONTEXT, it.context) for it in self.destinations]
            found = self._rounds[times] = [
                list(chain.from_iterable(map(repeat, self._each[first : first + around], repeat(times))))
                for first in range(0, len(self._each), around)
            ]
        return found

    def _forget_contexts(self) -> None:
        """They are not to be used once their destinations are gone."""
        self._each = []
        self._rounds.clear()

    def count(self, packets: int, size: int) -> None:
        """So many packets, of so many bytes in all, were sent to each of `destinations`."""
        if self.passing:
            for destination in self.destinations:
                destination.count(packets, size)
        else:
            self.packets += packets
            self.bytes += size
