"""The dialog that drains a node: what it does and to whom, the deadline, and Cancel first."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Label

from console.screens.fleet import widgets
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Choice, Dialog
from console.screens.shared.view import View


@dataclass(frozen=True, slots=True)
class Drain:
    node: str
    deadline_s: float


class DrainDialog(Dialog[Drain]):
    def __init__(self, view: View, node: str, deadline: str = "5m") -> None:
        self._node, self._deadline = node, deadline
        effect = widgets.drain_effect(view.state.nodes[node], view)
        super().__init__(
            f"Drain {node}", widgets.drain_lines(effect), [CANCEL, Choice("drain", "Drain", "danger")]
        )

    def fields(self) -> ComposeResult:
        with Horizontal(classes="field"):
            yield Label("Deadline")
            yield Input(self._deadline, id="deadline", compact=True, placeholder="60s, 5m, 1h")

    def chosen(self, choice: str) -> None:
        try:
            deadline = figures.parse_duration(self.query_one("#deadline", Input).value)
        except ValueError as error:
            self.wrong(str(error))
            self.query_one("#deadline", Input).focus()
            return
        self.dismiss(Drain(self._node, deadline))
