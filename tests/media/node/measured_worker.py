"""`python -m tests.media.node.measured_worker FILE ...`: a worker that looks at its own event loop.

It is media.node.worker to the letter, but for asyncio's own event loop, into which one can look. The CPU
time of its one thread is read around it, which does not depend on what else the machine does:

    turn    one turn of the event loop, from the moment the kernel woke it to the moment it sleeps again,
            without what it spent in sending media: so long may a packet that has just come have to wait
    call    one callback in it, the same way
    pause   one run of the garbage collector

When it ends it writes the longest of each to FILE, as JSON, with the names of the longest calls.
"""

import asyncio
import gc
import heapq
import json
import selectors
import sys
from pathlib import Path
from time import thread_time
from typing import Any

from media.fanout.sender import FanoutSender
from media.node import worker

KEPT = 12  # of the longest calls


class Watch:
    """What was longest so far; milliseconds of CPU time."""

    def __init__(self) -> None:
        self.turns: list[float] = []
        self.pauses: list[tuple[float, int]] = []
        self.calls: list[tuple[float, str]] = []
        self.media = 0.0  # seconds in all
        self._woke: tuple[float, float] | None = None
        self._collecting = 0.0

    def sleeps(self) -> None:
        if self._woke is not None:
            at, media = self._woke
            self.turns.append(1000 * (thread_time() - at - (self.media - media)))

    def wakes(self) -> None:
        self._woke = thread_time(), self.media

    def called(self, ms: float, name: str) -> None:
        if len(self.calls) < KEPT:
            heapq.heappush(self.calls, (ms, name))
        elif ms > self.calls[0][0]:
            heapq.heapreplace(self.calls, (ms, name))

    def collects(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = thread_time()
        elif self._woke is not None:
            self.pauses.append((1000 * (thread_time() - self._collecting), info["generation"]))

    def report(self) -> dict[str, Any]:
        turns = sorted(self.turns)
        return {
            "turns": len(turns),
            "turn_ms": turns[-1],
            "turn_p999_ms": turns[len(turns) * 999 // 1000],
            "pause_ms": max((ms for ms, _ in self.pauses), default=0.0),
            "pauses": {g: [round(m, 2) for m, h in self.pauses if h == g][-5:] for g in range(3)},
            "calls": [[round(ms, 2), name] for ms, name in sorted(self.calls, reverse=True)],
            "media_s": self.media,
            "frozen": gc.get_freeze_count(),
            "full_collections": sum(g == 2 for _, g in self.pauses),
        }


def watch_the_loop(watch: Watch) -> None:
    select, run, send = selectors.EpollSelector.select, asyncio.Handle._run, FanoutSender.send_batch

    def watched_select(self: Any, timeout: float | None = None) -> Any:
        watch.sleeps()
        ready = select(self, timeout)
        watch.wakes()
        return ready

    def watched_run(self: asyncio.Handle) -> None:
        began, media = thread_time(), watch.media
        run(self)
        watch.called(1000 * (thread_time() - began - (watch.media - media)), repr(self._callback)[:120])

    def watched_send(self: FanoutSender, *arguments: Any) -> Any:
        began = thread_time()
        try:
            return send(self, *arguments)
        finally:
            watch.media += thread_time() - began

    selectors.EpollSelector.select = watched_select  # type: ignore[method-assign]
    asyncio.Handle._run = watched_run  # type: ignore[method-assign]
    FanoutSender.send_batch = watched_send  # type: ignore[method-assign]
    gc.callbacks.append(watch.collects)


def main(file: Path, arguments: list[str]) -> int:
    watch = Watch()
    watch_the_loop(watch)
    worker.new_loop = asyncio.new_event_loop
    try:
        return worker.main(arguments)
    finally:
        file.write_text(json.dumps(watch.report()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
