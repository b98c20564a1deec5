"""Takes seats on nodes for new sessions, in the database, so that no join storm overfills a node.

Which node is the domain's to say. Seats are taken by a conditional UPDATE that fails when somebody was
quicker, and then it is said again, of newer rows.

    a publisher   one seat on the origin with most room
    viewers       all who join at the same moment, in one go, their parties whole (domain.nodes.seating)

In the transaction of viewers the rows are taken in one order by all managers, so that none of them ever waits
for one who waits for it: the parties by their keys, the nodes by their names, then the new sessions' own.
"""

import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controlplane.domain.nodes.rules import Room, roomiest_first
from controlplane.domain.nodes.seating import Draw, Join, Plan, make_plan, unsettled
from controlplane.domain.streams.model import Party, PartyKey, Session, StreamState
from controlplane.errors import ControlError, NothingOnAir, Unavailable
from controlplane.ports.clock import Clock
from controlplane.services.board import Board
from controlplane.services.books import Change
from controlplane.wire.nodes import Role, SessionKind

ROUNDS = 10  # of plans that somebody else was quicker than, with one batch
_CHANCE = secrets.SystemRandom()


class NoRoom(Unavailable):
    """No node in service has a seat."""


def new_session_id() -> str:
    return secrets.token_hex(20)


def two_of(rooms: Sequence[Room]) -> Sequence[Room]:
    """By chance."""
    return _CHANCE.sample(rooms, min(2, len(rooms)))


class KnownRooms:
    """How full the edges were a moment ago, with what was seated here since.

    A batch of joins needs them all for the one party in it that is new. They are read anew after LASTS_S, and
    at once where a seat could not be had, or somebody would find none, or his party not whole: a plan of old
    rows is only ever a proposal, as each seat is taken by an UPDATE that looks for itself.
    """

    LASTS_S = 0.1

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rooms: dict[str, Room] = {}
        self._read_at = -math.inf  # monotonic

    def fresh(self) -> bool:
        """Whether they may be proposed."""
        return self._clock.monotonic() - self._read_at < self.LASTS_S

    def look_at(self, board: Board) -> None:
        """They are old once one of them takes nobody any more. Before the transaction: what is done in it is
        not on the board yet."""
        if not all(map(board.in_service, self._rooms)):
            self._read_at = -math.inf

    def all(self) -> list[Room]:
        return list(self._rooms.values())

    def nodes(self) -> set[str]:
        return set(self._rooms)

    def learn(self, rooms: Iterable[Room]) -> None:
        """As they were just read."""
        self._rooms = {room.node: room for room in rooms}
        self._read_at = self._clock.monotonic()

    def seated(self, seats: Mapping[str, int]) -> None:
        """So many were taken on each node, and committed."""
        for node, number in seats.items():
            if (room := self._rooms.get(node)) is not None:
                self._rooms[node] = replace(room, reserved=room.reserved + number)


@dataclass(frozen=True, slots=True)
class Seated:
    """How it ended for each of a batch, and how many seats it took on each node."""

    outcomes: Sequence[Session | ControlError]
    seats: Mapping[str, int]


async def take_seat(
    change: Change, role: Role, *, avoid: Collection[str] = (), prefer: str | None = None
) -> str:
    """Reserve a seat and return its node. Raises NoRoom with what to do next."""
    rooms = [room for room in await change.tx.rooms(role) if room.node not in avoid]
    order = [room.node for room in roomiest_first(rooms)]
    if prefer in order:
        order.remove(prefer)
        order.insert(0, prefer)
    for node in order:
        if await change.tx.reserve(node):
            return node
    raise no_room(role, any_in_service=bool(rooms))


async def seat_viewers(
    change: Change, joins: Sequence[Join], known: KnownRooms, *, home: str, kept_s: float, draw: Draw = two_of
) -> Seated:
    """A session for each, or why there is none: NothingOnAir, NoRoom. Looks at its transaction and at what is
    `known` alone.

    `home`: the stage's own region; `kept_s`: how long room is kept for those of a party who do not come.
    """
    streams = await change.tx.streams_to_join(sorted({join.channel for join in joins}))
    on_air = {it.channel for it in streams if it.state is not StreamState.ENDED}
    wanted = [join for join in joins if join.channel in on_air]
    seated = await _seat(change, wanted, known, home, kept_s, draw) if wanted else Seated([], {})
    found = iter(seated.outcomes)
    outcomes = [next(found) if join.channel in on_air else NothingOnAir(join.channel) for join in joins]
    return replace(seated, outcomes=outcomes)


async def _seat(
    change: Change, joins: Sequence[Join], known: KnownRooms, home: str, kept_s: float, draw: Draw
) -> Seated:
    keys = sorted({join.key for join in joins if join.key is not None})
    rows = {row.key: row for row in await change.tx.begin_parties(keys)} if keys else {}
    plan, rooms = await _take(change, joins, rows, known, home, change.now + kept_s, draw)
    sessions = [
        None
        if node is None
        else Session(
            id=new_session_id(),
            kind=SessionKind.WHEP,
            channel=join.channel,
            node=node,
            created_at=change.now,
            party=join.party,
        )
        for join, node in zip(joins, plan.nodes, strict=True)
    ]
    await change.add_sessions([session for session in sessions if session is not None])
    await change.save_parties([row for row in plan.parties.values() if row.node])
    await change.tx.forget_parties([key for key, row in plan.parties.items() if not row.node])
    outcomes = [
        session or no_room(Role.EDGE, any_in_service=not rooms <= join.avoid)
        for join, session in zip(joins, sessions, strict=True)
    ]
    return Seated(outcomes, plan.seats)


async def _take(
    change: Change,
    joins: Sequence[Join],
    rows: dict[PartyKey, Party],
    known: KnownRooms,
    home: str,
    keep_until: float,
    draw: Draw,
) -> tuple[Plan, set[str]]:
    """A plan whose seats are taken, and the nodes that were in service. Raises NoRoom."""
    held: Counter[str] = Counter()
    plan: Plan | None = None
    placed = {row.node for row in rows.values() if row.node}
    fresh = known.fresh() and placed <= known.nodes()
    for _ in range(ROUNDS):
        if not fresh:
            found = await change.tx.rooms(Role.EDGE)
            known.learn([replace(it, reserved=it.reserved - held[it.node]) for it in found])
        rooms, nodes = known.all(), known.nodes()
        members = await members_of(change, unsettled(joins, rows, nodes))
        plan = make_plan(
            joins, rows, members, rooms, keep_until=keep_until, home=home, draw=draw, before=plan
        )
        if fresh and plan.short:
            fresh, plan = False, None
            continue
        fresh = False
        for node in sorted(plan.seats.keys() | held.keys()):
            more = plan.seats[node] - held[node]
            if more < 0:
                await change.tx.release(node, -more)
            elif more and not await change.tx.reserve(node, more):
                break  # somebody was quicker
            held[node] = plan.seats[node]
        else:
            return plan, nodes
    raise no_room(Role.EDGE, any_in_service=True)


async def members_of(change: Change, keys: Collection[PartyKey]) -> dict[PartyKey, Counter[str]]:
    """How many of each party are on which node."""
    found: defaultdict[PartyKey, Counter[str]] = defaultdict(Counter)
    if keys:
        for channel, party, node, number in await change.tx.members(sorted(keys)):
            found[channel, party][node] = number
    return {key: found[key] for key in keys}


def no_room(role: Role, *, any_in_service: bool) -> NoRoom:
    if any_in_service:
        return NoRoom(
            f"Every {role} in service is full. Try again shortly, or add one: showcaller fleet add {role}",
            code=f"no_{role}_with_room",
            title=f"No {role} has room",
            retry_after_s=2,
        )
    return NoRoom(
        f"No {role} is in service just now. Try again shortly; showcaller nodes shows what is coming up.",
        code=f"no_{role}_with_room",
        title=f"No {role} has room",
        retry_after_s=1,
    )
