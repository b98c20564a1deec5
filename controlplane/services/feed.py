"""The live feed of consoles: a snapshot, then numbered deltas (wire.api.LiveMessage).

Ten times a second the rows of the nodes whose report has come since are sent, with the streams and groups;
once a second beside that the rows of nodes that are silent, whose age is their news. What this adds to the
age of a figure, the node's own interval and the console's redraw stay under a second together (see
docs/decisions/0009-how-old-a-figure-may-be.md). What happens between, a state or a journal entry, is sent a
few hundredths of a second later with whatever happened beside it. Every message is made and encoded once,
however many consoles listen, and kept for a while, so that a console that lost its connection goes on where
it was. While nobody has listened for a minute none is made.

A console that does not keep up is not waited for: its queue is dropped and it gets a fresh snapshot.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import structlog

from controlplane.domain.nodes.states import GONE, REPORTING
from controlplane.domain.streams.model import StreamState
from controlplane.ports.clock import Clock
from controlplane.services.board import Board
from controlplane.services.books import Changed
from controlplane.services.views import Views
from controlplane.wire.api import HistoryPoint, JournalEntry, LiveMessage

log = structlog.get_logger(__name__)

KEPT = 1200  # messages: two minutes at the least
QUEUE = 240
BEAT_S = 0.1
BEATS_A_SECOND = 10
SILENT_S = 1.2  # older than this, a report is late
IDLE_S = 60.0
GATHER_S = 0.03
HISTORY_S = 1800.0
HISTORY_STEP_S = 5.0


class _Subscriber:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE)
        self.lagging = False

    def put(self, text: str) -> None:
        if self.lagging:
            return
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.fall_behind()

    def fall_behind(self) -> None:
        """What waits is dropped, and a snapshot is due."""
        self.lagging = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait("")  # wakes the reader

    def close(self) -> None:
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Feed:
    def __init__(self, board: Board, views: Views, clock: Clock) -> None:
        self._board = board
        self._views = views
        self._clock = clock
        self.epoch = secrets.token_hex(8)
        self._n = 0
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._subscribers: set[_Subscriber] = set()
        self._listened_at = clock.monotonic()
        self._wake = asyncio.Event()
        self._closed = False
        self._history_at = 0.0
        self._reported: dict[str, float] = {}  # node -> the moment of the report that was sent last

        self._nodes: set[str] = set()
        self._streams: set[str] = set()
        self._groups = False
        self._removed_nodes: set[str] = set()
        self._removed_streams: set[str] = set()
        self._journal: list[JournalEntry] = []
        self._history: list[HistoryPoint] = []
        self._managers: list[str] | None = None  # to be told: they are others than before
        self._told_managers: list[str] = []

    # what happens

    def changed(self, changed: Changed) -> None:
        """services.books.Listener."""
        for node in changed.nodes.values():
            gone = node.state in GONE
            (self._removed_nodes if gone else self._nodes).add(node.id)
            (self._nodes if gone else self._removed_nodes).discard(node.id)
        for stream in changed.streams.values():
            ended = stream.state is StreamState.ENDED
            (self._removed_streams if ended else self._streams).add(stream.channel)
            (self._streams if ended else self._removed_streams).discard(stream.channel)
        self._journal.extend(changed.journal)
        self._groups = self._groups or bool(changed.groups or changed.nodes)
        if changed.nodes or changed.streams or changed.groups or changed.journal:
            self._wake.set()

    async def run(self) -> None:
        """Makes the messages, until cancelled."""
        next_beat = self._clock.monotonic() + BEAT_S
        beats = 0
        while True:
            timeout = next_beat - self._clock.monotonic()
            if timeout > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
                    await asyncio.sleep(GATHER_S)
            self._wake.clear()
            now = self._clock.monotonic()
            early = now < next_beat
            if not early:
                next_beat = max(next_beat + BEAT_S, now + BEAT_S / 2)
                beats += 1
            try:
                if early:
                    self.flush()
                elif beats % BEATS_A_SECOND == 0:
                    self.second()
                else:
                    self.beat()
            except Exception:
                log.exception("a message of the live feed could not be made; consoles get a snapshot")
                self._begin_anew()

    def _begin_anew(self) -> None:
        """Nothing noted so far will be sent; whoever listens is given a snapshot instead."""
        for noted in (self._nodes, self._streams, self._removed_nodes, self._removed_streams):
            noted.clear()
        self._groups = False
        self._journal, self._history = [], []
        self._n += 1  # a gap in the numbers: nobody resumes over it
        self._kept.clear()
        for subscriber in self._subscribers:
            subscriber.fall_behind()

    def beat(self) -> None:
        """The nodes that have reported since the last beat, and what their reports changed."""
        fresh = self._note_reports()
        if fresh:
            self._streams.update(self._board.streams)
            self._groups = True
        self.flush()

    def _note_reports(self) -> bool:
        fresh = False
        for name, heard in self._board.heard.items():
            if heard.report is not None and self._reported.get(name) != heard.at:
                self._reported[name] = heard.at
                node = self._board.nodes.get(name)
                if node is not None and node.state in REPORTING:
                    self._nodes.add(name)
                    fresh = True
        if len(self._reported) > len(self._board.heard):
            self._reported = {name: at for name, at in self._reported.items() if name in self._board.heard}
        return fresh

    def second(self) -> None:
        """What is done once a second beside that: the chart's next point, the silent nodes, the streams."""
        points = self._views.history_now()
        self._remember(points)
        if not self._worth_it():
            self._forget()
            return
        self._history += points
        now = self._clock.monotonic()
        for node in self._board.nodes.values():
            heard = self._board.heard.get(node.id)
            if node.state in REPORTING and (heard is None or now - heard.at > SILENT_S):
                self._nodes.add(node.id)
        self._note_reports()
        self._streams.update(self._board.streams)
        self._groups = True
        managers = self._views.managers()
        if managers != self._told_managers:
            self._managers = self._told_managers = managers
        self.flush()

    def _worth_it(self) -> bool:
        now = self._clock.monotonic()
        if self._subscribers:
            self._listened_at = now
        return now - self._listened_at < IDLE_S

    def _forget(self) -> None:
        """Nobody listens: keep nothing, and leave a gap in the numbers so that nobody resumes over it."""
        if self._kept or self._pending():
            self._n += 1
            self._kept.clear()
            self._take()

    def _remember(self, points: list[HistoryPoint]) -> None:
        now = self._clock.now()
        if 0 <= now - self._history_at < HISTORY_STEP_S:
            return
        self._history_at = now
        history = self._board.history
        history.extend(points)
        while history and history[0].at < now - HISTORY_S:
            history.popleft()

    # the messages

    def _pending(self) -> bool:
        return bool(
            self._nodes
            or self._streams
            or self._groups
            or self._removed_nodes
            or self._removed_streams
            or self._journal
            or self._history
        )

    def _take(self) -> LiveMessage:
        """The delta of everything noted since the last one."""
        board, views = self._board, self._views
        message = LiveMessage(
            epoch=self.epoch,
            n=self._n,
            at=self._clock.now(),
            kind="delta",
            nodes=[views.node(board.nodes[name]) for name in sorted(self._nodes) if name in board.nodes],
            groups=views.groups() if self._groups else [],
            money=board.money if self._groups else None,
            streams=[
                views.stream(board.streams[name]) for name in sorted(self._streams) if name in board.streams
            ],
            removed_nodes=sorted(self._removed_nodes),
            removed_streams=sorted(self._removed_streams),
            journal=self._journal,
            history=self._history,
            managers=self._managers,
        )
        self._managers = None
        self._nodes.clear()
        self._streams.clear()
        self._groups = False
        self._removed_nodes.clear()
        self._removed_streams.clear()
        self._journal, self._history = [], []
        return message

    def flush(self) -> None:
        if not self._pending():
            return
        if not self._worth_it():
            self._forget()
            return
        self._n += 1
        text = self._take().model_dump_json()
        self._kept.append((self._n, text))
        for subscriber in self._subscribers:
            subscriber.put(text)

    def _snapshot(self, earlier: Sequence[JournalEntry] = ()) -> str:
        """With entries of the journal that are older than those that are kept in memory."""
        self.flush()  # what is pending is in the snapshot: it must not come again after it
        snapshot = self._views.snapshot()
        if earlier:
            entries = {entry.id: entry for entry in (*earlier, *snapshot.journal)}
            journal = [entries[number] for number in sorted(entries)]
            snapshot = snapshot.model_copy(update={"journal": journal})
        return LiveMessage(
            epoch=self.epoch,
            n=self._n,
            at=self._clock.now(),
            kind="snapshot",
            snapshot=snapshot,
        ).model_dump_json()

    def resumes(self, epoch: str | None, since: int | None) -> bool:
        """Whether a feed can go on there; else it opens with a snapshot."""
        return self._missed(epoch, since) is not None

    def _missed(self, epoch: str | None, since: int | None) -> list[str] | None:
        """The messages after `since`, or None when the feed cannot be resumed there."""
        if epoch != self.epoch or since is None or since > self._n:
            return None
        if since == self._n:
            return []
        if not self._kept or self._kept[0][0] > since + 1:
            return None
        return [text for n, text in self._kept if n > since]

    async def follow(
        self, epoch: str | None = None, since: int | None = None, earlier: Sequence[JournalEntry] = ()
    ) -> AsyncGenerator[str, None]:
        """Messages as JSON, the first one due at once; ends when the manager does. `earlier`: entries of the
        journal for the snapshot it may open with."""
        if self._closed:
            return
        self._listened_at = self._clock.monotonic()
        missed = self._missed(epoch, since)
        first = [self._snapshot(earlier)] if missed is None else missed
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)  # nothing was awaited since: no message is lost or doubled
        try:
            for text in first:
                yield text
            while (item := await subscriber.queue.get()) is not None:
                if subscriber.lagging:
                    item = self._snapshot()
                    subscriber.lagging = False  # only now: the snapshot holds what it has flushed
                yield item
        finally:
            self._subscribers.discard(subscriber)

    def close(self) -> None:
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.close()
