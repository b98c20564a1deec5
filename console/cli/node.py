"""`showcaller node`: one node in the foreground; `showcaller node inspect`: a look inside one that runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from console.cli import context, inside, output
from console.cli.context import Announce, Api, Json, TokenFile

if TYPE_CHECKING:
    from console.core.client import Client
    from console.core.errors import Rejected
    from controlplane.wire.api import NodeInside
    from controlplane.wire.inside import SessionInside

INVITED_S = 90.0  # a node that is interrupted before it has enrolled is forgotten by then; it tries for 70 s

app = typer.Typer(invoke_without_command=True)


@app.callback()
def node(
    ctx: typer.Context,
    role: str | None = typer.Option(
        None, "--role", metavar="ROLE", help="origin or edge. Without a command it is needed."
    ),
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
        None,
        "--workers",
        metavar="N",
        min=1,
        max=256,
        help="Packet processes, each with a port of its own. Default: one a core.",
    ),
    capacity: int | None = typer.Option(None, "--capacity", metavar="N", min=1, help="Connections it takes."),
    token_file: TokenFile = None,
) -> int:
    """One node in the foreground, until Ctrl-C; or, by a command, a look inside one that runs.

    It enrols with the one-use token in SHOWCALLER_ENROL_TOKEN; without one it asks for its own, with the
    operator's token. A manager on another machine must be reached by https://, and must reach the node: see
    --control-listen.
    """
    from console.core.errors import UsageError

    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return 0
    if role is None:
        raise UsageError("Missing option '--role'", "See `showcaller node --help`")
    from console.core.calls import check_api_url
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
            None if manager is None else [manager],
            token_file,
            lambda client: client.invite_node(Role(role), INVITED_S),
            trusted,
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


def _refuse_options(ctx: typer.Context) -> None:
    """They start a node: before a command they would be passed over."""
    from console.core.errors import UsageError

    given = [name for name, value in ctx.params.items() if value]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        command = ctx.invoked_subcommand
        raise UsageError(
            f"{option} stands before the command", f"If {command} takes it, it goes after that word"
        )


def _neither(what: str, nodes: list[str], sessions: str) -> "Rejected":
    from console.core.errors import Rejected
    from controlplane.wire.base import Problem

    return Rejected(
        Problem(
            code="no_such_session",
            title=f"there is no node and no session {what}",
            detail=f"Nodes: {', '.join(nodes) or 'none'}. {sessions}",
            status=404,
        )
    )


@app.command()
def inspect(
    what: str = typer.Argument(
        help="A node, e.g. edge-2, or the id of a session; the first few characters of it do.",
        metavar="NODE|SESSION",
    ),
    session: str | None = typer.Argument(
        None, help="A session of that node.", metavar="SESSION", show_default=False
    ),
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> None:
    """What is inside a session: ICE, DTLS, SRTP, RTP and RTCP, asked of its node now.

    With a node alone: the sessions that it has. No password, key or token is among it.
    """

    from console.core.errors import Rejected

    async def main(client: "Client") -> "NodeInside | SessionInside":
        if session is not None:
            return await client.inspect(session, what)
        nodes = [node.id for node in await client.nodes()]
        if what in nodes:
            return await client.node(what)
        try:
            return await client.inspect(what)
        except Rejected as error:
            if error.code == "no_such_session":
                raise _neither(what, nodes, error.next_step) from error
            raise

    found = context.call(api, token_file, main)
    if json:
        output.print_json(found.model_dump(mode="json"))
    else:
        inside.show(found)
