"""Fleet: every node, how full and how well; and why it is so."""

from textual.app import ComposeResult
from textual.containers import Container

from console.screens.fleet import widgets
from console.screens.shared import costs, words
from console.screens.shared.frame import Panel, entry_lines
from console.screens.shared.page import Page
from console.screens.shared.table import Table
from console.screens.shared.view import View, matches


class FleetScreen(Page):
    NAME = "fleet"
    CSS_PATH = "fleet.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.why_all = True  # the whole fleet's journal, or the chosen node's

    def body(self) -> ComposeResult:
        with Container(id="nodes") as box:
            box.border_title = "Nodes"
            yield Table(widgets.COLUMNS, id="table")
        yield Panel("Why", id="why")

    @property
    def table(self) -> Table:
        return self.query_one(Table)

    def show_body(self, view: View) -> None:
        box, table = self.query_one("#nodes"), self.table
        nodes = view.nodes
        shown = [node for node in nodes if matches(widgets.searched(node), self.filter_text)]
        hidden = f"   {len(shown)} of {len(nodes)} shown, c clears" if self.filter_text else ""
        stale = f"   ▲ {view.as_of}" if view.stale else ""
        box.border_title = f"{widgets.title(view)}{hidden}{stale}" if view.state.ready else "Nodes"
        box.border_subtitle = words.plain(costs.fleet_line(view.state.money))
        if view.refused:
            table.show_words([("✗ No permission: ", "bold $bad"), (view.refused, "")])
        elif not view.state.ready:
            error = f" ({view.link.error})" if view.link.error else ""
            again = f" Trying again, {view.link.attempts} times so far." if view.link.attempts else ""
            table.show_words([(f"Loading the nodes…{error}{again}", "$muted")])
        elif not nodes:
            table.show_words(
                [
                    ("No nodes: none has been asked for, or all have ended. ", "$muted"),
                    ("+", "bold $accent"),
                    (" adds an edge, ", "$muted"),
                    (":add origin", "bold $accent"),
                    (" an origin.", "$muted"),
                ]
            )
        elif not shown:
            table.show_words(
                [
                    (f"0 of {len(nodes)}: {self.filter_text!r} hides all. ", "$muted"),
                    ("c", "bold $accent"),
                    (" clears.", "$muted"),
                ]
            )
        else:
            width = table.width_of("connections")
            table.show_rows([widgets.row(node, view, width) for node in shown])
        self._show_why()

    def _show_why(self) -> None:
        why = self.query_one("#why", Panel)
        chosen = None if self.why_all else self.table.chosen
        why.title(f"Why: {chosen}" if chosen else "Why: the fleet")
        why.border_subtitle = "w whole fleet" if chosen else "w chosen node"
        entries = self.view.journal_about([chosen] if chosen else None)
        rows = max(1, why.size.height - 2)
        draining = [it for it in self.view.nodes if chosen in (None, it.id)]
        lines = widgets.drains(draining, why.room, self.view.now)[:rows]
        if len(lines) < rows:
            lines += entry_lines(entries, why.room, rows - len(lines))
        why.show(lines)

    def chosen_node(self) -> str | None:
        return self.table.chosen

    def focus_body(self) -> None:
        self.set_focus(self.table)

    def toggle_why(self) -> None:
        self.why_all = not self.why_all
        self._show_why()

    def on_table_chosen(self, message: Table.Chosen) -> None:
        message.stop()
        self._show_why()

    async def action_open_row(self, key: str) -> None:
        await self.app.run_action(("app", "act", ("inside", key)))
