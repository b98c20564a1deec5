"""A drill from its beginning to the journal's last word about it.

    look at it, make sure of the supervisor (kill-manager) | a viewer watches, the feed is followed |
    the kill is ordered | milestones as they happen | what came of it, into the journal

Times are counted from when the kill was ordered, on this machine's steady clock: what is measured is what one
sees from here. Who stops it in the middle (a cancelled task) leaves a journal that says so.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from console.core.client import Client
from console.core.drills import victim
from console.core.drills.recovery import Recovery
from console.core.drills.watching import Watching
from console.core.errors import ApiError, ConsoleError, StageError, TimedOut
from console.core.live import Link
from console.core.model import State
from console.core.paths import Home
from console.core.target import Target
from controlplane.wire.drills import Drill, DrillKind, DrillRequest, Milestone, Outcome, Watched
from controlplane.wire.processes import ProcessRecord

NOTHING_LIVE = "nothing is on air"
FEED_S = 10.0  # for the first word of the feed
SETTLE_S = 2.0  # until the nodes have reported the viewer that is ours
LEAST_S = 1.0  # a picture that is to be lost may take as long
WENT_S = 0.5  # without a picture: it was lost
POLL_S = 0.05
TICK_S = 0.2
WRITE_S = 10.0  # for the last word to be written down

Report = Callable[[Milestone], None]
Progress = Callable[[str, float], None]  # what is waited for, and for how long already


@dataclass(frozen=True)
class Result:
    drill: Drill
    outcome: Outcome
    message: str  # the journal's words; empty: they could not be written down
    unwritten: str = ""  # why not

    @property
    def recovered(self) -> bool:
        outcome = self.outcome
        return not (outcome.missing or outcome.stopped or outcome.not_killed)


class Rehearsal:
    """One drill. `result` is there once something was begun, also when `run` is cancelled or fails later."""

    def __init__(
        self,
        target: Target,
        home: Home,
        request: DrillRequest,
        *,
        timeout_s: float,
        report: Report,
        progress: Progress,
    ) -> None:
        self._target, self._home, self.request = target, home, request
        self._timeout_s, self._report, self._progress = timeout_s, report, progress
        self.result: Result | None = None
        self._state = State()
        self._news = asyncio.Event()
        self._watching: Watching | None = None
        self._unwatched = ""
        self._lost_picture = False
        self._watched_from: str | None = None  # the viewer's edge when the kill was ordered
        self._begun = 0.0  # then, monotonic

    async def look(self) -> Drill:
        """What it would do. ConsoleError where it would be refused, by the manager or here."""
        async with self._target.client() as client:
            drill = await client.look_at_drill(self.request)
        if drill.kind is DrillKind.KILL_MANAGER:
            await victim.guarded_manager(self._target, self._home)
        return drill

    async def run(self) -> Result:
        """Do it. ConsoleError before anything was begun; afterwards the result says what went wrong."""
        manager = None
        if self.request.kind is DrillKind.KILL_MANAGER:
            manager = await victim.guarded_manager(self._target, self._home)
        async with self._target.client() as client, self._following():
            seen = await client.look_at_drill(self.request)
            await self._watch(seen)
            try:
                # Of the node that was looked at, which the viewer may be on by now.
                request = self.request.model_copy(update={"node": seen.node, "own": self._own(seen)})
                await self._settle(await client.look_at_drill(request))
                if self._watching is not None:
                    await self._watching.mark()
                return await self._do(client, request, manager)
            finally:
                if self._watching is not None:
                    await asyncio.shield(self._watching.end())

    # before

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """The live feed is followed meanwhile; entered with its first snapshot."""
        following = asyncio.create_task(self._follow())
        try:
            try:
                async with asyncio.timeout(FEED_S):
                    while not self._state.ready:
                        await self._wait(following)
            except TimeoutError:
                raise TimedOut(f"the live feed of {self._target.api} does not open", "Try again") from None
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        async with self._target.live() as source:
            async for item in source:
                if not isinstance(item, Link):
                    self._state = self._state.apply(item)
                    self._news.set()

    async def _wait(self, following: "asyncio.Task[None]") -> None:
        """For news. Raises what the feed ended with."""
        waiting = asyncio.create_task(self._news.wait())
        await asyncio.wait([waiting, following], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if following.done():
            following.result()
        self._news.clear()

    async def _watch(self, drill: Drill) -> None:
        """A viewer where it will hurt: of the live channel with most viewers, on the edge that is to die."""
        if not drill.blast.live:
            live = [it for it in self._state.streams.values() if it.state == "live"]
            if not live:
                self._unwatched = NOTHING_LIVE
                return
            channel = max(live, key=lambda it: it.viewers).channel
        else:
            channel = drill.blast.live[0]
        edge = drill.node if drill.kind is DrillKind.KILL_EDGE else None
        target = self._target
        try:
            self._watching = await Watching.start(target.api, target.token, channel, edge)
        except StageError as error:
            self._unwatched = error.what
        except NotImplementedError:  # Windows' event loops have no such pipes
            self._unwatched = "that needs Linux or macOS"

    def _own(self, drill: Drill) -> bool:
        """Whether our viewer is one of those who are struck."""
        if self._watching is None or drill.kind is not DrillKind.KILL_EDGE:
            return self._watching is not None
        return self._watching.seen.edge == drill.node

    async def _settle(self, drill: Drill) -> None:
        """Until the feed shows who the manager knows to be there: nodes report twice a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._shows(drill):
                    self._news.clear()
                    await self._news.wait()

    def _shows(self, drill: Drill) -> bool:
        if drill.kind is DrillKind.KILL_EDGE:
            node = self._state.nodes.get(drill.node or "")
            return node is None or (node.connections or 0) >= drill.blast.viewers
        struck = {it.channel: it.viewers for it in drill.blast.channels}
        return all(
            it.viewers >= struck[it.channel] for it in self._state.streams.values() if it.channel in struck
        )

    # the drill itself

    async def _do(self, client: Client, request: DrillRequest, manager: ProcessRecord | None) -> Result:
        before, self._begun = self._state, time.monotonic()
        self._watched_from = None if self._watching is None else self._watching.seen.edge
        drill = await client.begin_drill(request)
        recovery = Recovery(drill, before)
        outside: list[asyncio.Task[None]] = []
        not_killed = ""
        stopped = False
        try:
            if manager is not None:
                try:
                    await victim.kill(manager, drill)
                except StageError as error:
                    not_killed = error.what
                else:
                    outside = [
                        asyncio.create_task(self._until_another_is_kept(recovery, manager)),
                        asyncio.create_task(self._until_api_answers(recovery, client)),
                    ]
            if not not_killed:
                await self._recover(recovery, drill)
        except asyncio.CancelledError:
            stopped = True
            raise
        finally:
            for task in outside:
                task.cancel()
            await asyncio.gather(*outside, return_exceptions=True)
            outcome = self._outcome(recovery, not_killed=not_killed, stopped=stopped)
            self.result = await asyncio.shield(self._write_down(drill, outcome))
        return self.result

    def _at(self) -> float:
        return time.monotonic() - self._begun

    async def _recover(self, recovery: Recovery, drill: Drill) -> None:
        """Until all is as it was, or the time is over."""
        while self._at() < self._timeout_s:
            self._news.clear()
            for milestone in recovery.follow(self._state, self._at()):
                self._report(milestone)
            picture = self._picture(recovery, drill)
            if recovery.done and not picture and (self._watching is None or self._at() >= LEAST_S):
                return
            self._progress(", ".join(filter(None, [recovery.progress(), picture])), self._at())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(TICK_S, max(0.0, self._timeout_s - self._at()))):
                    await self._news.wait()

    def _picture(self, recovery: Recovery, drill: Drill) -> str:
        """What is waited for of our own viewer; empty when it is as well as before."""
        if self._watching is None:
            return ""
        seen = self._watching.seen
        if not seen.playing:
            self._lost_picture = self._lost_picture or seen.gap_s > WENT_S
            return "a picture"
        if self._lost_picture:
            self._lost_picture = False
            words = f"a viewer has pictures again, after {seen.longest_s:.1f} s without"
            self._report(recovery.note("picture", words, self._at()))
        return "a picture" if drill.kind is DrillKind.KILL_EDGE and seen.edge == drill.node else ""

    async def _until_another_is_kept(self, recovery: Recovery, manager: ProcessRecord) -> None:
        await victim.another_is_kept(self._home, manager, POLL_S)
        self._reached(recovery, "noticed", "another one started")

    async def _until_api_answers(self, recovery: Recovery, client: Client) -> None:
        while True:
            with contextlib.suppress(ApiError):
                await client.health()
                break
            await asyncio.sleep(POLL_S)
        self._reached(recovery, "noticed", "another one started")  # by whoever; it answers
        self._reached(recovery, "api", "the API answers")

    def _reached(self, recovery: Recovery, name: str, words: str) -> None:
        milestone = recovery.reach(name, words, self._at())
        if milestone is not None:
            self._report(milestone)
            self._news.set()

    # after

    def _outcome(self, recovery: Recovery, *, not_killed: str, stopped: bool) -> Outcome:
        watching, watched = self._watching, None
        missing = [] if not_killed else recovery.missing()
        if watching is not None:
            seen = watching.seen
            watched = Watched(
                channel=watching.channel,
                edge=self._watched_from,
                longest_gap_s=seen.longest_s,
                sessions=seen.sessions,
                playing=seen.playing,
            )
            if not seen.playing and not not_killed:
                missing.append("a picture for the viewer that watched")
        return Outcome(
            took_s=round(self._at(), 3),
            milestones=recovery.milestones,
            missing=missing,
            stopped=stopped,
            not_killed=not_killed,
            watched=watched,
            unwatched=self._unwatched,
        )

    async def _write_down(self, drill: Drill, outcome: Outcome) -> Result:
        """Into the journal; the manager may be on its way up again."""
        assert drill.id is not None
        deadline = time.monotonic() + WRITE_S
        while True:
            try:
                async with self._target.client() as client:
                    entry = await client.finish_drill(drill.id, outcome)
            except ConsoleError as error:
                if time.monotonic() >= deadline or not isinstance(error, ApiError) or error.exit_code == 1:
                    return Result(drill, outcome, "", str(error))
                await asyncio.sleep(POLL_S)
            else:
                return Result(drill, outcome, entry.message)
