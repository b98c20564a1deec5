"""The dialog that plans an event or changes one. Times are read by the manager, in the event's zone."""

from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Label

from console.core.planning import EventWords, WrongField, changes, request, words_of
from console.screens.shared.dialog import CANCEL, Choice, Dialog, Field
from controlplane.wire.events import EventView

FIELDS = (
    ("title", "Title", "what is shown"),
    ("start", "Start", "2026-11-28T20:00, 20:00 or +30m"),
    ("end", "End", "22:00, or how long: 2h, 90m"),
    ("channel", "Channel", "main"),
    ("expected", "Expected", "people who will watch"),
    ("zone", "Zone", "Europe/Berlin"),
)


class EventDialog(Dialog[EventWords]):
    """The result is what stands in the fields; the manager is asked, and the dialog comes
    again with its words if it says no."""

    def __init__(self, words: EventWords, before: EventView | None = None, wrong: str = "") -> None:
        super().__init__(
            "Plan an event" if before is None else f"Edit {before.id}",
            [],
            [CANCEL, Choice("plan", "Plan" if before is None else "Change")],
            focus="title",
        )
        self._words, self._before, self._wrong_at_first = words, before, wrong

    def fields(self) -> ComposeResult:
        for name, label, hint in FIELDS:
            with Horizontal(classes="field"):
                yield Label(label)
                yield Field(getattr(self._words, name), id=name, placeholder=hint)

    def on_mount(self) -> None:
        super().on_mount()
        self.wrong(self._wrong_at_first)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.value != getattr(self._words, event.input.id or ""):
            self.wrong("")

    async def chosen(self, choice: str) -> None:
        entered = {name: self.query_one(f"#{name}", Field).value for name, _, _ in FIELDS}
        words = replace(self._words, **entered)
        try:
            if self._before is None:
                request(words)
            else:
                changes(words, words_of(self._before))
        except WrongField as error:
            self.wrong(str(error))
            self.set_focus(self.query_one(f"#{error.field}"))
        else:
            self.dismiss(words)
