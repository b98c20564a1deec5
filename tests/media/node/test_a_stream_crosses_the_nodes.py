"""An aiortc publisher -> origin -> edge -> aiortc viewers: real processes, real sockets, decoded pictures."""

import asyncio
import os
import re
import signal
import time

import httpx
import pytest

from controlplane.wire.nodes import ice_etag
from tests.media.node.stand import Publisher, SessionRefused, Stand, Watcher, log_lines, until

ICE_RESTART = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"


async def test_a_viewer_at_an_edge_sees_and_hears_what_is_published_at_the_origin(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        started = time.monotonic()
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(1)
        assert time.monotonic() - started < 5
        await viewer.sees(30)
        assert viewer.size == (640, 360)
        await until(lambda: viewer.samples > 48_000, "a second of sound")

        edge, origin = nodes.manager.nodes["edge-1"], nodes.manager.nodes["origin-1"]
        await until(lambda: edge.last and edge.last.rtt_ms is not None, "the viewer's round trip is known")
        assert edge.last is not None
        assert origin.last is not None
        assert edge.last.connections == 1
        assert origin.last.connections == 1
        await until(lambda: {s.kind.value for s in edge.sessions} == {"whep", "relay_in"}, "edge sessions")
        await until(lambda: {s.kind.value for s in origin.sessions} == {"whip", "relay_out"}, "and origin")
        for node, kind in ((edge, "whep"), (origin, "relay_out")):

            def told(node=node, kind=kind):
                row = next((s for s in node.sessions if s.kind.value == kind), None)
                return row if row and row.estimate_bps is not None else None

            row = await until(told, f"what the {kind} can take is known")
            assert (row.loss, row.nacks) == (0, 0)
            assert row.rtt_ms < 1000
            assert 0 <= row.jitter_ms < 200
            assert row.estimate_bps > 100_000
        await until(lambda: edge.last and edge.last.estimate_p10_bps, "and what nine in ten viewers can take")
        (stream,) = edge.last.streams
        assert (stream.kind, stream.state, stream.viewers) == ("relayed", "live", 1)
        assert (stream.width, stream.height, stream.video_codec) == (640, 360, "H264")
        assert stream.fps is not None
        assert 10 < stream.fps < 60
        (published,) = origin.last.streams
        assert (published.kind, published.session) == ("published", publisher.session)
        assert edge.last.egress_bps > 100_000
        assert edge.last.cpu is not None
        assert edge.last.loop_delay_ms is not None

        await viewer.close()
        await until(lambda: viewer.session in edge.ended, "the viewer's end is reported")
        await until(lambda: edge.last and not edge.sessions, "the edge lets go of the relay", 12)
        await until(lambda: len(origin.sessions) == 1, "the origin is told")
    finally:
        await publisher.close()
        await viewer.close()


async def test_viewers_go_on_when_the_publisher_comes_back_and_when_the_relay_is_made_anew(
    nodes: Stand,
) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    first, second, viewer = Publisher(), Publisher(), Watcher()
    try:
        await first.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(10)
        # The same channel again, from another connection: the newer one wins, viewers keep their session.
        await second.publish(nodes.manager, "origin-1", "main")
        origin = nodes.manager.nodes["origin-1"]
        await until(lambda: first.session in origin.ended, "the older session ends")
        await viewer.sees(10)
        response = await nodes.manager.call("edge-1", "POST", "/v1/channels/main/resubscribe")
        assert response.status_code == 204
        edge_log = nodes.nodes[1].log
        await until(
            lambda: sum(line["event"] == "relay_live" for line in log_lines(edge_log)) == 2, "a second relay"
        )
        await viewer.sees(10)
        # Killed without a word: the edge notices the silence and subscribes again.
        old = nodes.nodes[0].worker_pids()
        os.kill(old[0], signal.SIGKILL)
        await until(lambda: second.session in origin.ended, "the dead worker's sessions are reported ended")
        await until(
            lambda: nodes.nodes[0].worker_pids() and nodes.nodes[0].worker_pids() != old, "another worker"
        )
        third = Publisher()
        try:
            await third.publish(nodes.manager, "origin-1", "main")
            await viewer.sees(10)
            assert viewer.connection.connectionState == "connected"
        finally:
            await third.close()
    finally:
        for peer in (first, second, viewer):
            await peer.close()


async def test_a_viewer_may_come_before_the_publisher(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewer = Publisher(), Watcher()
    try:
        await viewer.watch(nodes.manager, "edge-1", "main")
        edge = nodes.manager.nodes["edge-1"]
        await until(lambda: edge.last and edge.last.connections == 1, "the viewer is connected")
        assert edge.last is not None
        assert [s.state for s in edge.last.streams] == ["waiting"]
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.sees(5)
    finally:
        await publisher.close()
        await viewer.close()


async def test_who_never_connects_is_a_session_and_no_viewer(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewer, silent = Publisher(), Watcher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await silent.offer_only(nodes.manager, "edge-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        edge = nodes.manager.nodes["edge-1"]
        await until(lambda: edge.last and edge.last.connections == 1, "one is connected")
        await until(lambda: [s.kind.value for s in edge.sessions].count("whep") == 2, "both have a session")
        assert {s.id: s.state for s in edge.sessions}[silent.session] != "connected"
        await until(lambda: edge.last and [s.viewers for s in edge.last.streams] == [1], "one watches")
    finally:
        await publisher.close()
        await viewer.close()
        await silent.close()


async def test_ending_a_channel_ends_its_viewers_and_its_publisher(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(3)
        nodes.manager.nodes["edge-1"].orders.append({"kind": "end_channel", "channel": "main"})
        await until(lambda: viewer.connection.connectionState == "closed", "the viewer is told")
        response = await nodes.manager.call(
            "origin-1", "POST", "/v1/channels/main/end", json={"reason": "over"}
        )
        assert response.status_code == 204
        await until(lambda: publisher.connection.connectionState == "closed", "the publisher is told")
        origin = nodes.manager.nodes["origin-1"]
        await until(lambda: origin.last and not origin.last.streams, "nothing is left of the channel")
    finally:
        await publisher.close()
        await viewer.close()


async def test_two_workers_of_an_edge_share_one_relay_from_the_origin(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1", "--workers", "2")
    publisher, viewers = Publisher(), [Watcher(), Watcher()]
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        for viewer in viewers:
            await viewer.watch(nodes.manager, "edge-1", "main")
            await viewer.sees(5)
        edge, origin = nodes.manager.nodes["edge-1"], nodes.manager.nodes["origin-1"]
        kinds = ["relay_in", "relay_in", "relay_out", "whep", "whep"]
        await until(lambda: sorted(s.kind.value for s in edge.sessions) == kinds, "the sessions of both")
        await until(lambda: edge.last and edge.last.connections == 2, "and that they are connected")
        assert edge.last is not None
        assert origin.last is not None
        assert len({worker.udp_port for worker in edge.last.workers}) == 2
        relays = lambda: [s.kind.value for s in origin.sessions].count("relay_out")  # noqa: E731
        await until(lambda: relays() == 1, "one relay of the two")
        assert [(s.channel, s.state) for s in edge.last.streams] == [("main", "live")]
    finally:
        await publisher.close()
        await asyncio.gather(*(viewer.close() for viewer in viewers))


async def test_what_cannot_be_served_is_refused_with_a_reason(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1", "--capacity", "1")
    manager = nodes.manager
    publisher, viewer = Publisher(), Watcher()
    try:
        with pytest.raises(SessionRefused) as nothing:
            await viewer.watch(manager, "origin-1", "main")
        assert (nothing.value.status, nothing.value.problem["code"]) == (404, "nothing_on_air")
        for offer, status in (("garbage", 400), ("v=0\r\n" + "a=x\r\n" * 20_000, 413)):
            with pytest.raises(SessionRefused) as refused:
                await manager.session("origin-1", "whip", "main", offer, "an-id")
            assert refused.value.status == status
            assert refused.value.problem["detail"]
        await publisher.publish(manager, "origin-1", "main")
        other = Publisher()
        try:
            with pytest.raises(SessionRefused) as full:
                await other.publish(manager, "origin-1", "second")
            assert (full.value.status, full.value.problem["code"]) == (503, "node_full")
        finally:
            await other.close()
        gone = await manager.call("origin-1", "PATCH", "/v1/sessions/unknown", content=ICE_RESTART)
        assert gone.status_code == 404
        assert gone.headers["content-type"] == "application/problem+json"
        await manager.end("origin-1", "unknown")
        unconditional = await manager.call(
            "origin-1", "PATCH", f"/v1/sessions/{publisher.session}", content=ICE_RESTART
        )
        assert unconditional.status_code == 428
        manager.nodes["origin-1"].secret = "wrong"
        assert (await manager.call("origin-1", "GET", "/v1/health")).status_code == 401
    finally:
        await publisher.close()
        await viewer.close()


async def test_a_publisher_that_has_left_has_no_place_kept_over_the_limit(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1", "--capacity", "1")
    first, second, third = Publisher(), Publisher(), Publisher()
    try:
        await first.publish(nodes.manager, "origin-1", "main")
        await nodes.manager.end("origin-1", first.session)
        await second.publish(nodes.manager, "origin-1", "other")
        with pytest.raises(SessionRefused) as refused:
            await third.publish(nodes.manager, "origin-1", "main")
        assert refused.value.problem["code"] == "node_full"
    finally:
        await asyncio.gather(*(publisher.close() for publisher in (first, second, third)))


async def test_a_patch_says_which_ice_session_it_means(nodes: Stand) -> None:
    """RFC 9725, 4.3: candidates change nothing at a lite agent; other credentials are a restart."""
    await nodes.node("origin", "origin-1")
    manager, publisher, viewer = nodes.manager, Publisher(), Watcher()
    session = publisher.session

    async def patch(fragment: str, if_match: str | None, of: str = session) -> httpx.Response:
        headers = {} if if_match is None else {"If-Match": if_match}
        return await manager.call(
            "origin-1", "PATCH", f"/v1/sessions/{of}", content=fragment, headers=headers
        )

    def fragment(ufrag: str) -> str:
        return f"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{'p' * 24}\r\n"

    try:
        await publisher.publish(manager, "origin-1", "main")
        await viewer.watch(manager, "origin-1", "main")
        await viewer.sees(5)
        offer = publisher.connection.localDescription.sdp
        theirs = "".join(re.findall(r"a=ice-(?:ufrag|pwd):.*\r\n", offer)[:2])
        candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
        first = ice_etag(session)
        assert (await patch(candidate, None)).status_code == 428
        assert (await patch(candidate, ice_etag(session, 1))).status_code == 412
        assert (await patch("nonsense", first)).status_code == 400
        assert (await patch(candidate, first, "unknown")).status_code == 404
        for tags in (first, f'"x", {first}', "*"):
            taken = await patch(theirs + candidate, tags)
            assert (taken.status_code, taken.content) == (204, b"")

        restarted = await patch(fragment("abcd"), "*")
        assert restarted.status_code == 200
        body = restarted.json()
        assert body["etag"] == ice_etag(session, 1)
        lines = body["fragment"].split("\r\n")
        assert lines[0] == "a=ice-lite"
        assert "a=end-of-candidates" in lines
        candidates = re.findall(r"a=candidate:[^\r\n]*", publisher.connection.remoteDescription.sdp)
        assert {line for line in lines if line.startswith("a=candidate")} == set(candidates)
        assert (await patch(candidate, first)).status_code == 412
        assert (await patch(fragment("abcd"), body["etag"])).status_code == 204
        assert (
            await patch(fragment("abcd"), "*")
        ).json() == body  # the same, as the answer may have been lost
        again = await patch(fragment("efgh"), "*")
        assert again.json()["etag"] == ice_etag(session, 2)
        assert again.json()["fragment"] != body["fragment"]
        # Nobody used the new credentials: the peer goes on with the old ones.
        await viewer.sees(30)
        assert session not in manager.nodes["origin-1"].ended
    finally:
        await publisher.close()
        await viewer.close()
