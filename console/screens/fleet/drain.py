"""The dialog that drains a node: what it does and to whom, the deadline, and Cancel first.

Where it is the last edge, or the last origin, what is on air is to be typed: a word that nobody types by
mistake."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Label

from console.core.effects import channels_without
from console.core.errors import UsageError
from console.core.policies import lasting
from console.core.units import parse_duration
from console.screens.fleet import widgets
from console.screens.shared.dialog import CANCEL, Choice, Dialog, Field
from console.screens.shared.view import View

LONGEST_S = 86_400.0  # what the manager takes


@dataclass(frozen=True, slots=True)
class Drain:
    node: str
    deadline_s: float
    channels: tuple[str, ...] = ()  # that were named, as they will have none


class DrainDialog(Dialog[Drain]):
    def __init__(self, view: View, node: str, deadline: str = "") -> None:
        """`deadline` as typed; without one it is as the group's policy has it."""
        self._node, self._role = node, view.state.nodes[node].role
        self._deadline = deadline or lasting(widgets.drain_s(view.state.nodes[node], view))
        effect = widgets.drain_effect(view.state.nodes[node], view)
        self._channels = tuple(channels_without(view.nodes, view.state.streams.values(), node))
        super().__init__(
            f"Drain {node}", widgets.drain_lines(effect), [CANCEL, Choice("drain", "Drain", "danger")]
        )

    def fields(self) -> ComposeResult:
        with Horizontal(classes="field"):
            yield Label("Deadline")
            yield Field(self._deadline, id="deadline", placeholder="60s, 5m, 1h")
        if self._channels:
            with Horizontal(classes="field"):
                yield Label("On air")
                yield Field("", id="channels", placeholder=f"type {' '.join(self._channels)} to drain it")

    async def chosen(self, choice: str) -> None:
        try:
            deadline = parse_duration(self.query_one("#deadline", Field).value, most_s=LONGEST_S)
        except UsageError as error:
            self.wrong(str(error))
            self.set_focus(self.query_one("#deadline"))
            return
        if self._channels:
            named = self.query_one("#channels", Field)
            if sorted(named.value.split()) != sorted(self._channels):
                self.wrong(f"Type {' '.join(self._channels)}: no {self._role} will be left for it")
                self.set_focus(named)
                return
        self.dismiss(Drain(self._node, deadline, self._channels))
