"""The event loop of a process on the packet path: uvloop's, with a clock as fine as the packets need it.

A wake-up costs less in it than in asyncio's own (docs/decisions/0021), and wake-ups are what a worker with
few viewers mostly does. Its own clock stands still while a callback runs and counts milliseconds; turns of
reading are bounded by the clock, and round trips are measured with it.
"""

import asyncio
import time


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for `asyncio.Runner(loop_factory=...)`; asyncio's where there is no uvloop (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()

    class PacketLoop(uvloop.Loop):
        #: seconds on the steady clock, as asyncio's own loop has it; no method, as each datagram asks for it
        time = staticmethod(time.monotonic)

    return PacketLoop()
