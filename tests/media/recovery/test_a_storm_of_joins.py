"""A thousand viewers join an edge in ten seconds: few key frames are asked for, and nobody waits for long.

Real handshakes on virtual time. A viewer that has seen its first picture hears nothing more, which costs
nothing; the edge goes on sending to it.
"""

from itertools import pairwise

from controlplane.wire.nodes import Role
from media.fanout.keyframes import KEYFRAME_INTERVAL
from tests.media.recovery.peers import Publisher, Viewer
from tests.media.recovery.world import EDGE, ORIGIN, Show

A_SECOND = 100


class Joiner(Viewer):
    """A viewer that only wants to see the first picture."""

    first_after: float | None = None  # seconds from its offer

    def rtp(self, packet: bytes, now: float) -> None:
        super().rtp(packet, now)
        if self.shown:
            self.first_after = now - self.joined_at
            self.vanish()


def storm(show: Show, publisher: Publisher, seconds: float) -> list[float]:
    """Seconds from the offer to the first picture, sorted; all have been given two seconds after the last."""
    origin, edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
    publisher.key_packets, publisher.delta_packets, publisher.key_every = 8, 2, 300
    publisher.publish(origin)
    assert show.world.run_until(lambda: publisher.ready)
    early = Viewer(show, "10.0.9.9")
    early.watch(edge)
    assert show.world.run_until(lambda: len(early.shown) > 60)
    early.vanish()
    publisher.asked_at.clear()
    hosts = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(round(seconds * A_SECOND))]
    joiners = [Joiner(show, host) for host in hosts]
    for number, joiner in enumerate(joiners):
        show.world.call_at(show.world.now + number / A_SECOND, joiner.watch, edge)
    show.world.run_for(seconds + 2)
    return sorted(joiner.first_after or float("inf") for joiner in joiners)


def test_a_thousand_joiners_cause_two_key_frames_a_second_at_most(show: Show) -> None:
    publisher = Publisher(show)
    before = publisher.keyframes
    waits = storm(show, publisher, 10)
    assert len(waits) == 1000
    assert all(later - sooner > KEYFRAME_INTERVAL - 0.001 for sooner, later in pairwise(publisher.asked_at))
    assert 15 <= len(publisher.asked_at) <= 21
    assert publisher.keyframes - before <= 23
    # The handshake takes four round trips of 40 ms and more, and a key frame another two.
    assert waits[500] < 0.35
    assert waits[-1] < 0.8


def test_nor_do_they_wait_for_a_source_that_makes_none_when_asked(show: Show) -> None:
    publisher = Publisher(show)
    publisher.deaf = True
    waits = storm(show, publisher, 2)
    assert len(publisher.asked_at) <= 5
    assert publisher.keyframes <= 2
    assert waits[50] < 0.35  # those that came when it had been found out
    assert waits[-1] < 0.8
