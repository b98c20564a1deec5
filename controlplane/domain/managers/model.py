"""What stream managers tell each other through the database. Times are of the database's clock."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who leads: the one manager that launches, ends and plans.

    `token` rises with every new holder and with every new life of one, never with a renewal: a write that
    carries an older one comes too late.
    """

    holder: str  # a manager's id; "" after it was given back
    token: int
    expires: float
    length_s: float


class ActKind(StrEnum):
    LAUNCH = "launch"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that was to be done outside the database, written down before it was begun."""

    id: int
    kind: ActKind
    node: str
    token: int  # of the lease it was begun under
    retry: str  # the provider does it once, however often it is asked with this
    at: float
    outcome: str | None = None  # None: begun, and how it ended is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerRow:
    """A stream manager and when it was last heard."""

    id: str
    api: str  # where nodes and consoles reach it
    started_at: float
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One committed change of any manager: whose, and which rows it touched, as JSON."""

    id: int
    manager: str
    at: float
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a manager was told last by somebody who reports to it: a node, a publisher, or itself."""

    kind: str  # "node", "publisher", "manager"
    id: str
    manager: str
    body: str  # JSON
    at: float = 0.0  # when it was written


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What a call that changed something was answered with, for whoever sends it again."""

    asked: str  # SHA-256 of what was asked for
    answer: str  # sealed: nobody reads it who has only the database
