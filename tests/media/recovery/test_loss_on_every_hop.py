"""Publisher, origin, edge and viewer with a lossy way between each two: what the viewer sees, what it costs.

Virtual time, the real engine on both nodes. The whole way is lossy at once, feedback too, so a packet may be
lost, and its retransmission, and the question for it, three times over.
"""

from collections.abc import Callable

import pytest

from controlplane.wire.nodes import Role
from media.core import rtcp
from tests.media.recovery.peers import FPS, Publisher, Viewer
from tests.media.recovery.world import (
    EDGE,
    ORIGIN,
    PUBLISHER,
    VIEWER,
    Path,
    Show,
    World,
    at_random,
    in_bursts,
)

SECONDS = 12
HOPS = ((PUBLISHER, ORIGIN), (ORIGIN, EDGE), (EDGE, VIEWER))

Loss = Callable[[World], Callable[[], bool]]


def five_in_a_hundred(world: World) -> Callable[[], bool]:
    return at_random(world, 0.05)


def bursts_of_ten(world: World) -> Callable[[], bool]:
    return in_bursts(world, 10, 0.05)


class OnAir:
    """A viewer at an edge that sees what is published at an origin; all ways are clean so far."""

    def __init__(self, show: Show, delay: float = 0.020) -> None:
        self.show, self.world = show, show.world
        for one, other in HOPS:
            for path in self.world.both_ways(one, other):
                path.delay = delay
        self.origin, self.edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
        self.publisher, self.viewer = Publisher(show), Viewer(show, VIEWER)
        self.publisher.publish(self.origin)
        assert self.world.run_until(lambda: self.publisher.ready)
        self.viewer.watch(self.edge)
        assert self.world.run_until(lambda: len(self.viewer.shown) > FPS)

    def paths(self) -> list[Path]:
        """Where the media goes, hop by hop, counted from now on."""
        paths = [self.world.path(*hop) for hop in HOPS]
        for path in paths:
            path.count_from_here()
        return paths

    def lose(self, loss: Loss) -> None:
        """Media as `loss` says, the feedback at random: ten reports in a row are a second, not a burst."""
        for one, other in HOPS:
            there, back = self.world.both_ways(one, other)
            there.lost, back.lost = loss(self.world), five_in_a_hundred(self.world)

    def watch(self, seconds: float) -> tuple[int, float]:
        """Let time pass; the share of frames shown in percent, and the longest time without one."""
        filmed, shown = self.publisher.frames, len(self.viewer.shown)
        self.viewer.shown = self.viewer.shown[-1:]
        self.world.run_for(seconds)
        made = self.publisher.frames - filmed
        shown = len(self.viewer.shown) - 1
        return round(100 * shown / made), self.viewer.longest_freeze


@pytest.mark.parametrize(("delay", "least"), [(0.002, 95), (0.020, 90), (0.050, 80)])
@pytest.mark.parametrize("loss", [five_in_a_hundred, bursts_of_ten])
def test_no_frozen_second_and_hardly_more_bandwidth(show: Show, loss: Loss, delay: float, least: int) -> None:
    """`delay` is of each hop. Who has a whole key frame shows it, and passes over what is missing before."""
    on_air = OnAir(show, delay)
    paths = on_air.paths()
    on_air.lose(loss)
    shown, freeze = on_air.watch(SECONDS)
    assert all(0.03 < path.dropped / path.offered < 0.08 for path in paths)  # it was that bad
    assert max(path.overhead for path in paths) <= 1.15
    assert freeze < 1.0
    assert shown >= least


def test_packets_out_of_order_and_twice_are_no_loss(show: Show) -> None:
    """Nothing is asked for that comes by itself, and nothing is shown twice."""
    on_air = OnAir(show)
    paths = on_air.paths()
    for one, other in HOPS[:2]:  # our own questions; what a viewer asks for is its browser's choice
        path = on_air.world.path(one, other)
        path.jitter, path.duplication = 0.012, 0.05
    shown, freeze = on_air.watch(SECONDS)
    assert max(path.overhead for path in paths) <= 1.15
    assert freeze < 0.1
    assert shown >= 99
    assert len(set(on_air.viewer.sequences)) == len(on_air.viewer.sequences)


def test_everything_at_once(show: Show) -> None:
    """Loss, packets out of order and twice, and no way that takes more than 1280 bytes."""
    on_air = OnAir(show)
    paths = on_air.paths()
    on_air.lose(five_in_a_hundred)
    for path in paths:
        path.duplication, path.mtu = 0.02, 1280
    for path in paths[:2]:
        path.jitter = 0.006
    shown, freeze = on_air.watch(SECONDS)
    assert max(path.overhead for path in paths) <= 1.15
    assert freeze < 1.0
    assert shown >= 90


def test_half_a_second_without_any_packet_is_made_good(show: Show) -> None:
    """More than two hundred packets in one go, at the hop where most is lost by it."""
    on_air = OnAir(show)
    paths = on_air.paths()
    way = on_air.world.path(ORIGIN, EDGE)
    way.lost = lambda: True
    on_air.world.run_for(0.4)
    way.lost = lambda: False
    shown, freeze = on_air.watch(4)
    assert freeze < 1.0
    assert shown >= 99
    assert on_air.viewer.plis <= 1
    assert max(path.overhead for path in paths) <= 1.15


def test_a_viewer_that_asks_for_everything_is_sent_a_quarter_more_at_most(show: Show) -> None:
    on_air = OnAir(show)
    viewer, world = on_air.viewer, on_air.world
    viewer.asks = False
    (ssrc,) = viewer.ssrcs

    def greedy() -> None:
        newest = viewer.sequences[-1]
        viewer.say([rtcp.Nack(1, ssrc, tuple((newest - n) % 0x10000 for n in range(400, 0, -1)))])
        world.call_at(world.now + 0.01, greedy)

    greedy()
    world.run_for(3)  # the first burst of its budget
    way = world.path(EDGE, VIEWER)
    way.count_from_here()
    other = Viewer(show, "10.0.3.2")
    other.watch(on_air.edge)
    shown, freeze = on_air.watch(SECONDS)
    assert 1.1 < way.overhead <= 1.26
    assert world.path(EDGE, "10.0.3.2").overhead <= 1.01  # and nobody else pays for it
    assert other.longest_freeze < 0.1
    assert shown >= 99
    assert freeze < 0.1


def test_nobody_is_asked_for_what_a_gap_of_thousands_left_out(show: Show) -> None:
    """After two seconds without a packet a key frame is the cure."""
    on_air = OnAir(show)
    way = on_air.world.path(PUBLISHER, ORIGIN)
    asked = len(on_air.publisher.asked_at)
    way.lost = lambda: True
    on_air.world.run_for(2)
    way.lost = lambda: False
    back = on_air.world.now
    assert on_air.world.run_until(lambda: on_air.viewer.shown[-1][0] > back, 1.0)
    assert len(on_air.publisher.asked_at) > asked
    assert way.rtx == 0
