"""A storm on the terminal while it runs, and its figures in words at the end."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from media.swarm.signalling.joins import Joining


class Display:
    """A bar where there is a terminal; plain lines where there is none. All on stderr."""

    def __init__(self, joins: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            auto_refresh=False,
        )
        self._joins = joins
        self._shown = 0
        self._task = self._progress.add_task("seated", total=joins, words="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._console.print(line)

    def __call__(self, joining: Joining, rate: float) -> None:
        """`rate`: of the last second, answers a second; so are the times."""
        now, spread = joining.all, joining.all.spread(self._shown)
        self._shown = len(now.ms)  # all of them each second would be a pause that viewers see
        words = f"{rate:.0f} a second  p50 {_ms(spread['p50'])}  p99 {_ms(spread['p99'])}"
        words += f"  {now.refused} refused  {joining.lost} lost"
        if self._console.is_terminal:
            self._progress.update(self._task, completed=now.seated, words=words, refresh=True)
        else:
            self._console.print(f"{now.seated}/{self._joins} seated  {words}")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def for_people(figures: dict[str, Any]) -> str:
    """The figures at the end."""
    joins, nodes, parties = figures["joins"], figures["nodes"], figures["parties"]
    spread = "  ".join(f"{name} {_ms(value)}" for name, value in figures["join_ms"].items())
    rows = {
        "joins": f"{joins['asked']} asked, {joins['seated']} seated, {joins['refused']} refused, "
        f"{joins['lost']} lost, {joins['left']} left",
        "at": f"{figures['joins_per_s']:g} a second, for {figures['took_s']:g} s",
        "join": spread,
        "nodes": f"{nodes['edges']} edges for {nodes['capacity']}, the fullest has {nodes['fullest']}, "
        f"{len(nodes['overfilled'])} overfilled",
    }
    if parties["size"] > 1:
        rows["parties"] = (
            f"{parties['whole']} whole, {parties['split']} split, "
            f"{parties['could_have_been_whole']} of these could have been whole"
        )
    for manager in figures["managers"]:
        rows[manager["api"]] = (
            f"{manager['seated']} seated, {manager['refused']} refused, "
            f"{manager['away']} not answered, p99 {_ms(manager['p99'])}"
        )
    rows["sent late by"] = f"p99 {_ms(figures['late_ms']['p99'])}: what this swarm itself adds"
    for share in figures["cpu"]:
        each = "" if share["ms_a_join"] is None else f", {share['ms_a_join']:.2f} ms a join"
        rows[share["what"]] = f"{share['cores']:.2f} of {figures['cores']} cores{each}"
    width = max(map(len, rows))
    lines = [f"{name:{width}}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, *(f"{count} times: {why}" for why, count in figures["reasons"].items())])
