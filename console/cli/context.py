"""What the commands share: their common options, the target they speak to, and how they run.

The stream manager's messages, HTTP and the rest are imported where a command uses them: `showcaller --help`
loads none of that.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from console.cli import output
from console.core.paths import Home, home_from

if TYPE_CHECKING:
    import ssl

    from console.core.client import Client
    from console.core.stage import StageOptions
    from console.core.target import ConsoleOptions, Target

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; errors as JSON on stderr.")]
Apis = list[str] | None
Api = Annotated[
    Apis,
    typer.Option(
        "--api",
        metavar="URL",
        envvar="SHOWCALLER_API",
        help="A stream manager elsewhere, instead of this machine's; several of one stage by giving it again "
        "or with commas: the next is asked where one does not answer.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with its operator token (or set SHOWCALLER_TOKEN_FILE, or SHOWCALLER_TOKEN).",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="N",
        min=0,
        max=65535,
        help="HTTP port: 8080 or the next free one by default; 0 for any.",
    ),
]
Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDRESS", help="Address to serve HTTP on. Default: 127.0.0.1."),
]
Announce = Annotated[
    list[str] | None,
    typer.Option(
        "--announce",
        metavar="ADDRESS",
        help="Media address to tell viewers; may be repeated. Default: the host's own. "
        "The word metadata: as the cloud's instance metadata says.",
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate.")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key.")]


@dataclass
class BeforeCommand:
    """What `showcaller` was given before the command's own name."""

    token_file: Path | None = None


before_command = BeforeCommand()


def home() -> Home:
    return home_from()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part; Ctrl-C ends it and is raised as KeyboardInterrupt."""
    return asyncio.run(main)


def stage_options(
    port: int | None = None,
    listen: str | None = None,
    announce: list[str] | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> "StageOptions":
    """What was asked for, and for the rest what config/console.toml says."""
    from console.core.config import load_config
    from console.core.stage import StageOptions

    place = home()
    settings = load_config(place).stage
    if tls_cert is None and tls_key is None and (settings.tls_cert or settings.tls_key):
        tls_cert, tls_key = place.config / settings.tls_cert, place.config / settings.tls_key
    return StageOptions(
        home=place,
        port=port if port is not None else None if settings.port < 0 else settings.port,
        listen=listen
        if listen is not None
        else settings.listen
        if "listen" in settings.model_fields_set
        else None,
        announce=tuple(announce or settings.announce),
        tls_cert=tls_cert,
        tls_key=tls_key,
    )


def one_text(api: Apis) -> str | None:
    """All managers that are named, with commas between."""
    return ",".join(api) if api else None


def console_options(api: Apis, token_file: Path | None) -> "ConsoleOptions":
    from console.core.target import ConsoleOptions

    return ConsoleOptions(
        stage=stage_options(), api=one_text(api), token_file=token_file or before_command.token_file
    )


def target(api: Apis, token_file: Path | None) -> "Target":
    from console.core.target import find_target

    return find_target(console_options(api, token_file))


def call(
    api: Apis,
    token_file: Path | None,
    use: Callable[["Client"], Coroutine[Any, Any, T]],
    trust: "ssl.SSLContext | None" = None,
) -> T:
    """Open a client on the target, use it, close it. `trust`: see Client."""
    found = target(api, token_file)

    async def main() -> T:
        client: AbstractAsyncContextManager[Client] = found.client(trust=trust)
        async with client as opened:
            return await use(opened)

    return run(main())


def note(line: str) -> None:
    """Progress and other words for people: on stderr."""
    output.say(line)


def become(module: str, words: list[str], environment: dict[str, str]) -> int:
    """Go on as `python -m module`: its signals, output and exit code are this command's.

    The module lets SIGINT through once it can answer it: while an interpreter starts, Ctrl-C would end it in
    a traceback.
    """
    from console.core.stage.launch import child_environment, module_command

    command = module_command(module, *words)
    sys.stdout.flush()
    if hasattr(os, "fork"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        _exec(command, child_environment(environment))
    # On Windows an exec returns to the shell at once. So we stay, and leave a Ctrl-C to the other to answer.
    signal.signal(signal.SIGINT, lambda *_: None)
    return subprocess.run(command, env=child_environment(environment), check=False).returncode


def _exec(command: list[str], environment: dict[str, str]) -> NoReturn:
    os.execve(command[0], command, environment)
