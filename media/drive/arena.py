"""Memory of its own for what is used side by side: each frame reads the SRTP contexts of all viewers.

A context is two or three thousand bytes in a dozen pieces. Made where a viewer joins, they lie among what
the handshakes of others took and left, and to find them costs the sender of a small packet a sixth of its
time (docs/decisions/0015). glibc gives each thread an arena of its own (glibc manual, "The GNU Allocator"),
so what one thread makes, and that does nothing else, lies close together. On another libc it does no harm.
"""

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Asked = SimpleQueue[Callable[[], Any] | None]  # None: no more
_Made = SimpleQueue[tuple[Any, BaseException | None]]


class Arena:
    """Calls functions in a thread of its own, one at a time; what they allocate lies together."""

    def __init__(self, name: str) -> None:
        """Raises RuntimeError where no thread can be started."""
        self._asked: _Asked = SimpleQueue()
        self._made: _Made = SimpleQueue()
        threading.Thread(target=_serve, args=(self._asked, self._made), name=name, daemon=True).start()
        weakref.finalize(self, self._asked.put, None)  # the thread knows the queues alone

    def __call__(self, make: Callable[[], T]) -> T:
        """What `make()` returns, or raises. For one thread; it waits.

        Two queues, and no future for each call: a viewer joins, and its worker's memory is cold.
        """
        self._asked.put(make)
        made, error = self._made.get()
        if error is None:
            return made  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error  # which knows this frame by now: a circle


def _serve(asked: _Asked, made: _Made) -> None:
    while (make := asked.get()) is not None:
        try:
            result = make()
        except BaseException as error:  # whatever it is, who asked is told
            made.put((None, error))
        else:
            made.put((result, None))
            del result  # or it would live until somebody asks again
        del make
