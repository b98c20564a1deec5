"""What concerns every viewer of a channel is done for some at a time: a frame may come in between."""

from collections import Counter

from controlplane.wire.nodes import Role
from media.core import rtcp
from media.node.channels import ENDED_AT_ONCE, REPORTED_AT_ONCE
from tests.media.recovery.peers import Publisher, Viewer
from tests.media.recovery.world import EDGE, ORIGIN, VIEWER, Node, Show

CROWD = 100


class Listener(Viewer):
    """Notes when it is told of the publisher's clock."""

    def __init__(self, show: Show, host: str) -> None:
        super().__init__(show, host)
        self.told_at: list[float] = []

    def rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        super().rtcp(packets, now)
        self.told_at += [now] * any(isinstance(packet, rtcp.SenderReport) for packet in packets)


def crowd(show: Show) -> tuple[Node, list[Listener]]:
    origin, edge = show.node(Role.ORIGIN, ORIGIN), show.node(Role.EDGE, EDGE)
    publisher = Publisher(show)
    publisher.key_packets, publisher.delta_packets = 8, 2
    publisher.publish(origin)
    assert show.world.run_until(lambda: publisher.ready)
    viewers = [Listener(show, f"10.0.4.{number + 1}") for number in range(CROWD)]
    for viewer in viewers:
        viewer.watch(edge)
    assert show.world.run_until(lambda: all(viewer.shown for viewer in viewers))
    return edge, viewers


def test_sender_reports_go_out_to_some_at_a_time_and_to_each_once_a_second(show: Show) -> None:
    _, viewers = crowd(show)
    show.world.run_for(2)
    start = show.world.now
    show.world.run_for(5)
    told = [[at for at in viewer.told_at if at > start] for viewer in viewers]
    assert {len(moments) for moments in told} == {5}
    at_once = Counter(round(at, 3) for moments in told for at in moments)
    assert max(at_once.values()) <= REPORTED_AT_ONCE


def test_a_channel_that_ends_lets_go_of_its_viewers_some_at_a_time(show: Show) -> None:
    edge, viewers = crowd(show)
    edge.engine.end_channel("main", "over")
    assert len([session for session in edge.ended if "whep" in session]) == ENDED_AT_ONCE
    again = Viewer(show, VIEWER)  # the next show of the same name begins at once
    again.watch(edge)
    show.world.run_for(0.1)
    assert {edge.ended[viewer.id] for viewer in viewers} == {"over"}
    assert show.world.run_until(lambda: again.shown)
    assert again.id not in edge.ended
