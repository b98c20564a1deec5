"""A TCP port that many workers of one machine share, 443 say: how a connection finds its own worker.

They all listen on it (SO_REUSEPORT), and the kernel hands a connection to any of them. But a session lives in
one worker, and its first STUN request says in which: the ufrag of a session begins with the UDP port of its
worker, four hexadecimal digits. Whoever has accepted the connection passes it on as it is, descriptor and
what was read of it, in one message to the other worker's socket (SCM_RIGHTS, unix(7)).

Those sockets have abstract names of the form showcaller-tcp/USER/TCP PORT/UDP PORT. Such names exist once a
network namespace, just as ports do. A message is only taken from a process of our own user.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

from media.core.sdp import IceCredentials
from media.core.stun import username

_DIGITS = 4
_SCM_CREDENTIALS = 2
_SO_PASSCRED = 16
_CREDENTIALS = struct.Struct("@iII")  # struct ucred: pid, uid, gid
_DESCRIPTOR = struct.Struct("@i")
_MOST_BYTES = 8192
_TAKEN_A_TURN = 16

Take = Callable[[socket.socket, bytes], None]


def marked(credentials: IceCredentials, port: int) -> IceCredentials:
    """These credentials, with the port of the worker that made them in the ufrag."""
    return IceCredentials(f"{port:04x}{credentials.ufrag}", credentials.password)


def worker_of(datagram: bytes) -> int | None:
    """The UDP port of the worker whose session a STUN request is for; None when it names none."""
    name = username(datagram)
    digits = "" if name is None else name[:_DIGITS]
    if len(digits) < _DIGITS or not all(digit in "0123456789abcdef" for digit in digits):
        return None
    return int(digits, 16)


class Handover:
    """One worker's end. `take(connection, read)` gets the connections that others have accepted for us."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, user: int, tcp_port: int, udp_port: int, take: Take
    ) -> None:
        """`user` is the one all workers run as. Raises OSError when another process has our name."""
        self._loop = loop
        self._user = user
        self._names = f"\0showcaller-tcp/{user}/{tcp_port}"
        self._own = udp_port
        self._take = take
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
            self._socket.bind(self._name(udp_port))
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket.fileno(), self._read)

    def _name(self, udp_port: int) -> str:
        return f"{self._names}/{udp_port}"

    def owner(self, datagram: bytes) -> int | None:
        """The other worker that this STUN request is for; None: it is for us, or for nobody we know of."""
        port = worker_of(datagram)
        return None if port == self._own else port

    def pass_on(self, connection: socket.socket, read: bytes, owner: int) -> bool:
        """Give a connection to another worker; our descriptor of it may be closed then.

        False: that worker is not there. Raises BlockingIOError when too many wait for it: try again.
        """
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(connection.fileno()))
        try:
            self._socket.sendmsg([read], [rights], 0, self._name(owner))
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def _read(self) -> None:
        room = socket.CMSG_SPACE(_DESCRIPTOR.size) + socket.CMSG_SPACE(_CREDENTIALS.size)
        for _ in range(_TAKEN_A_TURN):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            descriptors: list[int] = []
            ours = False
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    whole = value[: len(value) - len(value) % _DESCRIPTOR.size]
                    descriptors += [number for (number,) in _DESCRIPTOR.iter_unpack(whole)]
                elif (level, kind) == (socket.SOL_SOCKET, _SCM_CREDENTIALS):
                    ours = _CREDENTIALS.unpack(value)[1] == self._user
            for number in descriptors:
                if ours:
                    self._take(socket.socket(fileno=number), data)
                else:
                    socket.close(number)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
