"""One TCP port for many workers: every connection finds the worker whose session its first check names."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.address import Address, TcpAddress
from media.core.framing import Deframer, frame
from media.core.sdp import IceCredentials, new_credentials
from media.drive import tcp
from media.drive.handover import Handover, marked, worker_of
from media.drive.tcp import TcpEndpoint, listen
from media.drive.timers import Timers
from media.drive.udp import PortError
from tests.media.drive.test_tcp import check
from tests.support.need import need_root
from tests.support.wait import wait_for

FIRST, SECOND = 20_001, 20_002  # UDP ports of the workers


class Worker:
    """An endpoint on a shared port that answers each packet with its own number."""

    def __init__(self, udp_port: int, shared: int) -> None:
        loop = asyncio.get_running_loop()
        self.udp_port = udp_port
        self.got: list[bytes] = []
        self.timers = Timers(loop)
        self.endpoint = TcpEndpoint(
            loop, self.timers, self._take, lambda now: None, lambda address, now: None, most=1000
        )
        self.listener = listen(shared, dual_stack=False, shared=True)
        self.port: int = self.listener.getsockname()[1]
        try:
            self.endpoint.add(self.listener, shared_by=(os.geteuid(), udp_port))
        except PortError:
            self.listener.close()
            raise

    def _take(self, data: bytes, source: Address, now: float) -> None:
        self.got.append(data)
        assert isinstance(source, TcpAddress)
        self.endpoint.prove(source)
        self.endpoint.send(str(self.udp_port).encode(), source)

    def accepts_no_more(self) -> None:
        """The kernel hands it no connections from now on; others may."""
        self.endpoint.loop.remove_reader(self.listener.fileno())
        self.endpoint._listeners.remove(self.listener)
        self.listener.close()

    def close(self) -> None:
        self.endpoint.close()
        self.timers.close()


@pytest.fixture
async def workers() -> AsyncIterator[tuple[Worker, Worker]]:
    first = Worker(FIRST, 0)
    second = Worker(SECOND, first.port)
    yield first, second
    second.close()
    first.close()


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def check_for(udp_port: int) -> bytes:
    credentials = marked(new_credentials(os.urandom), udp_port)
    return check(f"{credentials.ufrag}:theirs")


async def ask(sockets: ExitStack, port: int, *packets: bytes) -> list[bytes]:
    """Connect, say these, and hear as many answers; fewer when it is closed."""
    loop = asyncio.get_running_loop()
    sock = sockets.enter_context(closing(socket.socket()))
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b"".join(map(frame, packets)))
    deframer, answers = Deframer(), []
    while len(answers) < len(packets):
        try:
            data = await asyncio.wait_for(loop.sock_recv(sock, 65536), 5)
        except ConnectionResetError:
            break
        if not data:
            break
        answers += deframer.feed(data)
    return answers


async def test_a_connection_ends_up_at_its_own_worker_whoever_accepts_it(
    workers: tuple[Worker, Worker], sockets: ExitStack
) -> None:
    first = workers[0]
    for _ in range(20):
        for owner in (FIRST, SECOND):
            said = (check_for(owner), b"\x80media", b"\x80more media")
            assert await ask(sockets, first.port, *said) == [str(owner).encode()] * 3
    for worker in workers:
        assert len(worker.got) == 60
        assert worker.got[1::3] == [b"\x80media"] * 20
    passed_on = [worker.endpoint.passed_on for worker in workers]
    assert sum(passed_on) > 0, "the kernel spreads forty connections over both"
    assert all(len(worker.endpoint) == 20 for worker in workers)
    assert sum(worker.endpoint.accepted for worker in workers) == 40


async def test_what_names_no_worker_stays_with_who_accepted_it_and_one_that_is_gone_is_closed(
    workers: tuple[Worker, Worker], sockets: ExitStack
) -> None:
    first, second = workers
    assert await ask(sockets, first.port, check("zzzzother:theirs")) in ([b"20001"], [b"20002"])
    assert await ask(sockets, first.port, check_for(20_003)) == []
    assert first.endpoint.given_up + second.endpoint.given_up == 1
    second.close()
    assert await ask(sockets, first.port, check_for(SECOND)) == []
    assert await ask(sockets, first.port, check_for(FIRST)) == [b"20001"]


async def test_a_worker_with_too_many_waiting_is_tried_again(
    workers: tuple[Worker, Worker], sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    second.accepts_no_more()
    monkeypatch.setattr(tcp, "PASS_AGAIN", 0.01)
    refused = 0
    real = Handover.pass_on

    def full_at_first(self: Handover, connection: socket.socket, read: bytes, owner: int) -> bool:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise BlockingIOError
        return real(self, connection, read, owner)

    monkeypatch.setattr(Handover, "pass_on", full_at_first)
    assert await ask(sockets, first.port, check_for(SECOND)) == [b"20002"]
    assert refused == 3
    assert first.endpoint.passed_on == 1
    assert len(first.endpoint) == 0


async def test_one_that_waits_for_its_worker_is_a_stranger_all_the_same(
    workers: tuple[Worker, Worker], sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    second.accepts_no_more()
    monkeypatch.setattr(tcp, "PROVE_WITHIN", 0.1)

    def full(*_: object) -> bool:
        raise BlockingIOError

    monkeypatch.setattr(Handover, "pass_on", full)
    assert await ask(sockets, first.port, check_for(SECOND)) == []
    assert first.endpoint.strangers == len(first.endpoint) == 0
    assert len(first.timers) == 0


async def test_the_name_of_a_worker_is_had_once(workers: tuple[Worker, Worker]) -> None:
    first, _ = workers
    with pytest.raises(PortError, match="has the name of the worker with port 20001"):
        Worker(FIRST, first.port)


def test_nothing_is_taken_from_a_process_of_another_user() -> None:
    need_root("a process of another user")
    script = (
        "import array, os, socket, sys\n"
        "name, own = sys.argv[1], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "given = socket.socket()\n"
        "rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [given.fileno()]))\n"
        "os.setuid(int(sys.argv[2]))\n"
        "own.sendmsg([b'read'], [rights], 0, '\\0' + name)\n"
    )
    name = f"showcaller-tcp/{os.geteuid()}/444/{FIRST}"

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        got: list[bytes] = []
        descriptors = len(os.listdir("/proc/self/fd"))
        handover = Handover(
            loop, os.geteuid(), 444, FIRST, lambda sock, read: (got.append(read), sock.close())
        )
        for user in (65_534, os.geteuid()):
            command = [sys.executable, "-I", "-c", script, name, str(user)]
            await asyncio.to_thread(subprocess.run, command, check=True)
        await wait_for(lambda: got, 5, "what our own user sends is taken", interval=0.005)
        handover.close()
        await loop.shutdown_default_executor()
        assert len(os.listdir("/proc/self/fd")) == descriptors, "what was not taken is closed"
        return got

    assert asyncio.run(main()) == [b"read"]


@given(st.binary(max_size=300))
def test_no_datagram_raises(data: bytes) -> None:
    assert worker_of(data) is None or 0 <= worker_of(data) <= 0xFFFF


@given(st.integers(min_value=1, max_value=65_535), st.binary(min_size=24, max_size=24))
def test_the_mark_is_read_back(port: int, random: bytes) -> None:
    credentials = marked(new_credentials(lambda count: random[:count]), port)
    assert worker_of(check(f"{credentials.ufrag}:theirs")) == port
    assert 4 <= len(credentials.ufrag) <= 256


@pytest.mark.parametrize("name", ["", "abc", "ABCDtheirs:x", "12g4abcd:x", "½½½½:x", "1 23:x"])
def test_another_ufrag_names_no_worker(name: str) -> None:
    assert worker_of(check(name)) is None


def test_the_password_is_not_touched() -> None:
    assert marked(IceCredentials("abcd", "secret" * 4), 20_000) == IceCredentials("4e20abcd", "secret" * 4)
