"""Dialogs. One that acts states what it will do and to whom, and starts on Cancel.

The words and fields scroll; the choices below them are always in sight. What a key does, it does before the
next key is looked at (see ConsoleApp.on_event): the widgets here call the dialog instead of posting it a
message, and the focus moves at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from textual import events, widgets
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Label, Static

from console.screens.shared.ink import content, paragraphs
from console.screens.shared.words import Line, wrap

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    id: str
    label: str
    style: str = ""  # "danger" for what cannot be taken back


def button_label(choice: Choice, focused: bool) -> Content:
    return Content(f"[▸{choice.label} ]" if focused else f"[ {choice.label} ]")


class Button(widgets.Button):
    """A choice. Enter takes it at once; a click by way of Button.Pressed."""

    async def action_press(self) -> None:  # type: ignore[override]
        await dialog_of(self).action_choose(self.id or "cancel")


class Field(widgets.Input):
    """A line to fill in. Enter goes on to what acts; it does not act yet.

    All of it is selected when it gets the focus, by the dialog: Textual would do so some time later, and take
    what was typed by then for what is to be replaced.
    """

    def __init__(self, value: str, **more: Any) -> None:
        super().__init__(value, compact=True, select_on_focus=False, **more)

    async def action_submit(self) -> None:
        dialog_of(self).focus_last()


class OneOf(Widget, can_focus=True):
    """One of several words on a line, or below each other where there is no room. An arrow chooses at once: a
    mark that only walks would be a colour and nothing else."""

    BINDINGS = [
        Binding("down,right", "turn(1)", show=False),
        Binding("up,left", "turn(-1)", show=False),
    ]
    DEFAULT_CSS = """
    OneOf { width: 1fr; height: auto; }
    OneOf:focus { text-style: bold; }
    """
    GAP = 4

    index: reactive[int] = reactive(0, layout=True)

    def __init__(self, words: Sequence[str], index: int = 0, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = tuple(words)
        self.set_reactive(OneOf.index, index)

    def action_turn(self, step: int) -> None:
        self.index = (self.index + step) % len(self._words)

    def on_click(self, event: events.Click) -> None:
        for number, (x, y, text) in enumerate(self._laid(self.size.width)):
            if y == event.y and x <= event.x < x + len(text):
                self.index = number

    def _laid(self, width: int) -> list[tuple[int, int, str]]:
        """Where each stands: cells from the left, lines from the top, the text."""
        texts = [
            f"▐{'●' if number == self.index else ' '}▌ {word}" for number, word in enumerate(self._words)
        ]
        beside = sum(len(text) for text in texts) + self.GAP * (len(texts) - 1) <= width
        places, x = [], 0
        for number, text in enumerate(texts):
            places.append((x, 0, text) if beside else (0, number, text))
            x += len(text) + self.GAP
        return places

    def get_content_height(self, container: Any, viewport: Any, width: int) -> int:
        return self._laid(width)[-1][1] + 1

    def render(self) -> Content:
        laid = self._laid(self.size.width)
        between = Content(" " * self.GAP if laid[-1][1] == 0 else "\n")
        return between.join(
            content([(text[:MARK], "$accent" if number == self.index else "$muted"), (text[MARK:], "")])
            for number, (_, _, text) in enumerate(laid)
        )


class Checkbox(widgets.Checkbox):
    """Says by its glyph, not by its colour alone, whether it is on."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        return "X" if self.value else " "


CANCEL = Choice("cancel", "Cancel")
BOX_WIDTH = 76  # as #box has it below
BOX_EDGES = 6  # its border and padding, both sides
MARK = 3  # cells of the mark before one of several words
CHOICE_MARGINS = 2  # rows above and below the choices
LOW_ROWS = 20  # from here on there is room for margins
CHOICE_EDGES = 5  # a button's padding and the gap before it


class Dialog(ModalScreen[T], Generic[T]):
    """A box over the page: lines, perhaps fields, and choices. `chosen()` turns a choice into the result."""

    AUTO_FOCUS = ""  # on_mount says where; what Textual would choose itself depends on who is faster
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
    Dialog #scroll { height: auto; scrollbar-size-vertical: 1; }
    Dialog .words { height: auto; width: 100%; margin: 1 0 0 0; }
    Dialog #wrong { height: auto; max-height: 3; color: $bad; display: none; }
    Dialog #wrong.-said { display: block; }
    Dialog #choices { height: 1; width: 100%; align-horizontal: right; margin: 1 0 1 0; }
    Dialog.-flat #choices, Dialog.-flat .words { margin: 0; }
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
        self._wrong = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self._title
            with VerticalScroll(id="scroll", can_focus=False):
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
        self._fit()

    def _fit(self) -> None:
        """The choices are in sight whatever the size: below each other where there is no room beside, and as
        much of the words and fields as is left above them."""
        columns, rows = self.app.size
        room = max(4, min(BOX_WIDTH, columns) - BOX_EDGES)
        beside = sum(len(button_label(choice, False)) + CHOICE_EDGES for choice in self._choices)
        self.query_one("#choices").set_class(beside > room, "-stacked")
        below = len(self._choices) if beside > room else 1
        if rows >= LOW_ROWS:  # as -flat below it has none
            below += CHOICE_MARGINS
        if self._wrong:
            below += min(3, len(wrap([(self._wrong, "")], room)))
        self.query_one("#scroll").styles.max_height = max(1, rows - 2 - below)

    def on_mount(self) -> None:
        self._fit()
        self.set_focus(self.query_one(f"#{self._focus}"))

    def set_focus(
        self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False
    ) -> None:
        if isinstance(widget, Field) and widget is not self.focused and not from_app_focus:
            widget.action_select_all()
        super().set_focus(widget, scroll_visible, from_app_focus)

    def focus_last(self) -> None:
        """To the choice that acts."""
        self.set_focus(self.query_one(f"#{self._choices[-1].id}"))

    def say(self, lines: Sequence[Line]) -> None:
        """Other words in the box: what the dialog states has changed while it is open."""
        self._lines = list(lines)
        self.query_one("#words", Static).update(paragraphs(self._lines))

    def wrong(self, text: str, *, mark: str = "✗") -> None:
        """What has to be mended before this can be done; with another mark, what goes on."""
        self._wrong = f"{mark} {text}" if text else ""
        widget = self.query_one("#wrong", Static)
        widget.set_class(bool(text), "-said")
        widget.update(self._wrong)
        self._fit()

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

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        await self.action_choose(event.button.id or "cancel")

    def action_page(self, step: int) -> None:
        """Move in a box that is taller than the terminal."""
        box = self.query_one("#scroll")
        if step < 0:
            box.scroll_page_up(animate=False)
        else:
            box.scroll_page_down(animate=False)

    async def action_choose(self, choice: str) -> None:
        if choice == "cancel":
            self.dismiss(None)
        else:
            await self.chosen(choice)

    async def chosen(self, choice: str) -> None:
        """A choice other than Cancel was taken: dismiss with a result, or say what is wrong."""
        raise NotImplementedError


def dialog_of(widget: Widget) -> Dialog[Any]:
    """The dialog this widget of its stands in."""
    screen = widget.screen
    assert isinstance(screen, Dialog)
    return screen


class Ask(Dialog[str]):
    """Words and choices; the result is the choice's id, None for Cancel."""

    async def chosen(self, choice: str) -> None:
        self.dismiss(choice)


class Tell(Dialog[str]):
    """Something to know, with one way on."""

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__(title, lines, [Choice("cancel", "Close")])

    async def chosen(self, choice: str) -> None:
        self.dismiss(None)
