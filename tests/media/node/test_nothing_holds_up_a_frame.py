"""Nothing but media itself can hold up a frame in a worker: shown by a storm of everything else at once.

A real worker whose event loop is looked at (measured_worker.py). What counts is processor time in one turn of
the loop, media not included: a packet that comes waits for the rest of the turn that is going on and no more
than another one. So the figure does not depend on what else the machine does.
"""

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from media.core import rtcp
from media.node.workers import WorkerPlan
from tests.media.security.stand import CHANNEL, Peer, Show, running_show, until

VIEWERS = 150
TURN_MS = 10.0
STORMS = 3


@dataclass(frozen=True, slots=True)
class MeasuredPlan(WorkerPlan):
    """Launches the worker that looks at its loop and writes to `file`."""

    file: Path = Path()

    def command(self, fd: int) -> list[str]:
        python, _, _, *options = WorkerPlan.command(self, fd)
        return [python, "-m", "tests.media.node.measured_worker", str(self.file), *options]


async def all_join(show: Show) -> list[Peer]:
    """Every offer in one moment, so every handshake in the next."""
    viewers = [show.peer() for _ in range(VIEWERS)]
    answers = await asyncio.gather(*(viewer.ask(show.worker) for viewer in viewers))
    for viewer, answer in zip(viewers, answers, strict=True):
        viewer.begin(answer)
    await until(lambda: all(viewer.ready for viewer in viewers), "all are connected", 30)
    await until(lambda: all(len(viewer.rtp) > 30 for viewer in viewers), "all see the picture", 30)
    return viewers


def ask_for_everything(viewers: list[Peer]) -> None:
    """Every viewer wants a key frame, and the last few hundred packets again."""
    for viewer in viewers:
        newest = int.from_bytes(viewer.rtp[-1][2:4], "big")
        ssrc = int.from_bytes(viewer.rtp[-1][8:12], "big")
        wanted = tuple((newest - 300 + n) % 0x10000 for n in range(300))
        viewer.send_rtcp([rtcp.Nack(1, ssrc, wanted), rtcp.Pli(1, ssrc)])


def new_credentials() -> str:
    lines = [f"a=ice-ufrag:{secrets.token_hex(4)}", f"a=ice-pwd:{secrets.token_hex(16)}"]
    return "\r\n".join([*lines, "m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", ""])


async def test_a_storm_of_everything_else_takes_no_turn_for_long(tmp_path: Path) -> None:
    """The same work takes a processor longer where others share its caches. So it is looked at up to three
    times: what holds up a frame does so each time."""
    longest = []
    for number in range(STORMS):
        file = tmp_path / f"turns-{number}.json"
        await storm(file)
        seen = json.loads(file.read_text())
        assert seen["turns"] > 100, seen
        assert seen["full_collections"] <= 1, seen  # when all had gone
        assert seen["frozen"] > 10_000, seen  # what was loaded is not looked at again
        longest.append(seen["turn_ms"])
        if longest[-1] <= TURN_MS:
            return
    raise AssertionError(f"the longest turns took {longest} ms")


async def storm(file: Path) -> None:
    """In which the worker's loop is looked at: what it was seen to do is in the file then."""
    plan = MeasuredPlan(0, "the-worker", "origin", ("127.0.0.1",), None, file=file)
    async with running_show(plan) as show:
        worker = show.worker

        over = False

        async def reports() -> None:
            while not over:
                await worker.report()
                await asyncio.sleep(0.05)

        reporting = asyncio.create_task(reports())
        viewers = await all_join(show)
        for _ in range(2):
            ask_for_everything(viewers)
            seen = [len(viewer.rtp) for viewer in viewers]
            await until(
                lambda seen=seen: all(
                    len(viewer.rtp) > before + 60 for viewer, before in zip(viewers, seen, strict=True)
                ),
                "all see on",
                30,
            )
        restarted = await asyncio.gather(
            *(
                worker.ask("patch", id=viewer.name, fragment=new_credentials(), if_match="*")
                for viewer in viewers[:50]
            )
        )
        assert {said["ev"] for said in restarted} == {"restarted"}
        await asyncio.gather(*(worker.ask("close", id=viewer.name, reason="go") for viewer in viewers[:50]))
        await worker.ask("end", channel=CHANNEL, reason="over")
        await until(lambda: all(worker.ended(viewer.name) for viewer in viewers), "all have ended")
        over = True  # not by a cancellation: before 3.12 wait_for can lose one
        await reporting
