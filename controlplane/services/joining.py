"""How many viewers may be joining at once, from one address and in all.

Watching is open, and a session takes a seat as soon as it is asked for. Somebody who asks and never connects
would hold all seats of a stage with one small request a seat and fifteen seconds. So who is joining is
counted: from the request on until its node says that the connection stands, or the session is over. Behind
one address may be a whole school, so what is limited is how many join at the same moment, not how many watch.

This machine's own addresses are nobody's in particular: load tests, and a proxy in front of us, come from
there. Only the limit in all holds for them.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from controlplane.config import ViewersConfig
from controlplane.domain.streams.model import Session
from controlplane.errors import TooMany, Unavailable
from controlplane.ports.clock import Clock
from controlplane.services.board import Board

LOOK_EVERY_S = 0.25  # nodes tell of their sessions each second
GIVEN_UP_S = 30.0  # twice as long as a node waits for a handshake


@dataclass(slots=True, eq=False)
class Place:
    """One that is joining. `session` once there is one."""

    source: str
    since: float  # monotonic
    session: str | None = None


class Joining:
    def __init__(self, board: Board, clock: Clock, config: ViewersConfig) -> None:
        self._board = board
        self._clock = clock
        self._most = config.joining
        self._most_of_one = config.joining_per_address
        self._places: set[Place] = set()
        self._of: Counter[str] = Counter()
        self._looked_at = float("-inf")

    def enter(self, address: str) -> Place:
        """A place for whoever asks from this address; `leave` gives it back. Raises TooMany, Unavailable."""
        source = source_of(address)
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._look(now)
        if source and self._of[source] >= self._most_of_one:
            raise TooMany(
                f"{self._of[source]} viewers are joining from your address at once. Try again in a moment.",
                retry_after_s=2,
            )
        if len(self._places) >= self._most:
            raise Unavailable(
                "So many viewers are joining at once that yours has to wait. Try again in a moment.",
                code="too_many_joining",
                title="Too many are joining at once",
                retry_after_s=2,
            )
        place = Place(source, now)
        self._places.add(place)
        self._of[source] += 1
        return place

    def leave(self, place: Place) -> None:
        if place in self._places:
            self._places.remove(place)
            self._of[place.source] -= 1
            if not self._of[place.source]:
                del self._of[place.source]

    def people(self) -> int:
        """Who is joining now."""
        return len(self._places)

    def _look(self, now: float) -> None:
        """Forget those who have joined, and those who never will."""
        self._looked_at = now
        for place in list(self._places):
            if place.session is None:
                continue  # its request is still being answered
            session = self._board.sessions.get(place.session)
            if session is None or now - place.since > GIVEN_UP_S or self._stands(session):
                self.leave(place)

    def _stands(self, session: Session) -> bool:
        """Whether its node has said that it is connected."""
        heard = self._board.heard.get(session.node)
        return heard is not None and session.id in heard.connected


def source_of(address: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 /64 (one household's), "" for this machine."""
    try:
        given = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if given.version == 6 and given.ipv4_mapped is not None:
        given = given.ipv4_mapped
    if given.is_loopback:
        return ""
    if given.version == 6:
        return str(ipaddress.ip_network((given, 64), strict=False))
    return str(given)
