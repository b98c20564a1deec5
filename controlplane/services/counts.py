"""Sessions, counted as they come and go: who looks at them each second need not go through all of them.

With 50,000 viewers a walk over all sessions takes as long as several joins, and every question that was put
to them so was put once or ten times a second.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import TypeVar

from controlplane.domain.streams.model import PartyKey, Session
from controlplane.wire.nodes import SessionKind

K = TypeVar("K")
L = TypeVar("L")

_NONE: Mapping[str, int] = {}


class Counts:
    def __init__(self) -> None:
        self._seats: Counter[str] = Counter()  # by node
        self._viewers: Counter[str] = Counter()
        self._relays: Counter[str] = Counter()  # that it feeds
        self._watching: defaultdict[str, Counter[str]] = defaultdict(Counter)  # channel -> node -> viewers
        self._parties: defaultdict[PartyKey, Counter[str]] = defaultdict(Counter)  # on which nodes
        self._sizes: defaultdict[str, Counter[PartyKey]] = defaultdict(Counter)  # node -> of parties there

    def came(self, session: Session) -> None:
        """A session that was not counted yet."""
        if session.seat:
            self._seats[session.node] += 1
        if session.kind is SessionKind.WHEP:
            self._viewers[session.node] += 1
            self._watching[session.channel][session.node] += 1
        elif session.kind is SessionKind.RELAY_OUT:
            self._relays[session.node] += 1
        if session.party is not None:
            key = session.channel, session.party
            self._parties[key][session.node] += 1
            self._sizes[session.node][key] += 1

    def went(self, session: Session) -> None:
        """One that was."""
        if session.seat:
            _less(self._seats, session.node)
        if session.kind is SessionKind.WHEP:
            _less(self._viewers, session.node)
            _less_of(self._watching, session.channel, session.node)
        elif session.kind is SessionKind.RELAY_OUT:
            _less(self._relays, session.node)
        if session.party is not None:
            key = session.channel, session.party
            _less_of(self._parties, key, session.node)
            _less_of(self._sizes, session.node, key)

    def seats(self, node: str) -> int:
        return self._seats[node]

    def viewers(self, node: str) -> int:
        return self._viewers[node]

    def relays(self, node: str) -> int:
        """Edges and the like that it feeds."""
        return self._relays[node]

    def nodes_with(self, channel: str) -> Collection[str]:
        """Where it is watched."""
        return self._watching.get(channel, _NONE).keys()

    def party(self, channel: str, party: str) -> Mapping[str, int]:
        """How many of it are on which node."""
        return self._parties.get((channel, party), _NONE)

    def party_sizes(self, node: str) -> Collection[int]:
        """How many of each party are on it."""
        return self._sizes[node].values() if node in self._sizes else ()


def _less(counter: Counter[K], key: K) -> None:
    """One fewer; a key with none is not there."""
    if counter[key] > 1:
        counter[key] -= 1
    else:
        del counter[key]


def _less_of(counters: defaultdict[L, Counter[K]], of: L, key: K) -> None:
    _less(counters[of], key)
    if not counters[of]:
        del counters[of]
