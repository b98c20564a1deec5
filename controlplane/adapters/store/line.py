"""The line that writes wait in, on whatever database: what each is to do, whom to tell, and how it ended.

One task runs while somebody is in line, and takes those at its head into one transaction after the other.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from controlplane.adapters.store.sql.transaction import SqlTransaction

T = TypeVar("T")
Work = Callable[[SqlTransaction], Awaitable[T]]


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    work: Work[T]
    after: Callable[[T], None] | None
    first: bool
    since: float  # the loop's time
    answer: "asyncio.Future[T]"
    result: Any = None
    error: BaseException | None = None

    def say(self) -> None:
        """After the commit: tell who must know, and answer."""
        if self.error is None and self.after is not None:
            try:
                self.after(self.result)
            except Exception as error:  # whoever asked for it is told; the others are not concerned
                self.error = error
        if self.error is not None:
            self.fail(self.error)
        elif not self.answer.done():  # cancelled: nobody waits any more
            self.answer.set_result(self.result)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


W = TypeVar("W", bound=Waiting[Any])


class Line(Generic[W]):
    def __init__(self, kind: Callable[..., W], transaction: Callable[[], Awaitable[None]]) -> None:
        """`kind` makes one who waits; `transaction` takes some from the head of the line, at least one, and
        tells each of them how it ended."""
        self.waiting: deque[W] = deque()
        self.runner: asyncio.Task[None] | None = None
        self._kind = kind
        self._transaction = transaction

    async def write(self, work: Work[T], after: Callable[[T], None] | None, first: bool) -> T:
        """Wait until it was done, and committed. As ports.store.Store.write."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self.waiting.append(self._kind(work, after, first, loop.time(), answer))
        if self.runner is None:
            self.runner = loop.create_task(self._run(), name="store")
        return await answer

    async def _run(self) -> None:
        try:
            while self.waiting:
                await self._transaction()
        finally:
            self.runner = None
