"""The Journal's rows, and one entry in full. Pure."""

import json

from console.screens.shared import figures
from console.screens.shared.table import Column, Row
from console.screens.shared.words import Line
from controlplane.wire.api import JournalEntry

COLUMNS = (
    Column("at", "at", 8, rank=1),
    Column("actor", "who", 14, rank=2),
    Column("subject", "what", 14, rank=3),  # the message names it too
    Column("kind", "kind", 18, rank=4),
    Column("message", "happened", 40, grows=True),
)
TROUBLE = ("faulty", "failed", "suspect", "stalled", "blocked", "error")


def row(entry: JournalEntry) -> Row:
    trouble = any(word in entry.kind for word in TROUBLE)
    message: Line = [("▲ ", "bold $warn"), (entry.message, "")] if trouble else [(entry.message, "")]
    cells: dict[str, Line] = {
        "at": [(figures.clock(entry.at), "$muted")],
        "actor": [(entry.actor, "")],
        "subject": [(entry.subject, "bold")],
        "kind": [(entry.kind, "$muted")],
        "message": message,
    }
    return Row(str(entry.id), cells)


def searched(entry: JournalEntry) -> str:
    return f"{entry.actor} {entry.subject} {entry.kind} {entry.message}"


def entry_lines(entry: JournalEntry) -> list[Line]:
    lines: list[Line] = [
        [(entry.message, "bold")],
        [],
        [("at      ", "$muted"), (figures.clock(entry.at), "")],
        [("who     ", "$muted"), (entry.actor, "")],
        [("what    ", "$muted"), (entry.subject, "")],
        [("kind    ", "$muted"), (entry.kind, "")],
        [("number  ", "$muted"), (str(entry.id), "")],
    ]
    for key, value in list(entry.data.items())[:12]:
        lines.append(
            [(f"{key:<8}", "$muted"), (f" {json.dumps(value, ensure_ascii=False, default=str)}", "")]
        )
    return lines
