"""Consent (RFC 7675): who vanishes is sent nothing after 30 seconds, whatever signs of life are forged."""

import asyncio
import os

import pytest

from controlplane.wire.nodes import Role, SessionKind
from media.core.session import PARTING_PATIENCE
from media.drive import udp as drive
from media.node import engine
from tests.media.core.emulated_network import EDGE, subscribe
from tests.media.core.test_hostile_peers import binding
from tests.media.security.stand import Peer, Publisher, until

CONSENT_S = 1.0
EVERY_S = 30.0


def test_the_last_packet_to_a_viewer_that_vanished_is_within_31_seconds() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    network, origin = pair.network, pair.origin.session
    replay = [item.data for item in pair.edge.sent if item.data[0] >= 20]
    network.run_for(7)
    network.blocked.add(EDGE)
    gone = last = network.now
    sequence = 0
    while network.now < gone + 60:
        if origin.outbound is not None and origin.remote == EDGE:
            origin.outbound.protect(b"\x80\x66" + sequence.to_bytes(2, "big") + bytes(8) + b"picture")
            sequence += 1
            last = network.now
        # Forged and stale signs of life, as from the viewer's own address.
        for datagram in (*replay, b"\x80\x66" + os.urandom(40), b"\x81\xc9\x00\x07" + os.urandom(40)):
            origin.receive(datagram, EDGE, network.now)
        origin.receive(binding(pair, password=os.urandom(24)), EDGE, network.now)
        network.drain(pair.origin)
        network.run_for(0.25)
    assert 26 <= last - gone <= 31
    assert origin.closed
    sent = len(pair.origin.sent)
    origin.receive(replay[0], EDGE, network.now)
    network.drain(pair.origin)
    assert len(pair.origin.sent) == sent, "nor is anything said later"


async def test_a_real_engine_stops_sending_when_consent_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same clock in an engine, shortened: a viewer whose network swallows everything."""
    monkeypatch.setattr(engine, "RECEIVER_SILENCE", CONSENT_S)
    loop = asyncio.get_running_loop()
    ended: dict[str, float] = {}

    def emit(event: dict[str, object]) -> None:
        if event["ev"] == "ended":
            ended[str(event["id"])] = loop.time()

    sock = drive.bind(None, dual_stack=False)
    made = engine.Engine(loop, Role.ORIGIN, sock, ["127.0.0.1"], emit)
    publisher, viewer = Publisher(), Peer()
    to = ("127.0.0.1", made.endpoint.port)
    try:
        publisher.begin(made.create(publisher.name, SessionKind.WHIP, "main", publisher.offer).answer)
        await until(lambda: publisher.ready, "the publisher is connected")
        viewer.begin(made.create(viewer.name, SessionKind.WHEP, "main", viewer.offer).answer)
        await until(lambda: viewer.ready, "the viewer is connected")
        frames = asyncio.create_task(publisher._film(to))
        await until(lambda: len(viewer.rtp) > 10, "the viewer sees the picture")
        viewer.deaf = True
        vanished = loop.time()
        await until(lambda: viewer.name in ended, "the engine has given it up")
        assert ended[viewer.name] - vanished <= CONSENT_S * 31 / EVERY_S
        viewer.deaf = False
        viewer._read()  # what was on its way
        before = viewer.media_datagrams
        marks = publisher.marks
        await until(lambda: publisher.marks > marks + 30, "the publisher goes on")
        viewer._read()
        assert viewer.media_datagrams == before
        assert publisher.name not in ended
        frames.cancel()
    finally:
        publisher.close()
        viewer.close()
        made.shutdown("the test ends")


@pytest.mark.parametrize("pause", [2.0, 6.0])
def test_a_forged_good_bye_ends_nobody_that_answers(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not one that speaks so seldom that an alert could come, and the patience pass, in between."""
    monkeypatch.setattr("media.core.ice.CONSENT_INTERVAL", 6.0)
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    alert = b"\x15\xfe\xfd\x00\x01" + bytes(5) + b"\x02\x00\x1a" + os.urandom(26)
    deadline = pair.network.now + 100
    while pair.network.now < deadline:
        pair.origin.session.receive(alert, EDGE, pair.network.now)
        pair.network.drain(pair.origin)
        pair.network.run_for(pause)
        assert not pair.origin.session.closed
    questions = [item for item in pair.origin.sent if item.data[:2] == b"\x00\x01"]
    assert len(questions) <= 100 / PARTING_PATIENCE * 3 + 3


def test_a_good_bye_is_believed_when_nobody_answers() -> None:
    pair = subscribe()
    assert pair.network.run_until(lambda: pair.ready)
    pair.edge.session.close(pair.network.now)
    pair.network.drain(pair.edge)
    left = pair.network.now
    assert pair.network.run_until(lambda: pair.origin.session.closed, limit=30)
    assert pair.network.now - left <= PARTING_PATIENCE + 0.1
    assert pair.origin.closed_because == "the peer closed the connection"
