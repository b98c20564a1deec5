"""Detached publishers: broadcasts that outlive the console that started them."""

import asyncio
import time

from console.core.client import Client
from console.core.errors import ConsoleError, StageError, TimedOut
from console.core.paths import Home
from console.core.stage.control import PublishOrder, SupervisorGone, ask, ask_status, understood
from console.core.stage.kept import publish_token
from console.core.stage.model import PublisherSpec, PublisherStatus
from controlplane.wire.publishing import PublishState

POLL_S = 0.1


async def start_publisher(
    home: Home, client: Client, spec: PublisherSpec, *, timeout_s: float = 30.0
) -> PublisherStatus:
    """Put a broadcast on air through the supervisor; returns when it is live (state "running", `line` set).

    `order_publisher` and `wait_live` in one: raises what they raise. Cancelled, the broadcast goes on.
    """
    return await wait_live(home, await order_publisher(home, client, spec), timeout_s=timeout_s)


async def order_publisher(home: Home, client: Client, spec: PublisherSpec) -> PublisherStatus:
    """Have the supervisor start a broadcast; returns when its process has been launched.

    The publish token is made here, through `client`. Raises StageError when it is on air already, or cannot
    be launched.
    """
    try:
        spec.source.encode()
    except UnicodeEncodeError:  # the order is JSON
        name = spec.source.encode(errors="backslashreplace").decode()
        raise StageError(
            f"the file name {name} is not UTF-8", "Rename the file, set LANG=C.UTF-8, or leave out --detach"
        ) from None
    token = await publish_token(home, client, spec.channel)
    order = PublishOrder(
        spec=spec,
        whip=f"{client.api}/whip/{spec.channel}",
        report=f"{client.api}/api/v1/channels/{spec.channel}/publisher",
        token=token,
    )
    return understood(
        PublisherStatus, await ask(home, {"do": "publish", "order": order.model_dump(mode="json")})
    )


async def wait_live(home: Home, status: PublisherStatus, *, timeout_s: float = 30.0) -> PublisherStatus:
    """Wait until a broadcast that has just been ordered is live, or has come to its end.

    Raises StageError with the publisher's own words when it fails (the error's exit_code is the publisher's),
    TimedOut when it is not live in time; then it is stopped.
    """
    channel = status.channel
    deadline = time.monotonic() + timeout_s
    while status.line is None or status.line.state is not PublishState.LIVE:
        if status.state == "failed" or (status.state == "ended" and status.line is None):
            raise _failure(status)
        if status.state == "ended":  # a clip shorter than a glance
            return status
        if time.monotonic() > deadline:
            await stop_publisher(home, channel)
            raise TimedOut(
                f"{channel} is not live after {timeout_s:.0f} s, so it was stopped",
                f"See `showcaller logs publisher-{channel}`",
            )
        await asyncio.sleep(POLL_S)
        status = await _status_of(home, channel)
    return status


async def stop_publisher(home: Home, channel: str) -> PublisherStatus:
    """End a broadcast started by `start_publisher`, cleanly. StageError when there is none."""
    answer = await ask(home, {"do": "stop_publish", "channel": channel}, timeout_s=20.0)
    return understood(PublisherStatus, answer)


async def list_publishers(home: Home) -> list[PublisherStatus]:
    """The supervisor's broadcasts; empty when no supervisor runs."""
    try:
        return (await ask_status(home)).publishers
    except SupervisorGone:
        return []


async def _status_of(home: Home, channel: str) -> PublisherStatus:
    for status in (await ask_status(home)).publishers:
        if status.channel == channel:
            return status
    raise StageError(f"the supervisor knows nothing of {channel} any more", "Try again")


def _failure(status: PublisherStatus) -> ConsoleError:
    what, _, next_step = (status.error or f"it ended with exit code {status.exit_code}").partition(". ")
    error = StageError(what, next_step or f"See `showcaller logs publisher-{status.channel}`")
    error.exit_code = status.exit_code or 1
    return error
