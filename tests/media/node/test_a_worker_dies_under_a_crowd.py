"""kill -9 of a worker of an edge of two: its viewers are back within 5 s, those of the other see on.

Real processes and a crowd of real viewers, who come back as a page does: with a new session, once the manager
has heard of the end of the old one. Both workers in turn: the one that has the relay from the origin is
missed by the other, too, which takes the channel from it.
"""

import asyncio
import os
import signal

from media.swarm.crowd import Crowd, Member
from tests.media.node.crowds import EdgeDoor, seen
from tests.media.node.stand import EnrolledNode, Publisher, Stand, log_lines, until
from tests.support.figures import Figure

VIEWERS = 20
BACK_WITHIN_S = 5.0
SETTLED_FRAMES = 30


class Crowded:
    """An edge of two workers, half of the crowd on each."""

    def __init__(self, nodes: Stand, edge: EnrolledNode) -> None:
        self.door = EdgeDoor(nodes.manager)
        self.edge = edge
        self.crowds: list[Crowd] = []
        self.members: list[Member] = []  # who watch

    async def come(self, viewers: int) -> list[Member]:
        crowd = Crowd(self.door, viewers, ramp=1000)
        self.crowds.append(crowd)
        await crowd.come()
        members = list(crowd.members.values())
        self.members += members
        await until(lambda: all(seen(member) for member in members), "all see the picture")
        return members

    async def see_on(self) -> None:
        """All see about a second of new frames."""
        frames = {member: frames_of(member) for member in self.members}
        await until(
            lambda: all(frames_of(m) >= before + SETTLED_FRAMES for m, before in frames.items()),
            "all see on",
        )

    async def settle(self) -> None:
        """All see on; gaps of before are not counted."""
        await self.see_on()
        for member in self.members:
            assert member.viewer is not None
            member.viewer.frames.take_worst()

    def on(self, port: int) -> list[Member]:
        return [member for member in self.members if self.door.ports[member.ticket or ""] == port]

    async def kill(self, port: int) -> tuple[float, float]:
        """The worker at this port: seconds until the last of its viewers sees a picture again, and the
        longest time without one on the other worker."""
        assert self.edge.last is not None
        (pid,) = (worker.pid for worker in self.edge.last.workers if worker.udp_port == port)
        lost = self.on(port)
        others = [member for member in self.members if member not in lost]
        assert len(lost) >= VIEWERS // 2 <= len(others)
        died = asyncio.get_running_loop().time()
        os.kill(pid, signal.SIGKILL)
        sessions = {member.ticket for member in lost}
        await until(lambda: sessions <= set(self.edge.ended), "the manager hears of the end of its sessions")
        self.members = others
        again = await self.come(len(lost))
        back = max(m.viewer.first_frame_at or 0.0 for m in again if m.viewer is not None) - died
        await self.see_on()  # a gap ends with a frame
        still = max(member.viewer.frames.gap for member in others if member.viewer is not None)
        assert not {member.ticket for member in others} & set(self.edge.ended)
        return back, still

    def lost(self) -> int:
        """Packets that never came to those who watch on."""
        viewers = [member.viewer for member in self.members if member.viewer is not None]
        return sum(arrivals.given_up for viewer in viewers for arrivals in viewer.arrivals)

    async def leave(self) -> None:
        for crowd in self.crowds:
            await crowd.leave()


def frames_of(member: Member) -> int:
    return 0 if member.viewer is None else member.viewer.frames.seen


async def test_viewers_of_a_killed_worker_come_back_and_others_see_on(nodes: Stand, figure: Figure) -> None:
    await nodes.node("origin", "origin-1")
    node = await nodes.node("edge", "edge-1", "--workers", "2")
    edge = nodes.manager.nodes["edge-1"]
    publisher, crowded = Publisher(), Crowded(nodes, edge)
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        (first,) = await crowded.come(1)  # to the worker that has the relay from then on
        home = crowded.door.ports[first.ticket or ""]
        (other,) = {worker.udp_port for worker in edge.enrol.workers} - {home}
        await crowded.come(VIEWERS - 1)
        await crowded.settle()
        back, still = await crowded.kill(other)
        figure(f"back after {back:.2f} s, longest gap on the other {still * 1000:.0f} ms")
        assert back < BACK_WITHIN_S
        assert crowded.lost() == 0, "of the others' packets"

        await until(lambda: len(node.worker_pids()) == 2, "another worker runs")
        await until(lambda: edge.last and len(edge.last.workers) == 2, "and is reported")
        await crowded.come(VIEWERS // 2)  # to the new one: those who were thrown off are on the old one
        await crowded.settle()
        back, still = await crowded.kill(home)
        figure(f"with the relay: back after {back:.2f} s, longest gap on the other {still * 1000:.0f} ms")
        assert back < BACK_WITHIN_S
        assert still < BACK_WITHIN_S
        events = [line["event"] for line in log_lines(node.log)]
        assert events.count("relay_resubscribes") == 1, "it was told"
        assert "relay_silent" not in events, "and did not have to find out"
    finally:
        await publisher.close()
        await crowded.leave()
