"""Origins: the unit is a publisher, and what an origin sends on counts too.

An origin sends each stream to every edge that has viewers of it, so a few publishers and many edges fill one
as well as many publishers do. EDGES_A_PUBLISHER copies weigh as much as one publisher: above so many edges a
stream is handed on by relays instead.
"""

from collections.abc import Sequence
from decimal import Decimal

from controlplane.fleet.figures import Figures

EDGES_A_PUBLISHER = 8
NEEDS = ("connections or reserved", "relays")


def load(figures: Figures) -> Decimal:
    return max(Decimal(figures.seats), Decimal(figures.relays) / EDGES_A_PUBLISHER)


def waiting(people: int, _: Sequence[Figures]) -> Decimal:
    return Decimal(people)
