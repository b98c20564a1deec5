"""Dialogs. One that acts states what it will do and to whom, and starts on Cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from textual import widgets
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from console.screens.shared.ink import paragraphs
from console.screens.shared.words import Line

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    id: str
    label: str
    style: str = ""  # "danger" for what cannot be taken back


def button_label(choice: Choice, focused: bool) -> Content:
    return Content(f"[▸{choice.label} ]" if focused else f"[ {choice.label} ]")


CANCEL = Choice("cancel", "Cancel")
BOX_WIDTH = 76  # as #box has it below
BOX_EDGES = 6  # its border and padding, both sides
CHOICE_EDGES = 5  # a button's padding and the gap before it


class Dialog(ModalScreen[T], Generic[T]):
    """A box over the page: lines, perhaps fields, and choices. `chosen()` turns a choice into the result."""

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-normal")]
    BINDINGS = [
        Binding("escape", "choose('cancel')", "Cancel", show=False),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("ctrl+c,ctrl+q", "choose('cancel')", show=False),
    ]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog #box { width: 76; max-width: 100%; height: auto; max-height: 100%; border: round $accent;
        background: $surface; padding: 0 2; border-title-color: $foreground; border-title-style: bold; }
    Dialog #scroll { height: auto; max-height: 1fr; scrollbar-size-vertical: 1; }
    Dialog .words { height: auto; width: 100%; margin: 1 0 0 0; }
    Dialog #wrong { height: auto; color: $bad; display: none; }
    Dialog #wrong.-said { display: block; }
    Dialog #choices { height: 1; width: 100%; align-horizontal: right; margin: 1 0 1 0; }
    Dialog.-flat #choices { margin: 0; }
    Dialog #choices.-stacked { layout: vertical; height: auto; }
    Dialog #choices.-stacked Button { margin-left: 0; }
    Dialog #choices Button { width: auto; min-width: 8; height: 1; border: none; margin-left: 3; padding: 0 1;
        background: $raised; color: $foreground; text-style: none; }
    Dialog #choices Button.danger { color: $bad; }
    Dialog #choices Button:focus { background: $accent; color: $background; text-style: bold; }
    Dialog #choices Button.danger:focus { background: $bad; color: $background; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (20, "-low"), (30, "-tall")]

    def __init__(
        self, title: str, lines: Sequence[Line], choices: Sequence[Choice], *, focus: str = "cancel"
    ) -> None:
        super().__init__()
        self._title, self._lines, self._choices, self._focus = title, list(lines), list(choices), focus

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False) as box:
            box.border_title = self._title
            words = Static(paragraphs(self._lines), classes="words", id="words")
            words.display = bool(self._lines)
            yield words
            yield from self.fields()
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="choices"):
                for choice in self._choices:
                    yield Button(
                        button_label(choice, False), id=choice.id, classes=choice.style, compact=True
                    )

    def fields(self) -> ComposeResult:
        yield from ()

    def on_resize(self) -> None:
        """Choices that do not stand beside each other stand below each other: none may be out of sight."""
        room = min(BOX_WIDTH, self.app.size.width) - BOX_EDGES
        beside = sum(len(button_label(choice, False)) + CHOICE_EDGES for choice in self._choices)
        self.query_one("#choices").set_class(beside > room, "-stacked")

    def on_mount(self) -> None:
        self.query_one(f"#{self._focus}").focus()

    def say(self, lines: Sequence[Line]) -> None:
        """Other words in the box: what the dialog states has changed while it is open."""
        self._lines = list(lines)
        self.query_one("#words", Static).update(paragraphs(self._lines))

    def wrong(self, text: str) -> None:
        """What has to be mended before this can be done."""
        widget = self.query_one("#wrong", Static)
        widget.set_class(bool(text), "-said")
        widget.update(f"✗ {text}" if text else "")

    def on_descendant_focus(self) -> None:
        """Where the keys go is marked by a glyph too, not by its colour alone."""
        focused = self.focused
        for choice in self._choices:
            button = self.query_one(f"#{choice.id}", Button)
            button.label = button_label(choice, button is focused)
        for field in self.query(".field"):
            label = field.query_one(Label)
            text = str(label.content).removeprefix("▸ ").strip()
            here = focused is not None and focused in field.children and bool(text)
            label.update(f"▸ {text}" if here else f"  {text}")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_choose(event.button.id or "cancel")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field goes on to what acts; it does not act yet."""
        event.stop()
        self.query_one(f"#{self._choices[-1].id}").focus()

    def action_page(self, step: int) -> None:
        """Move in a box that is taller than the terminal."""
        box = self.query_one("#box")
        if step < 0:
            box.scroll_page_up(animate=False)
        else:
            box.scroll_page_down(animate=False)

    def action_choose(self, choice: str) -> None:
        if choice == "cancel":
            self.dismiss(None)
        else:
            self.chosen(choice)

    def chosen(self, choice: str) -> None:
        """A choice other than Cancel was taken: dismiss with a result, or say what is wrong."""
        raise NotImplementedError


class RadioButton(widgets.RadioButton):
    """Says by its glyph, not by its colour alone, whether it is on."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        return "●" if self.value else " "


class RadioSet(widgets.RadioSet):
    """An arrow chooses at once: a mark that only walks would be a colour and nothing else."""

    BINDINGS = [
        Binding("down,right", "turn(1)", show=False),
        Binding("up,left", "turn(-1)", show=False),
    ]

    def action_turn(self, step: int) -> None:
        buttons = list(self.query(RadioButton))
        buttons[(self.pressed_index + step) % len(buttons)].value = True


class Checkbox(widgets.Checkbox):
    """The same for a tick."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        return "X" if self.value else " "


class Ask(Dialog[str]):
    """Words and choices; the result is the choice's id, None for Cancel."""

    def chosen(self, choice: str) -> None:
        self.dismiss(choice)


class Tell(Dialog[str]):
    """Something to know, with one way on."""

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__(title, lines, [Choice("cancel", "Close")])

    def chosen(self, choice: str) -> None:
        self.dismiss(None)
