"""Where `showcaller` begins: before it has loaded anything, so that a Ctrl-C while it loads is quiet.

Loading takes a tenth of a second and more, and nothing has been started by then: a Ctrl-C ends the process
at once with 130, the code of an interrupted command. From then on it is a KeyboardInterrupt, which the
commands handle in their own ways. What loads more before it starts anything does so in `loading` too: an
exception that comes up in the middle of it may be swallowed, and a Ctrl-C with it.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(130)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """In it a Ctrl-C ends the process at once, unless it is ignored (`nohup` and `&`) or handled already."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    with loading():
        from console.cli.main import main as run
    return run()
