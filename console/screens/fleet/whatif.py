"""What a policy would make of a crowd: waited for, then drawn, the one in force beside the changed one."""

import logging
import time

from rich.text import Text
from textual.app import ComposeResult, RenderResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from console.core.client import SIMULATION_S
from console.screens.fleet import courses
from console.screens.shared import figures
from console.screens.shared.chart import Ink, ink_of
from console.screens.shared.dialog import CHOICE_MARGINS, Choice, Dialog
from console.screens.shared.ink import content, paragraphs
from console.screens.shared.words import Line
from controlplane.wire.fleet import WhatIfView
from controlplane.wire.money import MoneyNow

TICK_S = 0.25
LEAST_WIDTH, LEAST_HEIGHT = 40, 5  # below it the chart is a line of sparks each
MOST_HEIGHT = 18

log = logging.getLogger(__name__)


class CourseChart(Widget):
    """Nodes over time, drawn when there is something to draw or another size to draw it in."""

    DEFAULT_CSS = "CourseChart { height: 8; width: 100%; display: none; }"

    def __init__(self) -> None:
        super().__init__(id="course")
        self._view: WhatIfView | None = None
        self.drawn: RenderResult = Content("")

    def show(self, view: WhatIfView) -> None:
        self._view = view
        self.display = True
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def render(self) -> RenderResult:
        return self.drawn

    def _draw(self) -> None:
        width, height = self.size
        if self._view is None or not width or not height:
            return
        self.drawn = paragraphs(courses.sparks(self._view, width))
        if width >= LEAST_WIDTH and height >= LEAST_HEIGHT:
            try:
                text = courses.draw(self._view, width, height, ink_of(self.app))
                self.drawn = Text.from_ansi(text, no_wrap=True)
            except (ImportError, OSError, AttributeError) as error:
                log.warning("charts are drawn as sparklines: plotext does not work here (%s)", error)
        self.refresh()


class WhatIfDialog(Dialog[str]):
    """The result is `save`, or None: back to the form, or never mind."""

    DEFAULT_CSS = """
    WhatIfDialog #box { width: 110; }
    WhatIfDialog #figures { height: auto; width: 100%; }
    WhatIfDialog #legend { height: 1; width: 100%; }
    """

    def __init__(self, group: str, on: str, now: MoneyNow | None = None) -> None:
        self.group, self._on, self._now = group, on, now
        self._began = time.monotonic()
        self._lines_below = 0
        super().__init__(
            f"Try it: {group}", self._waiting(), [Choice("cancel", "Cancel"), Choice("save", "Save")]
        )

    def fields(self) -> ComposeResult:
        yield CourseChart()
        yield Static("", id="legend", markup=False)
        yield Static("", id="figures", markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#legend").display = False
        self.query_one("#save").display = False  # until there is something to judge it by
        self._timer = self.set_interval(TICK_S, lambda: self.say(self._waiting()))

    def _waiting(self) -> list[Line]:
        """How long it takes already, and how long at most."""
        spent = time.monotonic() - self._began
        full, empty = figures.bar(20, min(1.0, spent / SIMULATION_S))
        return [
            [("On ", ""), (figures.clip(self._on, 60), "bold"), (":", "")],
            [(full, "$accent"), (empty, "$muted"), (f"  {spent:.0f} s of {SIMULATION_S:.0f} s at most", "")],
        ]

    def arrived(self, view: WhatIfView, note: str) -> None:
        """What came of it."""
        self._timer.stop()
        lines: list[Line] = [[("On ", ""), (figures.clip(self._on, 60), "bold")]]
        if note:
            lines = [[("▲ ", "bold $warn"), (note, "")]]
        self.say(lines)
        rows = courses.rows(view, self._now)
        self._lines_below = len(rows) + 1
        self.query_one("#figures", Static).update(paragraphs(rows))
        legend = self.query_one("#legend", Static)
        legend.display = True
        legend.update(content(courses.legend(view, self._ink())))
        save = self.query_one("#save")
        save.display = True
        self._choices[0] = Choice("cancel", "Back")
        self.on_descendant_focus()
        self._fit()
        self.query_one(CourseChart).show(view)

    def _ink(self) -> Ink:
        return ink_of(self.app)

    def _fit(self) -> None:
        super()._fit()
        rows = self.app.size.height
        taken = 2 + 1 + CHOICE_MARGINS + 2 + self._lines_below  # border, choices, their margins, words, below
        self.query_one(CourseChart).styles.height = max(2, min(MOST_HEIGHT, rows - taken))

    async def chosen(self, choice: str) -> None:
        self.dismiss(choice)
