"""Which session a datagram is for.

An address that ICE has validated leads to its session. Everybody else may only send a STUN binding request
that names one of our ufrags, or the answer to one of ours; the session itself then checks MESSAGE-INTEGRITY
before anything changes. So a stranger costs one dictionary look-up, and nothing is kept for it.

Media from an address that is not known may be that of a peer whose NAT has given it another one. Its SSRC is
readable and says which peers that may be (`suspects`): those that have sent with it, on the same host first,
and those on the same host that have not sent anything yet. An authentic packet then tells. A browser that
only watches reports with the SSRC 1, as all of its kind do: among more than `SUSPECTS` of them on one host it
has to wait for its next check, 2.5 s at most.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import chain, islice
from typing import Generic, TypeVar

from media.core.address import Address
from media.core.rtp import is_rtcp
from media.core.stun import is_stun, transaction, username

Peer = TypeVar("Peer")

ADDRESSES_A_PEER = 8
QUESTIONS_A_PEER = 8  # of ours, whose answers are still let in
NOT_YET = b""  # in place of the SSRC of who has sent nothing
SUSPECTS = 8  # how many sessions a datagram of unknown origin may be tried on


class _Entry(Generic[Peer]):
    """What is known of one peer."""

    __slots__ = ("addresses", "peer", "questions", "ssrcs", "ufrags", "voices")

    def __init__(self, peer: Peer, ufrag: str) -> None:
        self.peer = peer
        self.ufrags: tuple[str, ...] = (ufrag,)
        self.addresses: OrderedDict[Address, None] = OrderedDict()
        self.questions: deque[bytes] = deque()
        self.ssrcs: frozenset[bytes] = frozenset()
        self.voices: frozenset[tuple[str, bytes]] = frozenset()  # (host, SSRC); the host "" is any


class Demux(Generic[Peer]):
    """Peers by ufrag and by validated address; a peer keeps the last few of its addresses.

    A peer is named by the ufrag it was added with, also after a restart has given it others.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[Peer]] = {}
        self._by_ufrag: dict[str, _Entry[Peer]] = {}
        self._by_address: dict[Address, Peer] = {}
        self._by_question: dict[bytes, Peer] = {}
        self._by_voice: dict[tuple[str, bytes], dict[str, None]] = {}  # -> ufrags, the oldest first
        self.strangers = 0  # datagrams that led nowhere

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, ufrag: str, peer: Peer) -> None:
        self._entries[ufrag] = self._by_ufrag[ufrag] = _Entry(peer, ufrag)

    def answer_to(self, ufrag: str, names: Iterable[str]) -> None:
        """The peer added as `ufrag` answers to these ufrags now, and no others (an ICE restart)."""
        entry = self._entries.get(ufrag)
        if entry is None:
            return
        for name in entry.ufrags:
            self._by_ufrag.pop(name, None)
        entry.ufrags = tuple(names)
        for name in entry.ufrags:
            self._by_ufrag[name] = entry

    def bind(self, ufrag: str, address: Address) -> Address | None:
        """ICE has validated this address for the session with this ufrag; returns one given up for it."""
        entry = self._entries.get(ufrag)
        if entry is None:
            return None
        peer, known = entry.peer, entry.addresses
        new = address not in known
        known[address] = None
        known.move_to_end(address)
        self._by_address[address] = peer
        oldest = None
        if len(known) > ADDRESSES_A_PEER:
            oldest, _ = known.popitem(last=False)
            self._forget(peer, oldest)
        if new:
            self._index(ufrag, entry)
        return oldest

    def unbind(self, ufrag: str, address: Address) -> None:
        """This address is the session's no more."""
        entry = self._entries.get(ufrag)
        if entry is not None and address in entry.addresses:
            del entry.addresses[address]
            self._forget(entry.peer, address)
            self._index(ufrag, entry)

    def _forget(self, peer: Peer, address: Address) -> None:
        if self._by_address.get(address) is peer:  # a newer peer may have taken it over
            del self._by_address[address]

    def at(self, address: Address) -> Peer | None:
        """Whose address it is. Whether another one may take it over is for whoever calls `bind` to decide."""
        return self._by_address.get(address)

    def expect(self, ufrag: str, question: bytes) -> None:
        """This peer was sent a binding request: its answer may come from an address not validated yet."""
        entry = self._entries.get(ufrag)
        if entry is None:
            return
        entry.questions.append(question)
        self._by_question[question] = entry.peer
        if len(entry.questions) > QUESTIONS_A_PEER:
            self._by_question.pop(entry.questions.popleft(), None)

    def speaks(self, ufrag: str, ssrcs: Iterable[bytes]) -> None:
        """The SSRCs (four bytes each) that this peer's authentic packets have come with."""
        entry = self._entries.get(ufrag)
        if entry is None:
            return
        entry.ssrcs = frozenset(ssrcs)
        self._index(ufrag, entry)

    def _index(self, ufrag: str, entry: _Entry[Peer]) -> None:
        hosts = {address[0] for address in entry.addresses} | {""}
        ssrcs = entry.ssrcs or {NOT_YET}
        before, entry.voices = entry.voices, frozenset((host, ssrc) for host in hosts for ssrc in ssrcs)
        for voice in before - entry.voices:
            del self._by_voice[voice][ufrag]
            if not self._by_voice[voice]:
                del self._by_voice[voice]
        for voice in entry.voices - before:
            self._by_voice.setdefault(voice, {})[ufrag] = None

    def remove(self, ufrag: str) -> list[Address]:
        """Forget a peer; returns the addresses it had."""
        entry = self._entries.pop(ufrag, None)
        if entry is None:
            return []
        for name in entry.ufrags:
            self._by_ufrag.pop(name, None)
        for address in entry.addresses:
            self._forget(entry.peer, address)
        for question in entry.questions:
            self._by_question.pop(question, None)
        for voice in entry.voices:
            del self._by_voice[voice][ufrag]
            if not self._by_voice[voice]:
                del self._by_voice[voice]
        return list(entry.addresses)

    def find(self, datagram: bytes, source: Address) -> Peer | None:
        if datagram and datagram[0] < 4:
            peer = self._asks_or_answers(datagram, source)
        else:
            peer = self._by_address.get(source)
        if peer is None:
            self.strangers += 1
        return peer

    def _asks_or_answers(self, datagram: bytes, source: Address) -> Peer | None:
        name = username(datagram)
        if name is not None:
            entry = self._by_ufrag.get(name.partition(":")[0])
            return None if entry is None else entry.peer
        if not is_stun(datagram):
            return None
        return self._by_question.get(transaction(datagram)) or self._by_address.get(source)

    def suspects(self, datagram: bytes, source: Address) -> list[Peer]:
        """Whose media this may be, of those who are not known at `source`; at most SUSPECTS."""
        if len(datagram) < 12 or not 128 <= datagram[0] <= 191:
            return []
        ssrc = datagram[4:8] if is_rtcp(datagram) else datagram[8:12]
        speakers = self._by_voice.get(("", ssrc), {})
        if len(speakers) > SUSPECTS:
            speakers = self._by_voice.get((source[0], ssrc), {})
        silent = self._by_voice.get((source[0], NOT_YET), {})
        return [self._entries[ufrag].peer for ufrag in islice(chain(speakers, silent), SUSPECTS)]
