"""One socket in the loop: everything that comes is handed on whole, also what the kernel coalesced."""

import asyncio
import errno
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.session import Address
from media.drive.udp import PortError, UdpEndpoint, bind
from media.fanout.sender import SOL_UDP, UDP_SEGMENT, kernel_has_gso
from tests.support.wait import wait_for


class Sink:
    """Collects what an endpoint hands on."""

    def __init__(self, sock: socket.socket, *, gro: bool = False) -> None:
        self.got: list[tuple[bytes, Address]] = []
        self.drained = 0
        self.takes_runs = False
        self.runs: list[tuple[bytes, int]] = []
        loop = asyncio.get_running_loop()
        self.endpoint = UdpEndpoint(loop, sock, self._take, self._drain, on_run=self._run if gro else None)

    def _take(self, data: bytes, source: Address, now: float) -> None:
        self.got.append((data, source))

    def _run(self, data: memoryview, stride: int, source: Address, now: float) -> bool:
        if self.takes_runs:
            self.runs.append((bytes(data), stride))
            data[:] = bytes(len(data))  # it may do what it likes with it
        return self.takes_runs

    def _drain(self, now: float) -> None:
        self.drained += 1

    async def count(self, wanted: int) -> None:
        await wait_for(lambda: len(self.got) >= wanted, 5, f"{wanted} datagrams", interval=0.005)


@pytest.mark.parametrize("gro", [False, True])
async def test_a_segmented_send_arrives_as_the_datagrams_it_was_made_of(gro: bool) -> None:
    sink = Sink(bind(None, dual_stack=False), gro=gro)
    sizes = [1200] * 9 + [333]
    parts = [bytes([n]) * size for n, size in enumerate(sizes)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx:
        tx.bind(("127.0.0.1", 0))
        target = ("127.0.0.1", sink.endpoint.port)
        if kernel_has_gso(tx):
            segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", 1200))]
            for _ in range(2):  # twice: what is left of the first read must not show in the second
                tx.sendmsg([b"".join(parts)], segment, 0, target)
                tx.sendmsg([b"short"], [], 0, target)
        else:
            for part in [*parts, b"short"] * 2:
                tx.sendto(part, target)
        await sink.count(22)
        assert [data for data, _ in sink.got] == [*parts, b"short"] * 2
        assert {source for _, source in sink.got} == {tx.getsockname()}
        assert sink.drained >= 1
        assert sink.endpoint.datagrams_received == 22
        assert sink.endpoint.bytes_received == 2 * (sum(sizes) + 5)
    sink.endpoint.close()
    assert sink.endpoint.closed
    assert not sink.endpoint.send(b"late", target)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 1400), st.integers(1, 40), st.integers(0, 1400)), max_size=4),
    takes_runs=st.booleans(),
)
def test_however_it_was_segmented_it_is_taken_apart_alike(
    sizes: list[tuple[int, int, int]], takes_runs: bool
) -> None:
    """Messages of so many segments of one size, and a last one that is no longer."""

    async def sent_and_got() -> tuple[list[bytes], list[bytes]]:
        sink = Sink(bind(None, dual_stack=False), gro=True)
        sink.takes_runs = takes_runs
        sent: list[bytes] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx:
            if not kernel_has_gso(tx):
                pytest.fail("this kernel has no UDP_SEGMENT")
            for number, (size, count, last) in enumerate(sizes):
                parts = [bytes([number * 40 + index]) * size for index in range(count)]
                parts += [b"\xff" * min(last, size)] * (last > 0)
                segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", size))]
                tx.sendmsg([b"".join(parts)], segment, 0, ("127.0.0.1", sink.endpoint.port))
                sent += parts
        await wait_for(
            lambda: sink.endpoint.datagrams_received >= len(sent), 5, f"{len(sent)} datagrams", interval=0.001
        )
        sink.endpoint.close()
        got = [data for data, _ in sink.got]
        for data, stride in sink.runs:
            assert len(data) > stride
            got += [data[at : at + stride] for at in range(0, len(data), stride)]
        return sent, got

    sent, got = asyncio.run(sent_and_got())
    assert sorted(got) == sorted(sent) if takes_runs else got == sent


async def test_what_the_kernel_coalesced_is_offered_whole_and_a_single_datagram_is_not() -> None:
    sink = Sink(bind(None, dual_stack=False), gro=True)
    sink.takes_runs = True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx:
        target = ("127.0.0.1", sink.endpoint.port)
        if not kernel_has_gso(tx):
            pytest.fail("this kernel has no UDP_SEGMENT")
        tx.sendmsg([b"abcdefghij"], [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", 4))], 0, target)
        tx.sendto(b"alone", target)
        await sink.count(1)
    assert sink.runs == [(b"abcdefghij", 4)]
    assert [data for data, _ in sink.got] == [b"alone"]
    assert (sink.endpoint.datagrams_received, sink.endpoint.bytes_received) == (4, 15)
    sink.endpoint.close()


async def test_a_dual_stack_socket_knows_ipv4_peers_by_their_usual_address() -> None:
    sink = Sink(bind(None, dual_stack=True))  # an IPv4 socket where the kernel has no IPv6
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        four.bind(("127.0.0.1", 0))
        four.settimeout(2)
        four.sendto(b"hello", ("127.0.0.1", sink.endpoint.port))
        await sink.count(1)
        ((_, source),) = sink.got
        assert source == four.getsockname()
        assert sink.endpoint.send(b"answer", source)
        assert four.recv(100) == b"answer"
    sink.endpoint.close()


async def test_however_many_hosts_send_few_are_kept_and_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.drive.udp.HOSTS_KEPT", 2)
    sink = Sink(bind(None, dual_stack=True))
    sent: list[tuple[bytes, Address]] = []
    for number in (1, 2, 3, 4, 3, 2, 1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
            four.bind((f"127.0.0.{number}", 0))
            four.sendto(bytes((number,)), ("127.0.0.1", sink.endpoint.port))
            sent.append((bytes((number,)), four.getsockname()))
    await sink.count(len(sent))
    assert sink.got == sent
    assert len(sink.endpoint._hosts) <= 2
    sink.endpoint.close()


async def test_an_ipv4_socket_cannot_reach_ipv6_and_says_so() -> None:
    sink = Sink(bind(None, dual_stack=False))
    assert not sink.endpoint.send(b"x", ("::1", 9))
    sink.endpoint.close()


async def test_an_endpoint_closed_by_a_datagram_reads_no_further() -> None:
    sock = bind(None, dual_stack=False)
    got: list[bytes] = []

    def close_it(data: bytes, source: Address, now: float) -> None:
        got.append(data)
        endpoint.close()

    endpoint = UdpEndpoint(asyncio.get_running_loop(), sock, close_it, lambda now: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx:
        for _ in range(3):
            tx.sendto(b"x", ("127.0.0.1", endpoint.port))
    await wait_for(lambda: got, 5, "the first datagram", interval=0.005)
    assert got == [b"x"]


def test_without_ipv6_in_the_kernel_ipv4_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr("media.drive.udp.socket.socket", without_ipv6)
    with bind(None, dual_stack=True) as sock:
        assert sock.family == socket.AF_INET


def test_a_port_in_use_says_what_to_do() -> None:
    with bind(None, dual_stack=False) as sock:
        port = sock.getsockname()[1]
        assert 20_000 <= port < 30_000
        with pytest.raises(PortError, match=f"UDP port {port} .*--udp-port"):
            bind(port, dual_stack=False)
        with bind(None, dual_stack=False) as other:
            assert other.getsockname()[1] != port


async def test_a_handler_that_fails_holds_up_nothing_that_came_with_it() -> None:
    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    got: list[bytes] = []

    def take(data: bytes, source: Address, now: float) -> None:
        if data == b"\x00":
            raise RuntimeError("of no use")
        got.append(data)

    endpoint = UdpEndpoint(loop, bind(None, dual_stack=False), take, lambda now: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx:
        for number in range(5):
            tx.sendto(bytes((number,)), ("127.0.0.1", endpoint.port))
    await wait_for(lambda: len(got) == 4, 5, "the four others", interval=0.005)
    assert got == [b"\x01", b"\x02", b"\x03", b"\x04"]
    assert [str(failure) for failure in failures] == ["of no use"]
    endpoint.close()
