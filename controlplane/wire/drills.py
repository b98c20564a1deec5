"""Drills: a node, or the stream manager, is killed on purpose, and how long the stage takes is measured.

The manager says what a drill would do (`Drill`), begins it, and writes into its journal what came of it. The
measuring is done by whoever began it, from outside (`Outcome`): a manager cannot time its own death.
"""

from enum import StrEnum

from pydantic import Field

from controlplane.wire.base import Message, Request
from controlplane.wire.nodes import Role


class DrillKind(StrEnum):
    KILL_EDGE = "kill-edge"
    KILL_ORIGIN = "kill-origin"
    KILL_MANAGER = "kill-manager"

    @property
    def role(self) -> Role | None:
        """Of the node that is killed; None: the stream manager."""
        return {DrillKind.KILL_EDGE: Role.EDGE, DrillKind.KILL_ORIGIN: Role.ORIGIN}.get(self)


def kind_for(role: Role) -> DrillKind:
    """How a node of this role is killed."""
    return DrillKind.KILL_ORIGIN if role is Role.ORIGIN else DrillKind.KILL_EDGE


class DrillRequest(Request):
    """`POST /api/v1/drills`. Without a node: the one of its role in service with most on it."""

    kind: DrillKind
    node: str | None = Field(default=None, max_length=64)
    force: bool = False  # although the stage is not whole
    own: bool = False  # one of the viewers who are struck is there for the drill


class Struck(Message):
    """A channel that a drill disturbs."""

    channel: str
    live: bool
    viewers: int  # of an edge: who watch it there; otherwise all who watch it


class Blast(Message):
    """The blast radius, counted: what is on what is killed, and where that may go."""

    viewers: int  # sessions on the node; of the manager's: in all
    publishers: int
    channels: list[Struck] = []  # with most viewers first
    others: list[str] = []  # the rest of its role in service
    room: int = 0  # free seats there
    waiting: int = 0  # of those on the node, who find no room there
    launch_s: float | None = None  # how long launches of its role took here; None: none was measured
    strangers: list[str] = []  # channels whose publishers are not ours: they may not come back by themselves
    own: bool = False  # one of the viewers is there for the drill

    @property
    def live(self) -> list[str]:
        return [it.channel for it in self.channels if it.live]


class Drill(Message):
    """What a drill does: before it is begun, and as it was begun."""

    id: int | None = None  # the journal's number of its beginning; None: it has not begun
    kind: DrillKind
    node: str | None = None  # None: the stream manager
    blast: Blast
    effect: list[str]  # the same in sentences
    pid: int | None = None  # kill-manager: of the manager that answers, to be killed by who asks
    start_time: float | None = None  # see wire.processes


class Milestone(Request):
    """Something of the recovery that has happened."""

    name: str = Field(pattern=r"^[a-z]{1,20}$")
    at_s: float = Field(ge=0, le=86_400)  # since the kill was ordered
    words: str = Field(max_length=200)  # "241 of 241 viewers back"


class Watched(Request):
    """What one real viewer saw of it."""

    channel: str = Field(max_length=64)
    edge: str | None = Field(default=None, max_length=64)  # where it was when the drill began
    longest_gap_s: float = Field(ge=0, le=86_400)  # the longest time without a new frame
    sessions: int = Field(ge=0, le=100_000)  # it had; 1: it never had to make another
    playing: bool = True  # at the end


class Outcome(Request):
    """`POST /api/v1/drills/{id}/outcome`: what whoever began it has measured."""

    took_s: float = Field(ge=0, le=86_400)
    milestones: list[Milestone] = Field(default=[], max_length=50)
    missing: list[str] = Field(default=[], max_length=20)  # in words; empty: the stage has recovered
    stopped: bool = False  # before its end, by who began it
    not_killed: str = Field(default="", max_length=400)  # why nothing was killed after all
    watched: Watched | None = None
    unwatched: str = Field(default="", max_length=400)  # why no picture was watched
