"""Sequence numbers wrap, on lossy ways, under viewers that watch and viewers that join just then.

A receiver of SRTP counts the wraps by itself (RFC 3711 section 3.3.1): one that lost its first packets before
a wrap would count one less than we do, and authenticate nothing for ever. Each hop has numbers of its own.
"""

import pytest

from controlplane.wire.nodes import Role
from tests.media.recovery.peers import FPS, Publisher, Viewer
from tests.media.recovery.world import (
    EDGE,
    ORIGIN,
    PUBLISHER,
    VIEWER,
    Node,
    Show,
    at_random,
    in_bursts,
)

WRAP = 0x10000
HANDSHAKE_S = 0.16  # four round trips
STEP = 0x4000  # of numbers that are no ambiguous jump


class NearTheWrap:
    """Origin and edge on air with a viewer; the numbers that `where` sends are about to wrap."""

    def __init__(
        self, show: Show, where: str, packets_before: int, key_packets: int = 100, delta_packets: int = 15
    ) -> None:
        self.show, self.world = show, show.world
        self.origin, self.edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
        self.publisher, self.viewer = Publisher(show), Viewer(show, VIEWER)
        self.publisher.key_packets, self.publisher.delta_packets = key_packets, delta_packets
        self.publisher.publish(self.origin)
        assert self.world.run_until(lambda: self.publisher.ready)
        self.viewer.watch(self.edge)
        assert self.world.run_until(lambda: len(self.viewer.shown) > FPS)
        node: Node | None = {ORIGIN: self.origin, EDGE: self.edge}.get(where)
        while (left := WRAP - packets_before - self._newest(node) % WRAP) > 0:
            camera = self.publisher.camera
            camera.sequence = (camera.sequence + min(STEP, left)) % WRAP
            self.world.run_for(0.2)
        seen = len(self.viewer.shown)
        assert self.world.run_until(lambda: len(self.viewer.shown) > seen + FPS)

    def _newest(self, node: Node | None) -> int:
        if node is None:
            return self.publisher.camera.sequence - 1
        return node.newest


@pytest.mark.parametrize("where", [PUBLISHER, ORIGIN, EDGE])
@pytest.mark.parametrize("kind", ["random", "bursts"])
def test_who_watches_sees_on_over_the_wrap_with_loss_at_it(show: Show, where: str, kind: str) -> None:
    near = NearTheWrap(show, where, 3000)
    world = near.world
    for hop in ((PUBLISHER, ORIGIN), (ORIGIN, EDGE), (EDGE, VIEWER)):
        lost = at_random(world, 0.1) if kind == "random" else in_bursts(world, 20, 0.1)
        world.path(*hop).lost = lost
    filmed, shown = near.publisher.frames, len(near.viewer.shown)
    world.run_for(8)
    assert len(near.viewer.shown) - shown > 0.8 * (near.publisher.frames - filmed)
    assert near.viewer.longest_freeze < 1.0
    assert near.viewer.closed_because is None


def test_who_joins_around_the_wrap_loses_nothing_of_it_but_a_moment(show: Show) -> None:
    """A viewer each 80 ms, to whom no media comes in its first half second after the handshake."""
    near = NearTheWrap(show, EDGE, 450, key_packets=20, delta_packets=4)
    world = near.world
    joiners = [Viewer(show, f"10.0.4.{number + 1}") for number in range(50)]

    def join(joiner: Viewer) -> None:
        way = world.path(EDGE, joiner.address[0])
        way.no_media = True
        world.call_at(world.now + HANDSHAKE_S + 0.5, setattr, way, "no_media", False)
        joiner.watch(near.edge)

    for number, joiner in enumerate(joiners):
        world.call_at(world.now + 0.08 * number, join, joiner)
    world.run_for(0.08 * len(joiners) + 3)
    assert near.edge.newest % WRAP < WRAP // 2
    for number, joiner in enumerate(joiners):
        assert joiner.shown, number
        assert joiner.shown[0][0] - joiner.joined_at < 2.5, number
        assert world.now - joiner.shown[-1][0] < 0.5, number
