"""The recorded load of node groups: JSON Lines, and how they are read and written.

    {"showcaller_history": 1, "stage": "local"}
    {"at": 1764145740, "group": "edge@local", "connections": [231, 4, 0, -2], "in_service": 2, ...}

The first line of a file says which version it is; of a version that is not known nothing is read. Every other
line is a minute of one group, or what there is of it. Load is told second by second, for that is how often a
policy looks at it: the first number, then by how much each second differs from the one before; what is zero
at the end is left out. So a busy minute takes some 300 bytes and a quiet one 100, and a plan can be asked
again for just what it was asked about. What has its usual value is left out as well.

A manager that is killed may leave a line half written at the end of a file: it is counted, and skipped. What
cannot be read elsewhere is named. Files may be joined: a header in the middle is one more header.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from controlplane.wire.base import Message
from controlplane.wire.faults import words_of

VERSION = 1
MINUTE = 60  # seconds of a line, at most
MOST = 10_000_000  # of anything that is counted here
LAST_AT = 253_402_300_799  # Unix time at the end of the year 9999
LONGEST_LINE = 16_384  # bytes; what is longer comes in pieces, none of which is a line
DAMAGES_NAMED = 20
BOM = b"\xef\xbb\xbf"

_Number = Annotated[int, Field(strict=True, ge=0, le=MOST)]
_Series = Annotated[
    list[Annotated[int, Field(strict=True, ge=-MOST, le=MOST)]], Field(min_length=1, max_length=MINUTE)
]


class HistoryLine(Message):
    """A minute of one group, or what there is of it. Load is in whole units, rounded up, and who waits for a
    place counts; nodes are as they were at its beginning."""

    at: Annotated[int, Field(strict=True, ge=0, le=LAST_AT)]  # Unix time of its first second
    group: str = Field(min_length=1, max_length=128)
    seconds: Annotated[int, Field(strict=True, ge=1, le=MINUTE)] = MINUTE
    connections: _Series = [0]  # a Series, as the module's docstring says
    publishers: _Series | None = None  # None: as many as connections
    mbps: _Series = [0]  # the greatest of these seconds alone, where no policy counts in it
    waiting: _Number = 0  # people, the most at once
    refused: _Number = 0  # joins, in these seconds
    in_service: _Number = 0
    launching: _Number = 0
    suspect: _Number = 0
    draining: _Number = 0
    leaving: _Number = 0  # told to end, or faulty
    node_s: _Number | None = None  # that were paid for; None: the same nodes in each of its seconds
    unit: str = Field(default="connections", max_length=32)  # what the policy counts in
    capacity: _Number = 0  # of one node, in `unit`

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name in ("connections", "publishers", "mbps"):
            series = getattr(self, name)
            if series is None:
                continue
            if len(series) > self.seconds:
                raise ValueError(f"{name}: {len(series)} numbers for {self.seconds} seconds")
            if min(accumulate(series)) < 0:
                raise ValueError(f"{name}: a load below zero")
        return self

    def load(self, unit: str) -> list[int]:
        """Of each of its seconds, in a unit of `controlplane.wire.fleet.Unit`."""
        series = self.publishers if unit == "publishers" else self.mbps if unit == "mbps" else None
        known = list(accumulate(self.connections if series is None else series))
        return known + known[-1:] * (self.seconds - len(known))

    @property
    def nodes(self) -> int:
        """That carry, or soon will."""
        return self.in_service + self.launching + self.suspect

    @property
    def paid(self) -> int:
        """Nodes that cost money, at its beginning."""
        return self.nodes + self.draining + self.leaving

    @property
    def paid_s(self) -> int:
        """Seconds of nodes that cost money."""
        return self.paid * self.seconds if self.node_s is None else self.node_s


class _Header(Message):
    """Of any version: so much of a header is read before it is known which it is."""

    showcaller_history: Annotated[int, Field(strict=True, ge=1, le=MOST)]


class HistoryHeader(Message):
    showcaller_history: int = VERSION
    stage: str = ""


class Gap(Message):
    """A time of which nothing is known: Unix seconds, the end is known again."""

    start: int
    end: int


class Coverage(Message):
    """What is known of the time that was asked about. Times are Unix seconds."""

    group: str  # as it is recorded
    start: int  # as asked
    end: int
    first: int  # known
    last: int  # known, and the second after it is not
    known_s: int
    gaps: list[Gap]  # between the first and the last; the longest where there are many
    gaps_in_all: int
    twice_s: int  # recorded twice, because the clock was set back: the later record counts
    torn: int  # lines half written
    damaged: list[str]  # lines that cannot be read: where, and why; some of them where there are many
    damaged_in_all: int
    most: int  # the greatest load, in the unit of the policy
    mean: float
    refused: int  # joins, as recorded
    most_nodes: int  # as recorded
    node_hours: float


class HistoryView(Message):
    """`GET /api/v1/groups/{id}/history`."""

    coverage: Coverage
    lines: list[HistoryLine]


class BadHistory(Exception):
    """A file that is not read, as a whole. The message names it and says what to do."""

    code = "bad_history"


class FutureHistory(BadHistory):
    code = "history_version"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"{name} is a history of version {version}, and this Showcaller reads version {VERSION} at most. "
            "Nothing of it was read. Use a newer Showcaller, or ask about a time that the file has nothing of"
        )


class NotAHistory(BadHistory):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is no recorded history: its first line is not like "
            f'{{"showcaller_history": {VERSION}}}. `showcaller fleet history GROUP --jsonl` prints one'
        )


@dataclass(slots=True)
class Recorded:
    """What was read."""

    lines: list[HistoryLine] = field(default_factory=list)
    torn: int = 0
    damaged: list[str] = field(default_factory=list)
    damaged_in_all: int = 0

    def damage(self, where: str) -> None:
        self.damaged_in_all += 1
        if len(self.damaged) < DAMAGES_NAMED:
            self.damaged.append(where)


def read(name: str, raw: Iterable[bytes], into: Recorded) -> None:
    """The lines of one file, in the order in which they were written. Raises FutureHistory, NotAHistory.

    `raw` are its lines with their ends, whatever the bytes. A file that is empty has no lines.
    """
    line, unreadable = b"", ""
    for number, line in enumerate(raw, 1):
        if unreadable:
            into.damage(unreadable)
            unreadable = ""
        if number == 1:
            if not _is_header(name, line.removeprefix(BOM)):
                raise NotAHistory(name)
        elif line.strip():
            try:
                into.lines.append(HistoryLine.model_validate_json(line))
            except ValidationError as error:
                if not _is_header(name, line):
                    unreadable = f"{name}, line {number}: {words_of(error)}"
    if unreadable and line.endswith(b"\n"):
        into.damage(unreadable)
    elif unreadable:
        into.torn += 1


def header(stage: str = "") -> bytes:
    return HistoryHeader(stage=stage).model_dump_json().encode() + b"\n"


def written(line: HistoryLine) -> bytes:
    return line.model_dump_json(exclude_defaults=True).encode() + b"\n"


def series(values: Sequence[int]) -> list[int]:
    """Numbers of seconds as a line has them. At least one."""
    differences = [values[0], *(after - before for before, after in pairwise(values))]
    while len(differences) > 1 and not differences[-1]:
        differences.pop()
    return differences


def is_header(line: bytes) -> int | None:
    """The version that a header states; None: it is no header."""
    try:
        return _Header.model_validate_json(line).showcaller_history
    except ValidationError:
        return None


def _is_header(name: str, line: bytes) -> bool:
    version = is_header(line)
    if version is not None and version > VERSION:
        raise FutureHistory(name, version)
    return version is not None
