"""Composition root of the encoder process. Its one argument is JSON, written by the publisher."""

import contextlib
import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from typing import Any, BinaryIO

from media.publisher.encoder.show import Orders, Show
from media.publisher.pipe import Item, Kind, Order, pack_header, read_order
from media.publisher.sources.open import open_source
from media.publisher.sources.port import SourceRejected


def _read_orders(stream: BinaryIO, orders: Orders) -> None:
    """Runs in a thread of its own until the publisher has gone; then the show stops."""
    while order := read_order(stream):
        kind, value = order
        with orders.changed:
            if kind is Order.GO:
                orders.zero = value
            elif kind is Order.KEY_FRAME:
                orders.key_frame = True
            elif kind is Order.BITRATE:
                orders.bitrate = value
            orders.changed.notify_all()
    with orders.changed:
        orders.stop = True
        orders.changed.notify_all()


def main(argv: list[str]) -> int:
    # The publisher decides when this ends, by closing the pipe: also where somebody signals a whole session.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # Items go to a descriptor of their own, so that nothing a library prints can land among them.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def write(item: Item) -> None:
        data = memoryview(pack_header(item) + item.payload)
        while data:
            data = data[out.write(data) :]

    settings: dict[str, Any] = json.loads(argv[0])
    orders = Orders()
    with contextlib.suppress(BrokenPipeError):  # the publisher has gone, and with it the reason to go on
        try:
            source = open_source(settings)
        except SourceRejected as error:
            write(Item(Kind.REJECTED, json.dumps({"what": error.what, "next": error.next_step}).encode()))
            return 1
        show = Show(source, settings["codec"], float(settings["bitrate"]), orders, write)
        write(Item(Kind.READY, json.dumps(asdict(source.info)).encode()))
        reader = threading.Thread(target=_read_orders, args=(sys.stdin.buffer, orders), daemon=True)
        reader.start()
        try:
            show.run()
        finally:
            source.close()
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # A daemon thread may still wait inside read() or a decoder: leave without joining it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
