"""One process of a swarm: a crowd that prints a Second a second, as JSON, until its stdin closes."""

import asyncio
import resource
import signal
import sys
from dataclasses import asdict

import orjson

from media.swarm.crowd import Crowd, Door, Moves
from media.swarm.second import Second
from media.swarm.viewer import LATE_S


async def run(
    door: Door,
    viewers: int,
    ramp: float,
    *,
    stay: float | None = None,
    late_after: float = LATE_S,
    moves: Moves | None = None,
) -> None:
    """Ramp up, watch until stdin ends or a signal comes, leave. See Crowd for what the figures mean."""
    # Who leaves and who comes may overlap; who follows moves has a connection, and two sessions for a moment.
    allow_sockets(viewers * (1 + (stay is not None) + 2 * (moves is not None)))
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    loop.add_reader(sys.stdin.fileno(), over.set)  # nothing is ever written to it: it has closed
    crowd = Crowd(door, viewers, ramp, stay=stay, late_after=late_after, moves=moves)
    coming = asyncio.create_task(crowd.come())
    next_at = loop.time() + 1.0
    while not over.is_set():
        try:
            async with asyncio.timeout_at(next_at):
                await over.wait()
        except TimeoutError:
            next_at = max(next_at + 1.0, loop.time())
            _print(crowd.second())
    loop.remove_reader(sys.stdin.fileno())
    coming.cancel()
    _print(crowd.second())
    await crowd.leave()


def _print(second: Second) -> None:
    sys.stdout.buffer.write(orjson.dumps(asdict(second)) + b"\n")
    sys.stdout.buffer.flush()


def allow_sockets(viewers: int) -> None:
    """A file descriptor a viewer, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = viewers + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
