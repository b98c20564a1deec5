"""`showcaller serve | node | probe | swarm`: one process of the show, in the foreground."""

import os
from pathlib import Path

import typer

from console.cli import context, output
from console.cli.context import Announce, Api, Json, Listen, Port, TlsCert, TlsKey, TokenFile

INVITED_S = 90.0  # a node that is interrupted before it has enrolled is forgotten by then; it tries for 70 s


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


def node(
    role: str = typer.Option(..., "--role", metavar="ROLE", help="origin or edge."),
    manager: str | None = typer.Option(
        None, "--manager", metavar="URL", help="The stream manager it joins. Default: this machine's stage."
    ),
    manager_ca: Path | None = typer.Option(
        None,
        "--manager-ca",
        metavar="FILE",
        help="Trust that manager's certificate when this authority (PEM) has signed it. Default: as usual.",
    ),
    name: str | None = typer.Option(None, "--name", metavar="NAME", help="What it is called in logs."),
    announce: Announce = None,
    udp_port: int | None = typer.Option(
        None, "--udp-port", metavar="N", min=0, max=65535, help="For media, by TCP as well."
    ),
    tcp_port: int | None = typer.Option(
        None, "--tcp-port", metavar="N", min=1, max=65535, help="One more for media by TCP: 443, say."
    ),
    control_port: int | None = typer.Option(
        None, "--control-port", metavar="N", min=0, max=65535, help="For the manager."
    ),
    control_listen: str | None = typer.Option(
        None,
        "--control-listen",
        metavar="ADDRESS",
        help="Where the manager's orders are taken. Default: 127.0.0.1; for a manager on another machine one "
        "of this machine's that it reaches, or 0.0.0.0.",
    ),
    control_announce: str | None = typer.Option(
        None,
        "--control-announce",
        metavar="ADDRESS",
        help="Where the manager reaches that, when not at the address listened on.",
    ),
    workers: int | None = typer.Option(
        None, "--workers", metavar="N", min=1, max=256, help="Packet processes."
    ),
    capacity: int | None = typer.Option(None, "--capacity", metavar="N", min=1, help="Connections it takes."),
    token_file: TokenFile = None,
) -> int:
    """One node in the foreground, until Ctrl-C.

    It enrols with the one-use token in SHOWCALLER_ENROL_TOKEN; without one it asks for its own, with the
    operator's token. A manager on another machine must be reached by https://, and must reach the node: see
    --control-listen.
    """
    from console.core.client import check_api_url
    from console.core.errors import UsageError
    from console.core.node import check_control, trust
    from console.core.stage.start import check_announce, require_linux
    from controlplane.wire.nodes import Role

    if role not in (Role.ORIGIN, Role.EDGE):
        raise UsageError(f"there are no nodes of role {role!r}", "Accepted: origin, edge")
    if token_file is not None and manager is None:
        raise UsageError(
            "--token-file is for a stream manager elsewhere, and none is named",
            "Name it with --manager URL, or leave --token-file out",
        )
    require_linux()
    check_announce(announce or [])
    token = os.environ.get("SHOWCALLER_ENROL_TOKEN")
    url = check_api_url(manager or context.target(None, None).api)
    check_control(url, control_listen, control_announce)
    trusted = None if manager_ca is None else trust(manager_ca)
    if not token:
        invited = context.call(
            manager, token_file, lambda client: client.invite_node(Role(role), INVITED_S), trusted
        )
        token, name = invited.token, name or invited.node
        context.note(f"{invited.node} joins {url}")
    home = context.home()
    home.prepare()
    words = ["--role", role, "--manager", url]
    words += ["--run-dir", str(home.run), "--log-dir", str(home.logs)]
    options = {
        "--name": name,
        "--udp-port": udp_port,
        "--tcp-port": tcp_port,
        "--control-port": control_port,
        "--control-listen": control_listen,
        "--control-announce": control_announce,
        "--manager-ca": manager_ca,
        "--workers": workers,
        "--capacity": capacity,
    }
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    if announce:
        words += ["--announce", *announce]
    return context.become("media.node", words, {"SHOWCALLER_ENROL_TOKEN": token})


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
    if processes is not None:
        words += ["--processes", str(processes)]
    return context.become("media.swarm", [*words, "--json"] if json else words, {})


def _whep(what: str, api: str | None, token_file: Path | None) -> str:
    """The WHEP address of a channel, or the one that was given."""
    from console.core.client import check_api_url
    from console.core.units import parse_channel

    if "://" in what:
        return check_api_url(what)
    if api:
        return f"{check_api_url(api)}/whep/{parse_channel(what)}"
    return f"{context.target(api, token_file).api}/whep/{parse_channel(what)}"
