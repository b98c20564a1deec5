"""The dialogs of a drill: whom it strikes, with what is live to be typed; and how the stage recovers."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Label

from console.screens.shared.dialog import CANCEL, Choice, Dialog, Field
from console.screens.shared.words import Line
from controlplane.wire.drills import Drill, DrillRequest

MANAGER = "manager"  # as it is named in a line and typed here


def called(drill: Drill) -> str:
    """What is killed, in a word that can be typed."""
    return drill.node or MANAGER


class DrillDialog(Dialog[DrillRequest]):
    """States the blast radius. What is live is not killed by two keys: its name has to be typed."""

    def __init__(self, drill: Drill) -> None:
        self._drill = drill
        lines: list[Line] = [
            [(sentence, "bold" if number == 0 else "")] for number, sentence in enumerate(drill.effect)
        ]
        if self._typed:
            lines.append([("▲ This is live. ", "bold $warn"), (f"Type {called(drill)} to go on.", "")])
        super().__init__(
            f"Drill: kill {called(drill)}",
            lines,
            [CANCEL, Choice("kill", "Kill", "danger")],
            focus=self._first,
        )

    @property
    def _typed(self) -> bool:
        return bool(self._drill.blast.live)

    @property
    def _first(self) -> str:
        return "name" if self._typed else "cancel"

    def fields(self) -> ComposeResult:
        if self._typed:
            with Horizontal(classes="field"):
                yield Label("Kill")
                yield Field("", id="name", placeholder="its name")

    async def chosen(self, choice: str) -> None:
        if self._typed and self.query_one("#name", Field).value.strip() != called(self._drill):
            self.wrong(f"Type {called(self._drill)}, or cancel.")
            self.set_focus(self.query_one("#name"))
            return
        self.dismiss(DrillRequest(kind=self._drill.kind, node=self._drill.node))


class DrillProgress(Dialog[str]):
    """What has happened and what is waited for. Closing it stops nothing."""

    def __init__(self, what: str) -> None:
        self._steps: list[Line] = []
        self._waits = "a viewer to watch what is live"
        self._end: list[Line] = []
        super().__init__(f"Drill: {what}", self._words(), [Choice("cancel", "Close")])

    def step(self, at_s: float, words: str) -> None:
        self._steps.append([(f"{at_s:6.1f} s  ", "$muted"), (words, "")])
        self._show()

    def waits(self, words: str) -> None:
        self._waits = words
        self._show()

    def ended(self, message: str, *, good: bool) -> None:
        self._waits = ""
        self._end = [[("● " if good else "▲ ", "bold $good" if good else "bold $warn"), (message, "")]]
        self._show()

    def _words(self) -> list[Line]:
        if self._end:
            return [*self._steps, *self._end]
        waits: Line = [(f"{'':5}…    waiting for {self._waits}", "$muted")]
        goes_on: Line = [("Closing this stops nothing: what comes of it is in the journal.", "$muted")]
        return [*self._steps, waits, goes_on]

    def _show(self) -> None:
        if self.is_mounted:
            self.say(self._words())

    def on_mount(self) -> None:
        super().on_mount()
        self._show()

    async def chosen(self, choice: str) -> None:
        self.dismiss(None)
