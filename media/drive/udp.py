"""One UDP socket under asyncio: read until it is empty, hand each datagram on, send without waiting.

Not asyncio's DatagramProtocol: that reads one datagram a wake-up into a fresh 256 KiB buffer, ten times the
cost of `add_reader` and `recvfrom` until EAGAIN. With `on_run` the kernel may hand over several datagrams of
one sender in one read (UDP_GRO, udp(7)), which is how a whole frame comes from an origin.

A socket that many peers send to is emptied in each turn, and media (RFC 7983: first byte 128 to 191) is
handed on as it is read. All else may be a step of a handshake, of which a crowd sends hundreds in a moment
and each costs up to a millisecond: it waits in a queue of ours, in its order, and has what the turn leaves.
So nobody's frame waits for more than the rest of one turn. A relay's socket has one peer and keeps all in
order.
"""

import asyncio
import errno
import ipaddress
import socket
import struct
from collections import deque
from collections.abc import Callable

from media.core.address import Address
from media.drive.ports import DEFAULT_PORTS
from media.fanout.sender import FanoutSender, kernel_has_gso
from media.fanout.sendmany import SOL_UDP, SocketAddress

#: data, stride, source, now -> whether it was taken; data is the reader's own buffer, to be used up at once
OnRun = Callable[[memoryview, int, Address, float], bool]

UDP_GRO = 104
BUFFER_BYTES = 4 << 20  # a default receive buffer keeps 104 of a burst of 159 packets
MAX_DATAGRAM = 2048  # no WebRTC peer sends larger ones
TAKEN_A_TURN = 64  # then timers and the other sockets get their turn, whatever comes here;
TURN_S = 0.004  # seconds, and earlier in a storm of handshakes: there a datagram costs up to a millisecond
READS_A_TURN = 1024  # a read that only finds what may wait costs 3 us
HOSTS_KEPT = 4096  # whose usual form is kept
WAITING = 4096  # datagrams that are no media; what comes then is dropped, as by a full buffer of the kernel's

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


class PortError(OSError):
    """No UDP port could be bound; the message says which and what to do."""


def bind(port: int | None, *, dual_stack: bool) -> socket.socket:
    """A non-blocking UDP socket on all addresses; `port` None takes the first free one of DEFAULT_PORTS.

    Where the kernel has no IPv6, a dual-stack socket is an IPv4 one. Raises PortError.
    """
    if dual_stack:
        try:
            return _bind(port, socket.AF_INET6)
        except PortError:
            raise
        except OSError:
            pass
    return _bind(port, socket.AF_INET)


def _bind(port: int | None, family: socket.AddressFamily) -> socket.socket:
    last = ""
    for candidate in DEFAULT_PORTS if port is None else (port,):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", candidate))
        except OSError as error:
            sock.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            last = str(error)
            continue
        sock.setblocking(False)
        _grow_buffers(sock)
        return sock
    if port is None:
        where = f"{DEFAULT_PORTS.start}-{DEFAULT_PORTS.stop - 1}"
        raise PortError(f"no free UDP port in {where} ({last}). Free one, or name another with --udp-port.")
    raise PortError(
        f"UDP port {port} cannot be used ({last}). End the program that has it, or choose another --udp-port."
    )


def _grow_buffers(sock: socket.socket) -> None:
    """4 MB each way; beyond the system's limit only where we may (CAP_NET_ADMIN)."""
    for force, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)


def plain_host(host: str) -> str:
    """A host as a dual-stack socket tells it, in its usual form: IPv4 as IPv4, IPv6 without a scope."""
    host = host.partition("%")[0].removeprefix("::ffff:")
    return str(ipaddress.ip_address(host)) if ":" in host else host


def _nobody_reads(data: bytes, source: Address, now: float) -> None:
    """For a socket that is closed."""


def _nobody_minds(now: float) -> None:
    """For a socket that is closed."""


def _nothing_begins() -> None:
    """For those who do not care."""


class UdpEndpoint:
    """A bound socket in the loop, until `close`. `sender` is its send path.

    on_datagram(data, source, now) for each datagram, on_begin() before each turn of reading and
    on_drained(now) after it. `source` is an address in its usual form: IPv4 as IPv4 although the socket is
    dual-stack. With `on_run` the kernel may hand over several datagrams of one sender in one read, which are
    offered to it as they lie there, a stride apart; what it does not take goes to on_datagram one by one.
    Without `on_run`, media may overtake what is none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_datagram: Callable[[bytes, Address, float], None],
        on_drained: Callable[[float], None],
        *,
        on_begin: Callable[[], None] = _nothing_begins,
        on_run: OnRun | None = None,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_datagram = on_datagram
        self._on_begin = on_begin
        self._on_drained = on_drained
        self._six = sock.family == socket.AF_INET6
        self._hosts: dict[str, str] = {}  # as the socket tells them -> in their usual form
        self.port: int = sock.getsockname()[1]
        self.sender = FanoutSender(sock, gso=kernel_has_gso(sock), clock=loop.time)
        self.bytes_received = 0
        self.datagrams_received = 0
        self.datagrams_dropped = 0  # of those that wait: too many
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._again: asyncio.Handle | None = None  # from when some were handed on to the loop's next turn
        self._on_run = on_run
        self._in_order = on_run is not None
        gro = on_run is not None and self._enable_gro()
        loop.add_reader(sock.fileno(), self._read_gro if gro else self._read)

    def _enable_gro(self) -> bool:
        try:
            self._socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        except OSError:
            return False
        self._buffer = bytearray(65536)
        self._view = memoryview(self._buffer)
        return True

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def where(self, address: Address) -> SocketAddress:
        """What this socket's sends take for an address."""
        host, port = address[0], address[1]
        if not self._six:
            return (host, port)
        return (host if ":" in host else f"::ffff:{host}", port, 0, 0)

    def can_reach(self, address: Address) -> bool:
        return self._six or ":" not in address[0]

    def send(self, data: bytes, address: Address) -> bool:
        """One datagram; False when it was dropped (buffer full, no route): its sender has timers for that."""
        if self.closed or not self.can_reach(address):
            return False
        return self.sender.send_raw(data, self.where(address))

    def _source(self, address: SocketAddress) -> tuple[str, int]:
        """Where a datagram came from, in its usual form; `address` is as the socket tells it."""
        told = address[0]
        if not self._six:
            return (told, address[1])
        host = self._hosts.get(told)
        if host is None:
            if len(self._hosts) >= HOSTS_KEPT:
                self._hosts.clear()  # a flood of strangers; the others are here again with their next packet
            host = self._hosts[told] = plain_host(told)
        return (host, address[1])

    def _read(self) -> None:
        """There is something to read; what waits has its share of this turn of the loop only once."""
        if self._again is not None:
            self._turn(goes_on=False)
            return
        try:
            self._turn(goes_on=True)
        finally:  # one that failed must not hold up those that wait behind it
            if self._waiting:
                self._come_again()

    def _go_on(self) -> None:
        """The next turn of the loop after one that left something waiting, or itself was such a one."""
        self._again = None
        if self._waiting:
            try:
                self._turn(goes_on=True)
            finally:
                self._come_again()

    def _come_again(self) -> None:
        if not self.closed:
            self._again = self._loop.call_soon(self._go_on)

    def _turn(self, *, goes_on: bool) -> None:
        """Empty the socket, hand on the media, and if it `goes_on` some of what waits."""
        clock, waiting, on_drained = self._loop.time, self._waiting, self._on_drained
        end = clock() + TURN_S
        self._on_begin()
        try:
            if not self._take_in(end) or not goes_on or not waiting:
                return
            now = clock()
            for _ in range(min(len(waiting), TAKEN_A_TURN)):
                self._on_datagram(*waiting.popleft(), now)
                now = clock()
                if self.closed or now >= end:
                    return
        finally:
            on_drained(clock())

    def _take_in(self, end: float) -> bool:
        """Read, and hand on the media, until there is no more or the turn ends; False when that closed us."""
        receive, waiting, clock = self._socket.recvfrom, self._waiting, self._loop.time
        taken = 0
        for _ in range(READS_A_TURN):
            try:
                data, address = receive(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                continue  # an ICMP error of an earlier send
            self.bytes_received += len(data)
            self.datagrams_received += 1
            source = self._source(address) if self._six else address
            if self._in_order or (data and 128 <= data[0] <= 191):
                now = clock()
                self._on_datagram(data, source, now)
                if self.closed:
                    return False
                taken += 1
                if taken >= TAKEN_A_TURN or now >= end:
                    return True
            elif len(waiting) < WAITING:
                waiting.append((data, source))
            else:
                self.datagrams_dropped += 1
        return True

    def _read_gro(self) -> None:
        on_drained = self._on_drained
        self._on_begin()
        try:
            self._take_runs()
        finally:
            on_drained(self._loop.time())

    def _take_runs(self) -> None:
        """Read, and hand on what the kernel coalesced, until there is no more or the turn ends."""
        on_datagram, on_run, clock, view = self._on_datagram, self._on_run, self._loop.time, self._view
        end = clock() + TURN_S
        for _ in range(TAKEN_A_TURN):
            try:
                size, ancillary, _, address = self._socket.recvmsg_into([view], 32)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            segment = max(1, size)
            for level, kind, value in ancillary:
                if level == SOL_UDP and kind == UDP_GRO:
                    segment = struct.unpack_from("@i", value)[0]
            source = self._source(address)
            now = clock()
            self.bytes_received += size
            self.datagrams_received += -(-size // segment)
            if size <= segment or on_run is None or not on_run(view[:size], segment, source, now):
                # Copied out first: the handlers may lead to another read into the same buffer.
                read = bytes(view[:size])
                for at in range(0, size, segment):
                    on_datagram(read[at : at + segment], source, now)
                    if self.closed:
                        return
            if self.closed or now >= end:
                return

    def close(self) -> None:
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._waiting.clear()
            if self._again is not None:
                self._again.cancel()
                self._again = None
            # Whoever reads of us may hold us: a circle is only given back when the collector comes by.
            self._on_datagram, self._on_drained, self._on_run = _nobody_reads, _nobody_minds, None
