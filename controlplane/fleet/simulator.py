"""What a policy would have done: a crowd, second by second, and a fleet that follows `plan`.

The very same `plan` that the stream manager asks, once a second, over nodes that take a while to come up.
People come in parties, and a party goes whole to the fullest node it fits on; who finds no room waits and
asks again. Whoever leaves, leaves wherever he is. A node that drains is emptied at a pace, party by party.

Of a crowd that was recorded, some time may be unknown: a manager that is down plans nothing, so nothing is
planned, nor counted, and after it everybody has a place again, by as many nodes more as that takes.

Counted in connections, or in whatever the crowd is counted in.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise

from controlplane.domain.fleet.prestage import floor
from controlplane.fleet.planner import Decision, plan
from controlplane.fleet.snapshot import Around, Candidate, Past, Snapshot
from controlplane.wire.fleet import Expected, MinuteView, Policy

MOVED_A_SECOND = 50  # people whom a drain moves
MINUTE = 60


@dataclass(slots=True, kw_only=True)
class Outcome:
    minutes: list[MinuteView] = field(default_factory=list)
    #: That acted; and those that were held back, each minute while they are
    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    refused: int = 0  # joins that found no room when they came, and people whom a drain's deadline ended
    waited_s: int = 0  # what all who waited waited together, in seconds
    node_seconds: int = 0
    most_nodes: int = 0
    launches: int = 0
    drains: int = 0
    cost: Decimal = Decimal(0)  # dollars

    @property
    def node_hours(self) -> float:
        return self.node_seconds / 3600


@dataclass(slots=True)
class _Node:
    name: str
    made: int
    people: int = 0
    ends: float = 0.0  # at the latest, when it drains


class Simulation:
    """See the module's docstring."""

    def __init__(
        self,
        policy: Policy,
        *,
        boot_s: int,
        price: Decimal = Decimal(0),
        party: int = 1,
        began: float = 0.0,
        expected: Sequence[Expected] = (),
        at_first: int | None = None,
        called: str = "edge",
    ) -> None:
        """Nodes take `boot_s` seconds to come up, and those that the policy wants at first are there.

        `price` of a node in dollars an hour; `party` people come together; `began` is Unix time, for what is
        prestaged by a schedule and for events. The policy is one without faults. `at_first`: so many nodes
        carry whoever is there in the first second, and if need be more; who is there is not refused.
        """
        self.policy = policy
        self.outcome = Outcome()
        self._boot_s = boot_s
        self._price = price
        self._party = min(party, policy.capacity)
        self._began = began
        self._expected = expected
        self._called = called
        self._unknown = at_first is not None  # nothing is known of the second before
        self._now = 0
        self._people = self._waiting = self._made = 0
        self._serving: dict[str, _Node] = {}
        self._coming: deque[_Node] = deque()
        self._leaving: dict[str, _Node] = {}
        self._room: list[tuple[int, int, str]] = []  # a heap, least room first; an entry may be out of date
        self._round: deque[_Node] = deque()  # from whom somebody leaves next; some may be gone
        self._past = Past()
        self._told: dict[str, int] = {}  # what held something back: when that was last told
        self._prestaged = self._floor()
        if at_first is None:
            at_first = min(max(policy.min, self._prestaged[0]), policy.max)
        for _ in range(at_first):
            self._serve(self._new())

    def run(self, people: Iterable[int | None]) -> Outcome:
        """`people` are there in each second; None: nobody knows how many."""
        for number in people:
            if number is None:
                self.unknown_second()
            else:
                self.second(number)
        return self.outcome

    def second(self, people: int) -> None:
        if self._unknown:
            self._find(people)
        while self._coming and self._now - self._coming[0].made >= self._boot_s:
            self._serve(self._coming.popleft())
        self._drain()
        self._follow(people)
        self._decide()
        self._count()
        self._now += 1

    def unknown_second(self) -> None:
        self._unknown = True
        self._mark(known=False)
        self._now += 1

    # nodes

    def _new(self) -> _Node:
        self._made += 1
        return _Node(f"{self._called}-{self._made}", self._now)

    def _serve(self, node: _Node) -> None:
        self._serving[node.name] = node
        self._round.append(node)
        self._offer(node)

    def _offer(self, node: _Node) -> None:
        room = self.policy.capacity - node.people
        if room >= self._party:
            heapq.heappush(self._room, (room, node.made, node.name))

    def _last_seats(self, people: int) -> _Node | None:
        """The fullest node that has room for so few: less than a party, and so in no heap."""
        fits = [it for it in self._serving.values() if self.policy.capacity - it.people >= people]
        return max(fits, key=lambda it: it.people, default=None)

    def _drain(self) -> None:
        for node in list(self._leaving.values()):
            node.people -= self._place(min(node.people, MOVED_A_SECOND))
            if self._now >= node.ends:  # whoever is left comes back by himself, and may have to wait
                self._waiting += node.people
                self.outcome.refused += node.people
                node.people = 0
            if not node.people:
                del self._leaving[node.name]

    # people

    def _find(self, people: int) -> None:
        """So many are there, and since when nobody knows: they have places, as far as there may be nodes."""
        self._unknown = False
        for node in self._leaving.values():
            node.people = 0
        self._leaving.clear()
        self._room.clear()
        nodes = len(self._serving) + len(self._coming)
        for _ in range(nodes, min(-(-people // self.policy.capacity), self.policy.max)):
            self._serve(self._new())
        while self._coming and len(self._serving) * self.policy.capacity < people:
            self._serve(self._coming.popleft())
        for node in self._serving.values():
            node.people = 0
            self._offer(node)
        self._people = people
        self._waiting = people - self._place(people)
        self._past = replace(self._past, agreed_up=0, agreed_down=0)

    def _follow(self, people: int) -> None:
        self._waiting -= self._place(self._waiting)
        change = people - self._people
        if change > 0:
            refused = change - self._place(change)
            self.outcome.refused += refused
            self._waiting += refused
        else:
            self._lose(-change)
        self._people = people

    def _place(self, people: int) -> int:
        """Party by party, each to the fullest node that has room for it; how many found a place."""
        placed = 0
        while placed < people:
            party = min(self._party, people - placed)
            node = self._fullest() if party == self._party else self._last_seats(party)
            if node is None:
                break
            node.people += party
            placed += party
            self._offer(node)
        return placed

    def _fullest(self) -> _Node | None:
        while self._room:
            room, _, name = heapq.heappop(self._room)
            node = self._serving.get(name)
            if node is not None and self.policy.capacity - node.people == room:
                return node
        return None

    def _lose(self, people: int) -> None:
        """Who waits gives up first; then somebody of each node in turn leaves."""
        gives_up = min(self._waiting, people)
        self._waiting -= gives_up
        people -= gives_up
        while people:
            node = self._round[0]
            if node.people:
                party = min(self._party, node.people, people)
                node.people -= party
                people -= party
                if node.name in self._serving:
                    self._offer(node)
            if node.people or node.name in self._serving:
                self._round.rotate(-1)
            else:
                self._round.popleft()

    # decisions

    def _decide(self) -> None:
        decision = plan(self._snapshot(), self.policy, float(self._now))
        self._past = decision.after
        for action in decision.actions:
            if action.kind == "add":
                self.outcome.launches += action.count
                self._coming.extend(self._new() for _ in range(action.count))
            else:
                assert action.node is not None
                self._end(action.node)
        if decision.actions:
            self.outcome.decisions.append((self._now, decision))
        elif decision.outcome == "held" and self._now - self._told.get(decision.held_by, -MINUTE) >= MINUTE:
            self.outcome.decisions.append((self._now, decision))
            self._told[decision.held_by] = self._now

    def _end(self, name: str) -> None:
        self.outcome.drains += 1
        node = self._serving.pop(name, None)
        if node is None:
            self._coming = deque(it for it in self._coming if it.name != name)
        else:
            node.ends = self._now + self.policy.drain_deadline_s
            self._leaving[name] = node

    def _floor(self) -> tuple[int, str]:
        """As the policy sees it at this moment: also of the past it knows no more than was known then."""
        at = self._began + self._now
        known = [it for it in self._expected if it.known_at(at)]
        return floor(self.policy, at, known, self._boot_s)

    def _snapshot(self) -> Snapshot:
        if self._now % MINUTE == 0:
            self._prestaged = self._floor()
        number, because = self._prestaged
        # Who could be ended is only looked up when somebody may be: for hundreds of nodes it takes a while.
        past, policy = self._past, self.policy
        asked = past.agreed_down + 1 >= policy.down_periods and not any(
            last is not None and self._now - last < policy.down_cooldown_s
            for last in (past.last_up, past.last_down)
        )
        return Snapshot(
            in_service=len(self._serving),
            launching=len(self._coming),
            draining=len(self._leaving),
            load=Decimal(self._people),
            waiting=Decimal(self._waiting),
            candidates=self._candidates() if asked else (),
            past=self._past,
            around=Around(price=self._price, floor=number, floor_because=because),
            called=self._called,
        )

    def _candidates(self) -> tuple[Candidate, ...]:
        up = [
            Candidate(node=it.name, load=Decimal(it.people), age_s=self._now - it.made)
            for it in self._serving.values()
        ]
        coming = [Candidate(node=it.name, reported=False, age_s=self._now - it.made) for it in self._coming]
        return (*up, *coming)

    # figures

    def _count(self) -> None:
        out = self.outcome
        nodes = len(self._serving) + len(self._coming) + len(self._leaving)
        out.node_seconds += nodes
        out.most_nodes = max(out.most_nodes, nodes)
        out.waited_s += self._waiting
        out.cost = self._price * out.node_seconds / 3600
        self._mark(known=True)

    def _mark(self, *, known: bool) -> None:
        if self._now % MINUTE == MINUTE - 1:
            self.outcome.minutes.append(
                MinuteView(
                    at=self._now + 1,
                    people=self._people,
                    waiting=self._waiting,
                    in_service=len(self._serving),
                    launching=len(self._coming),
                    draining=len(self._leaving),
                    headroom=sum(self.policy.capacity - it.people for it in self._serving.values()),
                    known=known,
                )
            )


def curve(points: Sequence[tuple[float, float]]) -> list[int]:
    """An invented crowd: people in each second, on straight lines between (seconds, people).

    The points are in order, and the first is at 0.
    """
    people: list[int] = []
    for (start, before), (end, after) in pairwise(points):
        slope = (after - before) / (end - start)
        people += [round(before + slope * (at - start)) for at in range(len(people), int(end))]
    return people
