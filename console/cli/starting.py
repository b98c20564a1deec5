"""Starting what outlives the command, and undoing it when a Ctrl-C comes before it was done."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from console.cli import context
from console.core.errors import ConsoleError

if TYPE_CHECKING:
    from console.core.client import Client
    from console.core.paths import Home
    from console.core.stage import PublisherSpec, PublisherStatus, StageOptions
    from controlplane.wire.api import StageView


async def bring_up(options: "StageOptions", timeout_s: float) -> "StageView":
    """`stage.up`. Interrupted, it ends the stage again, unless that was there before."""
    from console.core import stage

    was_there = (await stage.status(options.home)).view.state != "down"
    try:
        return await stage.up(options, report=context.note, timeout_s=timeout_s)
    except asyncio.CancelledError:
        if was_there:
            context.note("interrupted; the stage was there before, and `showcaller stage down` ends it")
        else:
            context.note("interrupted: ending the stage that was being started")
            await stage.down(options.home, report=context.note)
        raise


async def put_on_air(home: "Home", client: "Client", spec: "PublisherSpec") -> "PublisherStatus":
    """`stage.start_publisher`. Interrupted, it stops the broadcast that it has started."""
    from console.core import stage

    ordering = asyncio.ensure_future(stage.order_publisher(home, client, spec))
    try:
        return await stage.wait_live(home, client, await asyncio.shield(ordering))
    except asyncio.CancelledError:
        with contextlib.suppress(ConsoleError):  # refused, or over by now: there is nothing of ours to stop
            await ordering
            await stage.stop_publisher(home, spec.channel)
            context.note(f"interrupted: {spec.channel} was being started, and has been stopped")
        raise
