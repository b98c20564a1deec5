"""`python -m media.node`: one node, origin or edge. Exits 0 when told to end, 1 when it could not start.

Everything is loaded after the signals are taken care of: until the agent takes them (`Agent.run`), Ctrl-C
ends the process at once with 130. Nothing has been enrolled by then, and workers end when their pipe closes.
"""

import os
import signal
import sys


def _not_begun(*_: object) -> None:
    os._exit(130)


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, _not_begun)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a command that became us held it back
    from media.node.start import start

    return start(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
