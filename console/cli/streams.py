"""`showcaller streams`, `streams stop CHANNEL`: what is on air."""

from typing import TYPE_CHECKING

import typer

from console.cli import context, output
from console.cli.context import Api, DryRun, Json, TokenFile, Yes

if TYPE_CHECKING:
    from console.core.client import Client

app = typer.Typer(help="What is on air.", invoke_without_command=True)


@app.callback()
def streams(ctx: typer.Context, json: Json = False, api: Api = None, token_file: TokenFile = None) -> None:
    """What is on air: state, bitrate, viewers, latency, watch address."""
    if ctx.invoked_subcommand is None:
        _list(json, api, token_file)


def _list(as_json: bool, api: context.Apis, token_file: context.TokenFile) -> None:
    from console.core.units import show_bitrate, show_number
    from controlplane.wire.api import StreamView

    found = context.call(api, token_file, lambda client: client.streams())
    if as_json:
        output.print_json([output.shape(stream, StreamView) for stream in found])
        return
    if not found:
        context.note("nothing is on air; start with `showcaller publish test --channel main`")
        return
    output.print_table(
        ("channel", "state", "origin", "bitrate", "fps", "viewers", "p50 ms", "p95 ms", "watch"),
        [
            (
                stream.channel,
                stream.state,
                stream.origin or "-",
                show_bitrate(stream.bitrate_bps),
                show_number(stream.fps, 1),
                show_number(stream.viewers),
                show_number(stream.latency_ms.p50),
                show_number(stream.latency_ms.p95),
                stream.watch,
            )
            for stream in found
        ],
        numbers=(3, 4, 5, 6, 7),
    )


@app.command()
def stop(
    channel: str = typer.Argument(help="The channel to end.", metavar="CHANNEL"),
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """End a broadcast, wherever it was started. Asks first; its publish token is revoked."""
    from console.core.units import parse_channel

    parse_channel(channel)
    return context.call(
        api, token_file, lambda client: _stop(client, channel, yes=yes, dry_run=dry_run, as_json=json)
    )


async def _stop(client: "Client", channel: str, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    from console.core.effects import effect_of_stop
    from console.core.errors import Rejected
    from controlplane.wire.base import Problem

    on_air = await client.streams()
    known = [stream.channel for stream in on_air]
    if channel not in known:
        others = f"On air: {', '.join(known)}" if known else "Nothing is on air"
        problem = Problem(code="nothing_on_air", title=f"{channel} is not on air", detail=others, status=404)
        raise Rejected(problem)
    effect = effect_of_stop(on_air, channel)
    if dry_run:
        viewers = next(stream.viewers for stream in on_air if stream.channel == channel)
        _say(
            {"channel": channel, "state": "live", "viewers": viewers, "effect": effect},
            f"{effect} (not done)",
            as_json,
        )
        return 0
    if not output.confirm(effect, f"End {channel}?", yes=yes):
        context.note("nothing was done")
        return 1
    ended = await client.stop_stream(channel)
    _say(ended.model_dump(mode="json"), f"{channel} has ended, for {ended.viewers} viewers", as_json)
    return 0


def _say(value: dict[str, object], words: str, as_json: bool) -> None:
    if as_json:
        output.print_json(value)
    else:
        print(words)
