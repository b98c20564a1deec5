"""`showcaller logs [NAME] [-f]`: the log of one process of the stage."""

import contextlib
import re
import time

import typer

from console.cli import context, output
from console.cli.context import Json
from console.core.errors import UsageError

POLL_S = 0.2


def logs(
    name: str | None = typer.Argument(
        None, metavar="[NAME]", help="manager, supervisor, edge-1, publisher-main ..."
    ),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as lines come, until Ctrl-C."),
    lines: int = typer.Option(
        200, "--lines", "-n", metavar="N", min=0, help="How many of the last lines; 0 for all."
    ),
    json: Json = False,
) -> None:
    """The log of a process of this machine's stage. Without a NAME: which logs there are."""
    if name is None:
        if follow:
            raise UsageError(
                "--follow needs the name of one log",
                "Say `showcaller logs NAME -f`; `showcaller logs` lists them",
            )
        _list(as_json=json)
        return
    from console.core import logs as files
    from console.core.errors import StageError

    home = context.home()
    base = name.split("/")[0].split(".worker-")[0]  # a worker's lines are in its agent's log
    path = home.log(base)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", base) or not path.is_file():
        known = ", ".join(log.name for log in files.list_logs(home)) or "none yet"
        raise StageError(f"there is no log of {name}", f"Logs: {known}")
    follower = files.Follower(path, since=path.stat().st_size)
    for line in files.last_lines(path, lines or 10**9):
        _print(line, as_json=json)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                for line in follower.read():
                    _print(line, as_json=json)
                time.sleep(POLL_S)


def _print(line: str, *, as_json: bool) -> None:
    from console.core.logs import parse, readable

    if as_json:
        output.print_json(parse(line) or {"event": line})
    else:
        print(readable(line), flush=True)


def _list(*, as_json: bool) -> None:
    from console.core.logs import list_logs
    from console.core.units import show_duration

    found = list_logs(context.home())
    if as_json:
        output.print_json(
            [
                {"name": log.name, "path": str(log.path), "size": log.size, "changed_at": log.changed_at}
                for log in found
            ]
        )
        return
    if not found:
        context.note("no logs yet; bring a stage up with `showcaller stage up`")
        return
    now = time.time()
    output.print_table(
        ("log", "size", "last line"),
        [
            (log.name, f"{log.size / 1000:,.1f} kB", show_duration(max(0.0, now - log.changed_at)))
            for log in found
        ],
        numbers=(1, 2),
    )
