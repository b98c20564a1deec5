"""The publisher goes and comes back, or its origin dies: viewers keep their session, and one unbroken stream.

Virtual time; a viewer's session, SSRC, numbers and timestamps are looked at. That a page keeps its
RTCPeerConnection is shown in tests/scenarios/.
"""

from itertools import pairwise

import pytest

from controlplane.wire.nodes import Role, SessionKind
from tests.media.recovery.peers import FPS, Publisher, Viewer
from tests.media.recovery.world import EDGE, ORIGIN, SECOND_ORIGIN, SECOND_PUBLISHER, VIEWER, Node, Show

TICKS = 90_000


class Watched:
    """A viewer that sees a broadcast, and what is to hold of it from here on."""

    def __init__(self, show: Show) -> None:
        self.show, self.world = show, show.world
        self.origin, self.edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
        self.publisher, self.viewer = Publisher(show), Viewer(show, VIEWER)
        self.publisher.publish(self.origin)
        assert self.world.run_until(lambda: self.publisher.ready)
        self.viewer.watch(self.edge)
        self.sees_again()

    def sees_again(self, within: float = 5.0) -> float:
        """A second of frames; seconds from now to the first of them."""
        now, seen = self.world.now, len(self.viewer.shown)
        assert self.world.run_until(lambda: len(self.viewer.shown) > seen, within)
        first = self.viewer.shown[seen][0] - now
        assert self.world.run_until(lambda: len(self.viewer.shown) > seen + FPS, 2.0)
        return first

    def next_publisher(self, origin: Node) -> Publisher:
        """The publisher's process, started again: another address, SSRC, numbers and timestamps."""
        again = Publisher(self.show, SECOND_PUBLISHER, ssrc=0x1234, sequence=65_500)
        again.camera.timestamp = 0xFFFFFF00
        again.publish(origin)
        return again

    def is_one_unbroken_stream(self) -> None:
        viewer = self.viewer
        assert viewer.closed_because is None
        assert len(viewer.ssrcs) == 1
        numbers = viewer.sequences
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        # A timestamp is as much later than the one before as the frame was shown later.
        for (sooner, later), (old, new) in zip(
            pairwise(at for at, _ in viewer.shown), pairwise(viewer.shown_timestamps), strict=True
        ):
            assert (new - old) % (1 << 32) / TICKS == pytest.approx(later - sooner, abs=0.1)


@pytest.mark.parametrize("away", [0.3, 3.0, 9.5])
def test_a_publisher_that_comes_back_goes_on_in_the_same_stream(show: Show, away: float) -> None:
    watched = Watched(show)
    watched.publisher.vanish()
    watched.world.run_for(away)
    watched.next_publisher(watched.origin)
    assert watched.sees_again() < 0.5
    watched.is_one_unbroken_stream()
    assert SessionKind.WHEP.value not in "".join(watched.edge.ended)


def test_a_publisher_that_left_in_good_order_and_comes_back_too(show: Show) -> None:
    watched = Watched(show)
    watched.publisher.close()
    watched.world.run_for(5.0)
    watched.next_publisher(watched.origin)
    assert watched.sees_again() < 0.5
    watched.is_one_unbroken_stream()


def test_the_older_of_two_publishers_is_let_go(show: Show) -> None:
    watched = Watched(show)
    watched.next_publisher(watched.origin)
    watched.sees_again()
    assert watched.publisher.closed_because is not None
    assert list(watched.origin.ended.values()) == ["replaced by a newer session of the publisher"]
    watched.is_one_unbroken_stream()


def test_an_edge_whose_origin_died_takes_the_stream_from_the_next_one_by_itself(show: Show) -> None:
    """Nobody tells the edge: it hears nothing for two seconds, and asks again."""
    watched = Watched(show)
    watched.origin.die()
    watched.publisher.vanish()
    watched.world.run_for(0.2)  # what was on its way has come
    watched.next_publisher(show.node(Role.ORIGIN, SECOND_ORIGIN))
    assert watched.sees_again() < 3.0
    watched.is_one_unbroken_stream()


def test_an_origin_that_is_away_for_long_is_asked_again_each_second(show: Show) -> None:
    watched = Watched(show)
    watched.origin.die()
    watched.publisher.vanish()
    show.origin = None
    watched.world.run_for(30)
    assert watched.viewer.closed_because is None
    watched.next_publisher(show.node(Role.ORIGIN, SECOND_ORIGIN))
    assert watched.sees_again() < 2.0
    watched.is_one_unbroken_stream()


def test_an_order_to_subscribe_again_changes_nothing_to_be_seen(show: Show) -> None:
    """The old relay flows until the new one does."""
    watched = Watched(show)
    watched.edge.engine.resubscribe("main", "ordered")
    watched.world.run_for(2)
    assert watched.viewer.longest_freeze < 0.3
    watched.is_one_unbroken_stream()
