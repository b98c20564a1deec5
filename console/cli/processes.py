"""`showcaller serve | probe | swarm`: one process of the show, in the foreground."""

from pathlib import Path

import typer

from console.cli import context, output
from console.cli.context import Announce, Api, Json, Listen, Port, TlsCert, TlsKey, TokenFile


def serve(
    port: Port = None,
    listen: Listen = None,
    announce: Announce = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    public_url: str | None = typer.Option(None, "--public-url", metavar="URL", help="How others reach it."),
    config: Path | None = typer.Option(None, "--config", metavar="FILE", help="Its configuration file."),
    no_nodes: bool = typer.Option(False, "--no-nodes", help="Start no nodes on this machine."),
    json: Json = False,
) -> int:
    """One stream manager in the foreground, until Ctrl-C. Its data is this home's."""
    from console.core.stage.start import require_linux

    require_linux()
    from console.core.stage.serving import ServeOptions, serve_foreground

    options = ServeOptions(
        stage=context.stage_options(port, listen, announce, tls_cert, tls_key),
        public_url=public_url,
        config=config,
        no_nodes=no_nodes,
    )

    def ready(api: str, watch: str) -> None:
        if json:
            output.print_json({"ready": True, "api": api, "watch": watch})
        else:
            print(f"api     {api}\nwatch   {watch}", flush=True)

    return serve_foreground(options, ready=ready, report=context.note)


def probe(
    what: str = typer.Argument(help="A channel of the stage, or a WHEP address.", metavar="CHANNEL|URL"),
    seconds: float = typer.Option(20.0, "--seconds", metavar="N", min=1, max=3600, help="How long to watch."),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Watch as one real viewer and measure: bitrate, frames, first frame, latency, freezes."""
    words = ["probe", "--whep", _whep(what, api, token_file), "--seconds", f"{seconds:g}"]
    return context.become("media.swarm", [*words, "--json"] if json else words, {})


def swarm(
    what: str = typer.Argument(help="A channel of the stage, or a WHEP address.", metavar="CHANNEL|URL"),
    viewers: int = typer.Option(100, "--viewers", min=1, max=20_000, help="How many.", metavar="N"),
    ramp: float = typer.Option(20.0, "--ramp", help="How many come in a second.", metavar="N"),
    seconds: float = typer.Option(
        30.0, "--seconds", metavar="N", min=1, max=86_400, help="How long, once all are there."
    ),
    stay: float | None = typer.Option(
        None, "--stay", metavar="SECONDS", help="Each leaves after so long, and another takes its place."
    ),
    late: float = typer.Option(150.0, "--late", metavar="MS", help="A frame later than this is counted."),
    follow_moves: bool | None = typer.Option(
        None,
        "--follow-moves/--no-follow-moves",
        help="Go where a drain moves them. Default: up to 500 viewers.",
    ),
    party: int | None = typer.Option(
        None, "--party", metavar="N", min=1, max=32, help="So many come together, and want to be on one edge."
    ),
    processes: int | None = typer.Option(
        None, "--processes", min=1, help="How many (one a 500 viewers).", metavar="N"
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Watch as a crowd of cheap, real WebRTC viewers, and tell how they fare. For your own servers only."""
    words = ["crowd", "--whep", _whep(what, api, token_file), "--viewers", str(viewers)]
    words += ["--ramp", f"{ramp:g}", "--seconds", f"{seconds:g}", "--late", f"{late:g}"]
    if stay is not None:
        words += ["--stay", f"{stay:g}"]
    if follow_moves is not None:
        words.append("--follow-moves" if follow_moves else "--no-follow-moves")
    if party is not None:
        words += ["--party", str(party)]
    if processes is not None:
        words += ["--processes", str(processes)]
    return context.become("media.swarm", [*words, "--json"] if json else words, {})


def _whep(what: str, api: context.Apis, token_file: Path | None) -> str:
    """The WHEP address of a channel, or the one that was given."""
    from console.core.calls import check_api_url
    from console.core.target import addresses
    from console.core.units import parse_channel

    if "://" in what:
        return check_api_url(what)
    if named := context.one_text(api):
        return f"{addresses(named)[0]}/whep/{parse_channel(what)}"
    return f"{context.target(api, token_file).api}/whep/{parse_channel(what)}"
