"""Journal: what happened and who did it, the newest at the end."""

from textual.app import ComposeResult
from textual.containers import Container

from console.screens.journal import widgets
from console.screens.shared.dialog import Tell
from console.screens.shared.page import Page
from console.screens.shared.table import Row, Table
from console.screens.shared.view import View, matches
from controlplane.wire.api import JournalEntry


class JournalScreen(Page):
    NAME = "journal"
    CSS_PATH = "journal.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.following = True
        self._drawn: tuple[object, str] = (None, "")
        self._rows: list[Row] = []

    def body(self) -> ComposeResult:
        with Container(id="entries") as box:
            box.border_title = "Journal"
            yield Table(widgets.COLUMNS, id="table")

    @property
    def table(self) -> Table:
        return self.query_one(Table)

    def show_body(self, view: View) -> None:
        box, table, entries = self.query_one("#entries"), self.table, view.state.journal
        if self._drawn[0] is not entries or self._drawn[1] != self.filter_text:
            self._drawn = (entries, self.filter_text)
            shown = [entry for entry in entries if matches(widgets.searched(entry), self.filter_text)]
            self._rows = [widgets.row(entry) for entry in shown]
        parts = [f"Journal, {len(entries)} entries"]
        if self.filter_text:
            parts.append(f"{len(self._rows)} of {len(entries)} shown, c clears")
        parts.append("following" if self.following else "held here, f follows")
        if view.stale:
            parts.append(f"▲ {view.as_of}")
        box.border_title = "   ".join(parts)
        box.border_subtitle = "enter shows all of an entry" if self._rows else ""
        if view.refused:
            table.show_words([("✗ No permission: ", "bold $bad"), (view.refused, "")])
        elif not view.state.ready:
            again = (
                f" Trying again, {view.link.attempts} times so far ({view.link.error})."
                if view.link.attempts
                else ""
            )
            table.show_words([(f"Loading the journal…{again}", "$muted")])
        elif not entries:
            table.show_words([("Nothing is written yet: this stage has just been made.", "$muted")])
        elif not self._rows:
            table.show_words(
                [
                    (f"0 of {len(entries)}: {self.filter_text!r} hides all. ", "$muted"),
                    ("c", "bold $accent"),
                    (" clears.", "$muted"),
                ]
            )
        else:
            table.show_rows(self._rows)
            if self.following:
                table.to_end()

    def focus_body(self) -> None:
        self.set_focus(self.table)

    def toggle_follow(self) -> None:
        self.following = not self.following
        self.show(self.view)

    def on_table_chosen(self, message: Table.Chosen) -> None:
        message.stop()
        if message.by_hand:
            self.following = message.key == (self._rows[-1].key if self._rows else None)
            self.show(self.view)

    async def action_open_row(self, key: str) -> None:
        found: JournalEntry | None = next((e for e in self.view.state.journal if str(e.id) == key), None)
        if found is not None:
            self.app.push_screen(Tell("Journal entry", widgets.entry_lines(found)))
