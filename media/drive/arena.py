"""Memory of its own for what is used side by side: each frame reads the SRTP contexts of all viewers.

A context is two or three thousand bytes in a dozen pieces. Made where a viewer joins, they lie among what
the handshakes of others took and left, and to find them costs the sender of a small packet a sixth of its
time (docs/decisions/0015). glibc gives each thread an arena of its own (glibc manual, "The GNU Allocator"),
so what one thread makes, and that does nothing else, lies close together. On another libc it does no harm.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Arena:
    """Calls functions in a thread of its own, one at a time; what they allocate lies together."""

    def __init__(self, name: str) -> None:
        """Raises RuntimeError where no thread can be started."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread.submit(int).result()  # it starts now, and not when the first viewer joins

    def __call__(self, make: Callable[[], T]) -> T:
        """What `make()` returns, or raises. The caller waits; changing threads is 50 us of processor time."""
        return self._thread.submit(make).result()
