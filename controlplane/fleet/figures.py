"""What is known of one node of a group, when it is looked at."""

from dataclasses import dataclass

from controlplane.wire.nodes import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    node: str = ""  # none: it is wanted, and has no name yet
    state: NodeState = NodeState.IN_SERVICE
    connections: int = 0  # of the last report there was
    reserved: int = 0  # seats
    moving: int = 0  # of those on it: who have a seat elsewhere already
    relays: int = 0  # streams x edges that an origin feeds
    mbps: float = 0.0  # sent, of the last report there was
    fresh: bool = True  # it reported lately; False: its figures are old, or there never were any
    reported: bool = True  # ever
    kept: bool = False  # nobody ends it: the last copy of a live stream, or a node started by hand
    age_s: float = 0.0  # since it was asked for
    room: int | None = None  # seats that nobody has; None: not known
    party: int = 1  # the most on it who would be moved together, to one node

    @property
    def seats(self) -> int:
        """Who is on it, or about to be. A seat that was given a moment ago has no connection yet, and a
        connection may outlive its seat: the larger of the two. Who is being moved has a seat where it goes
        and still a connection here, and counts once: there."""
        return max(self.connections, self.reserved) - self.moving
