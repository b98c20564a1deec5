"""Events: what is on, to come, and was over lately; the chosen one in full below."""

from textual.app import ComposeResult
from textual.containers import Container

from console.core.errors import ConsoleError
from console.screens.events import widgets
from console.screens.shared import figures
from console.screens.shared.frame import Panel
from console.screens.shared.page import Page
from console.screens.shared.table import Table
from console.screens.shared.view import View, matches
from controlplane.wire.events import EventView


class EventsScreen(Page):
    NAME = "events"
    CSS_PATH = "events.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.events: list[EventView] | None = None  # None: not asked for yet
        self.error: ConsoleError | None = None

    def body(self) -> ComposeResult:
        with Container(id="events") as box:
            box.border_title = "Events"
            yield Table(widgets.COLUMNS, id="table")
        yield Panel("Event", id="chosen")

    @property
    def table(self) -> Table:
        return self.query_one(Table)

    def arrived(self, events: list[EventView] | None, error: ConsoleError | None) -> None:
        """What the manager answered; an error keeps the last answer on screen."""
        self.events, self.error = self.events if events is None else events, error
        self.show(self.view)

    def event(self, name: str | None) -> EventView | None:
        return next((it for it in self.events or () if it.id == name), None)

    def chosen_event(self) -> EventView | None:
        return self.event(self.table.chosen)

    def show_body(self, view: View) -> None:
        box, table = self.query_one("#events"), self.table
        events = widgets.in_order(self.events or [], view.now)
        shown = [it for it in events if matches(widgets.searched(it), self.filter_text)]
        hidden = f"   {len(shown)} of {len(events)} shown, c clears" if self.filter_text else ""
        stale = f"   ▲ {view.as_of}" if view.stale else f"   ▲ {self.error.what}" if self.error else ""
        box.border_title = figures.clip(
            f"{widgets.title(events, view.now)}{hidden}{stale}", max(10, box.size.width - 4)
        )
        if view.refused:
            table.show_words([("✗ No permission: ", "bold $bad"), (view.refused, "")])
        elif self.events is None:
            words = f"✗ {self.error} Trying again each second." if self.error else "Loading the events…"
            table.show_words([(words, "$muted")])
        elif not events:
            table.show_words(
                [
                    ("No event is planned. ", "$muted"),
                    ("n", "bold $accent"),
                    (" plans one: what is shown when, and for how many.", "$muted"),
                ],
                [("Its nodes can be there before it begins: ", "$muted")],
                [("showcaller fleet policy set edge --prestage-events", "$second")],
            )
        elif not shown:
            table.show_words(
                [
                    (f"0 of {len(events)}: {self.filter_text!r} hides all. ", "$muted"),
                    ("c", "bold $accent"),
                    (" clears.", "$muted"),
                ]
            )
        else:
            table.show_rows([widgets.row(it, view.now) for it in shown])
        self._show_about()

    def _show_about(self) -> None:
        about = self.query_one("#chosen", Panel)
        event = self.chosen_event()
        about.title("Event" if event is None else event.id)
        if event is None:
            about.show([[("No event is chosen." if self.events else "", "$muted")]])
        else:
            about.show(widgets.about_lines(event, self.view))

    def focus_body(self) -> None:
        self.set_focus(self.table)

    def on_table_chosen(self, message: Table.Chosen) -> None:
        message.stop()
        self._show_about()

    async def action_open_row(self, key: str) -> None:
        await self.app.run_action(("app", "act", ("preflight", key)))
