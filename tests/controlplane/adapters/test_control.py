"""A node's control endpoint is spoken to by one certificate and no other, over connections that are kept."""

import asyncio
import errno
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop

from controlplane.adapters.control.http import AT_ONCE, HttpNodeControl, _unreachable
from controlplane.adapters.control.pinned import PinnedContext
from controlplane.domain.nodes.model import Node
from controlplane.ports.control import NodeRefused, NodeUnreachable
from controlplane.wire.nodes import SessionKind, SessionRequest
from tests.controlplane.domain.test_rules import NODE
from tests.support.certificates import Pair, authority, node_pair, signed
from tests.support.wait import wait_for

REQUEST = SessionRequest(id="a-session", kind=SessionKind.WHEP, channel="main", offer="v=0")
OURS, ANOTHER = node_pair(), node_pair()


@dataclass
class Endpoint:
    """Answers every request, and keeps what it was told."""

    port: int
    connections: int = 0
    open: int = 0  # of them, now
    most: int = 0  # that were open at once
    says: bytes = b'HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{"id": "a-session", "answer": "v=0"}'
    heard: list[bytes] = field(default_factory=list)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def endpoint(tls: ssl.SSLContext | None, port: int = 0) -> AsyncIterator[Endpoint]:
    made = Endpoint(0)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        made.open += 1
        made.most = max(made.most, made.open)
        writers.append(writer)
        try:
            await speak(reader, writer)
        finally:
            made.open -= 1

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                made.heard += [error.partial] if error.partial else []
                return
            except (OSError, asyncio.LimitOverrunError):
                return
            made.heard.append(head)
            length = next(
                (line for line in head.split(b"\r\n") if line.lower().startswith(b"content-le")), b":0"
            )
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(made.says)
            if b"Connection: close" in made.says:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


def node(port: int, certificate: Pair | None = OURS, name: str = "edge-1") -> Node:
    fingerprint = None if certificate is None else certificate.fingerprint
    return replace(NODE, id=name, control_url=f"https://127.0.0.1:{port}", control_fingerprint=fingerprint)


@pytest.fixture
async def control() -> AsyncIterator[HttpNodeControl]:
    made = HttpNodeControl(lambda node: f"secret of {node.id}")
    yield made
    await made.close()


async def fails(control: HttpNodeControl, node: Node) -> NodeUnreachable:
    with pytest.raises(NodeUnreachable) as caught:
        await control.create_session(node, REQUEST)
    return caught.value


async def test_one_handshake_serves_many_requests(control: HttpNodeControl) -> None:
    async with endpoint(OURS.server_context()) as there:
        for _ in range(20):
            assert (await control.create_session(node(there.port), REQUEST)).answer == "v=0"
        assert there.connections == 1
        assert len(there.heard) == 20
        assert b"secret of edge-1" in there.heard[0]


async def test_many_requests_at_once_share_a_few_connections_which_are_let_go_afterwards() -> None:
    control = HttpNodeControl(lambda node: "a secret", idle=0.2)
    async with endpoint(OURS.server_context()) as there:
        for _ in range(2):
            asked = [control.create_session(node(there.port), REQUEST) for _ in range(100)]
            assert {answer.answer for answer in await asyncio.gather(*asked)} == {"v=0"}
            await wait_for(lambda: not there.open, 5, "none is left open when there is nothing to ask")
        assert there.most == AT_ONCE
        assert len(there.heard) == 200
        await control.close()


async def test_another_certificate_is_told_nothing(control: HttpNodeControl) -> None:
    root = authority()
    for other in (ANOTHER, signed(root, "127.0.0.1"), root):
        async with endpoint(other.server_context()) as impostor:
            error = await fails(control, node(impostor.port))
            assert not error.refused, "somebody listens there: the node may be alive all the same"
            assert "another certificate" in str(error)
            assert not await control.refuses(node(impostor.port))
            assert impostor.heard == []


def test_another_certificate_is_told_nothing_on_the_managers_own_loop() -> None:
    async def ask() -> None:
        control = HttpNodeControl(lambda node: "a secret")
        async with endpoint(ANOTHER.server_context()) as impostor, endpoint(OURS.server_context()) as there:
            assert "another certificate" in str(await fails(control, node(impostor.port)))
            assert impostor.heard == []
            await control.create_session(node(there.port), REQUEST)
            await control.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "255.255.255.255"])
async def test_a_place_that_cannot_be_one_says_nothing_of_a_node(control: HttpNodeControl, host: str) -> None:
    lost = replace(node(1), control_url=f"https://{host}:1")
    error = await fails(control, lost)
    assert not error.refused
    assert "Context object" not in str(error)
    assert not await control.refuses(lost)


async def test_what_speaks_no_tls_is_told_nothing_in_clear(control: HttpNodeControl) -> None:
    async with endpoint(None) as plain:
        error = await fails(control, node(plain.port))
        assert not error.refused
        await wait_for(lambda: plain.heard, 5, "the ClientHello was read")
        assert all(said.startswith(b"\x16\x03") for said in plain.heard)
        assert not any(b"secret" in said or b"session" in said for said in plain.heard)


async def test_a_kept_connection_is_not_used_for_another_node(control: HttpNodeControl) -> None:
    """Two nodes that name one address: each is spoken to with its own certificate, or not at all."""
    async with endpoint(OURS.server_context()) as there:
        await control.create_session(node(there.port), REQUEST)
        error = await fails(control, node(there.port, ANOTHER, "edge-2"))
        assert "another certificate" in str(error)
        assert len(there.heard) == 1


async def test_a_node_that_took_the_place_of_another_is_known_by_its_own_certificate(
    control: HttpNodeControl,
) -> None:
    async with endpoint(OURS.server_context()) as first:
        await control.create_session(node(first.port), REQUEST)
    async with endpoint(ANOTHER.server_context(), first.port) as second:
        assert not (await fails(control, node(first.port))).refused
        await control.create_session(node(first.port, ANOTHER), REQUEST)
        assert len(second.heard) == 1


@pytest.mark.parametrize(
    "says",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["no HTTP", "another's words", "half", "not what it says it is", "endless"],
)
async def test_an_answer_that_makes_no_sense_is_no_answer(control: HttpNodeControl, says: bytes) -> None:
    async with endpoint(OURS.server_context()) as there:
        there.says = says
        assert not (await fails(control, node(there.port))).refused


async def test_nobody_is_asked_because_a_node_says_so(control: HttpNodeControl) -> None:
    async with endpoint(OURS.server_context()) as there, endpoint(OURS.server_context()) as elsewhere:
        to = b"https://127.0.0.1:%d/v1/sessions" % elsewhere.port
        there.says = b"HTTP/1.1 307 Elsewhere\r\nLocation: " + to + b"\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(NodeRefused, match="did not take it"):
            await control.create_session(node(there.port), REQUEST)
        assert elsewhere.connections == 0


async def test_without_a_certificate_nothing_is_asked(control: HttpNodeControl) -> None:
    async with endpoint(OURS.server_context()) as there:
        error = await fails(control, node(there.port, None))
        assert not error.refused
        assert there.connections == 0


async def test_only_a_refused_connection_says_that_a_node_has_gone(control: HttpNodeControl) -> None:
    async with endpoint(OURS.server_context()) as there:
        pass
    assert (await fails(control, node(there.port))).refused
    assert await control.refuses(node(there.port))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:  # whoever has no room answers nothing
        waiting = []
        for _ in range(4):
            knocking = socket.socket()
            knocking.setblocking(False)
            knocking.connect_ex(full.getsockname())
            waiting.append(knocking)
        away = node(full.getsockname()[1])
        assert not (await fails(control, away)).refused
        assert not await control.refuses(away)
        for knocking in waiting:
            knocking.close()


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNRESET, errno.EMFILE])
def test_a_network_that_is_away_says_nothing_of_a_node(number: int) -> None:
    error = ConnectionError("all connection attempts failed")
    error.__cause__ = OSError(number, "as the system says")
    assert not _unreachable(node(1), error).refused
    error.__cause__ = OSError(errno.ECONNREFUSED, "as the system says")
    assert _unreachable(node(1), error).refused


async def test_what_was_kept_for_a_certificate_is_let_go_with_its_last_connection() -> None:
    control = HttpNodeControl(lambda node: "a secret", idle=0.2)
    async with endpoint(OURS.server_context()) as there:
        await control.create_session(node(there.port), REQUEST)
        assert set(control._contexts) == {OURS.fingerprint}

        def forgotten() -> bool:
            gc.collect()
            return not control._contexts

        await wait_for(forgotten, 5, "nothing is kept of a node that is not spoken with")
        await control.create_session(node(there.port), REQUEST)
        assert there.connections == 2
        await control.close()


@pytest.mark.parametrize("text", ["", "AB:CD", "AB:" * 31 + "XY", ":".join(["AB"] * 20)])
def test_a_fingerprint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PinnedContext(text)
