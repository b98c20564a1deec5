"""Where `showcaller` begins: before it has loaded anything, so that a Ctrl-C while it loads is quiet.

Loading takes a tenth of a second and more, and nothing has been started by then: a Ctrl-C ends the process
at once with 130, the code of an interrupted command. From then on it is a KeyboardInterrupt, which the
commands handle in their own ways.
"""

import os
import signal
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(130)


def main() -> int:
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # `nohup` and `&` ignore it
    if handled:
        signal.signal(signal.SIGINT, _end)
    from console.cli.main import main as run

    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
