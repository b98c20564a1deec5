"""Inside one node: its workers, sessions and streams as it reported them last."""

from textual.app import ComposeResult
from textual.containers import Container

from console.core.errors import ConsoleError
from console.screens.inside import widgets
from console.screens.shared import figures
from console.screens.shared.frame import Panel
from console.screens.shared.page import Page
from console.screens.shared.table import Table
from console.screens.shared.view import View, matches
from controlplane.wire.api import NodeInside


class InsideScreen(Page):
    NAME = "node"
    CSS_PATH = "inside.tcss"

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node
        self.inside: NodeInside | None = None
        self.error: ConsoleError | None = None

    def body(self) -> ComposeResult:
        yield Panel(self.node, id="node")
        yield Panel("Streams", id="streams")
        with Container(id="sessions") as box:
            box.border_title = "Sessions"
            yield Table(widgets.COLUMNS, id="table")

    def arrived(self, inside: NodeInside | None, error: ConsoleError | None) -> None:
        """What the manager answered; an error keeps the last answer on screen."""
        self.inside, self.error = inside or self.inside, error
        self.show(self.view)

    def show_body(self, view: View) -> None:
        node, inside = view.state.nodes.get(self.node), self.inside
        panel, streams = self.query_one("#node", Panel), self.query_one("#streams", Panel)
        table, box = self.query_one(Table), self.query_one("#sessions")
        if node is None:
            text = "This node has ended. " if view.state.ready else "Loading… "
            panel.show([[(text, "$muted"), ("esc", "bold $accent"), (" goes back to the fleet.", "$muted")]])
        else:
            panel.show(widgets.node_lines(node, view, inside, panel.room))
        if inside is None:
            words = f"✗ {self.error} Trying again each second." if self.error else "Loading…"
            streams.show([[(figures.clip(words, streams.room), "$muted")]])
            table.show_words([(words, "$muted")])
            return
        streams.show(widgets.stream_lines(inside, streams.room))
        when = inside.reported_at
        old = "" if when is None else f", reported {figures.age(max(0.0, view.now - when))} ago"
        shown = [s for s in inside.sessions if matches(widgets.searched(s), self.filter_text)]
        box.border_title = f"{widgets.counted(inside.sessions)}{old}"
        if not inside.sessions:
            table.show_words([("No sessions: nobody is connected to this node.", "$muted")])
        elif not shown:
            table.show_words([(f"0 of {len(inside.sessions)}: the filter hides all. c clears.", "$muted")])
        else:
            table.show_rows([widgets.row(session) for session in shown])

    def chosen_node(self) -> str | None:
        return self.node

    def focus_body(self) -> None:
        self.set_focus(self.query_one(Table))
