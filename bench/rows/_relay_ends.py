"""The receiving ends of the relay row: `python -m bench.rows._relay_ends edge | plain`, until stdin closes.

Orders come as JSON lines on stdin, answers leave as such on stdout.

    edge    an edge's engine as a worker has it. It subscribes to a channel because somebody wants to watch
            it; who wants to is answered and never heard of again, so nothing goes out
    plain   a socket that is read a datagram at a time

Both answer {"op": "count"} with the CPU seconds of this process and the bytes that came in, since its start.
"""

import asyncio
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog

from controlplane.wire.nodes import Role, SessionKind
from media.core.certificate import Certificate
from media.core.sdp import LocalDescription, make_relay_offer, new_credentials
from media.drive.loop import new_loop
from media.drive.udp import bind
from media.node.collector import spare_the_packets
from media.node.engine import Engine

RECEIVE_BYTES = 64 << 20  # all of a round, should this end be late
SO_RCVBUFFORCE = 33  # beyond the limit for everybody: socket(7)


@contextmanager
def no_log() -> Iterator[None]:
    """What engines would write to a node's log is not written."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _count(received: int) -> dict[str, Any]:
    return {"ev": "count", "cpu": time.process_time(), "bytes": received}


def _a_viewers_offer() -> str:
    certificate = Certificate.generate(datetime.now(UTC))
    credentials = new_credentials(os.urandom)
    return make_relay_offer(
        LocalDescription(credentials, certificate.fingerprint, [("127.0.0.1", 9)], secrets.randbits(63))
    )


async def edge() -> None:
    loop = asyncio.get_running_loop()
    engine = Engine(loop, Role.EDGE, bind(None, dual_stack=False), ["127.0.0.1"], _say)
    offer = _a_viewers_offer()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async for line in orders:
        order = json.loads(line)
        match order["op"]:
            case "watch":
                for channel in order["channels"]:
                    engine.create(secrets.token_hex(8), SessionKind.WHEP, channel, offer)
            case "subscribed":
                engine.subscribed(order["channel"], order["attempt"], order["session"], order["answer"])
            case "count":
                report = engine.report()
                whole = all(row["state"] == "live" and not row["loss"] for row in report["streams"])
                _say(_count(report["received"]) | {"whole": whole, "streams": len(report["streams"])})
    engine.shutdown("the bench is over")


def plain() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        sock.bind(("127.0.0.1", 0))
        _say({"ev": "port", "port": sock.getsockname()[1]})
        received = 0

        def read() -> None:
            nonlocal received
            receive = sock.recv
            while data := receive(2048):  # an empty datagram is the end
                received += len(data)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in sys.stdin:  # nothing but "count"
            _say(_count(received))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"", sock.getsockname())
        reader.join()


if __name__ == "__main__":
    if sys.argv[1] == "edge":
        with no_log(), asyncio.Runner(loop_factory=new_loop) as runner:
            spare_the_packets()
            runner.run(edge())
    else:
        plain()
