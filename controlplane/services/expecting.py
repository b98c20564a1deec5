"""What events will bring to a node group, in the unit that its policy counts in.

An edge carries its share of the people: they are divided evenly among the regions that have edges, for nobody
knows better yet. An origin carries the broadcast, and sends it to each edge that the people need.
"""

from decimal import ROUND_CEILING, Decimal

from controlplane.config import FleetConfig
from controlplane.domain.events.model import Event
from controlplane.domain.fleet.prestage import nodes_for
from controlplane.domain.nodes.model import Group
from controlplane.fleet.policies.publishers import EDGES_A_PUBLISHER
from controlplane.services.board import Board
from controlplane.services.events import Events
from controlplane.wire.fleet import Expected, Policy, Unit
from controlplane.wire.nodes import Role


class Expecting:
    def __init__(self, board: Board, events: Events, config: FleetConfig) -> None:
        self._board = board
        self._events = events
        self._config = config

    async def refresh(self) -> None:
        """Learn what is on and to come. Raises StoreBusy."""
        await self._events.refresh()

    def of(self, group: Group, policy: Policy) -> list[Expected]:
        """What each event that is not over brings to the group."""
        return [self.one(event, crowd, group, policy) for event, crowd in self._events.due()]

    async def during(self, group: Group, policy: Policy, start: float, end: float) -> list[Expected]:
        """What events brought to the group in a time that has passed, as far as was known then.

        The group is as it is now. Raises StoreBusy.
        """
        return [
            self.one(event, crowd, group, policy).model_copy(
                update={"known_from": event.created_at, "known_until": event.cancelled_at}
            )
            for event, crowd in await self._events.during(start, end)
        ]

    def one(self, event: Event, crowd: int, group: Group, policy: Policy) -> Expected:
        share = self._share(crowd, group)
        return Expected(
            title=event.title,
            starts=event.starts_at,
            ends=event.ends_at,
            zone=event.zone,
            crowd=share,
            load=self._load(event, crowd, share, group, policy),
        )

    def _load(self, event: Event, crowd: int, share: int, group: Group, policy: Policy) -> Decimal:
        if group.role is Role.EDGE:
            return share * self.mbps(event) if policy.unit == Unit.MBPS.value else Decimal(share)
        if policy.unit == Unit.CONNECTIONS.value:
            return Decimal(1)  # its publisher
        edges = Decimal(self._edges(event, crowd))
        if policy.unit == Unit.MBPS.value:
            return max(Decimal(1), edges) * self.mbps(event)
        return max(Decimal(1), edges / EDGES_A_PUBLISHER)

    def _edges(self, event: Event, crowd: int) -> int:
        """How many edges the people need, everywhere."""
        edges = 0
        for group in self._board.groups.values():
            if group.role is Role.EDGE:
                policy = group.policy or Policy(capacity=self._config.edge_capacity)
                edges += nodes_for(self._load(event, crowd, self._share(crowd, group), group, policy), policy)
        return edges

    def _share(self, crowd: int, group: Group) -> int:
        regions = sum(1 for it in self._board.groups.values() if it.role is group.role)
        return int((Decimal(crowd) / max(1, regions)).to_integral_value(ROUND_CEILING))

    def mbps(self, event: Event) -> Decimal:
        """What a viewer takes: what the channel has now, or what is supposed while it is not on air."""
        stream = self._board.streams.get(event.channel)
        said = None if stream is None else self._board.stream_report(stream)
        bps = 0.0 if said is None or said.bitrate_bps is None else said.bitrate_bps
        return Decimal(str(round(bps / 1e6, 3) or self._config.viewer_mbps))
