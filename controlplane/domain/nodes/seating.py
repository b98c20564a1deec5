"""Where viewers are seated, as a pure function: whole parties, the nearest region, few nodes at a time.

A plan is made for all who join at the same moment, of the rows as the transaction has them. It says where
each of them sits, what becomes of the parties' rows, and how many seats each node gives for it. Taking those
seats may fail, as another stream manager may have been quicker: then a plan is made again, of newer rows.

    of a party that has a node    one of the seats that are kept for it there; one beyond them is a seat more
                                  on that node, or where others of the party are, or anywhere
    of a party that has none      room for the whole of it on one node; where no node has that, all the room
                                  of the node that has most, and the others as above
    who comes alone               a seat

A party whose node takes nobody any more is placed anew, with room for those who are still there.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import Party, PartyKey

BEST = 3  # nodes among which chance chooses, at least,
SHARE = 8  # and of many that fit, one in so many

Draw = Callable[[Sequence[Room]], Sequence[Room]]  # two of several, by chance; or fewer where there are fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Somebody who wants a seat."""

    channel: str
    party: str | None = None
    size: int = 1  # how many the party will be
    region: str | None = None  # where he would like to be
    edge: str | None = None  # the very node, if it has a seat: he is seated without the others of his party
    avoid: frozenset[str] = frozenset()  # nodes that have refused him

    @property
    def key(self) -> PartyKey | None:
        """Of the party that he is seated with."""
        return None if self.party is None or self.edge is not None else (self.channel, self.party)


@dataclass(slots=True)
class Plan:
    nodes: list[str | None]  # of each join; None: there is no room
    parties: dict[PartyKey, Party]  # those that have changed; without a node: not to be
    seats: Counter[str]  # to reserve on each node, or where it is negative, to give back
    whole: dict[PartyKey | int, str] = field(default_factory=dict)  # where who was placed, for the next plan
    short: bool = False  # somebody finds no seat, or none with his party: there was no room


def nearest_first(regions: Iterable[str], wish: str | None, home: str) -> dict[str, int]:
    """How near each region is to a viewer, 0 the nearest: the one that he wishes, then the stage's own."""
    order = sorted(set(regions), key=lambda region: (region != wish, region != home, region))
    return {region: number for number, region in enumerate(order)}


def choose(rooms: Sequence[Room], seats: int, near: Mapping[str, int], draw: Draw) -> Room | None:
    """A node with room for so many: of the nearest region that has one, among the fullest few, by chance.

    The fullest, so that whole parties find room on the others and a fleet can shrink. A few, and an eighth of
    many, as one node alone would have a whole storm's handshakes, and every manager's transactions. Of two
    that are drawn from them it is the one with more room, which keeps those few even.
    """
    fit = [room for room in rooms if room.free >= seats]
    if not fit:
        return None
    nearest = min(near[room.region] for room in fit)
    here = [room for room in fit if near[room.region] == nearest]
    few = heapq.nsmallest(max(BEST, len(here) // SHARE), here, key=lambda room: (room.free, room.node))
    return min(draw(few), key=lambda room: (-room.free, room.node))


def largest(rooms: Sequence[Room], near: Mapping[str, int]) -> Room | None:
    """The node with most room, if it has any."""
    found = min(rooms, key=lambda room: (-room.free, near[room.region], room.node), default=None)
    return found if found is not None and found.free > 0 else None


def make_plan(
    joins: Sequence[Join],
    rows: Mapping[PartyKey, Party],
    members: Mapping[PartyKey, Mapping[str, int]],
    rooms: Iterable[Room],
    *,
    keep_until: float,
    home: str,
    draw: Draw,
    before: Plan | None = None,
) -> Plan:
    """Seats for all of them.

    `rows`: of every party that somebody joins; `members`: how many of a party are on which node, needed of
    those that `unsettled` names; `rooms`: the nodes that take new sessions; `before`: the plan that could not
    be had, whose choices are kept where they can be. Seats that it did get are to be free in `rooms` again.
    """
    return _Seating(joins, rows, members, rooms, keep_until, home, draw, before).plan()


def unsettled(joins: Iterable[Join], rows: Mapping[PartyKey, Party], nodes: Collection[str]) -> set[PartyKey]:
    """The parties for which the seats that are kept on a node that takes sessions are not enough."""
    coming = Counter(join.key for join in joins if join.key is not None)
    moved = {join.key for join in joins if join.key is not None and rows[join.key].node in join.avoid}
    return {
        key
        for key, number in coming.items()
        if rows[key].node not in nodes or rows[key].kept < number or key in moved
    }


class _Seating:
    """One plan being made."""

    def __init__(
        self,
        joins: Sequence[Join],
        rows: Mapping[PartyKey, Party],
        members: Mapping[PartyKey, Mapping[str, int]],
        rooms: Iterable[Room],
        keep_until: float,
        home: str,
        draw: Draw,
        before: Plan | None,
    ) -> None:
        self._joins = joins
        self._rows = rows
        self._members = members
        self._rooms = {room.node: room for room in rooms}
        self._keep_until = keep_until
        self._draw = draw
        self._before = {} if before is None else before.whole
        regions = {room.region for room in self._rooms.values()}
        self._near = {wish: nearest_first(regions, wish, home) for wish in {join.region for join in joins}}
        self._plan = Plan([None] * len(joins), {}, Counter())

    def plan(self) -> Plan:
        parties: defaultdict[PartyKey, list[int]] = defaultdict(list)
        alone: list[int] = []
        for number, join in enumerate(self._joins):
            if join.key is None:
                alone.append(number)
            else:
                parties[join.key].append(number)
        # The largest first: who needs less finds room in more places.
        order = sorted(parties, key=lambda key: (-max(self._joins[it].size for it in parties[key]), key))
        for key in order:
            if self._rows[key].node in self._rooms:
                alone += self._come(key, parties[key])
            else:
                alone += self._place(key, parties[key])
        for number in alone:
            self._seat(number)
        return self._plan

    def _come(self, key: PartyKey, joining: list[int]) -> list[int]:
        """To a party that has its node; those for whom nothing is kept there."""
        row = self._rows[key]
        there = [it for it in joining if row.node not in self._joins[it].avoid][: row.kept]
        for number in there:
            self._plan.nodes[number] = row.node
        if there:
            kept = row.kept - len(there)
            self._plan.parties[key] = replace(row, kept=kept, kept_until=self._keep_until)
        return [it for it in joining if it not in there]

    def _place(self, key: PartyKey, joining: list[int]) -> list[int]:
        """A party that has no node, or one that takes nobody; those who find no seat with it."""
        row = self._rows[key]
        there = self._members[key]
        settled = {node: number for node, number in there.items() if node in self._rooms}
        size = max(self._joins[it].size for it in joining)
        wanted = max(size, sum(there.values()) + len(joining)) - sum(settled.values())
        near = self._near[self._joins[joining[0]].region]
        avoid = frozenset().union(*(self._joins[it].avoid for it in joining))
        rooms = [room for room in self._rooms.values() if room.node not in avoid]
        room = self._again(key, wanted) or self._most(settled, wanted, avoid)
        room = room or choose(rooms, wanted, near, self._draw)
        self._plan.short |= room is None
        room = room or self._most(settled, 1, avoid) or largest(rooms, near)
        if room is None:
            if not row.node:
                self._plan.parties[key] = row
            return joining
        taken = min(wanted, room.free)
        seated = joining[:taken]
        for number in seated:
            self._plan.nodes[number] = room.node
        self._plan.whole[key] = room.node
        self._take(room, taken)
        if row.node:
            self._plan.seats[row.node] -= row.kept
        self._plan.parties[key] = replace(
            row, node=room.node, kept=taken - len(seated), kept_until=self._keep_until
        )
        return joining[taken:]

    def _seat(self, number: int) -> None:
        """One who has no seat yet."""
        join = self._joins[number]
        near = self._near[join.region]
        room = self._again(number, 1)
        if room is None and join.edge is not None and join.edge not in join.avoid:
            room = self._most({join.edge: 1}, 1, join.avoid)
        if room is None and join.key is not None:
            row = self._plan.parties.get(join.key, self._rows[join.key])
            others = Counter(self._members.get(join.key, {}))
            others += Counter(
                node
                for node, other in zip(self._plan.nodes, self._joins, strict=True)
                if node is not None and other.key == join.key
            )
            room = self._most({row.node: 1}, 1, join.avoid)
            self._plan.short |= room is None
            room = room or self._most(others, 1, join.avoid)
        if room is None:
            rooms = [it for it in self._rooms.values() if it.node not in join.avoid]
            if join.key is None:
                room = choose(rooms, 1, near, self._draw)
            else:  # the others of his party who find no room come here too
                room = largest(rooms, near)
            self._plan.short |= room is None
        if room is not None:
            self._plan.nodes[number] = room.node
            self._plan.whole[number] = room.node
            self._take(room, 1)

    def _again(self, who: PartyKey | int, seats: int) -> Room | None:
        """Where he was in the plan before, if that is possible still."""
        room = self._rooms.get(self._before.get(who, ""))
        return room if room is not None and room.free >= seats else None

    def _most(self, members: Mapping[str, int], seats: int, avoid: Collection[str]) -> Room | None:
        """Of the nodes where somebody of a party is, with room for so many: where most of it are."""
        fit = [
            (-members[name], name)
            for name in members
            if name not in avoid and name in self._rooms and self._rooms[name].free >= seats
        ]
        return self._rooms[min(fit)[1]] if fit else None

    def _take(self, room: Room, seats: int) -> None:
        self._rooms[room.node] = replace(room, reserved=room.reserved + seats)
        self._plan.seats[room.node] += seats
