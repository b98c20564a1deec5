"""The one way to change what is persisted.

    async def work(change: Change) -> T: ...
    result = await books.change(work)

Inside, `change.move` takes a node or a stream along a transition of its machine: it validates, writes the
row and the journal entry in the same transaction. After the commit, and only then, the board shows the new
rows and whoever listens (the live feed, the pages) is told, of all changes in the order of their commits. A
change that raises leaves nothing behind, and one that was asked for is finished although its caller is
cancelled: a client that hangs up cannot tear it.

Inside `change` the board shows exactly what is committed. That has its price: such a change begins a
transaction of its own, and is committed with others only where they come after it. What comes in crowds, and
looks at its transaction alone, goes by `change_together` and shares a commit with whatever else there is.

A change that is made in the name of the lease (`acting_under`) carries its token: it looks in its own
transaction whether the lease is still of that token, and if not raises LeaseLost and leaves nothing behind.
What is begun from there, also in a task of its own, carries it too.

A change that is made for a call with a key keeps what is answered (`change.answer`) in its own transaction,
or raises AnsweredBefore: services.repeating.
"""

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from controlplane.domain.managers.model import Act, ActKind
from controlplane.domain.managers.rules import is_fenced_off
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import MACHINE as NODE
from controlplane.domain.streams.model import EndReason, Party, PartyKey, Session, Stream, StreamState
from controlplane.domain.streams.states import MACHINE as STREAM
from controlplane.ports.clock import Clock
from controlplane.ports.store import Store, Transaction
from controlplane.services.board import Board
from controlplane.services.repeating import call_to_answer
from controlplane.services.words import spoken
from controlplane.wire.api import JournalEntry
from controlplane.wire.base import Message
from controlplane.wire.nodes import NodeState

T = TypeVar("T")
M = TypeVar("M", bound=Message)
P = ParamSpec("P")
MANAGER = "stream manager"

_token: ContextVar[int | None] = ContextVar("token", default=None)


class LeaseLost(Exception):
    """Another stream manager leads by now: nothing was changed."""


@contextlib.contextmanager
def acting_under(token: int) -> Iterator[None]:
    """What is changed within carries this token of the lease."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


@dataclass(slots=True)
class Changed:
    """What a committed change did, for those who listen. Later values of the same row replace earlier."""

    nodes: dict[str, Node] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    streams: dict[str, Stream] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    parties: dict[PartyKey, Party] = field(default_factory=dict)
    journal: list[JournalEntry] = field(default_factory=list)
    moves: dict[str, str] = field(default_factory=dict)  # sessions whose pages should make another: why

    def __bool__(self) -> bool:
        rows = self.nodes or self.groups or self.streams or self.sessions or self.parties
        return bool(rows or self.journal or self.moves)

    def body(self) -> str:
        """For the other managers: which rows they read."""
        named: dict[str, Any] = {
            "nodes": list(self.nodes),
            "groups": bool(self.groups),
            "streams": list(self.streams),
            "sessions": list(self.sessions),
            "parties": list(self.parties),
            "journal": [entry.id for entry in self.journal],
            "moves": self.moves,
        }
        return json.dumps({key: value for key, value in named.items() if value}, separators=(",", ":"))


class Listener(Protocol):
    def changed(self, changed: Changed) -> None: ...


class Change:
    """One transaction being written."""

    def __init__(self, tx: Transaction, now: float, token: int | None = None) -> None:
        """`token`: of the lease this is made under, None where none is needed."""
        self.tx = tx
        self.now = now
        self.token = token
        self.done = Changed()
        self.answered: Message | None = None

    def answer(self, said: M) -> M:
        """What whoever asked for this change is answered with: also when it is asked for again."""
        self.answered = said
        return said

    async def begin_act(self, kind: ActKind, node: str) -> Act:
        """Write down what is done outside right after the commit; only under the lease."""
        assert self.token is not None, "outside acts are the leading manager's"
        return await self.tx.add_act(kind, node, self.token, secrets.token_hex(16))

    async def end_act(self, act: Act, outcome: str) -> None:
        """How it ended."""
        await self.tx.close_act(act.id, outcome)

    async def move_node(
        self, node: Node, to: NodeState, reason: str, *, actor: str = MANAGER, **changes: Any
    ) -> Node:
        """Move a node: validated against its machine, written with its journal entry."""
        NODE.check(node.id, node.state, to)
        moved = replace(node, state=to, state_since=self.now, state_reason=reason, **changes)
        await self.tx.save_node(moved)
        await self.note(f"node.{to}", node.id, f"{node.id} is {spoken(to)}: {reason}.", actor=actor)
        self.done.nodes[node.id] = moved
        return moved

    async def move_stream(
        self, stream: Stream, to: StreamState, reason: str, *, actor: str = MANAGER, **changes: Any
    ) -> Stream:
        """Move a stream: validated against its machine, written with its journal entry."""
        STREAM.check(stream.channel, stream.state, to)
        moved = replace(stream, state=to, state_since=self.now, state_reason=reason, **changes)
        await self.tx.save_stream(moved)
        text = f"{stream.channel} is {spoken(to)}: {reason}."
        await self.note(f"stream.{to}", stream.channel, text, actor=actor, data={"reason": reason})
        self.done.streams[stream.channel] = moved
        return moved

    async def begin_node(self, node: Node, *, actor: str) -> Node:
        """A node's first row, in the initial state of its machine. Raises ports.store.Taken."""
        assert node.state is NODE.initial
        await self.tx.add_node(node)
        await self.note(
            "node.requested", node.id, f"{node.id} is asked for: {node.state_reason}.", actor=actor
        )
        self.done.nodes[node.id] = node
        return node

    async def begin_stream(self, stream: Stream, *, actor: str) -> Stream:
        """A channel's very first broadcast, in the initial state of its machine."""
        assert stream.state is STREAM.initial
        await self.tx.save_stream(stream)
        await self.note(
            "stream.connecting",
            stream.channel,
            f"{stream.channel} is connecting: {stream.state_reason}.",
            actor=actor,
        )
        self.done.streams[stream.channel] = stream
        return stream

    async def update_node(self, node: Node, **changes: Any) -> Node:
        """Change a node's other fields; its state stays."""
        assert "state" not in changes
        updated = replace(node, **changes)
        await self.tx.save_node(updated)
        self.done.nodes[node.id] = updated
        return updated

    async def update_stream(self, stream: Stream, **changes: Any) -> Stream:
        """Change a stream's other fields; its state stays."""
        assert "state" not in changes
        updated = replace(stream, **changes)
        await self.tx.save_stream(updated)
        self.done.streams[stream.channel] = updated
        return updated

    async def save_group(self, group: Group) -> None:
        await self.tx.save_group(group)
        self.done.groups.append(group)

    async def add_session(self, session: Session) -> None:
        await self.tx.add_session(session)
        self.done.sessions[session.id] = session

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        await self.tx.add_sessions(sessions)
        self.done.sessions |= {session.id: session for session in sessions}

    async def save_parties(self, parties: Sequence[Party]) -> None:
        """Write their rows; those of parties without a node go."""
        await self.tx.save_parties([party for party in parties if party.node])
        await self.tx.forget_parties([party.key for party in parties if not party.node])
        self.done.parties |= {party.key: party for party in parties}

    async def give_room_back(self, parties: Sequence[Party]) -> None:
        """Nothing is kept for them any more. Their rows are as they were just read."""
        for node, seats in sorted(_kept(parties).items()):
            await self.tx.release(node, seats)
        await self.save_parties([replace(party, kept=0) for party in parties])

    def replace_session(self, session: Session, **changes: Any) -> Session:
        """A session's row has been written otherwise: what listeners and the board get."""
        changed = replace(session, **changes)
        self.done.sessions[session.id] = changed
        return changed

    async def end_session(self, session: Session, reason: EndReason) -> bool:
        """End a session and give its seat back; False if that was done before. See end_sessions."""
        if not await self.tx.end_session(session.id, self.now, reason):
            return False
        await self._ended([session], reason)
        return True

    async def end_sessions(self, sessions: Sequence[Session], reason: EndReason) -> list[Session]:
        """End sessions and give their seats back: with the last of a party on its node also those that are
        kept there for it. Which of them had not ended before."""
        once = {session.id: session for session in sessions}
        over = await self.tx.end_sessions(once, self.now, reason)
        ended = [session for name, session in once.items() if name in over]
        await self._ended(ended, reason)
        return ended

    async def _ended(self, ended: Sequence[Session], reason: EndReason) -> None:
        """Their rows say so already. Locks parties by their keys, then nodes by their names."""
        seats = Counter(session.node for session in ended if session.seat)
        for party in await self._left([session for session in ended if session.party is not None]):
            seats[party.node] += party.kept
            self.done.parties[party.key] = replace(party, node="", kept=0)
        for node in sorted(seats):
            await self.tx.release(node, seats[node])
        for session in ended:
            self.done.sessions[session.id] = replace(session, ended_at=self.now, end_reason=reason)

    async def _left(self, ended: Sequence[Session]) -> list[Party]:
        """The parties that have nobody on their node any more. Their rows are gone."""
        places = {(session.channel, session.party or "", session.node) for session in ended}
        if not places:
            return []
        rows = await self.tx.parties_among({(channel, party) for channel, party, _ in places})
        rows = [row for row in rows if (*row.key, row.node) in places]
        members = await self.tx.members([row.key for row in rows]) if rows else []
        there = {(channel, party, node) for channel, party, node, _ in members}
        over = [row for row in rows if (*row.key, row.node) not in there]
        await self.tx.forget_parties([row.key for row in over])
        return over

    def tell_to_move(self, session: str, reason: str) -> None:
        """Its page should make another session while this one still runs, whichever manager it listens to."""
        self.done.moves[session] = reason

    async def note(
        self,
        kind: str,
        subject: str,
        message: str,
        *,
        actor: str = MANAGER,
        data: dict[str, Any] | None = None,
    ) -> None:
        """A journal entry, in the same transaction as what it tells of."""
        entry = await self.tx.append_journal(self.now, actor, kind, subject, message, data or {})
        self.done.journal.append(entry)


def _kept(parties: Sequence[Party]) -> Counter[str]:
    """By node."""
    seats: Counter[str] = Counter()
    for party in parties:
        seats[party.node] += party.kept
    return seats


class Books:
    def __init__(self, store: Store, board: Board, clock: Clock, shared_as: str | None = None) -> None:
        """`shared_as`: what this manager goes by where others may use the database too; None: it is alone."""
        self._shared_as = shared_as
        self.written: Callable[[Changed], None] = lambda changed: None  # of this manager, and shown
        self.store = store
        self.board = board
        self.clock = clock
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def change(
        self, work: Callable[Concatenate[Change, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(change, *args)` in one transaction, then publish. See the module's text.

        Raises StoreBusy, and whatever `work` raises.
        """
        return await self._write(lambda change: work(change, *args, **kwargs), first=True)

    async def change_together(
        self, work: Callable[Concatenate[Change, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`change` for a work that does not look at the board: what others before it in the same transaction
        have done is in its transaction, and not yet on the board."""
        return await self._write(lambda change: work(change, *args, **kwargs), first=False)

    async def _write(self, work: Callable[[Change], Awaitable[T]], *, first: bool) -> T:
        # Now: the store runs the work in a task of its own.
        token, call = _token.get(), call_to_answer()

        async def run(tx: Transaction) -> tuple[Change, T]:
            if token is not None and is_fenced_off(await tx.lease(), token):
                raise LeaseLost("another stream manager leads by now; nothing was changed")
            if call is not None:
                await call.begin(tx)
            change = Change(tx, self.clock.now(), token)
            result = await work(change)
            if call is not None:
                await call.keep(tx, change.answered)
            if self._shared_as is not None and change.done:
                await tx.append_change(self._shared_as, change.done.body())
            return change, result

        def publish(done: tuple[Change, T]) -> None:
            self.publish(done[0].done)
            self.written(done[0].done)

        _, result = await self.store.write(run, after=publish, first=first)
        return result

    def publish(self, changed: Changed) -> None:
        """Show rows as they are in the database, and tell who listens: after a commit, here or elsewhere."""
        now = self.clock.monotonic()
        for node in changed.nodes.values():
            self.board.put_node(node, now)
        for group in changed.groups:
            self.board.groups[group.role, group.region] = group
        for stream in changed.streams.values():
            self.board.put_stream(stream, now)
        for session in changed.sessions.values():
            self.board.put_session(session)
        for party in changed.parties.values():
            self.board.put_party(party)
        self.board.add_journal(changed.journal)
        for listener in self._listeners:
            listener.changed(changed)

    async def load(self) -> None:
        """Fill the board from the database: once, at start."""
        self.publish(await self.store.read(self.everything))

    async def everything(self, tx: Transaction) -> Changed:
        """What a board shows, as the database has it."""
        return Changed(
            nodes={node.id: node for node in await tx.nodes()},
            groups=await tx.groups(),
            streams={stream.channel: stream for stream in await tx.streams_on_air()},
            sessions={session.id: session for session in await tx.sessions()},
            parties={party.key: party for party in await tx.parties()},
            journal=await tx.latest_journal(self.board.journal.maxlen or 200),
        )
