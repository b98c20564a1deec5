"""What a plan is made from: a node group at one moment, counted in its policy's unit.

figures of each node --COUNTING[unit]--> Snapshot --planner.plan--> Decision
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from controlplane.domain.nodes.states import LAUNCHING, LEAVING, REPORTING
from controlplane.fleet.figures import Figures
from controlplane.fleet.policies import COUNTING
from controlplane.wire.fleet import Unit
from controlplane.wire.nodes import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was decided before. Times are of the clock that `now` is of."""

    agreed_up: int = 0  # evaluations in a row, up to the last one, that wanted more nodes
    agreed_down: int = 0  # that wanted less
    last_up: float | None = None  # a launch was decided
    last_down: float | None = None  # a drain was


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What bears upon a group from outside."""

    waiting: int = 0  # people without a seat
    stopped: bool = False  # so many nodes failed lately that none are launched
    price: Decimal = Decimal(0)  # of a node an hour
    currency: str = "$"  # its sign
    budget_room: int | None = None  # nodes that the stage's budget is there for; None: any number
    budget_because: str = ""  # why not one more
    floor: int = 0  # nodes that are wanted beforehand, whatever the load
    floor_because: str = ""
    unplaced: int = 0  # viewers on nodes that drain, for whom no node has room as they are
    held: int = 0  # nodes that are wanted and not there, and not launched: beyond max, the cap or the budget


NO_PAST = Past()
NOTHING_AROUND = Around()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node that could be ended."""

    node: str  # none: one that is wanted, and need not be launched
    load: Decimal = Decimal(0)
    reported: bool = True
    kept: bool = False
    age_s: float = 0.0
    seats: int = 0  # who would have to go elsewhere
    room: int | None = None  # seats on the other nodes in service, less those that others go to already
    party: int = 1  # the most on it who would go together
    scattered: bool = False  # there may be no one node with room for all of those, whoever goes where first


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A group at one moment. `load` and `waiting` are in the policy's unit, the rest are nodes."""

    in_service: int
    launching: int = 0
    suspect: int = 0
    draining: int = 0
    leaving: int = 0  # told to end, or faulty, and not gone yet
    load: Decimal = Decimal(0)  # `waiting` is in it
    waiting: Decimal = Decimal(0)
    silent: tuple[str, ...] = ()  # of those in service or draining: without a fresh report
    candidates: tuple[Candidate, ...] = ()
    past: Past = NO_PAST
    around: Around = NOTHING_AROUND
    called: str = "node"  # what one is: "edge"

    @property
    def supplying(self) -> int:
        """Nodes that carry, or soon will."""
        return self.in_service + self.launching

    @property
    def counted(self) -> int:
        """Nodes that stand against the maximum: one that is suspect may be back in a moment."""
        return self.in_service + self.launching + self.suspect

    @property
    def wanted(self) -> int:
        """Those, and what is wanted and held back."""
        return self.counted + self.around.held

    @property
    def paid(self) -> int:
        """Nodes that cost money."""
        return self.counted + self.draining + self.leaving


def snapshot(
    nodes: Iterable[Figures],
    unit: Unit,
    *,
    past: Past = NO_PAST,
    around: Around = NOTHING_AROUND,
    called: str,
) -> Snapshot:
    """Of the nodes of a group that are not gone."""
    load_of, waiting_of, _ = COUNTING[unit]
    nodes = list(nodes)
    states = Counter(it.state for it in nodes)
    carrying = [it for it in nodes if it.state in REPORTING]
    waiting = waiting_of(around.waiting, carrying)
    room = _room(nodes)
    apart = _Apart(nodes)
    return Snapshot(
        in_service=states[NodeState.IN_SERVICE],
        launching=sum(states[state] for state in LAUNCHING),
        suspect=states[NodeState.SUSPECT],
        draining=states[NodeState.DRAINING],
        leaving=sum(states[state] for state in LEAVING),
        load=sum(map(load_of, carrying), waiting),
        waiting=waiting,
        silent=tuple(it.node for it in carrying if not it.fresh),
        candidates=(Candidate(node="", reported=False),) * around.held
        + tuple(
            Candidate(
                node=it.node,
                load=load_of(it),
                reported=it.reported and it.state not in LAUNCHING,
                kept=it.kept,
                age_s=it.age_s,
                seats=it.seats,
                room=None if room is None or it.room is None else room - it.room,
                party=it.party,
                scattered=apart.scattered(it),
            )
            for it in nodes
            if it.state in LAUNCHING or it.state is NodeState.IN_SERVICE
        ),
        past=past,
        around=around,
        called=called,
    )


def _room(nodes: list[Figures]) -> int | None:
    """Seats on the nodes in service that nobody has, nor needs who is still on a node that drains; None where
    that of one is not known."""
    serving = [it.room for it in nodes if it.state is NodeState.IN_SERVICE]
    displaced = sum(it.seats for it in nodes if it.state is NodeState.DRAINING)
    known = [room for room in serving if room is not None]
    return sum(known) - displaced if len(known) == len(serving) else None


class _Apart:
    """Whether a party would find a node with room for all of it when its own is ended.

    Who is moved chooses by room and by chance, so it must fit wherever those before it have gone. A node with
    so many seats free has none for a party when all but size - 1 of them are taken: if that takes more people
    than there are to go, on all nodes together, one node is left that has. The largest party is the one that
    finds it hardest.
    """

    def __init__(self, nodes: list[Figures]) -> None:
        self._nodes = [it for it in nodes if it.state is NodeState.IN_SERVICE]
        self._displaced = sum(it.seats for it in nodes if it.state is NodeState.DRAINING)
        self._taken: dict[int, int] = {}  # party size -> who must sit down so that no node has room for it

    def scattered(self, ended: Figures) -> bool:
        """Of parties of one, and where room is not known, nothing is said: seats are counted elsewhere."""
        size = ended.party
        if size <= 1 or ended.state is not NodeState.IN_SERVICE:
            return False
        if any(it.room is None for it in self._nodes):
            return False
        if size not in self._taken:
            self._taken[size] = sum(_beside(it, size) for it in self._nodes)
        others = self._taken[size] - _beside(ended, size)
        return others <= ended.seats + self._displaced - size


def _beside(node: Figures, size: int) -> int:
    """Who must sit down on a node so that it has no room for so many any more."""
    return max(0, (node.room or 0) - size + 1)
