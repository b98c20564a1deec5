"""Packets dropped on the way, from publisher to origin and from edge to viewer: NACK brings them back."""

import random
from typing import Any

import pytest

from tests.media.node.stand import Publisher, Stand, Watcher, until


def drop_incoming(viewer: Watcher, fraction: float) -> list[int]:
    """A lossy last hop: this share of the RTP that reaches the viewer is thrown away, RTX included."""
    dice, dropped = random.Random(5), [0]
    transport: Any = viewer.connection.getReceivers()[0].transport
    handle = transport._handle_rtp_data

    async def lossy(data: bytes, arrival_time_ms: int) -> None:
        if dice.random() < fraction:
            dropped[0] += 1
            return
        await handle(data, arrival_time_ms)

    transport._handle_rtp_data = lossy
    return dropped


def drop_outgoing(publisher: Publisher, fraction: float) -> list[int]:
    """A lossy first hop: this share of what the publisher sends, retransmissions included, never leaves."""
    dice, dropped = random.Random(6), [0]
    transport: Any = publisher.connection.getSenders()[0].transport
    send = transport._send_rtp

    async def lossy(data: bytes) -> None:
        if not 192 <= data[1] <= 223 and dice.random() < fraction:
            dropped[0] += 1
            return
        await send(data)

    transport._send_rtp = lossy
    return dropped


async def test_five_in_a_hundred_lost_at_both_ends_cost_hardly_a_frame(
    nodes: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiortc keeps its last 128 packets for NACKs: less than a key frame of this noise, whose first packets
    # would be gone before anybody can ask for them. Our own publisher keeps as many as this.
    monkeypatch.setattr("aiortc.rtcrtpsender.RTP_HISTORY_SIZE", 2048)
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewer = Publisher(), Watcher()
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(15)
        at_viewer, at_publisher = drop_incoming(viewer, 0.05), drop_outgoing(publisher, 0.05)
        seen, made = viewer.frames, publisher.pattern.frames
        await viewer.sees(120, within=60)
        assert at_viewer[0] > 5
        assert at_publisher[0] > 5
        assert publisher.pattern.frames - made < 1.25 * (viewer.frames - seen) + 15

        edge, origin = nodes.manager.nodes["edge-1"], nodes.manager.nodes["origin-1"]
        await until(lambda: any(s.nacks for s in edge.sessions), "the viewer's NACKs count")
        await until(
            lambda: any(s.loss and s.kind == "whep" for s in edge.sessions), "and what it lost is told"
        )
        assert origin.last is not None
        (stream,) = origin.last.streams
        assert stream.loss is None or stream.loss < 0.02  # what is lost on the way in is got back
    finally:
        await publisher.close()
        await viewer.close()
