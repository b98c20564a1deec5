"""One viewer that stays, whatever dies: it comes back as the watch page does, and says what it saw.

    what happens                                   what it does
    event `move`, or the session is not known      asks for another session at once; the old one plays on
    its session closes, or 2 s without a picture   asks for another one
    told that the publisher is waited for          keeps its place
    refused, or no picture of a new session        asks again, after a while

A new session takes over with its first whole key frame, not before. Pictures are not decoded: what counts is
that a whole frame is there (see media.swarm.viewer). With `--edge` it asks for a place on that edge, which
needs the operator's token (SHOWCALLER_TOKEN); only until it has had a session, for then it is a viewer as any
other.

On stdout a Seen a few times a second, as JSON. A line on stdin begins the longest gap anew: now something is
about to happen. When stdin closes it leaves.
"""

import asyncio
import random
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from media.publisher.errors import PublishError, Refused
from media.swarm.crowd import Crowd, Member
from media.swarm.whep import WhepDoor

TICK_S = 0.02
BEATS_A_REPORT = 50  # ticks: a receiver report a second
SAY_S = 0.2
NO_PICTURE_S = 2.0
FIRST_PICTURE_S = 5.0
FULL_S = 1.0  # a manager without room asks for so much patience, or a little more
BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass
class Seen:
    """What it has seen until now; times in seconds."""

    playing: bool = False  # a picture came within the last half second
    edge: str | None = None  # as the manager says
    sessions: int = 0  # it had, the present one included
    frames: int = 0
    gap_s: float = 0.0  # since the newest picture
    longest_s: float = 0.0  # the longest time without a new picture since the latest mark
    marks: int = 0
    why: str = ""  # it has no session, or no picture


class Pictures:
    """When whole frames came, over all sessions. Times are of one steady clock."""

    def __init__(self) -> None:
        self.number = 0
        self.last: float | None = None
        self._longest = 0.0

    def came(self, number: int, last: float, longest: float) -> None:
        """`number` more, the newest at `last`, with at most `longest` between two, or before the first."""
        self.number += number
        self.last = last
        self._longest = max(self._longest, longest)

    def gap(self, now: float) -> float:
        return 0.0 if self.last is None else max(0.0, now - self.last)

    def longest(self, now: float) -> float:
        """One that has not ended yet counts as far as it goes."""
        return max(self._longest, self.gap(now))

    def begin_anew(self) -> None:
        self._longest = 0.0


class Leg:
    """One session: `live` gives the pictures, `next` is to take over."""

    def __init__(self, member: Member, now: float) -> None:
        self.member = member
        self.since = now
        self.told: str | None = None  # its stream's state, as the manager says: live, waiting, ended
        self.edge: str | None = None
        self.over = False  # told to move, or not known any more
        self.seen = 0
        self.events: asyncio.Task[None] | None = None

    @property
    def first_picture(self) -> float | None:
        return None if self.member.viewer is None else self.member.viewer.first_frame_at

    @property
    def closed(self) -> bool:
        viewer = self.member.viewer
        return bool(self.member.failure) or (viewer is not None and viewer.state == "closed")


class Watcher:
    def __init__(self, whep: str, token: str = "", edge: str | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._whep = whep
        self._door = WhepDoor(whep, token)
        if edge is not None:
            self._door.url = f"{whep}?{urlencode({'edge': edge})}"
        self._crowd = Crowd(self._door, 1, 1.0)
        self._pictures = Pictures()
        self._live: Leg | None = None
        self._next: Leg | None = None
        self._numbers = 0
        self._attempts = 0
        self._retry_at: float | None = self._loop.time()  # when to ask for a session; None: not wanted
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions = self._marks = self._ticks = 0
        self._why = ""

    def mark(self) -> None:
        self._pictures.begin_anew()
        self._marks += 1

    def seen(self) -> Seen:
        now, pictures = self._loop.time(), self._pictures
        gap = pictures.gap(now)
        return Seen(
            playing=pictures.last is not None and gap < 0.5,
            edge=None if self._live is None else self._live.edge,
            sessions=self._sessions,
            frames=pictures.number,
            gap_s=round(gap, 3),
            longest_s=round(pictures.longest(now), 3),
            marks=self._marks,
            why=self._why,
        )

    async def run(self) -> None:
        """Watches until it is cancelled; then it leaves."""
        try:
            while True:
                self.look(self._loop.time())
                await asyncio.sleep(TICK_S)
        finally:
            for leg in (self._live, self._next):
                self._forget(leg)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._crowd.leave()

    def look(self, now: float) -> None:
        self._ticks += 1
        for leg in (self._live, self._next):
            if leg is not None:
                reports = self._ticks % BEATS_A_REPORT == 0
                (leg.member.report if reports else leg.member.ask)(now)
        coming = self._next
        if coming is not None and coming.first_picture is not None:
            self._take_over(coming, coming.first_picture)
        elif coming is not None and (coming.closed or now - coming.since > FIRST_PICTURE_S):
            self._why = coming.member.failure or f"no picture within {FIRST_PICTURE_S:g} s"
            self._drop(coming)
            self._next = None
            self._again(now)
        if self._live is not None:
            self._count(self._live)
            if self._lost(self._live, now) and self._next is None and self._retry_at is None:
                self._again(now)
        if self._retry_at is not None and now >= self._retry_at and self._next is None:
            self._retry_at = None
            self._numbers += 1
            member = Member(self._crowd, self._numbers, now)
            self._crowd.members[member.number] = member
            self._next = Leg(member, now)
            self._start(self._join(self._next))

    def _lost(self, leg: Leg, now: float) -> bool:
        held = leg.told == "waiting"  # its publisher has some seconds to come back
        return leg.over or leg.closed or (self._pictures.gap(now) > NO_PICTURE_S and not held)

    def _count(self, leg: Leg) -> None:
        viewer = leg.member.viewer
        if viewer is None or viewer.frames.seen == leg.seen or viewer.frames.last_at is None:
            return
        _, longest = viewer.frames.take_worst()
        self._pictures.came(viewer.frames.seen - leg.seen, viewer.frames.last_at, longest)
        leg.seen = viewer.frames.seen

    def _take_over(self, leg: Leg, first_picture: float) -> None:
        old, self._live, self._next = self._live, leg, None
        viewer = leg.member.viewer
        assert viewer is not None
        viewer.frames.take_worst()  # what came before its first whole key frame was no picture
        leg.seen = viewer.frames.seen
        self._pictures.came(1, first_picture, self._pictures.gap(first_picture))
        self._attempts, self._why, self._retry_at = 0, "", None
        if old is not None:
            self._drop(old)

    async def _join(self, leg: Leg) -> None:
        member = leg.member
        try:
            await member.join()
        finally:
            if self._next is not leg:  # given up meanwhile: the session is given back
                await member.leave()
        if member.ticket is None:
            return  # its failure says why; `look` asks again
        self._door.url = self._whep
        self._sessions += 1
        leg.since = self._loop.time()
        leg.events = self._start(self._listen(leg, member.ticket))

    async def _listen(self, leg: Leg, ticket: str) -> None:
        """The session's events, over restarts of the stream manager."""
        failures = 0
        while not leg.over:
            try:
                async for name, data in self._door.events(ticket):
                    failures = 0
                    self._hear(leg, name, data)
            except Refused as refused:
                # Not known any more, so it could not be told of a move; where it never was, there are none.
                leg.over = leg.told is not None and refused.status == 404
                if refused.status == 404:
                    return
            except PublishError:
                pass  # nobody answers: a manager that is started again
            failures += 1
            await asyncio.sleep(min(0.25 * failures, 2.0))

    @staticmethod
    def _hear(leg: Leg, name: str, data: dict[str, Any]) -> None:
        if name == "state":
            leg.told = data.get("state", leg.told)
            leg.edge = data.get("edge", leg.edge)
        elif name == "move":
            leg.over = True

    def _again(self, now: float) -> None:
        """Ask for another session, now or after a while."""
        wait = BACKOFF_S[min(self._attempts, len(BACKOFF_S) - 1)]
        if "no edge has room" in self._why or "no more joins" in self._why:
            wait = FULL_S
        self._attempts += 1
        self._retry_at = now + wait * random.uniform(0.75, 1.25)

    def _drop(self, leg: Leg) -> None:
        self._forget(leg)
        self._crowd.members.pop(leg.member.number, None)
        if not leg.member.joining:
            self._start(leg.member.leave())

    @staticmethod
    def _forget(leg: Leg | None) -> None:
        if leg is not None and leg.events is not None:
            leg.events.cancel()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def run(whep: str, token: str, edge: str | None) -> None:
    """Watch until stdin closes or a signal comes. Raises Refused where no swarm can live (Windows)."""
    loop = asyncio.get_running_loop()
    try:
        watcher = Watcher(whep, token, edge)
    except NotImplementedError:
        raise Refused("watching needs Linux or macOS", "Run it there.") from None
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    watching = asyncio.create_task(watcher.run())
    marks = asyncio.create_task(_marks(told, watcher))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, marks.cancel)
    while not marks.done() and not watching.done():
        _say(watcher)
        await asyncio.wait([marks, watching], timeout=SAY_S, return_when=asyncio.FIRST_COMPLETED)
    if not watching.done():
        _say(watcher)
        watching.cancel()
    marks.cancel()
    for ended in await asyncio.gather(watching, marks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _marks(told: asyncio.StreamReader, watcher: Watcher) -> None:
    while await told.readline():
        watcher.mark()
        _say(watcher)


def _say(watcher: Watcher) -> None:
    sys.stdout.buffer.write(orjson.dumps(asdict(watcher.seen())) + b"\n")
    sys.stdout.buffer.flush()
