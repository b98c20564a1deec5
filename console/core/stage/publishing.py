"""Detached publishers: broadcasts that outlive the console that started them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from console.core.client import Client
from console.core.errors import ApiError, ConsoleError, StageError, TimedOut
from console.core.paths import Home
from console.core.stage.control import PublishOrder, SupervisorGone, ask, ask_status, understood
from console.core.stage.kept import PublishToken, publish_token
from console.core.stage.model import PublisherSpec, PublisherStatus
from controlplane.wire.publishing import PublishState

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Ordered:
    """A broadcast that the supervisor has started, and what it publishes with."""

    status: PublisherStatus
    token: PublishToken


async def start_publisher(
    home: Home, client: Client, spec: PublisherSpec, *, timeout_s: float = 30.0
) -> PublisherStatus:
    """Put a broadcast on air through the supervisor; returns when it is live (state "running", `line` set).

    `order_publisher` and `wait_live` in one: raises what they raise. Cancelled, the broadcast goes on.
    """
    ordered = await order_publisher(home, client, spec)
    return await wait_live(home, client, ordered, timeout_s=timeout_s)


async def order_publisher(home: Home, client: Client, spec: PublisherSpec) -> Ordered:
    """Have the supervisor start a broadcast; returns when its process has been launched.

    The publish token is made here, through `client`, and taken back when nothing comes of it. Raises
    StageError when the channel is on air already, or the publisher cannot be launched.
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
        token=token.text,
    )
    async with _taken_back(client, spec.channel, token):
        # One that was stopped a moment ago may have to find that out.
        ending = await client.stream(spec.channel) is None
        request = {"do": "publish", "order": order.model_dump(mode="json"), "ending": ending}
        answer = await ask(home, request, timeout_s=20.0)
        return Ordered(understood(PublisherStatus, answer), token)


async def wait_live(
    home: Home, client: Client, ordered: Ordered, *, timeout_s: float = 30.0
) -> PublisherStatus:
    """Wait until a broadcast that has just been ordered is live, or has come to its end.

    Raises StageError with the publisher's own words when it fails (the error's exit_code is the publisher's),
    TimedOut when it is not live in time; then it is stopped. In both cases its token is taken back.
    """
    async with _taken_back(client, ordered.status.channel, ordered.token):
        return await _until_live(home, ordered.status, timeout_s)


@contextlib.asynccontextmanager
async def _taken_back(client: Client, channel: str, token: PublishToken) -> AsyncIterator[None]:
    """Revoke the token of a broadcast that fails to come on air, if it was made for it."""
    try:
        yield
    except ConsoleError:
        if token.made:
            with contextlib.suppress(ApiError):  # then it ends by itself; what went wrong is worth more
                await client.revoke_token(channel, token.text, "the broadcast did not come on air")
        raise


async def _until_live(home: Home, status: PublisherStatus, timeout_s: float) -> PublisherStatus:
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
