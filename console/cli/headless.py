"""`showcaller` where there is no terminal: the stage up, the test broadcast on air, a status line a second.

On SIGINT or SIGTERM everything that was started here is ended, and the exit code is 0. A stage or a broadcast
that was there before is used, and left as it was found.
"""

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.cli import context, output
from console.core.errors import ApiError, StageError

if TYPE_CHECKING:
    from console.core.client import Client
    from console.core.stage import StageOptions
    from controlplane.wire.api import StreamDetail

CHANNEL = "main"


@dataclass
class Mine:
    """What was started here, and so is ended here."""

    stage: bool | None = None  # None: it has not been looked at yet, so nothing was started
    broadcast: bool = False


def run_headless(options: "StageOptions", *, as_json: bool) -> int:
    return context.run(_main(options, as_json=as_json))


async def _main(options: "StageOptions", *, as_json: bool) -> int:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    mine = Mine()
    show = asyncio.create_task(_show(options, mine, as_json=as_json))
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait([show, waiting], return_when=asyncio.FIRST_COMPLETED)
        if show.done():
            await show  # it only ends by an error: raise it, after cleaning up
    finally:
        waiting.cancel()
        show.cancel()
        await asyncio.gather(show, return_exceptions=True)
        await _end(options, mine)
    return 0


async def _end(options: "StageOptions", mine: Mine) -> None:
    from console.core import stage

    if mine.stage:
        context.note("ending the stage")
        await stage.down(options.home, report=context.note)
        return
    if mine.stage is None:
        return
    if mine.broadcast:
        with contextlib.suppress(StageError):  # stopped by someone else in the meantime
            await stage.stop_publisher(options.home, CHANNEL)
    context.note("the stage was up before, and is left running; `showcaller stage down` ends it")


async def _show(options: "StageOptions", mine: Mine, *, as_json: bool) -> None:
    from console.cli.starting import put_on_air
    from console.core import stage
    from console.core.target import ConsoleOptions, find_target

    mine.stage = (await stage.status(options.home)).view.state == "down"
    view = await stage.up(options, report=context.note)
    watch = f"{view.watch}/{CHANNEL}"
    async with find_target(ConsoleOptions(stage=options)).client() as client:
        if await client.stream(CHANNEL) is None:
            spec = stage.PublisherSpec(channel=CHANNEL, source="test", loop=True)
            await put_on_air(options.home, client, spec)
            mine.broadcast = True
        due, live = time.monotonic(), not mine.broadcast
        while True:
            live = await _line(client, watch, live, as_json=as_json)
            due = max(due + 1.0, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


async def _line(client: "Client", watch: str, live: bool, *, as_json: bool) -> bool:
    """Print one line. Whether it has been live by now: until then what is not on air is starting."""
    try:
        stream = await client.stream(CHANNEL)
        trouble = ""
    except ApiError as error:  # it is started again by its supervisor: say so, and go on
        stream, trouble = None, error.what
    if as_json:
        output.print_json(
            {
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "channel": CHANNEL,
                "state": stream.state if stream else None,
                "bitrate_bps": stream.bitrate_bps if stream else None,
                "fps": stream.fps if stream else None,
                "viewers": stream.viewers if stream else None,
                "latency_ms": stream.latency_ms.model_dump() if stream else None,
                "watch": watch,
                "error": trouble or None,
            }
        )
    else:
        words = status_words(stream, "" if live else "starting", trouble)
        print("  ".join([time.strftime("%H:%M:%S"), CHANNEL, *words, watch]), flush=True)
    return live or (stream is not None and stream.state == "live")


def status_words(stream: "StreamDetail | None", starting: str, trouble: str) -> list[str]:
    """The state, and the figures that are known; `starting` stands for the state of what was never live."""
    from console.core.units import count, show_bitrate, show_duration

    if stream is None:
        return [trouble or starting or "not on air"]
    words = [starting if starting and stream.state != "live" else stream.state]
    if stream.bitrate_bps is not None:
        words.append(show_bitrate(stream.bitrate_bps))
    if stream.fps is not None:
        words.append(f"{stream.fps:.1f} fps")
    words.append(count(stream.viewers, "viewer"))
    figure = stream.latency_ms
    if figure.p95 is not None:
        words.append(f"latency p95 {figure.p95:.0f} ms, {show_duration(figure.age_s)} old")
    return words
