"""The database as a port: the only thing that survives a stream manager.

All work happens inside `read` or `write`: a coroutine that gets a Transaction. A write commits after the
coroutine has returned and leaves nothing behind when it raises. It may be run AGAIN from the start when the
database asks for that (deadlock, fail-over), so it must change nothing but its transaction, and it must await
nothing else: others wait for their turn. Several writes may be committed in one transaction, in the order in
which they were asked for; nobody is answered before that.

What a write reads by its key (a node, a group, a stream, a session, the lease) stays as it was read until it
has been committed: no other manager changes it meanwhile.

Times are Unix seconds. Secrets arrive hashed.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from controlplane.domain.events.model import Event
from controlplane.domain.managers.model import Act, ActKind, ChangeRow, KeptAnswer, Lease, ManagerRow, Told
from controlplane.domain.money.model import HourUsed, Used
from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.rules import Room
from controlplane.domain.streams.model import EndReason, Party, PartyKey, Session, Stream
from controlplane.wire.api import JournalEntry
from controlplane.wire.nodes import Role

T = TypeVar("T")

#: The journal's kinds of what a policy did, or wanted and was held back from
DECISIONS = ("scale.add", "scale.drain", "scale.held")


class StoreBusy(Exception):
    """The database is held by another program longer than we wait. Try again."""


class StoreFull(StoreBusy):
    """There is no room left to write to the database, or it may not be written. Nothing was changed."""


class StoreAway(StoreBusy):
    """The database does not answer for longer than we wait. Nothing was changed."""


class StoreUnknown(StoreBusy):
    """The database went away while a change was being committed: whether it was kept is not known yet."""


class Taken(Exception):
    """A row with this key exists already."""


class Transaction(Protocol):
    async def time(self) -> float:
        """The database's own clock: Unix seconds, the same for all managers."""
        ...

    # nodes and groups
    async def node(self, node_id: str) -> Node | None: ...

    async def nodes(self) -> list[Node]:
        """All that have not terminated, oldest first."""
        ...

    async def nodes_since(self, at: float) -> list[Node]:
        """All that have not terminated, and those that did after `at`."""
        ...

    async def nodes_among(self, ids: Collection[str]) -> list[Node]:
        """Also terminated ones."""
        ...

    async def node_by_enrolment(self, token_hash: str) -> Node | None: ...

    async def node_by_credential(self, credential_hash: str) -> Node | None: ...

    async def add_node(self, node: Node) -> None:
        """Raises Taken."""
        ...

    async def save_node(self, node: Node) -> None:
        """Writes the whole row except `reserved`."""
        ...

    async def forget_terminated(self) -> None:
        """Delete the rows of terminated nodes, so that their names can be given again."""
        ...

    async def purge_nodes(self, terminated_before: float) -> None:
        """Delete the rows of nodes that terminated long ago; their names are not given again."""
        ...

    async def fault_times(self, role: Role, region: str, since: float) -> list[float]:
        """When managed nodes of a group became faulty, after `since`."""
        ...

    async def groups(self) -> list[Group]: ...

    async def group(self, role: Role, region: str) -> Group | None: ...

    async def save_group(self, group: Group) -> None:
        """Insert or replace."""
        ...

    # seating
    async def rooms(self, role: Role) -> list[Room]:
        """How full the nodes in service of a role are."""
        ...

    async def reserve(self, node_id: str, seats: int = 1) -> bool:
        """Take so many seats if the node is in service and has them: all or none, never overfills."""
        ...

    async def release(self, node_id: str, seats: int = 1) -> None:
        """Give seats back; never below zero."""
        ...

    async def recount_reserved(self) -> None:
        """Set every node's `reserved` to the seats its sessions really hold and those that are kept there,
        and forget parties that have nobody on their node."""
        ...

    async def begin_parties(self, keys: Collection[PartyKey]) -> list[Party]:
        """The rows of these parties; of one that had none, a row without a node. In a write alone: nobody
        else who asks for one of them, or changes it, gets on before this transaction has ended."""
        ...

    async def parties_among(self, keys: Collection[PartyKey]) -> list[Party]:
        """Those of these parties that have a row."""
        ...

    async def parties(self) -> list[Party]: ...

    async def save_parties(self, parties: Sequence[Party]) -> None:
        """Insert or replace."""
        ...

    async def forget_parties(self, keys: Collection[PartyKey]) -> None: ...

    async def members(self, keys: Collection[PartyKey]) -> list[tuple[str, str, str, int]]:
        """How many of these parties are where: channel, party, node, sessions that have not ended."""
        ...

    # streams
    async def stream(self, channel: str) -> Stream | None: ...

    async def streams_to_join(self, channels: Collection[str]) -> list[Stream]:
        """Those of these channels, also ended ones. They stay as they were read until the write is committed;
        unlike with `stream`, others may ask for them so meanwhile."""
        ...

    async def streams_on_air(self) -> list[Stream]: ...

    async def streams_among(self, channels: Collection[str]) -> list[Stream]:
        """Also ended ones."""
        ...

    async def save_stream(self, stream: Stream) -> None:
        """Insert or replace."""
        ...

    async def purge_streams(self, ended_before: float) -> None:
        """Delete the rows of channels that went off the air long ago."""
        ...

    # sessions
    async def session(self, session_id: str) -> Session | None:
        """Also one that has ended lately."""
        ...

    async def sessions(self) -> list[Session]:
        """All that have not ended."""
        ...

    async def sessions_on(self, node_id: str) -> list[Session]:
        """Those on a node that have not ended."""
        ...

    async def sessions_of(self, channel: str) -> list[Session]:
        """Those of a channel that have not ended."""
        ...

    async def sessions_among(self, ids: Collection[str]) -> list[Session]:
        """Also ended ones."""
        ...

    async def relays_to(self, node_id: str) -> list[Session]:
        """The relays from which a node has its channels, that have not ended."""
        ...

    async def add_session(self, session: Session) -> None: ...

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        """All of them, in one go."""
        ...

    async def end_session(self, session_id: str, at: float, reason: EndReason) -> bool:
        """False if it had ended before."""
        ...

    async def end_sessions(self, ids: Collection[str], at: float, reason: EndReason) -> set[str]:
        """Those that had not ended before."""
        ...

    async def take_move(self, session_id: str, at: float) -> bool:
        """Whoever a session was reserved for has come to it: it is as one made at `at`. False if it has
        ended, is nobody's reservation (any more), or was kept until before `at`."""
        ...

    async def purge_sessions(self, ended_before: float) -> None: ...

    # events
    async def events(self, ends_after: float) -> list[Event]:
        """Those that end, or would have ended, after a moment; the earliest to start first."""
        ...

    async def event(self, event_id: int) -> Event | None: ...

    async def events_on(self, channel: str, ends_after: float) -> list[Event]:
        """Those of one channel, for a change that must not meet another one on it. In a write alone: nobody
        else who asks for this gets an answer until this transaction has ended."""
        ...

    async def add_event(self, event: Event) -> Event:
        """The event with the id it was given, which no event had before."""
        ...

    async def save_event(self, event: Event) -> None:
        """Writes the whole row."""
        ...

    async def purge_events(self, ended_before: float) -> None: ...

    # journal
    async def append_journal(
        self, at: float, actor: str, kind: str, subject: str, message: str, data: Mapping[str, Any]
    ) -> JournalEntry: ...

    async def journal(self, after: int, limit: int) -> list[JournalEntry]:
        """Entries with an id above `after`, oldest first."""
        ...

    async def latest_journal(self, limit: int) -> list[JournalEntry]:
        """The last entries, oldest first."""
        ...

    async def journal_among(self, ids: Collection[int]) -> list[JournalEntry]:
        """Oldest first."""
        ...

    async def decisions(self, subject: str | None, limit: int) -> list[JournalEntry]:
        """What was decided about groups (DECISIONS), or about one, newest first."""
        ...

    async def prune_journal(self, keep: int) -> None: ...

    # money
    async def counted_until(self) -> int | None:
        """Up to when node time and egress are counted, Unix milliseconds; None: they never were."""
        ...

    async def add_used(self, part: HourUsed, since_ms: int) -> None:
        """Add to an hour of a group. Raises Taken where it is counted beyond `since_ms` by now: somebody else
        counts, and all that is added in this transaction is to be given up."""
        ...

    async def used(self, start: int, end: int) -> list[Used]:
        """What each group used in the hours that begin from `start` on and before `end`, Unix seconds."""
        ...

    # tokens
    async def revoke(self, jti: str, channel: str, expires: float) -> None: ...

    async def revoked(self, jti: str) -> bool: ...

    async def purge_revoked(self, expired_before: float) -> None: ...

    # stream managers
    async def beat(self, manager: str, api: str, started_at: float) -> None:
        """This manager lives."""
        ...

    async def managers(self, since: float) -> list[ManagerRow]:
        """Those that were heard since, by the database's clock; in the order of their ids."""
        ...

    async def purge_managers(self, before: float) -> None: ...

    async def lease(self) -> Lease | None:
        """Who leads; None before anybody has."""
        ...

    async def take_lease(self, seen: Lease | None, holder: str, length_s: float) -> Lease | None:
        """Become the holder, with the next token, if the lease is still as it was `seen`; the new one, or
        None where somebody was quicker."""
        ...

    async def renew_lease(self, token: int, length_s: float) -> bool:
        """Hold it for so long from now; False when it is somebody else's by now."""
        ...

    async def give_lease_back(self, token: int) -> None: ...

    async def add_act(self, kind: ActKind, node: str, token: int, retry: str) -> Act: ...

    async def close_act(self, act_id: int, outcome: str) -> None:
        """How it ended; of one that has ended nothing is changed."""
        ...

    async def open_acts(self) -> list[Act]:
        """Whose outcome is not known, oldest first."""
        ...

    async def launch_of(self, node_id: str) -> Act | None:
        """The launch of a node, if one was begun."""
        ...

    async def purge_acts(self, before: float) -> None:
        """Forget those that have ended, and began before."""
        ...

    # what stream managers tell each other
    async def append_change(self, manager: str, body: str) -> None:
        """Which rows this transaction changed, for the other managers."""
        ...

    async def last_change(self) -> int:
        """The highest number that can be seen; 0 where there is none. Lower ones may be seen only later, of
        transactions that were begun earlier and committed later."""
        ...

    async def first_change(self) -> int:
        """The lowest number there still is; 0 where there is none."""
        ...

    async def changes(self, after: int, limit: int) -> list[ChangeRow]:
        """In the order of their numbers."""
        ...

    async def changes_among(self, numbers: Collection[int]) -> list[ChangeRow]:
        """Those of these numbers that can be seen."""
        ...

    async def purge_changes(self, before: float) -> None: ...

    async def tell(self, said: Sequence[Told]) -> None:
        """What was told last by these; it replaces what was before, whichever manager wrote it."""
        ...

    async def told_to_others(self, manager: str) -> list[Told]:
        """Everything that other managers have been told last."""
        ...

    async def purge_told(self, before: float) -> None: ...

    # answers to calls that may be sent again
    async def kept_answer(self, key: str) -> KeptAnswer | None:
        """What was kept under the SHA-256 of a key."""
        ...

    async def begin_answer(self, key: str, asked: str) -> None:
        """The row, before what is asked for is done. In a write alone: nobody else who begins one of this key
        gets on before this transaction has ended, and then, or where it was there before, Taken."""
        ...

    async def keep_answer(self, key: str, answer: str) -> None:
        """What was answered, in the row that was begun."""
        ...

    async def purge_answers(self, before: float) -> None: ...


class Store(Protocol):
    async def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on a consistent view. Raises StoreBusy, StoreFull."""
        ...

    async def write(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        after: Callable[[T], None] | None = None,
        first: bool = False,
    ) -> T:
        """Run `work` and commit. Raises StoreBusy, StoreFull, and whatever `work` raises.

        `after` gets its result right after the commit, also where the caller was cancelled meanwhile: for all
        writes in the order of the commits, before any later transaction begins. `first`: the work begins its
        transaction, so everything that was committed before it has been through `after` when it runs. A work
        that looks at what `after` keeps needs that.
        """
        ...

    async def close(self) -> None:
        """Whoever has been asked for is run to its end; from now on StoreBusy is raised."""
        ...
