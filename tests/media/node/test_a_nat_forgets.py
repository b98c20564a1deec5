"""A peer behind a NAT that gives its packets another port in the middle of a session: real processes, aiortc.

aiortc checks the pair in use each 5 s only, so it is the reports and the media that tell.
"""

from tests.media.node.stand import Publisher, Stand, Watcher
from tests.support.figures import Figure
from tests.support.nat import Nat
from tests.support.wait import wait_for

FOLLOWED_WITHIN = 5.0  # seconds a test waits; the figure says what it took


def port_of(nodes: Stand, node: str) -> int:
    return nodes.manager.nodes[node].enrol.workers[0].udp_port


async def test_a_viewer_behind_it_is_followed(nodes: Stand, figure: Figure) -> None:
    await nodes.node("origin", "origin-1")
    publisher, viewer = Publisher(), Watcher()
    async with Nat(port_of(nodes, "origin-1")) as nat:
        try:
            await publisher.publish(nodes.manager, "origin-1", "main")
            await viewer.watch(nodes.manager, "origin-1", "main", change=nat.behind)
            await viewer.sees(5)
            took = []
            for _ in range(3):
                nat.rebind()
                took.append(
                    await wait_for(lambda: nat.answered_after, FOLLOWED_WITHIN, "media at the new port")
                )
                await viewer.sees(30)
            figure(f"media again after {', '.join(f'{seconds:.2f}' for seconds in took)} s")
            assert viewer.session not in nodes.manager.nodes["origin-1"].ended
        finally:
            await publisher.close()
            await viewer.close()


async def test_a_publisher_behind_it_is_followed_and_its_viewers_see_nothing_of_it(
    nodes: Stand, figure: Figure
) -> None:
    await nodes.node("origin", "origin-1")
    publisher, viewer = Publisher(), Watcher()
    async with Nat(port_of(nodes, "origin-1")) as nat:
        try:
            await publisher.publish(nodes.manager, "origin-1", "main", change=nat.behind)
            await viewer.watch(nodes.manager, "origin-1", "main")
            await viewer.sees(30)
            nat.rebind()
            longest, seen, before = 0.0, viewer.frames, viewer.last_frame_at
            while viewer.frames < seen + 60:
                frames = viewer.frames
                await wait_for(
                    lambda frames=frames: viewer.frames > frames, 2.0, "the next picture", interval=0.005
                )
                longest, before = max(longest, viewer.last_frame_at - before), viewer.last_frame_at
            figure(f"longest time between two pictures: {longest * 1000:.0f} ms")
            assert longest < 1.0, "a second has frozen"
            assert publisher.session not in nodes.manager.nodes["origin-1"].ended
        finally:
            await publisher.close()
            await viewer.close()
