"""The command line's front door: `showcaller`, one file a command group beside this one.

Exit codes: 0 done, 1 rejected or failed, 2 usage, 3 no connection, 4 timed out, 130 interrupted.
"""

import io
import os
import sys
from collections.abc import Sequence

import typer

from console.cli import (
    context,
    doctor,
    drill,
    event,
    fleet,
    journal,
    logs,
    node,
    nodes,
    output,
    processes,
    publish,
    stage,
    streams,
    swarm,
    token,
)
from console.cli.context import Announce, Json, Listen, Port, TlsCert, TlsKey
from console.cli.loading import loading
from console.core.errors import ConsoleError

EPILOG = "Without a command: the console, or without a terminal a test broadcast until a signal comes."

app = typer.Typer(
    name="showcaller",
    help="Run a live watch party from a terminal.",
    epilog=EPILOG,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(stage.app, name="stage")
app.command("nodes")(nodes.nodes)
app.add_typer(streams.app, name="streams")
app.command("publish")(publish.publish)
app.add_typer(fleet.app, name="fleet")
app.add_typer(drill.app, name="drill")
app.add_typer(event.app, name="event")
app.add_typer(token.app, name="token")
app.command("journal")(journal.journal)
app.command("logs")(logs.logs)
app.command("serve")(processes.serve)
app.add_typer(node.app, name="node")
app.command("probe")(processes.probe)
app.add_typer(swarm.app, name="swarm")
app.command("doctor")(doctor.doctor)

# typer keeps its own copy of click; the base of its usage errors is reached without naming that copy.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def _show_version(asked: bool) -> None:
    if asked:
        from console.core.version import version

        print(f"showcaller {version()}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    port: Port = None,
    listen: Listen = None,
    announce: Announce = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    api: context.Api = None,
    token_file: context.TokenFile = None,
    json: Json = False,
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> int:
    """Run a live watch party from a terminal."""
    if ctx.invoked_subcommand is not None:
        _refuse_before_command(
            ctx.invoked_subcommand,
            {
                "--port": port is not None,
                "--listen": listen is not None,
                "--announce": bool(announce),
                "--tls-cert": tls_cert is not None,
                "--tls-key": tls_key is not None,
                "--json": json,
            },
        )
        if api:  # given before the command: as if it had been given after it
            os.environ["SHOWCALLER_API"] = ",".join(api)
        context.before_command.token_file = token_file
        return 0
    with loading():
        from console.core.target import ConsoleOptions

        stage = context.stage_options(port, listen, announce, tls_cert, tls_key)
        options = ConsoleOptions(stage=stage, api=context.one_text(api), token_file=token_file)
    if sys.stdin.isatty() and sys.stdout.isatty():
        from console.app import run

        return run(options)
    if api:
        from console.core.errors import UsageError

        raise UsageError("the console needs a terminal", "Without one, use the plain commands (see --help)")
    from console.cli.headless import run_headless

    return run_headless(options.stage, as_json=json)


def _refuse_before_command(command: str, given: dict[str, bool]) -> None:
    """These are of the command they follow: before it they would be passed over."""
    from console.core.errors import UsageError

    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{option} stands before the command", f"If {command} takes it, it goes after that word"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    _prepare_streams()
    try:
        result = app(words, prog_name="showcaller", standalone_mode=False)
        sys.stdout.flush()
    except ConsoleError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_code
    except USAGE_ERROR as error:
        return _usage(error, words, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # whoever read our output has left
        _drop_output()
        return 0
    except OSError as error:  # a folder that may not be read, a full disk under our output: no bug of ours
        if error.filename is None:
            _drop_output()
        output.print_error(_of_the_system(error), as_json=as_json)
        return 1
    return result if isinstance(result, int) else 0


def _prepare_streams() -> None:
    """Standard streams that are there (`>&-` closes one) and never fail for a letter they cannot show.

    A closed one would also be given to the next file or socket that is opened, and to every child.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test's own is not
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still to be written goes nowhere, and Python does not complain of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_the_system(error: OSError) -> ConsoleError:
    reason = (error.strerror or str(error)).lower()
    if error.filename is None:
        return ConsoleError(f"cannot go on: {reason}", "If the output goes to a file, look at its disk")
    path = os.fsdecode(error.filename)
    if error.filename2 is None and isinstance(error, PermissionError):
        return ConsoleError(
            f"cannot use {path}: {reason}",
            "Make it accessible, or set SHOWCALLER_HOME to a folder of your own",
        )
    return ConsoleError(f"cannot use {path}: {reason}", "Look at that place and its disk")


def _usage(error: Exception, words: Sequence[str], *, as_json: bool) -> int:
    from console.core.errors import UsageError

    command = getattr(getattr(error, "ctx", None), "command_path", None) or _command_of(words)
    said = getattr(error, "format_message", lambda: str(error))()
    output.print_error(UsageError(said.rstrip("."), f"See `{command} --help`"), as_json=as_json)
    return UsageError.exit_code


def _command_of(words: Sequence[str]) -> str:
    """As far as words name a command: "showcaller fleet policy set"."""
    command, path = typer.main.get_command(app), ["showcaller"]
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is not None:
            command = inner
            path.append(word)
    return " ".join(path)


if __name__ == "__main__":
    sys.exit(main())
