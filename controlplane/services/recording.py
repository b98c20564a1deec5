"""What each node group carries is recorded, second by second, whether it has a policy or not.

    rounds, once a second --> sample --Tally--> a line a minute --> the history, on a thread

The figures are those that a plan of the same second is made from. What cannot be written, because a disk is
full, is kept for a while and written when there is room; it disturbs nothing else.
"""

import asyncio
import math
from collections import deque
from itertools import islice

import structlog

from controlplane.domain.nodes.model import Group
from controlplane.fleet.recorded import Sample, Tally
from controlplane.fleet.snapshot import Around, snapshot
from controlplane.ports.history import History, HistoryUnwritable
from controlplane.services.board import Board
from controlplane.services.books import Books
from controlplane.services.scaling import PERIOD_S, Scaling
from controlplane.services.waiting import Waiting
from controlplane.wire.fleet import Unit
from controlplane.wire.history import MOST, HistoryLine

log = structlog.get_logger(__name__)

MOST_UNWRITTEN = 1000  # lines: of two groups, eight hours
AT_ONCE = 200  # that are appended


class Recording:
    def __init__(self, books: Books, scaling: Scaling, waiting: Waiting, history: History) -> None:
        self._board: Board = books.board
        self._clock = books.clock
        self._scaling = scaling
        self._waiting = waiting
        self._history = history
        self._tallies: dict[str, Tally] = {}
        self._refused: dict[str, int] = {}  # by group: as many were refused when it was looked at last
        self._unwritten: deque[HistoryLine] = deque(maxlen=MOST_UNWRITTEN)
        self._due = asyncio.Event()
        self._writing = asyncio.Lock()
        self._sampled_at: float | None = None
        self._failing = False

    def place(self) -> str:
        return self._history.place()

    def tick(self, now: float) -> None:
        """Samples every group, once a second as Scaling plans for it. `now` is monotonic."""
        if self._sampled_at is not None and now - self._sampled_at < PERIOD_S:
            return
        self._sampled_at = now
        second = int(self._clock.now())
        for group in list(self._board.groups.values()):
            tally = self._tallies.setdefault(group.id, Tally(group.id))
            try:
                closed = tally.add(second, self._sample(group))
            except Exception:  # whatever is wrong with what is recorded, the fleet is seen to
                log.exception("a group's load could not be recorded", group=group.id)
                continue
            if closed is not None:
                self._unwritten.append(closed)
                self._due.set()

    async def run(self) -> None:
        """Writes what is due; until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._write()

    async def flush(self) -> None:
        """What there is of this minute is written as well: for whoever asks now, and at the end."""
        for tally in self._tallies.values():
            if (line := tally.close()) is not None:
                self._unwritten.append(line)
        await self._write()

    async def _write(self) -> None:
        async with self._writing:
            while self._unwritten:
                lines = list(islice(self._unwritten, AT_ONCE))
                done = len(lines)
                try:
                    await self._history.append(lines)
                except HistoryUnwritable as error:
                    done = error.written
                    if not self._failing:
                        log.warning("the load cannot be recorded; it is tried each minute", why=str(error))
                    self._failing = True
                    return
                finally:
                    self._forget(lines[:done])
                if self._failing:
                    log.info("the load is recorded again")
                self._failing = False

    def _forget(self, lines: list[HistoryLine]) -> None:
        """They are written. Meanwhile others may have come, and pushed the oldest out."""
        for line in lines:
            if self._unwritten and self._unwritten[0] is line:
                self._unwritten.popleft()

    def _sample(self, group: Group) -> Sample:
        figures = self._scaling.figures(group)
        around = Around(waiting=self._waiting.people(group.role))
        in_unit = {unit: snapshot(figures, unit, around=around, called=group.role.value) for unit in Unit}
        made = in_unit[Unit.CONNECTIONS]
        load = {unit: min(MOST, math.ceil(it.load)) for unit, it in in_unit.items()}
        refused = self._waiting.refusals[group.role]
        unit, capacity = self._scaling.counts_in(group)
        sample = Sample(
            connections=load[Unit.CONNECTIONS],
            publishers=load[Unit.PUBLISHERS],
            mbps=load[Unit.MBPS],
            waiting=min(MOST, around.waiting),
            refused=refused - self._refused.get(group.id, 0),
            in_service=made.in_service,
            launching=made.launching,
            suspect=made.suspect,
            draining=made.draining,
            leaving=made.leaving,
            unit=unit,
            capacity=capacity,
        )
        self._refused[group.id] = refused
        return sample
