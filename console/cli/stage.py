"""`showcaller stage up | status | down`: the embedded stage."""

from typing import TYPE_CHECKING

import typer

from console.cli import context, output
from console.cli.context import Announce, Json, Listen, Port, TlsCert, TlsKey

if TYPE_CHECKING:
    from controlplane.wire.api import StageView

app = typer.Typer(help="The embedded stage: a whole deployment on this machine.")


@app.command()
def up(
    port: Port = None,
    listen: Listen = None,
    announce: Announce = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    timeout: str = typer.Option("60s", "--timeout", metavar="TIME", help="How long to wait for its nodes."),
    json: Json = False,
) -> None:
    """Bring the stage up; returns when its nodes are in service. Does nothing when it is up already."""
    from console.cli.starting import bring_up
    from console.core.units import parse_duration

    options = context.stage_options(port, listen, announce, tls_cert, tls_key)
    limit = parse_duration(timeout, least_s=1, most_s=3600, of="--timeout")
    view = context.run(bring_up(options, limit))
    show(view, as_json=json)


@app.command()
def status(json: Json = False) -> None:
    """Tell what runs, with or without a supervisor."""
    from console.core import stage

    found = context.run(stage.status(context.home()))
    show(found.view, as_json=json)
    for problem in found.problems:
        context.note(f"note: {problem}")


@app.command()
def down(json: Json = False) -> None:
    """End the stage: broadcasts, stream manager, nodes, supervisor. Nothing is left behind."""
    from console.core import stage

    show(context.run(stage.down(context.home(), report=context.note)), as_json=json)


def show(view: "StageView", *, as_json: bool) -> None:
    if as_json:
        output.print_json(view.model_dump(mode="json", exclude_none=True))
        return
    print(f"stage   {view.state}")
    if view.api is not None:
        print(f"api     {view.api}")
        print(f"watch   {view.watch}/main")
    if view.processes:
        print()
        output.print_table(("process", "pid"), [(p.name, str(p.pid)) for p in view.processes], numbers=(1,))
