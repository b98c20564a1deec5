"""Which worker a new session goes to, and which session is where. Pure: workers are their indices.

A channel's own worker comes first where that matters; the sessions of one party come to one worker for as
long as any of them is there, whatever they watch; everybody else goes where the fewest sessions are. A party
is remembered only by its sessions, so there are never more of them than sessions. Anybody may say what party
they are of: after TOGETHER of them the next ones begin another group, so that one word cannot fill one worker
while the others are idle.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

TOGETHER = 64  # sessions of one party; eight seats have at most two or three each


@dataclass(slots=True, eq=False)
class _Party:
    worker: int
    members: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    worker: int
    key: str | None = None
    party: _Party | None = None


class Placement:
    """The sessions of one node."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}  # session -> where it is
        self._parties: dict[str, _Party] = {}
        self._load: Counter[int] = Counter()  # sessions on each worker

    def __len__(self) -> int:
        return len(self._places)

    @property
    def sessions(self) -> list[str]:
        return list(self._places)

    @property
    def parties(self) -> int:
        return len(self._parties)

    def worker_of(self, session: str) -> int | None:
        place = self._places.get(session)
        return None if place is None else place.worker

    def choose(self, workers: Collection[int], party: str | None = None) -> int:
        """Of these, the one that has the party, or the one with the fewest sessions, or the first of those.

        `workers`: those that run; raises ValueError when there is none. A party whose worker is not among
        them goes where a new one would.
        """
        known = None if party is None else self._parties.get(party)
        if known is not None and known.worker in workers and known.members < TOGETHER:
            return known.worker
        return min(workers, key=lambda worker: (self._load[worker], worker))

    def put(self, session: str, worker: int, party: str | None = None) -> None:
        """The session is on this worker from now on, and its party's next ones are to come there too."""
        self.remove(session)
        place = _Place(worker)
        if party is not None:
            known = self._parties.get(party)
            if known is None or known.worker != worker or known.members >= TOGETHER:
                # Those of it that are elsewhere: a full group, or sessions of a worker that has just died.
                known = self._parties[party] = _Party(worker)
            known.members += 1
            place = _Place(worker, party, known)
        self._places[session] = place
        self._load[worker] += 1

    def remove(self, session: str) -> bool:
        """False when it was not known."""
        place = self._places.pop(session, None)
        if place is None:
            return False
        self._load[place.worker] -= 1
        if place.key is not None and place.party is not None:
            place.party.members -= 1
            if place.party.members == 0 and self._parties.get(place.key) is place.party:
                del self._parties[place.key]
        return True

    def lost(self, worker: int) -> list[str]:
        """A worker has died: the sessions it had, which are forgotten, and what parties it had are free."""
        gone = [session for session, place in self._places.items() if place.worker == worker]
        for session in gone:
            self.remove(session)
        return gone

    def clear(self) -> None:
        self._places.clear()
        self._parties.clear()
        self._load.clear()
