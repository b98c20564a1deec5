"""What commands print: data on stdout, everything else on stderr.

Tables are plain aligned text. Colour, where it is used at all, only on a terminal and without NO_COLOR, and
never alone. Errors are one line, `error: what. what to do next.`, and with --json {"error": {...}} on stderr.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from console.core.errors import ConsoleError, Rejected, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel


def print_json(value: Any) -> None:
    """One JSON value and a newline, sent at once (whoever reads may read line by line)."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def shape(message: "BaseModel", view: type["BaseModel"]) -> dict[str, Any]:
    """A message reduced to the fields of `view`: what the commands promise."""
    return message.model_dump(mode="json", include=set(view.model_fields))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()
) -> None:
    """Columns as wide as they need to be; those in `numbers` are aligned to the right."""
    table = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for index, row in enumerate(table):
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        print(bold(line, sys.stdout) if index == 0 else line)


def bold(text: str, stream: TextIO) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour(stream) else text


def colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def print_error(error: ConsoleError, *, as_json: bool) -> None:
    if not as_json:
        say(f"error: {error}")
        for line in error.details:
            say(f"  {line}")
        return
    body: dict[str, Any] = {
        "code": error.code,
        "what": error.what,
        "next": error.next_step,
        "exit": error.exit_code,
    }
    if isinstance(error, Rejected):
        body["status"] = error.status
    if error.details:
        body["details"] = error.details
    print(json.dumps({"error": body}, ensure_ascii=False), file=sys.stderr, flush=True)


def confirm(effect: str, question: str, *, yes: bool) -> bool:
    """Whether to go on. Asks on a terminal; without one, --yes is needed (UsageError says so)."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"not done without confirmation ({effect})", "There is no terminal to confirm it on: add --yes"
        )
    say(f"{effect}.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def confirm_by_name(effect: str, names: Sequence[str]) -> bool:
    """Whether these names were typed on the terminal, each or all, for what a yes would be too little.

    UsageError without a terminal.
    """
    words = " ".join(names)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"not done without naming what it takes off the air ({effect})", f"Add: --yes {words}"
        )
    say(f"{effect}.")
    print(f"Type {words} to go on: ", end="", file=sys.stderr, flush=True)
    return sorted(sys.stdin.readline().split()) == sorted(names)
