"""How load is counted, one file a unit: `load(figures)` of a node, `waiting(people, nodes)` of a group."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from controlplane.fleet.figures import Figures
from controlplane.fleet.policies import connections, mbps, publishers
from controlplane.wire.fleet import Unit


class Counting(NamedTuple):
    load: Callable[[Figures], Decimal]
    waiting: Callable[[int, Sequence[Figures]], Decimal]
    needs: tuple[str, ...]  # what has to be known of a node; the one or the other where "or" stands between


COUNTING = {
    Unit.CONNECTIONS: Counting(connections.load, connections.waiting, connections.NEEDS),
    Unit.PUBLISHERS: Counting(publishers.load, publishers.waiting, publishers.NEEDS),
    Unit.MBPS: Counting(mbps.load, mbps.waiting, mbps.NEEDS),
}
