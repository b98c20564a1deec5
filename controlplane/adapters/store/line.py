"""A write in line, on whatever database: what it is to do, whom to tell, and how it ended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from controlplane.adapters.store.sql import SqlTransaction

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
