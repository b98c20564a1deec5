"""TCP connections in the loop: strangers are few and short-lived, frames and queues bounded, ends clean."""

import asyncio
import errno
import itertools
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from media.core import stun
from media.core.address import Address, TcpAddress
from media.core.framing import Deframer, frame
from media.drive import connection, tcp
from media.drive.tcp import TcpEndpoint, bind_both, listen
from media.drive.timers import Timers
from media.drive.udp import PortError, bind
from tests.support.wait import wait_for


def check(name: str = "ufrag:theirs") -> bytes:
    """A STUN request that nobody has authenticated yet."""
    attribute = (stun.Attribute.USERNAME, name.encode())
    return stun.Message(stun.Class.REQUEST, b"t" * 12, (attribute,)).to_bytes(b"a key of nobody")


class Sink:
    """An endpoint with one listener, and all it hands on."""

    def __init__(self, most: int = 1000, *, dual_stack: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.got: list[tuple[bytes, Address]] = []
        self.lost: list[TcpAddress] = []
        self.timers = Timers(loop)
        self.endpoint = TcpEndpoint(
            loop, self.timers, self._take, lambda now: None, lambda a, now: self.lost.append(a), most=most
        )
        udp, listener = bind_both(None, dual_stack=dual_stack)
        udp.close()
        self.endpoint.add(listener)
        self.port: int = listener.getsockname()[1]
        self.proves = True  # whatever comes is an authentic check

    def _take(self, data: bytes, source: Address, now: float) -> None:
        self.got.append((data, source))
        if self.proves and isinstance(source, TcpAddress):
            self.endpoint.prove(source)

    async def packets(self, count: int) -> list[bytes]:
        await wait_for(lambda: len(self.got) >= count, 5, f"{count} packets", interval=0.005)
        return [data for data, _ in self.got]

    async def connections(self, count: int) -> None:
        await wait_for(lambda: len(self.endpoint) == count, 5, f"{count} connections", interval=0.005)

    async def client(self, *packets: bytes, host: str = "127.0.0.1") -> "Client":
        client = Client(host, self.port)
        await client.connect()
        if packets:
            await client.send(b"".join(map(frame, packets)))
        return client

    def close(self) -> None:
        self.endpoint.close()
        self.timers.close()


class Client:
    """A peer's end of one connection."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._target = (host, port)
        self._deframer = Deframer()

    async def connect(self) -> None:
        await self._loop.sock_connect(self.socket, self._target)

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(self._loop.sock_sendall(self.socket, data), 5)

    async def receive(self, most: int = 65536) -> list[bytes]:
        """Packets of one read; empty when the other side has closed."""
        data = await asyncio.wait_for(self._loop.sock_recv(self.socket, most), 5)
        return self._deframer.feed(data)

    async def is_closed(self, within: float = 5.0) -> bool:
        """Wait for the other side to end it, whatever it still says."""
        try:
            while await asyncio.wait_for(self._loop.sock_recv(self.socket, 65536), within):
                pass
        except ConnectionResetError:
            return True
        return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_packets_come_whole_with_the_address_of_their_connection(sink: Sink) -> None:
    one, two = await sink.client(check()), await sink.client(check())
    await sink.packets(2)
    media = [b"\x80" * size for size in (1, 1200, 2048)]
    stream = b"".join(map(frame, media))
    for start in range(0, len(stream), 700):
        await one.send(stream[start : start + 700])
    await sink.packets(5)
    first = sink.got[0][1]
    assert isinstance(first, TcpAddress)
    assert (first.host, first.port) == one.socket.getsockname()
    assert [data for data, source in sink.got if source == first] == [check(), *media]
    assert len({source for _, source in sink.got}) == 2
    assert sink.endpoint.send(b"answer", first)
    assert await one.receive() == [b"answer"]
    assert sink.endpoint.datagrams_received == 5
    assert sink.endpoint.bytes_received == 2 * len(frame(check())) + len(stream)
    assert sink.endpoint.bytes_sent == len(frame(b"answer"))
    one.close()
    await wait_for(lambda: sink.lost == [first], 5, "its end is told", interval=0.005)
    assert not sink.endpoint.send(b"late", first)
    two.close()
    await sink.connections(0)


async def test_over_ipv6_and_over_ipv4_of_a_dual_stack_listener() -> None:
    sink = Sink(dual_stack=True)
    four, six = await sink.client(check()), await sink.client(check(), host="::1")
    await sink.packets(2)
    assert {source[0] for _, source in sink.got} == {"127.0.0.1", "::1"}
    four.close()
    six.close()
    sink.close()


async def test_a_connection_that_proves_nothing_is_closed_and_told_nothing(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "PROVE_WITHIN", 0.2)
    sink.proves = False
    silent, forger = await sink.client(), await sink.client(check(), check())
    await sink.packets(2)
    assert sink.endpoint.strangers == 2
    for client in (silent, forger):
        assert await client.receive() == []
        client.close()
    assert sink.endpoint.strangers == len(sink.endpoint) == 0
    assert sink.lost == [], "no session had it"
    assert sink.endpoint.given_up == 2


async def test_who_has_proven_itself_may_be_silent(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "PROVE_WITHIN", 0.05)
    client = await sink.client(check())
    await sink.packets(1)
    late = asyncio.Event()
    sink.timers.set("later than that", sink.endpoint.now() + 0.2, lambda now: late.set())
    await asyncio.wait_for(late.wait(), 5)
    await client.send(frame(b"\x80media"))
    assert (await sink.packets(2))[1] == b"\x80media"
    client.close()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # its first two bytes are a length of 18,245
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"\xff\xff",
        frame(b"\x80media") * (tcp.STRANGER_PACKETS + 1),
    ],
)
async def test_who_speaks_another_protocol_is_closed_at_once(sink: Sink, said: bytes) -> None:
    client = await sink.client()
    await client.send(said)
    assert await client.is_closed()
    assert sink.got == []
    assert len(sink.endpoint) == 0
    client.close()


async def test_what_is_no_check_is_passed_over_until_there_is_one(sink: Sink) -> None:
    early = [b"\x16\xfe\xfd" + b"d" * 60, b"\x80" * 60]  # DTLS, RTP
    client = await sink.client(*early, check(), b"\x80media")
    assert await sink.packets(2) == [check(), b"\x80media"]
    client.close()


async def test_a_frame_that_is_too_long_ends_a_connection_also_of_a_peer(sink: Sink) -> None:
    client = await sink.client(check())
    await sink.packets(1)
    await client.send(frame(b"\x80good") + (2049).to_bytes(2, "big") + b"x")
    assert await client.is_closed()
    assert [data for data, _ in sink.got] == [check(), b"\x80good"]
    assert sink.lost == [sink.got[0][1]]
    client.close()


async def test_a_frame_that_is_never_whole_ends_a_connection(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a byte of it comes now and then: its time is counted from its beginning."""
    monkeypatch.setattr(tcp, "FRAME_WITHIN", 0.3)
    client = await sink.client(check())
    await sink.packets(1)
    await client.send(frame(b"\x80whole") + b"\x04\x00")
    await sink.packets(2)
    closed = asyncio.create_task(client.is_closed())
    sent = 0
    while not closed.done():
        await asyncio.wait({closed}, timeout=0.05)
        try:
            await client.send(b"x")
            sent += 1
        except ConnectionError:
            break
    assert sent < 100
    assert await closed
    assert sink.lost == [sink.got[0][1]]
    client.close()


async def test_strangers_of_one_source_are_few_and_the_oldest_gives_way(
    sink: Sink, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "STRANGERS_A_SOURCE", 8)
    sink.proves = False
    made = [clients.enter_context(closing(await sink.client(check()))) for _ in range(12)]
    await sink.packets(12)
    assert sink.endpoint.strangers == 8
    for client in made[:4]:
        assert await client.is_closed()
    sink.proves = True
    await made[-1].send(frame(check()))
    await sink.packets(13)
    assert sink.endpoint.strangers == 7, "one that proves itself is counted no more"
    assert len(sink.endpoint) == 8


async def test_strangers_in_all_are_few_and_peers_do_not_give_way(
    sink: Sink, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "STRANGERS", 5)
    peer = clients.enter_context(closing(await sink.client(check())))
    await sink.packets(1)
    sink.proves = False
    for _ in range(20):
        clients.enter_context(closing(await sink.client()))
    await wait_for(lambda: sink.endpoint.accepted == 21, 5, "all have come", interval=0.005)
    assert sink.endpoint.strangers == 5
    assert len(sink.endpoint) == 6
    await peer.send(frame(b"\x80media"))
    assert (await sink.packets(2))[1] == b"\x80media"


async def test_there_are_never_more_connections_than_may_be(clients: ExitStack) -> None:
    sink = Sink(most=3)
    peers = [clients.enter_context(closing(await sink.client(check()))) for _ in range(3)]
    await sink.packets(3)
    refused = clients.enter_context(closing(await sink.client(check())))
    assert await refused.is_closed()
    assert len(sink.endpoint) == 3
    peers[0].close()
    await sink.connections(2)
    late = clients.enter_context(closing(await sink.client(check())))
    await sink.packets(4)
    assert await asyncio.wait_for(answered(sink, late), 5)
    sink.close()


async def answered(sink: Sink, client: Client) -> bool:
    """Whether the newest connection is this client's, and can be written to."""
    address = sink.got[-1][1]
    assert isinstance(address, TcpAddress)
    sink.endpoint.send(b"hello", address)
    return await client.receive() == [b"hello"]


async def test_without_descriptors_it_waits_and_then_goes_on(
    clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "PAUSE", 0.1)
    tries = 0
    accept = TcpEndpoint._accept

    def counted(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        accept(*arguments)

    monkeypatch.setattr(TcpEndpoint, "_accept", counted)
    sink = Sink()
    client = Client("127.0.0.1", sink.port)
    clients.enter_context(closing(client))
    with no_more_descriptors():
        await client.connect()  # the kernel's doing: nobody has accepted it
        await client.send(frame(check()))
        await wait_for(lambda: tries >= 2, 5, "it tries again", interval=0)
        assert tries == 2, "after a pause, and not in each turn of the loop"
        assert sink.endpoint.accepted == 0
    await sink.packets(1)
    sink.close()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        lowest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def closing(client: Client) -> Iterator[Client]:
    try:
        yield client
    finally:
        client.close()


async def test_many_that_speak_at_once_leave_others_their_turn(
    sink: Sink, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [clients.enter_context(closing(await sink.client(check()))) for _ in range(10)]
    await sink.packets(10)
    monkeypatch.setattr(tcp, "TURN_S", 0.0)  # used up by the first of them
    turns: list[int] = []

    def look() -> None:
        turns.append(len(sink.got))
        if len(sink.got) < 20:
            sink.endpoint.loop.call_soon(look)

    for peer in peers:
        peer.socket.send(frame(b"\x80media"))
    look()
    assert len(await sink.packets(20)) == 20, "each is read in the end"
    assert max(later - before for before, later in itertools.pairwise(turns)) == 1


# -- what is sent


async def peer(sink: Sink) -> tuple[Client, TcpAddress]:
    client = await sink.client(check())
    await sink.packets(1)
    address = sink.got[-1][1]
    assert isinstance(address, TcpAddress)
    return client, address


def fill(sink: Sink, address: TcpAddress, now: float) -> list[bytes]:
    """Write batches until there is no room; those that were taken."""
    stream = sink.endpoint.stream(address)
    taken: list[bytes] = []
    for number in range(10_000):
        batch = frame(number.to_bytes(4, "big") * 300)
        if not stream.write(batch, now):
            return taken
        taken.append(batch)
    raise AssertionError("it takes more and more")


async def read_all(client: Client, count: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < count:
        packets = await client.receive()
        assert packets, "closed early"
        got += packets
    return got


async def test_a_viewer_that_does_not_read_costs_a_bounded_queue_and_loses_whole_batches(
    sink: Sink,
) -> None:
    client, address = await peer(sink)
    stream = sink.endpoint.stream(address)
    assert not stream.congested
    taken = fill(sink, address, now=1.0)
    assert stream.congested
    (made,) = sink.endpoint._connections.values()
    assert connection.QUEUE_BYTES - 1202 < made.queued <= connection.QUEUE_BYTES
    assert not stream.write(b"x" * 2000, 1.0), "again and again: no room"
    got = await read_all(client, len(taken))
    assert [frame(packet) for packet in got] == taken, "whole, and in order"
    await wait_for(lambda: not stream.congested, 5, "there is room again", interval=0.005)
    assert stream.write(frame(b"next"), 1.0)
    assert await read_all(client, 1) == [b"next"]
    client.close()


async def test_control_has_room_when_media_has_none_but_not_without_end(sink: Sink) -> None:
    client, address = await peer(sink)
    fill(sink, address, now=1.0)
    sent = 0
    while sink.endpoint.send(b"c" * 1000, address):
        sent += 1
    assert 60 <= sent <= connection.CONTROL_BYTES // 1000 + 2
    client.close()


async def test_what_has_waited_too_long_leaves_no_room_for_more(sink: Sink) -> None:
    client, address = await peer(sink)
    stream = sink.endpoint.stream(address)
    (made,) = sink.endpoint._connections.values()
    while not made.queued:
        assert stream.write(frame(b"m" * 2000), 1.0)
    assert stream.write(frame(b"m" * 2000), 1.0 + connection.QUEUE_SECONDS)
    assert not stream.write(frame(b"m" * 2000), 1.1 + connection.QUEUE_SECONDS)
    assert sink.endpoint.send(b"control", address)
    client.close()


async def test_what_is_discarded_leaves_the_stream_of_frames_whole(sink: Sink) -> None:
    client, address = await peer(sink)
    stream = sink.endpoint.stream(address)
    taken = fill(sink, address, now=1.0)
    sink.endpoint.send(b"control", address)
    stream.discard()
    assert not stream.congested
    assert stream.write(frame(b"a new key frame"), 1.0)
    got: list[bytes] = []
    while not got or got[-1] != b"a new key frame":
        got += await client.receive()
    media = [frame(packet) for packet in got[:-2]]
    assert media == taken[: len(media)], "what had begun was ended"
    assert len(media) < len(taken)
    assert got[-2] == b"control"
    client.close()


async def test_a_connection_that_is_ended_says_everything_first(sink: Sink) -> None:
    client, address = await peer(sink)
    taken = fill(sink, address, now=1.0)
    sink.endpoint.send(b"close_notify", address)
    sink.endpoint.end(address)
    sink.endpoint.end(address)
    assert not sink.endpoint.send(b"more", address)
    await client.send(frame(b"\x80 not read any more"))
    got = await read_all(client, len(taken) + 1)
    assert got[-1] == b"close_notify"
    assert await client.receive() == []
    client.close()
    await sink.connections(0)
    assert len(sink.got) == 1


async def test_a_peer_that_never_reads_cannot_put_its_end_off(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "LINGER", 0.1)
    client, address = await peer(sink)
    fill(sink, address, now=1.0)
    sink.endpoint.end(address)
    await sink.connections(0)
    client.close()


async def test_a_connection_that_breaks_while_it_is_written_to_is_told_lost_a_turn_later(
    sink: Sink,
) -> None:
    client, address = await peer(sink)
    stream = sink.endpoint.stream(address)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sink.endpoint.loop.remove_reader(connection_socket(sink).fileno())  # so that only writing finds out
    client.close()  # a reset

    def refused() -> bool:
        assert sink.lost == [], "not from inside a write"
        return not stream.write(frame(b"m" * 1000), 1.0)

    await wait_for(refused, 5, "the kernel refuses it", interval=0)
    await wait_for(lambda: sink.lost == [address], 5, "it is told", interval=0)
    assert stream.congested
    assert not stream.write(frame(b"m"), 1.0)
    assert len(sink.endpoint) == 0


def connection_socket(sink: Sink) -> socket.socket:
    (made,) = sink.endpoint._connections.values()
    return made.socket


async def test_a_closed_endpoint_takes_and_says_nothing_more() -> None:
    sink = Sink()
    client, address = await peer(sink)
    sink.close()
    assert await client.is_closed()
    assert not sink.endpoint.send(b"late", address)
    assert not sink.endpoint.stream(address).write(b"late", 1.0)
    sink.endpoint.stream(address).discard()
    with pytest.raises(ConnectionRefusedError):
        await sink.client()
    client.close()


# -- ports


def test_udp_and_tcp_get_the_same_number_and_a_taken_one_is_passed_over() -> None:
    with ExitStack() as stack:
        first = [stack.enter_context(sock) for sock in bind_both(None, dual_stack=False)]
        number = first[0].getsockname()[1]
        assert first[1].getsockname()[1] == number
        first[0].close()  # free for UDP again, not for TCP
        second = [stack.enter_context(sock) for sock in bind_both(None, dual_stack=False)]
        assert second[0].getsockname()[1] == second[1].getsockname()[1] != number
        with pytest.raises(PortError, match=f"TCP port {number} .*--udp-port"):
            bind_both(number, dual_stack=False)
        with pytest.raises(PortError, match=rf"UDP port {second[0].getsockname()[1]} .*--udp-port"):
            bind_both(second[0].getsockname()[1], dual_stack=False)
        with bind(number, dual_stack=False):
            pass  # the socket of the failed attempt has been closed


def test_a_shared_port_is_shared_with_those_who_share_alone() -> None:
    with listen(0, dual_stack=False, shared=True) as one:
        port = one.getsockname()[1]
        with listen(port, dual_stack=False, shared=True) as other:
            assert other.getsockname() == one.getsockname()
        with pytest.raises(PortError, match=f"TCP port {port} .*--tcp-port"):
            listen(port, dual_stack=False)


def test_without_ipv6_in_the_kernel_ipv4_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr("media.drive.tcp.socket.socket", without_ipv6)
    with listen(0, dual_stack=True) as sock:
        assert sock.family == socket.AF_INET
