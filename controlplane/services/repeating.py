"""Calls that change something, sent again by who got no answer: done once, and answered as the first time.

A call may carry a key of its caller's own making, one a call (the header Idempotency-Key,
draft-ietf-httpapi-idempotency-key-header-07). The first change that is made for it writes the key's row in
its own transaction, before anything else, and what is answered when the work is done:

    INSERT key, what is asked for --> the change itself --> UPDATE its answer --> COMMIT

So there is an answer under the key if, and only if, the change was made: also where a COMMIT got no answer,
or the manager died right after it, and also where the call is sent to two managers at once. Who comes second
waits for the row, then finds it taken, changes nothing, and is told what the first was told. A call that is
refused has changed nothing and leaves no row: the same key may be used for it again.

Which call a change is made for goes by the context, as the lease's token does (services/books.py). Keys are
known to the database by their SHA-256, and answers are sealed with a key of the stage's and this one
together: some hold tokens.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from controlplane.domain.managers.model import KeptAnswer
from controlplane.errors import BadRequest, Conflict
from controlplane.ports.store import Store, Taken, Transaction
from controlplane.services.tokens import Tokens, sha256
from controlplane.wire.base import Message

_AGAIN_S = 1  # until what is under way is asked for again


class AnsweredBefore(Exception):
    """What this call asks for has been done for the one that came first; nothing was changed."""


@dataclass(slots=True, eq=False)
class Call:
    """One that came with a key."""

    key: str
    asked: str  # SHA-256 of what it asks for
    tokens: Tokens
    id: str = field(init=False)  # SHA-256 of the key
    taken: bool = False  # a change was made for it, or is being made

    def __post_init__(self) -> None:
        self.id = sha256(self.key)

    async def begin(self, tx: Transaction) -> None:
        """First in the change's transaction. Raises AnsweredBefore."""
        try:
            await tx.begin_answer(self.id, self.asked)
        except Taken as error:
            raise AnsweredBefore(self.id) from error

    async def keep(self, tx: Transaction, answer: Message | None) -> None:
        """Last in it."""
        said = "" if answer is None else answer.model_dump_json()
        await tx.keep_answer(self.id, self.tokens.seal(self.key, said))


_call: ContextVar[Call | None] = ContextVar("call", default=None)


def call_to_answer() -> Call | None:
    """The call that a change is the first to be made for; None where there is none, or it has one."""
    call = _call.get()
    if call is None or call.taken:
        return None
    call.taken = True
    return call


class Repeats:
    def __init__(self, store: Store, tokens: Tokens) -> None:
        self._store = store
        self._tokens = tokens
        self._under_way: dict[str, str] = {}  # here: SHA-256 of a key -> of what is asked for

    def call(self, key: str, method: str, target: str, body: bytes) -> Call:
        """`target`: path and query."""
        asked = sha256(f"{method} {target} {hashlib.sha256(body).hexdigest()}")
        return Call(key, asked, self._tokens)

    @contextlib.contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """What is changed within is changed for this call. Raises Conflict while another of its key is being
        answered here, and BadRequest where that asks for something else."""
        if (asked := self._under_way.get(call.id)) is not None:
            self._check_same(asked, call)
            raise Conflict(
                "A call with this Idempotency-Key is being answered. Ask again in a second.",
                code="key_under_way",
                title="The same is under way",
                retry_after_s=_AGAIN_S,
            )
        self._under_way[call.id] = call.asked
        before = _call.set(call)
        try:
            yield
        finally:
            _call.reset(before)
            del self._under_way[call.id]

    async def answered(self, call: Call) -> str | None:
        """The body that the first call of this key was answered with; None where there was none.

        Raises BadRequest where it asked for something else, StoreBusy.
        """
        kept: KeptAnswer | None = await self._store.read(lambda tx: tx.kept_answer(call.id))
        if kept is None:
            return None
        self._check_same(kept.asked, call)
        return self._tokens.unseal(call.key, kept.answer)

    @staticmethod
    def _check_same(asked: str, call: Call) -> None:
        if asked != call.asked:
            raise BadRequest(
                "Another call came with this Idempotency-Key before. Make a new key for each call, and send "
                "one again only as it was. Nothing was changed.",
                code="key_reused",
                title="The key is another call's",
                status=422,
            )
