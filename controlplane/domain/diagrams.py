"""Writes docs/states.md from the tables of states: `python -m controlplane.domain.diagrams [FILE]`.

A test compares the file with what this would write, so the page never lags behind the code.
"""

import sys
from enum import StrEnum
from pathlib import Path

from controlplane.domain.machine import Machine
from controlplane.domain.nodes.states import MACHINE as NODE
from controlplane.domain.streams.states import MACHINE as STREAM

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"


def _section(title: str, machine: Machine[StrEnum]) -> list[str]:
    lines = [f"## {title}", "", "| state | means |", "| --- | --- |"]
    lines += [f"| `{state}` | {meaning} |" for state, meaning in machine.meanings.items()]
    lines += ["", "```mermaid", machine.mermaid(), "```", ""]
    return lines


def page() -> str:
    lines = [
        "# States",
        "",
        "Drawn from the tables in `controlplane/domain/*/states.py`. Change the table, then run",
        "`python -m controlplane.domain.diagrams`; a test fails while the two differ.",
        "",
        *_section("A node", NODE),  # type: ignore[arg-type]
        *_section("A live stream", STREAM),  # type: ignore[arg-type]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page(), encoding="utf-8")
