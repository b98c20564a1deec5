"""`python -m tests.soak`: bring a stage up, have it live through a crowd, and judge. See judge.py.

What happens meanwhile: nine tenths of the viewers stay, a tenth comes, watches and leaves again and again,
with a few who listen to the channel's events and an operator who looks at the nodes; and the publisher or its
encoder is killed five times, with all who watch. Exit 1 when it was not held, 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.soak.crowd import crowd, listeners
from tests.soak.judge import Verdict, judge
from tests.soak.samples import Sample, sample
from tests.support.show import kill
from tests.support.stage import Stage, running_stage

RESULT = Path(__file__).parent / "latest.json"
CHANNEL = "soak"
EVERY_S = 5.0  # a sample; more often in a short soak, of which there are to be SAMPLES
SAMPLES = 60
SAY_EVERY = 6  # samples
DEATHS = 5
ROUND_S = 15.0  # that those who come and go stay
RAMP = 20.0  # viewers a second
LISTENERS = 10
QUIET_S = 60.0  # to give descriptors back in: a connection to a node is kept for half of that


@dataclass(frozen=True)
class Options:
    seconds: float
    viewers: int
    bitrate: str
    result: Path


@dataclass
class Soak:
    """One under way."""

    stage: Stage
    options: Options
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rounds: int = 0
    deaths: int = 0

    @property
    def whep(self) -> str:
        return f"{self.stage.api}/whep/{CHANNEL}"

    def look(self) -> Sample:
        return sample(self.stage.processes(), time.monotonic() - self.began)

    def complain(self, problem: str) -> None:
        if problem:
            self.problems.append(f"after {time.monotonic() - self.began:.0f} s: {problem}")
            say(self.problems[-1])

    async def publish(self) -> None:
        await asyncio.to_thread(self.stage.publish_test, CHANNEL, "--bitrate", self.options.bitrate)

    async def stop(self) -> None:
        await asyncio.to_thread(self.stage.stop, CHANNEL)

    async def quiet(self, wanted: Sample | None = None) -> Sample:
        """When nobody is there: once no more descriptors are held than wanted, or after QUIET_S."""
        end = time.monotonic() + QUIET_S
        while True:
            now = self.look()
            if wanted is not None and not left(wanted, now):
                return now
            if time.monotonic() > end:
                return now
            await asyncio.sleep(1.0)

    async def come_and_go(self, viewers: int) -> None:
        """Round after round, until cancelled."""
        while True:
            async with (
                listeners(f"{self.stage.watch}/{CHANNEL}/events", LISTENERS),
                crowd(self.whep, viewers, RAMP) as come,
            ):
                self.complain(await come.play())
                await asyncio.sleep(ROUND_S)
                self.complain(come.complaint())
                await asyncio.to_thread(self.stage.json, "nodes")
            self.rounds += 1

    async def die(self) -> None:
        """The publisher's processes in turn, until cancelled. They are started again by who watches them."""
        pause = self.options.seconds / (DEATHS + 1)
        while self.deaths < DEATHS:
            await asyncio.sleep(pause)
            victim = ("publisher", "encoder")[self.deaths % 2]
            await asyncio.to_thread(kill, self.stage.process(f"{victim}-{CHANNEL}"))
            self.deaths += 1

    async def watch(self, staying: int, passing: int) -> None:
        """The time itself."""
        async with crowd(self.whep, staying, RAMP) as come, asyncio.TaskGroup() as tasks:
            self.complain(await come.play())
            doing = [tasks.create_task(self.come_and_go(passing)), tasks.create_task(self.die())]
            end = time.monotonic() + self.options.seconds
            while time.monotonic() < end:
                self.samples.append(self.look())
                if len(self.samples) % SAY_EVERY == 1:
                    say(
                        f"{self.samples[-1].at:5.0f} s: {come.now.playing} stay, {in_short(self.samples[-1])}"
                    )
                await asyncio.sleep(min(EVERY_S, self.options.seconds / SAMPLES))
            self.complain(come.complaint())
            for task in doing:
                task.cancel()


def left(before: Sample, after: Sample) -> bool:
    """Whether any process holds more descriptors than before."""
    had = {one.name: one.descriptors for one in before.held}
    return any(one.descriptors > had.get(one.name, 0) for one in after.held)


def in_short(it: Sample) -> str:
    own = sum(one.own for one in it.held) / 1e6
    return f"{own:.1f} MB, {sum(one.descriptors for one in it.held)} descriptors"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def run(options: Options) -> bool:
    """Whether it was held. Prints the table and writes the result."""
    passing = max(1, options.viewers // 10)
    settings = f"[fleet]\nedge_capacity = {max(400, options.viewers + 2 * passing)}\n"
    with running_stage(settings=settings) as stage:
        soak = Soak(stage, options)
        # Once beforehand: what is opened at the first use, and kept, is not left behind.
        await soak.publish()
        async with crowd(soak.whep, 2, RAMP) as come:
            soak.complain(await come.play())
        await soak.stop()
        before = await soak.quiet()
        say(f"nobody is there: {in_short(before)}")
        await soak.publish()
        await soak.watch(max(1, options.viewers - passing), passing)
        await soak.stop()
        after = await soak.quiet(before)
        say(f"nobody is there: {in_short(after)}")
    verdicts = judge(before, soak.samples, after)
    held = not soak.problems and not any(verdict.problems for verdict in verdicts)
    print(table(verdicts))
    print("\n".join([*soak.problems, "held" if held else "NOT HELD"]))
    write(options, soak, verdicts, held)
    return held


def table(verdicts: Sequence[Verdict]) -> str:
    rows = [("process", "MB at first", "at last", "growth", "descriptors before", "at most", "after", "")]
    for it in verdicts:
        sizes = (f"{it.first / 1e6:.2f}", f"{it.last / 1e6:.2f}", f"{it.growth:+.2%}")
        descriptors = (str(it.before), str(it.peak), str(it.after))
        rows.append((it.name, *sizes, *descriptors, "; ".join(it.problems)))
    widths = [max(len(row[column]) for row in rows) for column in range(8)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write(options: Options, soak: Soak, verdicts: Sequence[Verdict], held: bool) -> None:
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        "seconds": options.seconds,
        "viewers": options.viewers,
        "bitrate": options.bitrate,
        "rounds_of_who_came_and_went": soak.rounds,
        "deaths": soak.deaths,
        "held": held,
        "problems": soak.problems,
        "processes": [asdict(verdict) | {"growth": round(verdict.growth, 4)} for verdict in verdicts],
        "samples": [
            {
                "at": round(one.at, 1),
                "own": {held.name: held.own for held in one.held},
                "pss": {held.name: held.pss for held in one.held},
                "descriptors": {held.name: held.descriptors for held in one.held},
            }
            for one in soak.samples
        ],
    }
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(told, indent=1) + "\n")


def seconds(text: str) -> float:
    """`1800`, `30m` or `90s`."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    return float(text[:-1]) * factor if factor else float(text)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="a stage under a lasting crowd")
    parser.add_argument("--seconds", type=seconds, default=1800.0, help="how long (1800; 30m will do)")
    parser.add_argument("--viewers", type=int, default=300, help="how many at a time (300)")
    parser.add_argument("--bitrate", default="4.5M", help="of the test broadcast (4.5M)")
    parser.add_argument("--result", type=Path, default=RESULT, help="the JSON file to write")
    options = Options(**vars(parser.parse_args(argv)))
    if not options.seconds >= 30 or not 2 <= options.viewers <= 2000:
        parser.error("at least 30 seconds, and 2 to 2000 viewers")
    return asyncio.run(until_interrupted(options))


async def until_interrupted(options: Options) -> int:
    """A signal ends it as an error would: everybody leaves, and the stage is taken down."""
    loop = asyncio.get_running_loop()
    soaking = asyncio.ensure_future(run(options))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, soaking.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return 0 if await soaking else 1
    say("interrupted")
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
