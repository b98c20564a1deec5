"""Real nodes, and viewers whose way to them is TCP: they watch, come back, and when slow harm nobody else."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psutil
import pytest

from media.core.framing import frame
from media.drive.connection import QUEUE_BYTES
from media.node.addresses import own_addresses
from tests.media.drive.test_tcp import check
from tests.media.node.stand import Publisher, Stand, Watcher, until
from tests.media.node.tcp_viewer import TcpViewer, tcp_candidates
from tests.support.figures import Figure


@pytest.fixture
async def show(nodes: Stand) -> AsyncIterator[AsyncExitStack]:
    """Whoever takes part; all leave at the end."""
    async with AsyncExitStack() as stack:
        yield stack


async def published(nodes: Stand, show: AsyncExitStack) -> Publisher:
    publisher = Publisher()
    show.push_async_callback(publisher.close)
    await publisher.publish(nodes.manager, "origin-1", "main")
    return publisher


def watcher(show: AsyncExitStack) -> Watcher:
    viewer = Watcher()
    show.push_async_callback(viewer.close)
    return viewer


def tcp_viewer(show: AsyncExitStack) -> TcpViewer:
    viewer = TcpViewer()
    show.callback(viewer.close)
    return viewer


async def shows(viewer: TcpViewer, frames: int = 30, within: float = 15.0) -> None:
    wanted = viewer.frames + frames
    await until(lambda: viewer.frames >= wanted, f"{frames} more frames after {viewer.frames}", within)


def transports(nodes: Stand) -> list[str | None]:
    return sorted(
        session.transport or ""
        for session in nodes.manager.nodes["edge-1"].sessions
        if session.kind.value == "whep" and session.state == "connected"
    )


async def test_viewers_over_udp_and_over_tcp_watch_side_by_side(nodes: Stand, show: AsyncExitStack) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1", "--announce", *own_addresses(), "::1")
    await published(nodes, show)
    near, four = watcher(show), tcp_viewer(show)
    await near.watch(nodes.manager, "edge-1", "main")
    await four.watch(nodes.manager, "edge-1", "main")
    assert [host for host, _ in tcp_candidates(four.answer)] == [*own_addresses(), "::1"]
    await shows(four)
    await near.sees(10)
    six = tcp_viewer(show)
    await six.watch(nodes.manager, "edge-1", "main")
    await shows(six, 10)
    assert four.viewer is not None
    assert four.viewer.unauthentic == 0
    await until(lambda: transports(nodes) == ["tcp4", "tcp4", "udp4"], "how they are reached is reported")
    edge = nodes.manager.nodes["edge-1"]
    (session,) = [row for row in edge.sessions if row.id == four.id]
    assert session.remote is not None
    assert session.remote.startswith("127.0.0.1:")
    assert session.loss == 0.0
    await until(
        lambda: [r.transport for r in edge.sessions if r.kind.value == "relay_in"] == ["udp4"], "the relay"
    )
    four.close()
    six.close()
    await until(lambda: {four.id, six.id} <= set(edge.ended), "a close_notify over TCP is heard", 10)


async def test_a_viewer_over_tcp_and_ipv6(nodes: Stand, show: AsyncExitStack) -> None:
    await nodes.node("origin", "origin-1", "--announce", "::1", *own_addresses())  # aioice has no ::1
    await nodes.node("edge", "edge-1", "--announce", "::1")
    await published(nodes, show)
    viewer = tcp_viewer(show)
    await viewer.watch(nodes.manager, "edge-1", "main")
    await shows(viewer)
    await until(lambda: transports(nodes) == ["tcp6"], "it is reported")
    edge = nodes.manager.nodes["edge-1"]
    relays = [row.transport for row in edge.sessions if row.kind.value == "relay_in"]
    assert relays == ["udp6"]


async def test_one_whose_connection_breaks_comes_back_by_another_and_keeps_its_session(
    nodes: Stand, show: AsyncExitStack
) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher = await published(nodes, show)
    viewer = tcp_viewer(show)
    await viewer.watch(nodes.manager, "edge-1", "main")
    await shows(viewer, 10)
    viewer.drop_connection()
    await viewer.connect()
    await shows(viewer, 30)
    assert viewer.viewer is not None
    assert viewer.viewer.state == "connected"
    assert publisher.connection.connectionState == "connected"
    assert viewer.id not in nodes.manager.nodes["edge-1"].ended


async def test_a_session_that_ends_ends_its_connection(nodes: Stand, show: AsyncExitStack) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    await published(nodes, show)
    viewer = tcp_viewer(show)
    await viewer.watch(nodes.manager, "edge-1", "main")
    await shows(viewer, 3)
    await nodes.manager.end("edge-1", viewer.id)
    await until(lambda: viewer.closed, "the connection is closed", 5)
    assert viewer.viewer is not None
    assert viewer.viewer.state == "closed"
    assert "closed the connection" in viewer.viewer.reason, "its close_notify came first"


async def test_viewers_that_stop_reading_cost_the_others_nothing_and_little_memory(
    nodes: Stand, show: AsyncExitStack, figure: Figure
) -> None:
    await nodes.node("origin", "origin-1")
    edge = await nodes.node("edge", "edge-1")
    await published(nodes, show)
    near, slow = watcher(show), [tcp_viewer(show) for _ in range(8)]
    await near.watch(nodes.manager, "edge-1", "main")
    for viewer in slow:
        await viewer.watch(nodes.manager, "edge-1", "main")
        await shows(viewer, 5)
    await near.sees(10)
    worker = psutil.Process(edge.worker_pids()[0])
    before = worker.memory_info().rss
    reports = nodes.manager.nodes["edge-1"].reports
    first_report = len(reports)
    for viewer in slow:
        show.enter_context(viewer.not_reading())
    seen, started = near.frames, time.monotonic()
    longest, last = 0.0, near.last_frame_at
    while time.monotonic() - started < 6:
        await asyncio.sleep(0.005)  # to look at what comes; nothing waits for it
        longest = max(longest, near.last_frame_at - last)
        last = near.last_frame_at
    grown = worker.memory_info().rss - before
    figure(
        f"beside {len(slow)} that do not read: {near.frames - seen} frames in 6 s, longest gap "
        f"{longest * 1000:.0f} ms, {grown / 1e6:+.1f} MB"
    )
    assert near.frames - seen > 6 * 15, "it goes on at its pace"
    assert longest < 1.5
    assert grown < len(slow) * 2 * QUEUE_BYTES
    delays = [report.loop_delay_ms for report in reports[first_report:] if report.loop_delay_ms is not None]
    assert sorted(delays)[len(delays) // 2] < 50
    rows = {row.id: row for row in nodes.manager.nodes["edge-1"].sessions}
    assert near.session in rows
    assert not any(viewer.closed for viewer in slow), "they have some seconds"


async def test_one_that_reads_again_resumes_with_a_whole_picture_and_the_session_it_had(
    nodes: Stand, show: AsyncExitStack
) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    await published(nodes, show)
    viewer = tcp_viewer(show)
    await viewer.watch(nodes.manager, "edge-1", "main")
    await shows(viewer, 10)
    with viewer.not_reading():
        await until(lambda: viewer_bitrate(nodes, viewer.id) == 0.0, "it has no room for more", 20)
    await shows(viewer, 60)
    assert viewer.viewer is not None
    assert viewer.viewer.state == "connected"
    assert viewer.viewer.unauthentic == 0


def viewer_bitrate(nodes: Stand, session: str) -> float | None:
    rows = {row.id: row for row in nodes.manager.nodes["edge-1"].sessions}
    return rows[session].bitrate_bps if session in rows else None


async def test_a_port_that_all_workers_share_leads_each_viewer_to_its_own(
    nodes: Stand, show: AsyncExitStack
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = probe.getsockname()[1]
    # The origin has it too: four viewers are accepted by any of three workers.
    await nodes.node("origin", "origin-1", "--tcp-port", str(shared))
    await nodes.node("edge", "edge-1", "--tcp-port", str(shared), "--workers", "2")
    await published(nodes, show)
    viewers = [tcp_viewer(show) for _ in range(6)]
    for viewer in viewers:
        await viewer.watch(nodes.manager, "edge-1", "main", port=shared)
        await shows(viewer, 3)
    own = {tcp_candidates(viewer.answer)[0][1] for viewer in viewers}
    assert own == {worker.udp_port for worker in nodes.manager.nodes["edge-1"].enrol.workers}
    assert all(tcp_candidates(viewer.answer)[-1][1] == shared for viewer in viewers)
    await until(lambda: transports(nodes) == ["tcp4"] * 6, "all are reported")


async def test_ten_thousand_strange_connections_disturb_nobody(nodes: Stand, show: AsyncExitStack) -> None:
    await nodes.node("origin", "origin-1")
    edge = await nodes.node("edge", "edge-1")
    await published(nodes, show)
    viewer = tcp_viewer(show)
    await viewer.watch(nodes.manager, "edge-1", "main")
    await shows(viewer, 5)
    place = tcp_candidates(viewer.answer)[0]
    worker = psutil.Process(edge.worker_pids()[0])
    before = worker.memory_info().rss
    loop = asyncio.get_running_loop()
    forged = frame(check("4e20whatever:theirs"))

    async def come(count: int) -> int:
        answered = 0
        for _ in range(count):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, place)
                try:
                    await loop.sock_sendall(sock, forged)
                    answered += len(sock.recv(100))
                except (BlockingIOError, ConnectionError):
                    pass
        return answered

    seen = viewer.frames
    answers = await asyncio.gather(*(come(500) for _ in range(20)))
    assert sum(answers) == 0, "not a byte is said to them"
    await shows(viewer, 30)
    assert viewer.frames > seen
    assert not viewer.closed
    assert worker.memory_info().rss - before < 64 << 20
    newcomer = tcp_viewer(show)
    await newcomer.watch(nodes.manager, "edge-1", "main")
    await shows(newcomer, 5)
