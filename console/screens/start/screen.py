"""The start: each step of bringing the stage up in words; where it fails, why and what next."""

import time
from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from console.core.errors import ConsoleError
from console.screens.shared import figures
from console.screens.shared.ink import paragraphs
from console.screens.shared.words import Line


def step_lines(steps: list[tuple[float, str]], now: float, going: bool) -> list[Line]:
    """The steps so far, each with how long it took; the one under way counts."""
    lines: list[Line] = []
    for number, (at, text) in enumerate(steps):
        last = number == len(steps) - 1
        until = now if last else steps[number + 1][0]
        glyph, style = ("…", "$accent") if last and going else ("●", "$good")
        lines.append([(f"{glyph} ", style), (text, ""), (f"  {figures.age(until - at)}", "$muted")])
    return lines


def failure_lines(error: ConsoleError) -> list[Line]:
    """What happened, the last lines of the log that explains it, and the next step."""
    lines: list[Line] = [[("✗ ", "bold $bad"), (error.what.rstrip(".") + ".", "bold")]]
    if error.details:
        lines += [[], [("The last lines of the log:", "$muted")]]
        lines += [[("  " + detail, "$muted")] for detail in error.details[-12:]]
    if error.next_step:
        lines += [[], [(error.next_step.rstrip(".") + ".", "")]]
    return [
        *lines,
        [],
        [("R", "bold $accent"), (" tries again   ", "$muted"), ("q", "bold $accent"), (" leaves", "$muted")],
    ]


class StartScreen(Screen[None]):
    NAME = "start"
    CSS_PATH = "start.tcss"
    BINDINGS = [
        Binding("R,r", "again", "Try again", show=False),
        Binding("q,ctrl+c,ctrl+q", "leave", "Leave", show=False),
    ]

    def __init__(self, title: str, again: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`again` is the app's action that tries once more."""
        super().__init__()
        self._heading, self._again, self._clock = title, again, clock
        self._steps: list[tuple[float, str]] = []
        self.error: ConsoleError | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title = self._heading
            yield Static("", id="steps")
        yield Static("", id="hint")

    def on_mount(self) -> None:
        self._draw()
        self.set_interval(0.5, self._draw)

    def step(self, line: str) -> None:
        """One step further."""
        if line and (not self._steps or self._steps[-1][1] != line):
            self._steps.append((self._clock(), line))
            self._draw()

    def fail(self, error: ConsoleError) -> None:
        self.error = error
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        steps = step_lines(self._steps, self._clock(), self.error is None)
        lines = [*steps, [], *failure_lines(self.error)] if self.error else steps
        self.query_one("#steps", Static).update(paragraphs(lines or [[("…", "$muted")]]))
        hint: Line = [(" q", "bold $accent"), (" leaves; what has been started goes on", "$muted")]
        self.query_one("#hint", Static).update(paragraphs([[] if self.error else hint]))
        if self.error:
            self.query_one("#box", VerticalScroll).scroll_end(animate=False)

    def action_again(self) -> None:
        if self.error is not None:
            self._steps, self.error = [], None
            self._draw()
            self.app.call_later(self.app.run_action, self._again)

    def action_leave(self) -> None:
        self.app.call_later(self.app.run_action, "leave_start")
