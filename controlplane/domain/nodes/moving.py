"""Decisions about viewers that are moved off a node, as pure functions.

Viewers who watch one channel and say the same party are moved together, to one node, as long as they are at
most PARTY_MOST: the word is anybody's to say, and a node keeps no more of one party on one worker either
(docs/decisions/0022). Who says none is moved alone.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence

from controlplane.domain.nodes.rules import Room, roomiest_first
from controlplane.domain.streams.model import Session

PARTY_MOST = 64
BEST = 3  # nodes among which chance chooses
RATE_S = 10.0  # over which the pace of a drain is measured
LONGEST_WAIT_S = 15.0  # between two tries with the same viewer


def parties(viewers: Iterable[Session]) -> list[list[Session]]:
    """Who is moved with whom: the largest parties first, then who has watched longest."""
    together: dict[tuple[str, str], list[Session]] = {}
    found: list[list[Session]] = []
    for viewer in sorted(viewers, key=lambda it: (it.created_at, it.id)):
        if viewer.party is None:
            found.append([viewer])
            continue
        key = (viewer.channel, viewer.party)
        party = together.get(key)
        if party is None or len(party) >= PARTY_MOST:
            party = together[key] = []
            found.append(party)
        party.append(viewer)
    return sorted(found, key=lambda party: -len(party))


def largest_party(sizes: Iterable[int]) -> int:
    """How many are moved together at most, of parties of these sizes: what the first of `parties` has. At
    least 1."""
    return min(PARTY_MOST, max(sizes, default=1))


def order_for(
    rooms: Iterable[Room],
    size: int,
    *,
    near: Collection[str],
    shuffle: Callable[[list[str]], None],
    prefer: str | None = None,
    avoid: Collection[str] = (),
) -> list[str]:
    """The nodes that have room for all of a party, in the order of trying.

    Where others of the party are comes first (`prefer`), then what is `near`, then the rest; of both those
    with most room first, the best few in an order of chance, so that several who choose at once do not all
    choose the same. Only nodes with half of the best one's room are among those few.
    """
    fit = [room for room in rooms if room.free >= size and room.node not in avoid]
    order: list[str] = []
    for part in ([it for it in fit if it.node in near], [it for it in fit if it.node not in near]):
        ranked = roomiest_first(part)
        few = [it.node for it in ranked[:BEST] if it.free * 2 >= ranked[0].free]
        shuffle(few)
        order += few + [it.node for it in ranked if it.node not in few]
    if prefer in order:
        order.remove(prefer)
        order.insert(0, prefer)
    return order


def wait_after(failures: int) -> float:
    """Seconds until the same viewer is tried again, after so many tries that came to nothing."""
    return min(LONGEST_WAIT_S, 2.0 ** max(0, failures - 1))


def pace(moved_at: Sequence[float], now: float) -> float | None:
    """Viewers a second, over the last RATE_S; None when nobody was moved in that time."""
    recent = [at for at in moved_at if now - at <= RATE_S]
    if not recent:
        return None
    return len(recent) / max(1.0, now - recent[0])


def time_left(left: int, rate: float | None) -> float | None:
    """Seconds until the last has been moved at this pace; None where nobody can say."""
    if left == 0:
        return 0.0
    return None if not rate else math.ceil(left / rate * 10) / 10
