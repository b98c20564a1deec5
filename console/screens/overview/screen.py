"""Overview: is it all right?"""

from textual.app import ComposeResult
from textual.containers import Container

from console.screens.overview import widgets
from console.screens.shared.chart import Chart, title_of
from console.screens.shared.frame import Panel
from console.screens.shared.page import Page
from console.screens.shared.view import View


class OverviewScreen(Page):
    NAME = "overview"
    CSS_PATH = "overview.tcss"

    def body(self) -> ComposeResult:
        yield Panel("Now", id="now")
        yield Panel("Needs you", id="needs")
        with Container(id="history") as box:
            box.border_title = title_of([])
            yield Chart(id="chart")
        yield Panel("On air", id="streams")
        yield Panel("Roles", id="roles")

    def show_body(self, view: View) -> None:
        now, streams = self.query_one("#now", Panel), self.query_one("#streams", Panel)
        roles, panel = self.query_one("#roles", Panel), self.query_one("#needs", Panel)
        if not view.state.ready:
            now.show([[("Loading: waiting for the first word of the stream manager…", "$muted")]])
            panel.show(widgets.needs(view) if view.refused else [[("…", "$muted")]])
            return
        now.show(widgets.now_lines(view, now.room))
        wrong = widgets.needs(view)
        room = 3 if self.size.height >= 24 else 2
        shown = wrong[:room] if len(wrong) <= room else wrong[: room - 1]
        if len(wrong) > room:
            more = f"… and {len(wrong) - room + 1} more: 2 fleet, 3 broadcast, 4 journal"
            shown.append([(more, "$muted"), ("", "")])
        blocks = [part for line in shown for part in widgets.needs_block(line, panel.room)]
        panel.show(blocks or [widgets.all_well(view)])
        panel.set_class(bool(wrong), "-wrong")
        streams.show(widgets.stream_lines(view, streams.room))
        roles.show(widgets.role_lines(view, roles.room))
        samples = widgets.samples(view)
        self.query_one("#history").border_title = title_of(samples)
        self.query_one(Chart).show(samples)
