"""Which session a datagram is for.

An address that ICE has validated leads to its session. Everybody else may only send a STUN binding request
that names one of our ufrags; the session itself then checks MESSAGE-INTEGRITY before anything changes. So a
stranger costs one dictionary look-up, and nothing is kept for it.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from media.core.session import Address
from media.core.stun import username

Peer = TypeVar("Peer")

ADDRESSES_A_PEER = 8


class Demux(Generic[Peer]):
    """Peers by ufrag and by validated address; a peer keeps the last few of its addresses."""

    def __init__(self) -> None:
        self._by_ufrag: dict[str, Peer] = {}
        self._by_address: dict[Address, Peer] = {}
        self._addresses: dict[str, OrderedDict[Address, None]] = {}
        self.strangers = 0  # datagrams that led nowhere

    def __len__(self) -> int:
        return len(self._by_ufrag)

    def add(self, ufrag: str, peer: Peer) -> None:
        self._by_ufrag[ufrag] = peer
        self._addresses[ufrag] = OrderedDict()

    def bind(self, ufrag: str, address: Address) -> None:
        """ICE has validated this address for the session with this ufrag."""
        peer, known = self._by_ufrag.get(ufrag), self._addresses.get(ufrag)
        if peer is None or known is None:
            return
        known[address] = None
        known.move_to_end(address)
        self._by_address[address] = peer
        if len(known) > ADDRESSES_A_PEER:
            oldest, _ = known.popitem(last=False)
            if self._by_address.get(oldest) is peer:
                del self._by_address[oldest]

    def remove(self, ufrag: str) -> None:
        peer = self._by_ufrag.pop(ufrag, None)
        for address in self._addresses.pop(ufrag, ()):
            if self._by_address.get(address) is peer:
                del self._by_address[address]

    def find(self, datagram: bytes, source: Address) -> Peer | None:
        if datagram and datagram[0] < 4:
            name = username(datagram)
            peer = None if name is None else self._by_ufrag.get(name.partition(":")[0])
        else:
            peer = self._by_address.get(source)
        if peer is None:
            self.strangers += 1
        return peer
