"""Policies of node groups, and the questions and answers about them (`/api/v1/fleet`).

A policy comes from people and files, so what it may say is not checked here, field by field, but as a whole
by `controlplane.domain.fleet.policy.faults`, which names every fault with its place.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from controlplane.wire.base import Message, Request
from controlplane.wire.history import LAST_AT, Coverage, HistoryLine
from controlplane.wire.nodes import NodeState

#: Exact, as people write it: 50 x 0.58 is 29. A number in JSON.
Exact = Annotated[
    Decimal,
    Field(max_digits=12, decimal_places=6),
    PlainSerializer(float, return_type=float, when_used="json"),
]
Count = Annotated[int, Field(strict=True)]  # true is no number of nodes


class Unit(StrEnum):
    """What a group's load and a node's capacity are counted in."""

    CONNECTIONS = "connections"
    PUBLISHERS = "publishers"
    MBPS = "mbps"


class Window(Request):
    """So many nodes from `start` to `end` (HH:MM, in the schedule's zone; an end before the start is the next
    day's), on these days of the week, or on one date (YYYY-MM-DD). Without either it is each day."""

    nodes: Count
    start: str
    end: str
    days: list[str] = []  # mon tue wed thu fri sat sun
    date: str | None = None


class Schedule(Request):
    zone: str = "UTC"  # of the IANA time zone database: Europe/Berlin
    windows: list[Window] = []


class Prestage(Request):
    """Nodes that are there before the crowd is."""

    nodes: Count = 0  # always
    schedule: Schedule = Schedule()
    events: bool = False  # as many as the expected crowds of the events that are on, or about to be


class Policy(Request):
    """When a node group grows and shrinks. Periods are the evaluations, one a second.

    Load is what the group carries, supply what its nodes that are in service or coming up can carry. Nodes
    are added while load > alarm x supply; one is drained while load <= in_fraction x the supply of one less.
    """

    unit: str = Unit.CONNECTIONS.value
    capacity: Count = 400  # of one node, in `unit`
    alarm: Exact = Decimal("0.60")
    in_fraction: Exact = Decimal("0.40")
    min: Count = 1
    max: Count = 10
    increment: Count = 1
    up_periods: Count = 2  # that must agree, one after the other
    down_periods: Count = 60
    up_cooldown_s: float = 0.0  # after a launch
    down_cooldown_s: float = 300.0  # after a launch, or a drain
    launches: Count = 10  # under way at once
    drain_deadline_s: float = 300.0
    spend_cap: Exact | None = Field(default=None)  # dollars an hour, of the group's nodes
    prestage: Prestage = Prestage()


class PolicyView(Message):
    """`GET /api/v1/groups/{id}/policy`."""

    group: str
    policy: Policy
    usual: bool = False  # True: the group has none, and this is what one begins with
    node_takes: int | None = None  # connections that a node launched here takes; None: it is not told


class SuppliedNode(Request):
    """A node's figures, as somebody supposes them. One that carries something says what the unit of the
    policy is counted from: see `Scaling.evaluate`."""

    connections: Count = Field(default=0, ge=0, le=10_000_000)
    reserved: Count = Field(default=0, ge=0, le=10_000_000)
    relays: Count = Field(default=0, ge=0, le=10_000_000)
    mbps: float = Field(default=0.0, ge=0, le=10_000_000)
    state: NodeState = NodeState.IN_SERVICE
    node: str = Field(default="", max_length=64)


class Question(Request):
    """`POST /api/v1/groups/{id}/evaluate`: what would the policy do? With the figures of these nodes, or else
    the group's own. Periods and cooldowns count as passed. Nothing is changed."""

    nodes: list[SuppliedNode] | None = Field(default=None, max_length=2000)
    waiting: int | None = Field(default=None, ge=0, le=10_000_000)


class ActionView(Message):
    kind: Literal["add", "drain"]
    count: int
    node: str | None = None  # which one to drain


class Evaluation(Message):
    actions: list[ActionView]
    because: str


class DecisionView(Message):
    """One of `GET /api/v1/decisions`: what a policy did, or wanted and was held back from."""

    at: float  # Unix time
    group: str
    decision: str  # "+2", "-1", "held +1"
    because: str  # one sentence
    inputs: dict[str, Any]


class Expected(Message):
    """A crowd that will come to a group. Times are Unix seconds."""

    title: str
    starts: float
    ends: float
    crowd: int  # people who will watch
    load: Exact | None = None  # in the unit of the group's policy; None: as many as there are people
    zone: str = "UTC"
    known_from: float | None = None  # nobody knew of it before; None: it was known all the time
    known_until: float | None = None  # then it was cancelled

    def known_at(self, now: float) -> bool:
        since, until = self.known_from, self.known_until
        return (since is None or since <= now) and (until is None or now < until)

    @property
    def weight(self) -> Decimal:
        return Decimal(self.crowd) if self.load is None else self.load


class Point(Request):
    """People at a moment of an invented crowd; straight lines lie between the points."""

    at_s: float = Field(ge=0, le=7 * 86_400)  # from the start
    people: int = Field(ge=0, le=1_000_000)


class Span(Request):
    """A time of the recorded history: the last so many seconds, or from one moment to another (Unix time)."""

    last_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    start: float | None = Field(default=None, ge=0, le=LAST_AT)
    end: float | None = Field(default=None, ge=0, le=LAST_AT)


class WhatIf(Request):
    """`POST /api/v1/groups/{id}/whatif`: how the group's policy, and a changed one, would carry a crowd: one
    that is invented, or one that was recorded. One of `crowd`, `on` and `recorded` is given.

    Only connections are known of an invented crowd, so both are then taken to count these; a recorded one is
    known in what each of them counts in. Where a policy prestages for events, those count that are planned by
    now. Nothing is changed.
    """

    # The first at 0, each later than the one before
    crowd: list[Point] | None = Field(default=None, min_length=2, max_length=2000)
    on: Span | None = None  # of the manager's own history
    recorded: list[HistoryLine] | None = Field(default=None, min_length=1, max_length=20_000)  # of one group
    changes: Policy | None = None  # what is set of it; None: today's policy alone
    party: int = Field(default=1, ge=1, le=1000)  # so many come together
    boot_s: float | None = Field(default=None, ge=0, le=7200)  # None: as long as the group's launches took
    began: float | None = None  # Unix time of an invented crowd, for schedules; None: now


class MinuteView(Message):
    """One minute of it, as it was at its end."""

    at: int  # seconds from the start
    people: int
    waiting: int
    in_service: int
    launching: int
    draining: int
    #: Free places on the nodes in service, in the policy's unit; None: by an earlier version
    headroom: int | None = None
    known: bool = True  # False: nothing was recorded then, and these are the figures from before


class MomentView(Message):
    at: int  # seconds from the start
    decision: str  # as in DecisionView
    because: str


class Course(Message):
    """What one policy would have done."""

    policy: Policy
    minutes: list[MinuteView]
    decisions: list[MomentView]
    refused: int  # joins that found no room when they came
    waited_s: int  # all who waited, together
    node_hours: float
    cost: float  # dollars
    most_nodes: int
    launches: int
    drains: int
    least_headroom: int | None = None  # of the minutes that are known


class WhatIfView(Message):
    boot_s: float  # as it was taken
    price: float  # of a node, dollars an hour
    today: Course | None  # None: the group has no policy
    changed: Course | None  # None: nothing was to be changed
    recorded: Coverage | None = None  # None: the crowd was invented


class RecordedCrowd(Message):
    """A recorded crowd, for the process that simulates: in its folder, or sent along."""

    group: str
    called: str  # what one of its nodes is: "edge"
    start: int
    end: int
    folder: str | None = None
    lines: list[HistoryLine] = []


class WhatIfQuestion(Message):
    """What the process that simulates is told."""

    policies: list[Policy]
    crowd: list[Point] = []
    past: RecordedCrowd | None = None  # None: the crowd is invented
    today: bool = False  # the first policy is the one that was in force
    party: int
    boot_s: float
    price: float
    began: float
    expected: list[list[Expected]]  # for each policy


NOTHING_RECORDED = 3  # the exit code with which it answers a Problem, for want of a history


class Tried(Message):
    """What it answers."""

    courses: list[Course]
    recorded: Coverage | None = None
