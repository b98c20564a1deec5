"""A node's metrics over real HTTP, as Prometheus reads them, while a viewer comes, watches and leaves."""

import hashlib
import os
import secrets
import signal

import httpx
import pytest

from controlplane.adapters.control.pinned import PinnedContext
from media.node.metrics import CONTENT_TYPE, DROPS
from tests.media.node.stand import Publisher, SessionRefused, Stand, Watcher, until
from tests.support.exposition import Scrape, check, read
from tests.support.wait import wait_for

N = "showcaller_node_"


async def scrape(nodes: Stand, node: str, token: str | None = None) -> httpx.Response:
    """As a scraper would, with a token or with none; by default as the manager."""
    enrolled = nodes.manager.nodes[node]
    headers = {} if token == "" else {"authorization": f"Bearer {token or enrolled.secret}"}
    pinned = PinnedContext(enrolled.enrol.control_fingerprint)
    async with httpx.AsyncClient(trust_env=False, timeout=5, verify=pinned) as client:
        return await client.get(f"{enrolled.enrol.control_url}/metrics", headers=headers)


async def metrics(nodes: Stand, node: str) -> Scrape:
    response = await scrape(nodes, node)
    assert response.status_code == 200
    assert response.headers["content-type"] == CONTENT_TYPE
    found = read(response.text)
    check(found, N)
    return found


async def test_counters_move_with_a_real_viewer(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1", "--workers", "2", "--capacity", "40")
    before = await metrics(nodes, "edge-1")
    assert before.value(f"{N}worker_up") == 2
    assert before.value(f"{N}connections_limit") == 40
    assert before.value(f"{N}packets_sent_total") == before.value(f"{N}sessions") == 0
    (info,) = before.families[f"{N.rstrip('_')}_info"].samples
    assert (info.labels["node"], info.labels["role"]) == ("edge-1", "edge")

    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(30)
        during = await metrics(nodes, "edge-1")
        assert during.value(f"{N}connections") == 1
        assert during.value(f"{N}sessions", kind="whep", state="connected") == 1
        assert during.value(f"{N}sessions", kind="relay_in", state="connected") == 1
        assert during.value(f"{N}handshakes_total", result="done") == 2
        assert during.value(f"{N}handshake_seconds_count") == 2
        assert 0 < during.value(f"{N}handshake_seconds_sum") < 10
        assert during.value(f"{N}packets_sent_total") > 30
        assert during.value(f"{N}sent_bytes_total", transport="udp") > 30_000
        assert during.value(f"{N}packets_received_total", transport="udp") > 30
        assert during.value(f"{N}forwarded_packets_total") > 30
        assert during.value(f"{N}fanout_seconds_count") >= 30
        assert 0 < during.value(f"{N}fanout_seconds_sum") < 0.1 * during.value(f"{N}fanout_seconds_count")
        assert during.value(f"{N}loop_delay_seconds_count") > 5
        assert during.value(f"{N}cpu_seconds_total") > 0
        assert during.value(f"{N}resident_memory_bytes") > 10_000_000
        assert during.value(f"{N}reports_total", result="delivered") >= 1
        assert during.labels(f"{N}dropped_packets_total", "reason") == set(DROPS)
        origin = await metrics(nodes, "origin-1")
        assert origin.value(f"{N}key_frames_received_total") >= 1
        assert origin.value(f"{N}sessions", kind="relay_out", state="connected") == 1

        receiver = viewer.connection.getReceivers()[0]
        (video,) = {source.source for source in receiver.getSynchronizationSources()}
        newest = receiver._RTCRtpReceiver__remote_streams[video].max_seq
        await receiver._send_rtcp_nack(video, [newest - 2, newest - 1])
        await receiver._send_rtcp_pli(video)

        async def asked() -> bool:
            said = await metrics(nodes, "edge-1")

            def grew(name: str, by: int, **labels: str) -> bool:
                return said.value(N + name, **labels) - during.value(N + name, **labels) >= by

            return (
                grew("nacked_packets_total", 2, direction="received")
                and grew("resent_packets_total", 2)
                and grew("plis_total", 1, direction="received")
                and grew("plis_total", 1, direction="sent")
            )

        await wait_for(asked, 10, "what the viewer asked for is counted")

        await viewer.close()
        await until(lambda: viewer.session in nodes.manager.nodes["edge-1"].ended, "the viewer's end is told")
        after = await metrics(nodes, "edge-1")
        assert after.value(f"{N}connections") == 0
        for name in ("forwarded_packets_total", "packets_sent_total", "handshakes_total", "sent_bytes_total"):
            assert after.value(N + name) >= during.value(N + name), "what has ended still counts"
    finally:
        await publisher.close()
        await viewer.close()


async def test_what_was_refused_and_what_failed_counts(nodes: Stand) -> None:
    await nodes.node("edge", "edge-1", "--capacity", "1")
    with pytest.raises(SessionRefused, match="bad_sdp"):
        await nodes.manager.session("edge-1", "whep", "main", "v=0 nonsense", "one")
    viewer, another = Watcher(), Watcher()
    try:
        await viewer.offer_only(nodes.manager, "edge-1", "main")
        with pytest.raises(SessionRefused, match="node_full"):
            await another.offer_only(nodes.manager, "edge-1", "main")
        await nodes.manager.end("edge-1", viewer.session)
        found = await metrics(nodes, "edge-1")
    finally:
        await viewer.close()
        await another.close()
    assert found.value(f"{N}refused_sessions_total", reason="bad_sdp", worker="0") == 1
    assert found.value(f"{N}refused_sessions_total", reason="node_full", worker="") == 1
    assert found.value(f"{N}handshakes_total", result="abandoned") == 1
    assert found.value(f"{N}handshakes_total", result="done") == 0


async def test_a_worker_that_was_replaced_is_told_and_begins_at_zero(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1", "--workers", "2")
    with pytest.raises(SessionRefused, match="bad_sdp"):
        await nodes.manager.session("edge-1", "whep", "main", "v=0 nonsense", "one")
    before = await metrics(nodes, "edge-1")
    assert before.value(f"{N}refused_sessions_total") == 1
    for pid in node.worker_pids():
        os.kill(pid, signal.SIGKILL)

    async def replaced() -> Scrape | None:
        found = await metrics(nodes, "edge-1")
        both = found.value(f"{N}worker_restarts_total") == 2 and found.value(f"{N}worker_up") == 2
        return found if both else None

    after = await wait_for(replaced, 15, "both workers have been replaced")
    assert after.labels(f"{N}cpu_seconds_total", "worker") == {"0", "1"}
    assert not after.families[f"{N}refused_sessions"].samples, "counts are those of the workers that run"


async def test_metrics_are_for_the_manager_and_for_who_has_the_token_for_them(nodes: Stand) -> None:
    token = secrets.token_urlsafe(32)
    await nodes.node("edge", "edge-1")
    edge = nodes.manager.nodes["edge-1"]
    assert (await scrape(nodes, "edge-1")).status_code == 200
    for wrong in ("", "x", token, edge.credential):
        assert (await scrape(nodes, "edge-1", wrong)).status_code == 401
    nodes.manager.metrics_sha256 = hashlib.sha256(token.encode()).hexdigest()
    told = len(edge.reports)
    await until(lambda: len(edge.reports) > told + 1, "it has been told of the token")
    assert (await scrape(nodes, "edge-1", token)).status_code == 200
    assert (await scrape(nodes, "edge-1", nodes.manager.metrics_sha256)).status_code == 401
    answer = await nodes.manager.call(
        "edge-1", "GET", "/v1/health", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 401, "with it nothing else can be done"
    nodes.manager.metrics_sha256 = None
    told = len(edge.reports)
    await until(lambda: len(edge.reports) > told + 1, "and that it is good no more")
    assert (await scrape(nodes, "edge-1", token)).status_code == 401
    for line in (edge.secret, token):
        assert line not in nodes.nodes[0].log.read_text()
