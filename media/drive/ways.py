"""Both ways to a worker's peers behind one: who came by a TCP connection is answered by that connection."""

from typing import Protocol

from media.core.address import Address, TcpAddress
from media.drive.tcp import TcpEndpoint
from media.drive.udp import UdpEndpoint
from media.fanout.sendmany import SocketAddress
from media.fanout.streams import Stream


class Endpoint(Protocol):
    """What a peer needs of the sockets it is reached through."""

    def send(self, data: bytes, address: Address) -> bool:
        """One packet; False when it was dropped: its sender has timers for that."""

    def where(self, address: Address) -> SocketAddress | Stream:
        """The same address for the fan-out."""


class Ways:
    """An Endpoint of a worker's UDP socket and its TCP connections."""

    def __init__(self, udp: UdpEndpoint, tcp: TcpEndpoint) -> None:
        self._udp = udp
        self._tcp = tcp

    def send(self, data: bytes, address: Address) -> bool:
        if isinstance(address, TcpAddress):
            return self._tcp.send(data, address)
        return self._udp.send(data, address)

    def where(self, address: Address) -> SocketAddress | Stream:
        if isinstance(address, TcpAddress):
            return self._tcp.stream(address)
        return self._udp.where(address)
