"""`showcaller publish SOURCE --channel NAME`: put a file or the test pattern on air.

In the foreground the command becomes the publisher itself (exec), so that Ctrl-C, its output and its exit
code are the publisher's own. With --detach the stage's supervisor keeps it on air.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from console.core.client import Client
    from console.core.stage import PublisherSpec, PublisherStatus
    from console.core.target import Target


def publish(
    source: str = typer.Argument(help="A media file, or `test` for the test pattern.", metavar="SOURCE"),
    channel: str = typer.Option(..., "--channel", metavar="NAME", help="The channel to publish to."),
    bitrate: str | None = typer.Option(None, "--bitrate", metavar="RATE", help="E.g. 4.5M, the default."),
    codec: str = typer.Option("h264", "--codec", metavar="h264|vp8", help="What pictures are coded in."),
    loop: bool = typer.Option(False, "--loop", help="Begin again when the file ends."),
    copy: bool = typer.Option(False, "--copy", help="Send an H.264 file as it is (no B-frames)."),
    size: str | None = typer.Option(None, "--size", metavar="WxH", help="Picture size, e.g. 1280x720."),
    fps: float | None = typer.Option(None, "--fps", metavar="N", min=1, max=60, help="Frames a second."),
    detach: bool = typer.Option(False, "--detach", help="Return when it is live; the stage keeps it on air."),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Publish until stopped: a line a second. Ctrl-C ends it cleanly."""
    from console.core.errors import UsageError
    from console.core.stage import PublisherSpec
    from console.core.units import parse_bitrate, parse_channel, parse_codec, parse_size

    if detach and api:
        raise UsageError(
            "--detach is for the stage of this machine, not for --api", "Leave one of the two out"
        )
    if copy and (bitrate or size or fps or parse_codec(codec) != "h264"):
        raise UsageError("--copy sends the file as it is", "Leave out --codec, --bitrate, --size and --fps")
    spec = PublisherSpec(
        channel=parse_channel(channel),
        source=_source(source),
        codec=parse_codec(codec),
        bitrate_bps=None if bitrate is None else parse_bitrate(bitrate),
        loop=loop,
        copy_mode=copy,
        size=None if size is None else parse_size(size),
        fps=fps,
    )
    if detach:
        return _detached(spec, api, token_file, as_json=json)
    return _foreground(spec, context.target(api, token_file), as_json=json)


def _source(text: str) -> str:
    """`test`, or the absolute path of a file that can be read."""
    from console.core.errors import UsageError
    from console.core.media_files import media_file

    if text == "test":
        return text
    if not text.strip():
        raise UsageError("no source is named", "Give a media file, or `test` for the test pattern")
    if "://" in text:
        raise UsageError(f"{text} is an address, and only files and `test` can be published", "Give a file")
    return str(media_file(text).path)


def _detached(spec: "PublisherSpec", api: context.Apis, token_file: Path | None, *, as_json: bool) -> int:
    from console.cli.starting import put_on_air

    home = context.home()

    async def start(client: "Client") -> "PublisherStatus":
        return await put_on_air(home, client, spec)

    status = context.call(api, token_file, start)
    line = status.line
    if as_json and line is not None:
        output.print_json(line.model_dump(mode="json"))
    elif line is not None:
        from console.core.units import show_bitrate

        print(f"{line.channel}  {line.state}  {show_bitrate(line.bitrate_bps)}")
        stop = f"`showcaller streams stop {line.channel}`"
        if spec.source == "test" or spec.loop:
            context.note(f"It stays on air until {stop}.")
        else:
            context.note(f"It ends with the file, or before that by {stop}; --loop begins it again.")
    return 0


def _foreground(spec: "PublisherSpec", target: "Target", *, as_json: bool) -> int:
    from console.core.stage.kept import TOKEN_S, publish_token
    from console.core.stage.publishers import publisher_arguments, publisher_name

    async def make() -> str:
        async with target.client() as client:
            if not target.remote:
                return (await publish_token(context.home(), client, spec.channel)).text
            return (await client.create_token(spec.channel, TOKEN_S)).token

    token = context.run(make())
    name = publisher_name(spec.channel)
    words = [
        *("--whip", f"{target.api}/whip/{spec.channel}"),
        *("--report", f"{target.api}/api/v1/channels/{spec.channel}/publisher"),
        *("--name", name),
        *publisher_arguments(spec),
    ]
    if as_json:
        words.append("--json")
    if not target.remote:
        words += ["--run-dir", str(context.home().run)]
        _record(name, spec.channel, token)
    return context.become("media.publisher", words, {"SHOWCALLER_TOKEN": token})


def _record(name: str, channel: str, token: str) -> None:
    """This very process becomes the publisher: pid and start time stay, so `stage down` finds it."""
    from console.core.errors import StageError
    from console.core.stage.kept import keep
    from controlplane.wire import processes as records

    folder = context.home().processes
    if any(record.name == name for record in records.read_alive(folder)):
        raise StageError(
            f"{channel} is already on air from this machine",
            f"Stop it first with `showcaller streams stop {channel}`, or choose another channel",
        )
    record = records.record_self_or_child(folder, name, "publisher", os.getpid())
    if record is not None:
        keep(context.home(), channel, record, token)
