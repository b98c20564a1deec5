"""`showcaller drill kill-edge | kill-origin | kill-manager`: rehearse a death before the show has one."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli import context, output
from console.cli.context import Api, DryRun, Json, TokenFile, Yes

if TYPE_CHECKING:
    from console.core.drills import Result
    from controlplane.wire.drills import Drill, Milestone

app = typer.Typer(help="Kill something on purpose, for real, and measure how the stage recovers.")

Node = Annotated[
    str | None, typer.Argument(help="Default: the one in service with most on it.", metavar="[NODE]")
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="TIME", help="How long to wait until all is as it was.")
]
Force = Annotated[bool, typer.Option("--force", help="Although the stage is not whole just now.")]


@app.command("kill-edge")
def kill_edge(
    node: Node = None,
    timeout: Timeout = "60s",
    force: Force = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Kill an edge: its viewers go dark until they are somewhere else. Asks first."""
    return _drill("kill-edge", node, timeout, force, yes, dry_run, json, api, token_file)


@app.command("kill-origin")
def kill_origin(
    node: Node = None,
    timeout: Timeout = "60s",
    force: Force = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Kill an origin: what is published there is dark until it is published again. Asks first."""
    return _drill("kill-origin", node, timeout, force, yes, dry_run, json, api, token_file)


@app.command("kill-manager")
def kill_manager(
    timeout: Timeout = "60s",
    force: Force = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    api: Api = None,
    token_file: TokenFile = None,
) -> int:
    """Kill this machine's stream manager: nobody joins until it is back; media goes on. Asks first."""
    return _drill("kill-manager", None, timeout, force, yes, dry_run, json, api, token_file)


def _drill(
    kind: str,
    node: str | None,
    timeout: str,
    force: bool,
    yes: bool,
    dry_run: bool,
    json: bool,
    api: context.Apis,
    token_file: Any,
) -> int:
    from console.core.drills import Rehearsal
    from console.core.units import parse_duration
    from controlplane.wire.drills import DrillKind, DrillRequest

    request = DrillRequest(kind=DrillKind(kind), node=node, force=force)
    limit = parse_duration(timeout, least_s=1, most_s=3600, of="--timeout")
    target = context.target(api, token_file)
    told = _Told(kind, json)
    rehearsal = Rehearsal(
        target, context.home(), request, timeout_s=limit, report=told.milestone, progress=told.progress
    )
    drill = context.run(rehearsal.look())
    if dry_run:
        _show_effect(drill, as_json=json)
        return 0
    what = drill.node or "the stream manager"
    if not output.confirm("\n".join(drill.effect).rstrip("."), f"Kill {what} now?", yes=yes):
        context.note("nothing was done")
        return 1
    rehearsal.request = request.model_copy(update={"node": drill.node})  # what was confirmed
    try:
        context.run(rehearsal.run())
    finally:
        told.clear()
        if rehearsal.result is not None:
            _show(rehearsal.result, as_json=json)
    return 0 if rehearsal.result is not None and rehearsal.result.recovered else 1


def _show_effect(drill: "Drill", *, as_json: bool) -> None:
    if as_json:
        output.print_json(drill.model_dump(mode="json", exclude={"id", "pid", "start_time"}))
        return
    for sentence in drill.effect:
        print(sentence)
    context.note("(not done)")


class _Told:
    """What is said while it goes on: a line a milestone; on a terminal one more, of what is waited for."""

    def __init__(self, kind: str, as_json: bool) -> None:
        self._kind = kind
        self._out = sys.stderr if as_json else sys.stdout
        self._line = sys.stderr.isatty() and self._out.isatty()
        self._width = 0

    def milestone(self, milestone: "Milestone") -> None:
        self.clear()
        print(f"{self._kind}: {milestone.words}  {milestone.at_s:.1f} s", file=self._out, flush=True)

    def progress(self, waiting_for: str, at_s: float) -> None:
        if not self._line:
            return
        import shutil

        columns = shutil.get_terminal_size((80, 24)).columns
        text = f"{at_s:5.1f} s  waiting for {waiting_for}"[: columns - 1]
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _show(result: "Result", *, as_json: bool) -> None:
    drill, outcome = result.drill, result.outcome
    if as_json:
        output.print_json(
            {
                "drill": drill.id,
                "kind": drill.kind.value,
                "node": drill.node,
                "effect": drill.effect,
                "recovered": result.recovered,
                **outcome.model_dump(mode="json"),
                "message": result.message or None,
            }
        )
    elif result.message:
        print(result.message)
    if not result.message:
        lacking = f"; missing: {'; '.join(outcome.missing)}" if outcome.missing else ""
        context.note(f"what came of it is not in the journal{lacking} ({result.unwritten})")
