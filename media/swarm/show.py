"""A swarm on the terminal while it runs, and its figures in words at the end."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from media.swarm.load import Plan
from media.swarm.second import Second
from media.swarm.tally import Tally, percentile


class Display:
    """A progress bar and the figures of the last second, redrawn each second; plain lines where it cannot."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("watching", total=plan.viewers, words="")
        self._live = (
            Live(self._progress, console=self._console, auto_refresh=False)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, tally: Tally) -> None:
        now = tally.now
        if self._live is None:
            self._console.print(
                f"{now.playing}/{self._plan.viewers} watching  {now.failed} failed  "
                f"{_rate(_each(now))} each  loss {_share(tally.loss)}  latency {_middle(now.latency_ms)}"
            )
            return
        self._progress.update(self._task, completed=now.playing, words=_words(tally, self._plan))
        self._live.update(Group(self._progress, _table(tally)), refresh=True)


def _words(tally: Tally, plan: Plan) -> str:
    now, joins = tally.now, f"{tally.joins_now:.0f}"
    words = f"{now.failed} failed, " if now.failed else ""
    if tally.complete_for is None:
        return f"{words}{joins} of {_plain(plan.ramp)} joins a second"
    if plan.stay is not None:
        words += f"{joins} of {_plain(plan.viewers / plan.stay)} joins a second, "
    return f"{words}{max(0.0, plan.seconds - tally.complete_for):.0f} s left"


def _table(tally: Tally) -> Table:
    now = tally.now
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
    for name in ("", "p50", "p95", "p99", "worst"):
        table.add_column(name, justify="left" if not name else "right")
    for name, spread in (("join, ms", tally.join_ms), ("first picture, ms", tally.first_frame_ms)):
        table.add_row(name, *_cells(spread.figures().values()))
    for name, values in (
        ("latency, ms", now.latency_ms),
        ("frame late by, ms", now.lateness_ms),
        ("between frames, ms", now.gap_ms),
    ):
        table.add_row(name, *_cells(percentile(values, percent) for percent in (50, 95, 99, 100)))
    table.add_row("")
    table.add_row("bitrate each", _rate(_each(now)))
    table.add_row("bitrate in all", _rate(_each(now) * now.playing))
    table.add_row("loss", _share(tally.loss))
    table.add_row("recovered", f"{tally.totals['recovered']:.0f}")
    for reason, count in now.reasons.items():
        table.add_row(f"[red]{count} failed[/]", reason)
    return table


def _cells(values: Iterable[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.0f}" for value in values]


def _each(second: Second) -> float:
    """Bits per second of one viewer; a Second is not always one second long."""
    return 8.0 * second.bytes / second.watched_s if second.watched_s else 0.0


def for_people(figures: dict[str, Any], late_ms: float) -> str:
    """The figures at the end."""
    left = f", {figures['left']} came and went" if figures["left"] else ""
    rows = {
        "viewers": f"{figures['playing']} of {figures['viewers']} watching{left}, {figures['failed']} failed",
        "joins": f"{figures['joined']}, {figures['joins_per_s'] or 0:g} a second",
        "bitrate": "-" if figures["bitrate_bps"] is None else f"{_rate(figures['bitrate_bps'])} each",
        "loss": f"{_share(figures['loss'])}, {figures['recovered']} recovered of {figures['nacks']} asked",
        "join": _spread(figures["join_ms"]),
        "first picture": _spread(figures["first_frame_ms"]),
        "latency": _spread(figures["latency_ms"]),
        "frames late by": _spread(figures["lateness_ms"]),
        "late frames": f"{figures['late_frames']} of {figures['frames']} came later than {late_ms:g} ms",
    }
    if figures["moved"] or figures["moves_failed"]:
        failed = f", {figures['moves_failed']} tries failed" if figures["moves_failed"] else ""
        gaps = _spread(figures["move_gap_ms"])
        rows["moved"] = (
            f"{figures['moved']} to another node{failed}; between the last frame and the first: {gaps}"
        )
    lines = [f"{name:15} {value}" for name, value in rows.items()]
    return "\n".join([*lines, *(f"{count} failed: {why}" for why, count in figures["reasons"].items())])


def _spread(values: dict[str, float | None]) -> str:
    if values["p50"] is None:
        return "-"
    return ", ".join(f"{name} {value:.0f} ms" for name, value in values.items() if value is not None)


def _middle(values: list[float]) -> str:
    middle = percentile(values, 50)
    return "-" if middle is None else f"{middle:.0f} ms"


def _plain(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _rate(bits: float) -> str:
    for unit, size in (("Gbps", 1e9), ("Mbps", 1e6), ("kbps", 1e3)):
        if bits >= size:
            return f"{bits / size:.2f} {unit}"
    return f"{bits:.0f} bps"
