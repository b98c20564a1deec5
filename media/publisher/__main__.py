"""`python -m media.publisher`: composition root of the media loop. `showcaller publish` runs this.

Everything heavy is loaded after the signals are taken care of: Ctrl-C is the normal end at any moment.
"""

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from media.publisher.options import Options


def _not_begun(*_: object) -> NoReturn:
    sys.exit(0)


async def _run(options: "Options") -> int:
    import asyncio

    loop = asyncio.get_running_loop()

    def heard(number: int, _: object) -> None:
        reason = f"stopped ({signal.Signals(number).name})"
        if not loop.is_closed():  # else the end has come already
            loop.call_soon_threadsafe(lambda: broadcast.end(reason))

    # Before anything is awaited: a signal that comes while we load is heard when the loop turns. Not through
    # the loop's own handlers, which Windows' loop does not have; nor has Windows a SIGHUP.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), heard)
    from media.publisher.broadcast import Broadcast  # aiortc takes a while: wrong words are answered before

    broadcast = Broadcast(options)
    return await broadcast.run()


def _go(options: "Options") -> int:
    import asyncio
    import os

    from controlplane.wire import processes

    folder = options.run_dir / "processes" if options.run_dir and options.name else None
    if folder and options.name:
        processes.record_self_or_child(folder, options.name, "publisher", os.getpid())
    try:
        return asyncio.run(_run(options))
    finally:
        if folder and options.name:
            processes.remove(folder, options.name)


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGINT, _not_begun)
    if hasattr(signal, "pthread_sigmask"):  # a command that became us holds it back until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from media.publisher import logs
    from media.publisher.errors import PublishError, Refused
    from media.publisher.options import parse
    from media.publisher.sources.open import check_words
    from media.publisher.sources.port import SourceRejected

    try:
        options = parse(argv)
        logs.set_up(options.log_json)
        try:
            check_words(options.source, options.copy)
        except SourceRejected as error:
            raise Refused(error.what, error.next_step) from None
        return _go(options)
    except PublishError as error:
        logs.tell_error(error, "--json" in argv)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
