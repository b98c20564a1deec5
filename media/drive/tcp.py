"""ICE-TCP (RFC 6544) for networks that block UDP: connections that peers open, packets framed by RFC 4571.

Plain non-blocking sockets in the event loop. Every worker listens on the number of its UDP port, and may
share another one (443, say) with the other workers of its machine: see handover.py.

A connection is a stranger's until the session has found an authentic STUN request in it (`prove`). A stranger

    is given PROVE_WITHIN and a few packets for that; what is no STUN is passed over (one that comes back by
    another connection may still have something to say of before)
    is one of few: the oldest gives way to the newest, per source network and in all
    is answered nothing, whatever it says

All the time a frame longer than 2048 bytes ends a connection, and so does one that is not whole after
FRAME_WITHIN. How it is written to is in connection.py.
"""

import asyncio
import errno
import functools
import ipaddress
import itertools
import socket
from collections import OrderedDict
from collections.abc import Callable

from media.core.address import Address, TcpAddress
from media.core.framing import frame
from media.drive.connection import Gone, TcpConnection
from media.drive.handover import Handover
from media.drive.ports import DEFAULT_PORTS
from media.drive.timers import Timers
from media.drive.udp import TURN_S, PortError, plain_host
from media.drive.udp import bind as bind_udp
from media.fanout.streams import Stream

STRANGERS = 1024  # connections that have proven nothing yet
STRANGERS_A_SOURCE = 128  # of one IPv4 address or IPv6 /64: behind one may be a whole office
STRANGER_PACKETS = 64
PROVE_WITHIN = 5.0  # seconds
FRAME_WITHIN = 5.0
LINGER = 2.0  # for what is queued when we end a connection
ACCEPTS_A_TURN = 16
READ_BYTES = 4096  # a turn: media comes from others in its turn
PAUSE = 0.5  # seconds without accepting, when the process has no descriptors left
PASS_AGAIN = 0.02  # seconds, when another worker has too many connections waiting that we pass on to it

_BACKLOG = 256
_SEND_BUFFER = 256 << 10  # what is on its way to a viewer 300 ms away, twice over
_NOTSENT_LOWAT, _NOTSENT_BYTES = 25, 64 << 10  # tcp(7): what waits, waits here, where it can be forgotten
_USER_TIMEOUT, _USER_TIMEOUT_MS = 18, 15_000
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listen(port: int, *, dual_stack: bool, shared: bool = False) -> socket.socket:
    """A non-blocking listening socket on all addresses. Raises PortError.

    `shared`: other processes of our user may listen on it too. Where the kernel has no IPv6, a dual-stack
    socket is an IPv4 one.
    """
    if dual_stack:
        try:
            return _listen(port, socket.AF_INET6, shared)
        except PortError:
            raise
        except OSError:
            pass
    return _listen(port, socket.AF_INET, shared)


def _listen(port: int, family: socket.AddressFamily, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Accepted sockets inherit all of these.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _USER_TIMEOUT_MS)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            what = "End the program that has it, or choose another --tcp-port"
            raise PortError(f"TCP port {port} cannot be used ({error}). {what}.") from error
        if error.errno == errno.EACCES:
            what = "Ports below 1024 need root or CAP_NET_BIND_SERVICE; else choose another --tcp-port"
            raise PortError(f"TCP port {port} cannot be used ({error}). {what}.") from error
        raise
    sock.setblocking(False)
    return sock


def bind_both(port: int | None, *, dual_stack: bool) -> tuple[socket.socket, socket.socket]:
    """A UDP socket, and a TCP listener on the same number: `port`, or the first that is free in both.

    Raises PortError.
    """
    taken: PortError | None = None
    for candidate in DEFAULT_PORTS if port is None else (port,):
        try:
            udp = bind_udp(candidate, dual_stack=dual_stack)
        except PortError as error:
            taken = error
            continue
        try:
            return udp, listen(candidate, dual_stack=dual_stack)
        except OSError as error:
            udp.close()
            if not isinstance(error, PortError):
                raise
            taken = error
    if port is not None and taken is not None:
        raise PortError(str(taken).replace("--tcp-port", "--udp-port"))
    where = f"{DEFAULT_PORTS.start}-{DEFAULT_PORTS.stop - 1}"
    raise PortError(
        f"no port in {where} is free for UDP and TCP ({taken}). Free one, or name another with --udp-port."
    )


def _nobody_reads(data: bytes, source: Address, now: float) -> None:
    """For an endpoint that is closed."""


def _nobody_minds(*_: object) -> None:
    """For an endpoint that is closed."""


class TcpEndpoint:
    """A worker's listeners and their connections in the loop, until `close`.

    on_datagram(packet, source, now) for each packet; on_drained(now) after each turn of reading;
    on_lost(source, now) when a proven connection has ended without our doing.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timers: Timers,
        on_datagram: Callable[[bytes, Address, float], None],
        on_drained: Callable[[float], None],
        on_lost: Callable[[TcpAddress, float], None],
        *,
        most: int,
    ) -> None:
        """`most` is how many connections there may be in all."""
        self.loop = loop
        self.ports: list[int] = []
        self.bytes_received = 0
        self.bytes_sent = 0
        self.datagrams_received = 0
        self.accepted = 0
        self.passed_on = 0  # to other workers
        self.given_up = 0  # strangers that were late, or one too many, or said what no peer says
        self._timers = timers
        self._on_datagram = on_datagram
        self._on_drained = on_drained
        self._on_lost = on_lost
        self._most = most
        self._turn_ends: float | None = None
        self._listeners: list[socket.socket] = []
        self._handovers: list[Handover] = []
        self._numbers = itertools.count(1)
        self._connections: dict[int, TcpConnection] = {}
        self._strangers: OrderedDict[int, TcpConnection] = OrderedDict()  # oldest first
        self._by_source: dict[str, OrderedDict[int, TcpConnection]] = {}  # the same

    def now(self) -> float:
        return self.loop.time()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    # -- listening

    def add(self, listener: socket.socket, *, shared_by: tuple[int, int] | None = None) -> None:
        """Accept from this socket. `shared_by`: our user and UDP port, where other workers listen on it too.

        Raises PortError when another process passes itself off as this worker.
        """
        port: int = listener.getsockname()[1]
        handover = None
        if shared_by is not None:
            user, own = shared_by
            try:
                handover = Handover(self.loop, user, port, own, self._adopt)
            except OSError as error:
                raise PortError(
                    f"TCP port {port} cannot be shared: another process has the name of the worker with "
                    f"port {own} ({error}). End it, or leave --tcp-port out."
                ) from error
            self._handovers.append(handover)
        self.ports.append(port)
        self._listeners.append(listener)
        self.loop.add_reader(listener.fileno(), self._accept, listener, handover)

    def _accept(self, listener: socket.socket, handover: Handover | None) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:  # it would be told to us again and again
                    self.loop.remove_reader(listener.fileno())
                    resume = functools.partial(self._resume, listener, handover)
                    self._timers.set(("tcp", listener), self.now() + PAUSE, resume)
                    return
                continue  # that one was gone before we came
            self.accepted += 1
            self._begin(sock, handover)

    def _resume(self, listener: socket.socket, handover: Handover | None, now: float) -> None:
        self.loop.add_reader(listener.fileno(), self._accept, listener, handover)

    def _adopt(self, sock: socket.socket, read: bytes) -> None:
        """Another worker has accepted what is ours."""
        connection = self._begin(sock, None)
        if connection is not None:
            self._take(connection, read, self.now())

    def _begin(self, sock: socket.socket, handover: Handover | None) -> TcpConnection | None:
        try:
            name = sock.getpeername()
        except OSError:
            sock.close()  # it is gone already
            return None
        host = plain_host(name[0])
        source = _network(host)
        neighbours = self._by_source.get(source)
        if neighbours is not None and len(neighbours) >= STRANGERS_A_SOURCE:
            self._give_up(next(iter(neighbours.values())))
        elif len(self._strangers) >= STRANGERS or (self._strangers and len(self) >= self._most):
            self._give_up(next(iter(self._strangers.values())))
        if len(self) >= self._most:
            self.given_up += 1
            sock.close()
            return None
        sock.setblocking(False)
        number = next(self._numbers)
        connection = TcpConnection(self, sock, TcpAddress(host, name[1], number), handover)
        self._connections[number] = self._strangers[number] = connection
        self._by_source.setdefault(source, OrderedDict())[number] = connection
        late = functools.partial(self._late, connection)
        self._timers.set(("tcp", number), self.now() + PROVE_WITHIN, late)
        self.loop.add_reader(sock.fileno(), self._readable, connection)
        return connection

    # -- reading

    def _has_turn(self, now: float) -> bool:
        """Whether there is time for one more read: all connections together have TURN_S in one turn."""
        if self._turn_ends is None:
            self._turn_ends = now + TURN_S
            self.loop.call_soon(self._next_turn)
        return now <= self._turn_ends

    def _next_turn(self) -> None:
        self._turn_ends = None

    def _readable(self, connection: TcpConnection) -> None:
        if not self._has_turn(self.now()):
            return  # we are told again, and others first
        try:
            data = connection.socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.lost(connection)
        elif not connection.ending:
            self._take(connection, data, self.now())

    def _take(self, connection: TcpConnection, data: bytes, now: float) -> None:
        self.bytes_received += len(data)
        deframer = connection.deframer
        had_part = bool(deframer.rest)
        packets = deframer.feed(data)
        for place, packet in enumerate(packets):
            self.datagrams_received += 1
            if not connection.proven:
                connection.said += 1
                if connection.said > STRANGER_PACKETS:
                    self._give_up(connection)
                    return
                if packet[0] > 3:  # RFC 7983: no STUN
                    continue
                if self._is_elsewhere(connection, packets[place:], now):
                    return
            self._on_datagram(packet, connection.address, now)
            if connection.ending or connection.closed:
                return
        if deframer.broken:
            self.lost(connection)
            return
        if connection.proven:
            key = ("tcp", connection.address.connection)
            if not deframer.rest:
                self._timers.cancel(key)
            elif packets or not had_part:
                late = functools.partial(self._late, connection)
                self._timers.set(key, now + FRAME_WITHIN, late)
        self._on_drained(now)

    def _is_elsewhere(self, connection: TcpConnection, packets: list[bytes], now: float) -> bool:
        """Whether its session is another worker's, on a shared port; it is passed on then."""
        handover = connection.handover
        owner = None if handover is None else handover.owner(packets[0])
        if handover is None or owner is None:
            return False
        connection.ending = True
        self.loop.remove_reader(connection.socket.fileno())
        read = b"".join(frame(packet) for packet in packets) + connection.deframer.rest
        self._pass_on(connection, handover, read, owner, now)
        return True

    def _pass_on(
        self, connection: TcpConnection, handover: Handover, read: bytes, owner: int, now: float
    ) -> None:
        try:
            there = handover.pass_on(connection.socket, read, owner)
        except BlockingIOError:
            again = functools.partial(self._pass_on, connection, handover, read, owner)
            self._timers.set(("pass on", connection.address.connection), now + PASS_AGAIN, again)
            return
        if there:
            self.passed_on += 1
            self._close(connection)
        else:
            self._give_up(connection)

    # -- sending

    def send(self, packet: bytes, address: TcpAddress) -> bool:
        """One packet of STUN, DTLS or RTCP; False when it was dropped."""
        return self.stream(address).write_control(packet)

    def stream(self, address: TcpAddress) -> Stream:
        """Where the media for this address goes; a connection that has closed drops what is written."""
        return self._connections.get(address.connection) or Gone()

    # -- their ends

    def prove(self, address: TcpAddress) -> None:
        """A session has found an authentic STUN request from there."""
        connection = self._connections.get(address.connection)
        if connection is not None and not connection.proven:
            connection.proven = True
            self._no_stranger(connection)

    def end(self, address: TcpAddress) -> None:
        """Close this connection once what is queued has left."""
        connection = self._connections.get(address.connection)
        if connection is None or connection.ending:
            return
        connection.ending = True
        self._no_stranger(connection)
        late = functools.partial(self._late, connection)
        self._timers.set(("tcp", address.connection), self.now() + LINGER, late)
        if not connection.waits:
            self.sent_all(connection)

    def sent_all(self, connection: TcpConnection) -> None:
        """Nothing is queued of a connection that ends: the peer hears the end after all the rest.

        Closing at once would tell it of a reset, where we have not read everything it sent.
        """
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)

    def lost(self, connection: TcpConnection) -> None:
        """The peer has closed it, or is not to be spoken with any more."""
        if connection.closed:
            return
        tell = connection.proven and connection.address.connection in self._connections
        if not connection.proven:
            self.given_up += 1
        self._close(connection)
        if tell:
            self._on_lost(connection.address, self.now())

    def _late(self, connection: TcpConnection, now: float) -> None:
        self.lost(connection)

    def _give_up(self, connection: TcpConnection) -> None:
        self.given_up += 1
        self._close(connection)

    def _no_stranger(self, connection: TcpConnection) -> None:
        number = connection.address.connection
        self._timers.cancel(("tcp", number))
        if self._strangers.pop(number, None) is not None:
            source = _network(connection.address.host)
            neighbours = self._by_source[source]
            del neighbours[number]
            if not neighbours:
                del self._by_source[source]

    def _close(self, connection: TcpConnection) -> None:
        if connection.closed:
            return
        connection.ending = True
        self._no_stranger(connection)
        self._timers.cancel(("pass on", connection.address.connection))
        del self._connections[connection.address.connection]
        descriptor = connection.socket.fileno()
        self.loop.remove_reader(descriptor)
        self.loop.remove_writer(descriptor)
        connection.socket.close()

    def close(self) -> None:
        """Close everything now; closing twice does nothing."""
        for handover in self._handovers:
            handover.close()
        for listener in self._listeners:
            self._timers.cancel(("tcp", listener))
            self.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections.values()):
            self._close(connection)
        self._on_datagram, self._on_drained, self._on_lost = _nobody_reads, _nobody_minds, _nobody_minds


def _network(host: str) -> str:
    """Whose strangers are counted together: an IPv4 address, an IPv6 /64."""
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, 64), strict=False).network_address)
