"""kill -9 of an origin beside another one: its edge takes the stream from there by itself, viewers see on."""

import os
import signal
import time

from tests.media.node.stand import Publisher, Stand, Watcher, log_lines, until
from tests.support.figures import Figure

AGAIN_WITHIN_S = 5.0  # two seconds of silence, then it asks at least each second


async def test_an_edge_goes_to_the_next_origin_without_being_told(nodes: Stand, figure: Figure) -> None:
    first = await nodes.node("origin", "origin-1")
    await nodes.node("origin", "origin-2")
    edge = await nodes.node("edge", "edge-1")
    publishers, viewer = [Publisher(), Publisher()], Watcher()
    try:
        await publishers[0].publish(nodes.manager, "origin-1", "main")
        await viewer.watch(nodes.manager, "edge-1", "main")
        await viewer.sees(10)
        (worker,) = first.worker_pids()
        for pid in (first.pid, worker):
            os.kill(pid, signal.SIGKILL)
        died = time.monotonic()
        await publishers[1].publish(nodes.manager, "origin-2", "main")  # as its publisher comes back
        await until(lambda: viewer.last_frame_at > died + 1.0, "the viewer sees the picture again")
        again = viewer.last_frame_at - died
        figure(f"a picture {again:.1f} s after the death")
        assert again < AGAIN_WITHIN_S
        await viewer.sees(10)
        assert viewer.session not in nodes.manager.nodes["edge-1"].ended
        events = [line["event"] for line in log_lines(edge.log)]
        assert events.count("relay_silent") == 1
        assert "relay_resubscribes" not in events, "nobody told it"
        assert events.count("relay_live") == 2
        origin = nodes.manager.nodes["origin-2"]
        await until(lambda: {s.kind.value for s in origin.sessions} == {"whip", "relay_out"}, "it is there")
    finally:
        for publisher in publishers:
            await publisher.close()
        await viewer.close()
