"""Many UDP sockets that are read and forgotten: `python bench/rows/_sink.py COUNT`, until stdin closes.

Prints the ports as JSON. The sockets are set as a swarm's are (UDP_GRO, time stamps), so that what the kernel
does for a send on loopback is the same.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator

from media.swarm.crowd import RECEIVE_BYTES, SO_TIMESTAMPNS, SOL_UDP, UDP_GRO
from media.swarm.part import allow_sockets


@contextlib.contextmanager
def sinks(count: int) -> Iterator[list[int]]:
    """The ports of so many sockets of a process of its own."""
    allow_sockets(count)
    words = [sys.executable, "-m", "bench.rows._sink", str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdin is not None
        assert sink.stdout is not None
        try:
            yield json.loads(sink.stdout.readline())
        finally:
            sink.stdin.close()
            sink.wait(10)


def main(count: int) -> None:
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind(("127.0.0.1", 0))
        sockets[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    print(json.dumps([sock.getsockname()[1] for sock in sockets.values()]), flush=True)
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    view = memoryview(bytearray(65536))
    while True:
        for number, _ in poll.poll():
            sock_or_none = sockets.get(number)
            if sock_or_none is None:
                return
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock_or_none.recvmsg_into([view], 128)


if __name__ == "__main__":
    main(int(sys.argv[1]))
