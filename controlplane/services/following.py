"""What other stream managers change: their rows come onto this board, and its listeners hear of them.

Every change that is committed leaves a row in `changes`, in its own transaction, with the ids of what it
touched (services.books). Each manager reads the rows of the others a few times a second, reads what they name
in the same consistent view, and shows it as it shows its own.

    numbers   are given when a row is written and seen when it is committed, so a lower one may be seen later
              than a higher one. A number that was passed over is looked for again for GAP_S, longer than a
              transaction takes; then it was undone.
    own rows  are on the board since their commit and not read again. But one that is committed here while
              another manager's view of the same row is being read, or shortly after, may be shown in the
              wrong order: such a row is read once more.
    in turn   who reads everything, at a start or as a new holder of the lease, waits for a look that is under
              way, and the look for him: what is committed here meanwhile is noted for one at a time.
    behind    who finds the oldest row there is above where he has got to, because he was stopped for long,
              reads everything anew, and shows what differs.
"""

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from controlplane.domain.managers.model import ChangeRow
from controlplane.domain.nodes.model import Node
from controlplane.domain.streams.model import EndReason, Party, PartyKey, Session, Stream, StreamState
from controlplane.ports.store import StoreBusy, Transaction
from controlplane.services.board import Board
from controlplane.services.books import Books, Changed
from controlplane.services.losses import Losses
from controlplane.services.streams import Streams
from controlplane.wire.nodes import NodeState

log = structlog.get_logger(__name__)

EVERY_S = 0.15
GAP_S = 10.0
AT_ONCE = 500  # changes read in one go
LOOK_BACK = 1000  # numbers before the one that is begun with, that may be seen later
MOST_GAPS = 10_000
RECENT_S = 10.0  # as long as a commit of ours may wait for its answer

Key = tuple[str, str] | tuple[str, str, str]  # what it is, and its key


@dataclass
class _Named:
    """Rows that changes have named."""

    nodes: set[str] = field(default_factory=set)
    groups: bool = False
    streams: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    parties: set[PartyKey] = field(default_factory=set)
    journal: set[int] = field(default_factory=set)
    moves: dict[str, str] = field(default_factory=dict)

    def add(self, row: ChangeRow) -> None:
        body: dict[str, Any] = json.loads(row.body)
        self.nodes.update(body.get("nodes", ()))
        self.groups = self.groups or bool(body.get("groups"))
        self.streams.update(body.get("streams", ()))
        self.sessions.update(body.get("sessions", ()))
        self.parties.update((channel, party) for channel, party in body.get("parties", ()))
        self.journal.update(body.get("journal", ()))
        self.moves.update(body.get("moves", {}))

    def add_keys(self, keys: set[Key]) -> None:
        for kind, *names in keys:
            key = names[0]
            if kind == "group":
                self.groups = True
            elif kind == "party":
                self.parties.add((key, names[1]))
            else:
                {"node": self.nodes, "stream": self.streams, "session": self.sessions}[kind].add(key)


@dataclass(frozen=True)
class _Seen:
    """What one look has found, all in one view."""

    changed: Changed
    reached: int
    filled: set[int]
    missing: set[int]
    more: bool


class Following:
    def __init__(self, books: Books, manager: str, losses: Losses, streams: Streams) -> None:
        self._books = books
        self._board: Board = books.board
        self._clock = books.clock
        self._manager = manager
        self._losses = losses
        self._streams = streams
        self._reached = 0
        self._gaps: dict[int, float] = {}  # number -> since when it has been missing, monotonic
        self._again: set[Key] = set()  # rows to read once more
        self._reading: set[Key] | None = None  # what was committed here during a look
        self._followed: dict[Key, float] = {}  # rows of others that were shown lately
        self._pruned_at = -math.inf
        self._looking = asyncio.Lock()
        books.written = self._written

    def _written(self, changed: Changed) -> None:
        """A change of our own was committed and is shown."""
        keys = _keys(changed)
        if self._reading is not None:
            self._reading |= keys
        self._again |= keys & self._followed.keys()

    async def run(self) -> None:
        """Follows, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                while await self.look():
                    pass
            except StoreBusy as error:
                log.warning("the database is busy; other managers' changes come later", error=str(error))
            except Exception:
                log.exception("other managers' changes could not be shown; everything is read anew")
                self._reached = -1

    async def begin(self) -> None:
        """Everything, and from where on changes are to be followed: in one view."""
        async with self._looking:
            await self._begin()

    async def _begin(self) -> None:
        self._reading = set()
        try:
            everything, last, seen = await self._books.store.read(self._whole)
        finally:
            during, self._reading = self._reading, None
        now = self._clock.monotonic()
        self._reached = last
        self._gaps = {number: now for number in range(max(1, last - LOOK_BACK), last) if number not in seen}
        self._again |= during
        self._show(self._differing(everything), during)

    async def _whole(self, tx: Transaction) -> tuple[Changed, int, set[int]]:
        everything = await self._books.everything(tx)
        last = await tx.last_change()
        rows = await tx.changes(last - LOOK_BACK - 1, LOOK_BACK + 1)
        return everything, last, {row.id for row in rows}

    def _differing(self, everything: Changed) -> Changed:
        """What the board lacks of everything, or shows otherwise, and what it shows and is no more."""
        board, now = self._board, self._clock.now()
        nodes = {name: node for name, node in everything.nodes.items() if board.nodes.get(name) != node}
        nodes |= {name: _gone(node) for name, node in board.nodes.items() if name not in everything.nodes}
        streams = {name: it for name, it in everything.streams.items() if board.streams.get(name) != it}
        streams |= {name: _off(it) for name, it in board.streams.items() if name not in everything.streams}
        sessions = {name: it for name, it in everything.sessions.items() if name not in board.sessions}
        sessions |= {
            name: _over(it, now) for name, it in board.sessions.items() if name not in everything.sessions
        }
        parties = {key: it for key, it in everything.parties.items() if board.parties.get(key) != it}
        parties |= {key: _left(it) for key, it in board.parties.items() if key not in everything.parties}
        shown = {entry.id for entry in board.journal}
        journal = [entry for entry in everything.journal if entry.id not in shown]
        return Changed(nodes, everything.groups, streams, sessions, parties, journal)

    async def look(self) -> bool:
        """Show what others have changed. True when there is more."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        if self._reached < 0:
            await self._begin()
            return False
        again, self._again = self._again, set()
        self._reading = set()
        try:
            seen = await self._books.store.read(lambda tx: self._read(tx, again))
        except BaseException:
            self._again |= again
            raise
        finally:
            during, self._reading = self._reading, None
        if seen is None:
            log.warning("other managers' changes were missed for too long; everything is read anew")
            await self._begin()
            return False
        now = self._clock.monotonic()
        self._reached = seen.reached
        for number in seen.filled:
            self._gaps.pop(number, None)
        self._gaps.update(dict.fromkeys(seen.missing, now))
        self._gaps = {number: since for number, since in self._gaps.items() if now - since < GAP_S}
        if len(self._gaps) > MOST_GAPS:
            self._gaps = dict(sorted(self._gaps.items())[-MOST_GAPS:])
        if now - self._pruned_at >= RECENT_S:
            self._pruned_at = now
            self._followed = {key: at for key, at in self._followed.items() if now - at < RECENT_S}
        self._again |= during & _keys(seen.changed)
        self._show(seen.changed, during)
        return seen.more

    async def _read(self, tx: Transaction, again: set[Key]) -> _Seen | None:
        if await tx.first_change() > self._reached + 1:
            return None
        rows = await tx.changes(self._reached, AT_ONCE)
        filled = await tx.changes_among(self._gaps) if self._gaps else []
        named = _Named()
        for row in (*filled, *rows):
            if row.manager != self._manager:
                named.add(row)
        named.add_keys(again)
        reached = rows[-1].id if rows else self._reached
        missing = set(range(self._reached + 1, reached)) - {row.id for row in rows}
        changed = Changed(moves=named.moves)
        now = self._clock.now()
        if named.nodes:
            changed.nodes = {node.id: node for node in await tx.nodes_among(named.nodes)}
            for name in named.nodes - changed.nodes.keys():
                if name in self._board.nodes:
                    changed.nodes[name] = _gone(self._board.nodes[name])
        if named.groups:
            changed.groups = await tx.groups()
        if named.streams:
            changed.streams = {it.channel: it for it in await tx.streams_among(named.streams)}
            for name in named.streams - changed.streams.keys():
                if name in self._board.streams:
                    changed.streams[name] = _off(self._board.streams[name])
        if named.sessions:
            changed.sessions = {it.id: it for it in await tx.sessions_among(named.sessions)}
            for name in named.sessions - changed.sessions.keys():
                if name in self._board.sessions:
                    changed.sessions[name] = _over(self._board.sessions[name], now)
        if named.parties:
            changed.parties = {it.key: it for it in await tx.parties_among(named.parties)}
            for place in named.parties - changed.parties.keys():
                if place in self._board.parties:
                    changed.parties[place] = _left(self._board.parties[place])
        if named.journal:
            changed.journal = await tx.journal_among(named.journal)
        return _Seen(changed, reached, {row.id for row in filled}, missing, len(rows) == AT_ONCE)

    def _show(self, changed: Changed, during: set[Key]) -> None:
        """What was committed here meanwhile is as new or newer, and stays."""
        changed.nodes = {name: it for name, it in changed.nodes.items() if ("node", name) not in during}
        changed.streams = {name: it for name, it in changed.streams.items() if ("stream", name) not in during}
        changed.sessions = {
            name: it for name, it in changed.sessions.items() if ("session", name) not in during
        }
        changed.parties = {key: it for key, it in changed.parties.items() if ("party", *key) not in during}
        if ("group", "") in during:
            changed.groups = []
        if not changed:
            return
        moved = [
            stream.channel
            for stream in changed.streams.values()
            if (before := self._board.streams.get(stream.channel)) is not None
            and before.origin != stream.origin
        ]
        now = self._clock.monotonic()
        self._followed.update(dict.fromkeys(_keys(changed), now))
        self._books.publish(changed)
        for channel in moved:
            self._streams.origin_changed_elsewhere(channel)
        if changed.nodes or changed.groups:
            self._losses.wake.set()  # whoever leads acts on it at once


def _keys(changed: Changed) -> set[Key]:
    return {
        *(("node", name) for name in changed.nodes),
        *(("stream", name) for name in changed.streams),
        *(("session", name) for name in changed.sessions),
        *(("party", *key) for key in changed.parties),
        *([("group", "")] if changed.groups else []),
    }


def _gone(node: Node) -> Node:
    return replace(node, state=NodeState.TERMINATED)


def _off(stream: Stream) -> Stream:
    return replace(stream, state=StreamState.ENDED)


def _left(party: Party) -> Party:
    return replace(party, node="", kept=0)


def _over(session: Session, now: float) -> Session:
    return replace(session, ended_at=now, end_reason=EndReason.LEFT)
