"""A NAT that forgets: UDP passes through it to a node, and from a moment on from another port.

    async with Nat(node_port) as nat:
        answer = nat.behind(answer)      # the peer's way to the node leads through the NAT
        ...
        nat.rebind()                     # mappings are new ones; what comes to the old ones is lost
        nat.block()                      # those who are known by now reach nobody; a new socket does

The peer sees nothing of it: to the peer the node's address stays the same.
"""

import asyncio
import re
import socket
import time

Address = tuple[str, int]


class Nat:
    """Between any number of peers and one UDP port of a node on this machine."""

    def __init__(self, node_port: int) -> None:
        self.node: Address = ("127.0.0.1", node_port)
        self.rebound_at = time.monotonic()
        self.answered_after: float | None = None  # seconds from the last rebinding to media from the node
        self.port = 0
        self._inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._mappings: dict[Address, socket.socket] = {}  # by the peer's own address
        self._blocked: set[Address] = set()
        self._shut = False
        self._forgotten: list[socket.socket] = []  # kept: so that their ports are nobody else's

    async def __aenter__(self) -> "Nat":
        self._inside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._inside.bind(("0.0.0.0", 0))
        self._inside.setblocking(False)
        self.port = self._inside.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._inside, self._out)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for sock in (self._inside, *self._mappings.values()):
            loop.remove_reader(sock)
        for sock in (self._inside, *self._mappings.values(), *self._forgotten):
            sock.close()

    def behind(self, sdp: str) -> str:
        """A node's answer, or restart fragment, with this NAT's port in place of its own: IPv4 and UDP."""
        sdp = re.sub(r"^(m=\w+) [1-9]\d*", rf"\1 {self.port}", sdp, flags=re.MULTILINE)
        sdp = re.sub(r"^a=candidate:(?!.* udp \d+ [\d.]+ ).*\r\n", "", sdp, flags=re.MULTILINE)
        return re.sub(r"^(a=candidate:.* udp \d+ [\d.]+) \d+", rf"\1 {self.port}", sdp, flags=re.MULTILINE)

    def rebind(self) -> None:
        """From now on what the peers send comes from other ports, and their old ones lead nowhere."""
        loop = asyncio.get_running_loop()
        for sock in self._mappings.values():
            loop.remove_reader(sock)
            self._forgotten.append(sock)
        self._mappings.clear()
        self.rebound_at = time.monotonic()
        self.answered_after = None

    def block(self) -> None:
        """Nothing passes any more, either way, until `unblock_others`."""
        self._shut = True

    def unblock_others(self) -> None:
        """From now on new peers pass. Who has been heard of until now stays blocked."""
        self._blocked |= set(self._mappings)
        self._shut = False

    def _out(self) -> None:
        while (received := _receive(self._inside)) is not None:
            data, peer = received
            if self._shut:
                self._blocked.add(peer)
            if peer in self._blocked:
                continue
            mapping = self._mappings.get(peer)
            if mapping is None:
                mapping = self._mappings[peer] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                mapping.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                mapping.bind(("127.0.0.1", 0))
                mapping.setblocking(False)
                asyncio.get_running_loop().add_reader(mapping, self._back, mapping, peer)
            mapping.sendto(data, self.node)

    def _back(self, mapping: socket.socket, peer: Address) -> None:
        while (received := _receive(mapping)) is not None:
            data = received[0]
            if self._shut or peer in self._blocked:
                continue
            if self.answered_after is None and data and data[0] >= 128:
                self.answered_after = time.monotonic() - self.rebound_at
            self._inside.sendto(data, peer)


def _receive(sock: socket.socket) -> tuple[bytes, Address] | None:
    try:
        return sock.recvfrom(2048)
    except BlockingIOError:
        return None
    except ConnectionError:
        return (b"", ("", 0))  # an ICMP error of an earlier send
