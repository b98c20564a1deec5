"""Whoever comes and goes leaves no circle of objects behind: a worker never collects them (collector.py)."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from controlplane.wire.nodes import Role
from tests.media.recovery.peers import Publisher, Viewer
from tests.media.recovery.world import EDGE, ORIGIN, SECOND_PUBLISHER, VIEWER, Show


@pytest.fixture
def by_hand() -> Iterator[Callable[[], Counter[str]]]:
    """What the collector finds since it was last asked; it does nothing by itself."""

    def found() -> Counter[str]:
        gc.collect()
        kinds = Counter(type(thing).__qualname__ for thing in gc.garbage)
        gc.garbage.clear()
        return kinds

    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield found
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.unfreeze()


def test_a_worker_leaves_nothing(show: Show, by_hand: Callable[[], Counter[str]]) -> None:
    world = show.world
    origin, edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
    publisher = Publisher(show)
    publisher.key_packets, publisher.delta_packets = 8, 2
    publisher.publish(origin)
    assert world.run_until(lambda: publisher.ready)
    by_hand()

    viewers = [Viewer(show, f"10.0.3.{number + 1}") for number in range(9)]
    for viewer in viewers:
        viewer.watch(edge)
    assert world.run_until(lambda: all(viewer.shown for viewer in viewers))
    for viewer in viewers[:3]:
        viewer.close()
    for viewer in viewers[3:6]:
        viewer.vanish()
    for viewer in viewers[6:8]:
        edge.engine.close(viewer.id, "told to go")
    Viewer(show, "10.0.3.200").watch(edge)  # never answers: its way is dead
    world.path("10.0.3.200", EDGE).lost = lambda: True
    world.run_for(40)
    assert len(edge.ended) >= 9
    assert by_hand() == Counter(), "viewers that left, vanished, were sent away, never came"

    edge.engine.resubscribe("main", "ordered")
    world.run_for(3)
    assert by_hand() == Counter(), "a relay made anew"

    again = Publisher(show, SECOND_PUBLISHER, ssrc=0x1234)
    again.publish(origin)
    world.run_for(3)
    assert by_hand() == Counter(), "a publisher that took over"

    origin.engine.end_channel("main", "over")
    show.origin = None
    world.run_for(30)  # the edge asks each second, in vain
    assert by_hand() == Counter(), "a channel that ended, and questions that were refused"

    Viewer(show, VIEWER).watch(edge)
    edge.engine.end_channel("main", "over")
    world.run_for(3)
    assert by_hand() == Counter(), "the channel at the edge"
