"""The unit is a megabit a second, sent. Seats without a connection yet will take what connections do."""

from collections.abc import Sequence
from decimal import Decimal

from controlplane.fleet.figures import Figures

NEEDS = ("mbps",)


def load(figures: Figures) -> Decimal:
    sent = Decimal(str(figures.mbps))
    return sent * figures.seats / figures.connections if figures.connections else sent


def waiting(people: int, nodes: Sequence[Figures]) -> Decimal:
    """As much as everybody has in the mean; before anybody has anything that is nothing."""
    connections = sum(node.connections for node in nodes)
    sent = sum((Decimal(str(node.mbps)) for node in nodes), Decimal(0))
    return sent * people / connections if connections else Decimal(0)
