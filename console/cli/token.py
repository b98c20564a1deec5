"""`showcaller token create --publish CHANNEL`: what OBS and other WHIP clients need."""

import typer

from console.cli import context, output
from console.cli.context import Api, Json, TokenFile

app = typer.Typer(help="Tokens for publishers that are not ours: OBS, GStreamer, any WHIP client.")


@app.command()
def create(
    publish: str = typer.Option(..., "--publish", metavar="CHANNEL", help="The channel it may publish to."),
    ttl: str = typer.Option("1h", "--ttl", metavar="TIME", help="How long it is valid, at most 30d."),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """Make a publish token, and print the WHIP address that goes with it."""
    from console.core.units import parse_channel, parse_duration

    channel, ttl_s = parse_channel(publish), parse_duration(ttl, least_s=1, of="--ttl")
    made = context.call(api, token_file, lambda client: client.create_token(channel, ttl_s))
    if json:
        output.print_json(made.model_dump(mode="json"))
        return
    print(f"whip     {made.whip}")
    print(f"token    {made.token}")
    print(f"expires  {made.expires}")
    context.note(
        "In OBS: Settings, Stream, Service WHIP; the first is the server, the second the bearer token."
    )
