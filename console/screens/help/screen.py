"""Every key and command, with the plain command that does the same without a screen."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from console.actions import ACTIONS, Action, key_name
from console.screens.shared.ink import paragraphs
from console.screens.shared.words import Line, wrap

KEYS_WIDTH = 13
MORE = (
    ("up down", "move; page up, page down, home, end too"),
    ("enter", "open what is chosen; a double click does it too"),
    ("after /", "words that must be there; !word must not"),
    ("", "SHOWCALLER_ASCII=1 draws without special characters, NO_COLOR=1 without colour."),
)
PLACES = {
    "overview": "Overview",
    "fleet": "Fleet",
    "broadcast": "Broadcast",
    "journal": "Journal",
    "events": "Events",
    "node": "Node",
}


def help_lines(page: str, width: int) -> list[Line]:
    """All actions by their group. Those that work on this page stand out; the others say where they work."""
    lines: list[Line] = []
    for group in dict.fromkeys(action.group for action in ACTIONS):
        lines += ([[]] if lines else []) + [[(group, "bold underline")]]
        for action in ACTIONS:
            if action.group == group:
                lines += action_lines(action, page, width)
    lines += [[], [("In a table", "bold underline")]]
    for keys, text in MORE:
        lines += key_lines(keys, "bold $accent", [(text, "")], width)
    return lines


def key_lines(keys: str, style: str, text: Line, width: int) -> list[Line]:
    """Keys on the left, what they do beside them; nothing is cut, it goes on below."""
    first, *rest = wrap(text, max(10, width - KEYS_WIDTH))
    return [[(f"{keys:<12} ", style), *first], *([(" " * KEYS_WIDTH, ""), *line] for line in rest)]


def action_lines(action: Action, page: str, width: int) -> list[Line]:
    """What it does, then its word after `:` and its plain command."""
    keys = " ".join(key_name(key) for key in action.keys if key != "ctrl+q")
    here = page in action.pages
    where = "" if here else "  (on " + ", ".join(PLACES[p] for p in PLACES if p in action.pages) + ")"
    title: Line = [(action.title + where, "" if here else "$muted")]
    lines = key_lines(keys, "bold $accent" if here else "$muted", title, width)
    word = f":{action.words[0]} {action.usage}".strip() if action.words else ""
    more = "   ".join(part for part in (word, action.command) if part)
    for part in [more] if len(more) <= width - KEYS_WIDTH else [word, action.command]:
        if part:
            lines += key_lines("", "", [(part, "$muted")], width)
    return lines


class HelpScreen(ModalScreen[None]):
    CSS_PATH = "help.tcss"
    BINDINGS = [Binding("escape,q,question_mark,ctrl+c,ctrl+q", "close", "Close", show=False)]

    def __init__(self, page: str) -> None:
        super().__init__()
        self._page = page

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title = "Keys and commands"
            box.border_subtitle = "esc closes, up and down move"
            yield Static("", id="keys-text")

    def on_mount(self) -> None:
        self.set_focus(self.query_one("#box"))
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        text = self.query_one("#keys-text", Static)
        text.update(paragraphs(help_lines(self._page, (text.size.width or 72) - 2)))

    def action_close(self) -> None:
        self.dismiss(None)
