"""`showcaller journal [-f]`: what happened and who did it."""

import contextlib
import time
from typing import TYPE_CHECKING

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

if TYPE_CHECKING:
    from console.core.target import Target
    from controlplane.wire.api import JournalEntry


def journal(
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as things happen, until Ctrl-C."),
    lines: int = typer.Option(
        50, "--lines", "-n", metavar="N", min=0, max=1000, help="How many of the latest entries."
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """What happened, when, and who did it. With --json a list; with -f one JSON object a line."""
    if follow:
        with contextlib.suppress(KeyboardInterrupt):  # the way it ends
            context.run(_follow(context.target(api, token_file), lines, as_json=json))
        return
    entries = context.call(api, token_file, lambda client: client.journal(limit=lines)) if lines else []
    if json:
        output.print_json([entry.model_dump(mode="json") for entry in entries])
        return
    for entry in entries:
        print(_line(entry))
    if not entries and lines:
        context.note("the journal is empty")


async def _follow(target: "Target", lines: int, *, as_json: bool) -> None:
    from console.core.journal import follow
    from console.core.live import Link, LinkState

    async with target.client() as client, target.live() as source:
        lost, api = False, target.api
        async for item in follow(client, source, latest=lines):
            if isinstance(item, Link):
                if item.state is LinkState.DOWN and not lost:
                    context.note(f"the stream manager went away ({item.error}); trying again")
                elif item.state is LinkState.UP and item.api != api:
                    api = item.api
                    context.note(f"the stream manager at {api} is followed now")
                elif item.state is LinkState.UP and lost:
                    context.note("the stream manager is back")
                lost = item.state is LinkState.DOWN
            elif as_json:
                output.print_json(item.model_dump(mode="json"))
            else:
                print(_line(item), flush=True)


def _line(entry: "JournalEntry") -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    return f"{at}  {entry.actor:<15}  {entry.message}"
