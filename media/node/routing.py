"""Which of a worker's peers a packet is for, by the address it came from and what it says.

Who is at an address may change: one session may name an address where another one still is, and then that
one is asked first (peer.py, docs/decisions/0011). Media from where nobody is known is tried on those whose
NAT may have moved them, so many a second.
"""

from collections.abc import Callable

from media.core.address import Address, TcpAddress
from media.core.stun import transaction
from media.drive.demux import Demux
from media.drive.tcp import TcpEndpoint
from media.drive.timers import Timers
from media.node.peer import CONTEST_S, Peer

STRAYS_A_SECOND = 400  # datagrams of unknown origin that are tried on the sessions they may be of


class Routing:
    """The peers of one worker by their addresses, over UDP and TCP."""

    def __init__(self, timers: Timers, tcp: Callable[[], TcpEndpoint]) -> None:
        """`tcp` gives the endpoint whose connections are peers' addresses; it is made after us."""
        self._timers = timers
        self._tcp = tcp
        self._demux: Demux[Peer] = Demux()
        self._strays_left = STRAYS_A_SECOND  # until the next `second`
        self.strays_tried = 0
        self.strays_refused = 0  # too many in one second

    @property
    def strangers(self) -> int:
        """Packets that led nowhere."""
        return self._demux.strangers

    def second(self) -> None:
        """A second has gone by: so many strays may be tried again."""
        self._strays_left = STRAYS_A_SECOND

    # -- packets

    def packet(self, data: bytes, source: Address, now: float) -> None:
        """Hand a packet of a socket to its peer."""
        if not data:
            return
        if data[0] < 4:
            known = self._demux.at(source)
            if known is not None and known.receive_check(data, source, now):
                return
        peer = self._demux.find(data, source)
        if peer is not None:
            peer.receive(data, source, now)
        elif data[0] >= 128:
            self._stray(data, source, now)

    def _stray(self, data: bytes, source: Address, now: float) -> None:
        """Media from an address nobody is known at: a NAT may have given a peer of ours another one."""
        for suspect in self._demux.suspects(data, source):
            if self._strays_left <= 0:
                self.strays_refused += 1
                return
            self._strays_left -= 1
            self.strays_tried += 1
            if suspect.receive_stray(data, source, now):
                return

    def lost(self, address: TcpAddress, now: float) -> None:
        """A peer's TCP connection has closed."""
        peer = self._demux.at(address)
        if peer is not None:
            self._demux.unbind(peer.identity.ufrag, address)
            peer.lost(address, now)

    # -- peers

    def add(self, peer: Peer) -> None:
        """A session that a peer asked for: it may show where it is."""
        self._demux.add(peer.identity.ufrag, peer)

    def remove(self, peer: Peer) -> None:
        """Nothing is for it any more; its TCP connections end."""
        for address in self._demux.remove(peer.identity.ufrag):
            self._end(address)
        self._timers.cancel(("contest", peer.identity.id))

    def restarts(self, peer: Peer) -> None:
        """ICE has other credentials: it answers to their ufrags from now on."""
        names = [ours.ufrag for ours, _ in peer.session.credentials]
        self._demux.answer_to(peer.identity.ufrag, names)

    def bind(self, peer: Peer, address: Address, now: float) -> None:
        """ICE has validated an address of the peer."""
        if not self._bind(peer, address, now):
            # The other one may be gone; and this one may not check again for seconds.
            key = ("contest", peer.identity.id)
            self._timers.set(key, now + CONTEST_S, lambda at: self._claim(peer, address, at))

    def _claim(self, peer: Peer, address: Address, now: float) -> None:
        self._bind(peer, address, now)

    def _bind(self, peer: Peer, address: Address, now: float) -> bool:
        """What comes from there is the peer's, unless another one is there."""
        holder = self._demux.at(address)
        if holder is not None and holder is not peer and holder.holds(address, now):
            return False
        given_up = self._demux.bind(peer.identity.ufrag, address)
        if isinstance(address, TcpAddress):
            self._tcp().prove(address)
        if given_up is not None:
            self._end(given_up)
        return True

    def _end(self, address: Address) -> None:
        if isinstance(address, TcpAddress):
            self._tcp().end(address)

    def asked(self, peer: Peer, datagram: bytes) -> None:
        """The peer was sent a STUN request: its answer may come from anywhere."""
        self._demux.expect(peer.identity.ufrag, transaction(datagram))

    def speaks(self, peer: Peer) -> None:
        """The peer's media came with another SSRC than before."""
        self._demux.speaks(peer.identity.ufrag, peer.session.speakers)
