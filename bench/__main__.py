"""`python -m bench [ROW ...]`: measure, print a table, write bench/results/latest.json.

Rows are the modules of bench/rows; bench/README.md says what their figures mean. Exit 1 when a limit is not
held or a row fails or cannot be run. The record has each row with its figures, and all figures by name.
"""

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import pkgutil
import platform
import sys
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

import bench.rows
from bench.figures import Figure, NotRun

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "latest.json"
ROW_S = 420.0  # at most; the longest takes half of that


def row_names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(bench.rows.__path__) if not m.name.startswith("_"))


async def measure(name: str, rounds: int | None = None) -> dict[str, Any]:
    """Run one row; its figures or why there are none. `rounds`: so many, where a row has rounds."""
    module = importlib.import_module(f"bench.rows.{name}")
    print(f"{name}: {module.TITLE} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    result: dict[str, Any] = {"row": name, "title": module.TITLE, "figures": [], "problem": None}
    try:
        takes = rounds is not None and "rounds" in inspect.signature(module.run).parameters
        outcome = module.run(rounds=rounds) if takes else module.run()
        async with asyncio.timeout(ROW_S):
            figures = await outcome if inspect.isawaitable(outcome) else outcome
    except NotRun as reason:
        result["problem"] = f"not run: {reason}"
    except Exception as error:
        traceback.print_exc()
        took = time.monotonic() - began
        words = f"it took longer than {ROW_S:g} s" if took >= ROW_S else f"{type(error).__name__}: {error}"
        result["problem"] = f"failed: {words}".splitlines()[0][:100]
    else:
        result["figures"] = [asdict(figure) | {"held": figure.held} for figure in figures]
        result["shown"] = figures
    result["took_s"] = round(time.monotonic() - began, 1)
    return result


def table(results: list[dict[str, Any]]) -> str:
    lines = [("row", "figure", "value", "limit", "")]
    for result in results:
        if result["problem"]:
            lines.append((result["row"], result["problem"], "", "", "MISSED"))
        figure: Figure
        for figure in result.get("shown", []):
            verdict = "" if not figure.limit else "ok" if figure.held else "MISSED"
            lines.append(
                (result["row"], figure.name, f"{figure.value:.3g} {figure.unit}", figure.limit, verdict)
            )
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(
        line.rstrip() for line in [text[0], "  ".join("-" * width for width in widths), *text[1:]]
    )


def kept_rows(measured: list[str]) -> list[dict[str, Any]]:
    """The rows of the last record that were not measured now; none if there is no readable record."""
    try:
        rows = json.loads(RESULTS.read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return [row for row in rows if row["row"] in row_names() and row["row"] not in measured]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor()
    with contextlib.suppress(OSError, StopIteration):  # Linux tells more
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": processor,
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("row", nargs="*", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--rounds", type=int, metavar="N", help="a short try: N rounds, and no record of it")
    options = parser.parse_args(arguments)
    names = row_names()
    if options.list:
        print("\n".join(names))
        return 0
    unknown = [name for name in options.row if name not in names]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}. There are: {', '.join(names)}.")

    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1.")

    async def all_rows() -> list[dict[str, Any]]:
        return [await measure(name, options.rounds) for name in options.row or names]

    load_before = os.getloadavg()[0]
    results = asyncio.run(all_rows())
    print(table(results))
    held = all(figure["held"] for result in results for figure in result["figures"])
    code = 0 if held and not any(result["problem"] for result in results) else 1
    if options.rounds is not None:
        return code
    rows = [{key: value for key, value in result.items() if key != "shown"} for result in results]
    if options.row:  # the rows that were not measured now stay as they were
        rows = sorted(kept_rows(options.row) + rows, key=lambda row: str(row["row"]))
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"load_before": round(load_before, 2)},
        "figures": {figure["name"]: figure["value"] for row in rows for figure in row["figures"]},
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {RESULTS.relative_to(ROOT)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
