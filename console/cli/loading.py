"""A Ctrl-C while the program loads, and nothing has been started."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(130)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """In it a Ctrl-C ends the process at once with 130, unless it is ignored (`nohup` and `&`) or handled.

    A KeyboardInterrupt is no good there: in the middle of loading an exception may be swallowed.
    """
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
