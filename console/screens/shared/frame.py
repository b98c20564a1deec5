"""The frame around every screen: where we are and how sure that is, the pages, the next keys, and a line to
enter a command or a filter. Every piece can be clicked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from console import actions, commands
from console.actions import Action
from console.messages import Act, FilterChanged, Remeasured
from console.screens.shared import figures, words
from console.screens.shared.ink import content
from console.screens.shared.view import View
from console.screens.shared.words import Line, Span
from controlplane.wire.api import JournalEntry

LEAST_COLUMNS, LEAST_ROWS = 60, 16  # for the line of pages; below, it says how large is large enough
FULL_SIZE = "80x24"  # from here on nothing is left out or has to be scrolled to
TITLES = {
    "overview": "Overview",
    "fleet": "Fleet",
    "broadcast": "Broadcast",
    "journal": "Journal",
    "events": "Events",
}


def fit_lines(parts: Sequence[tuple[int, Line]], width: int, gap: int) -> Line:
    """The parts in their order, with a gap between; those of the highest rank are left out until it fits."""
    kept = [part for part in parts if words.plain(part[1])]
    while len(kept) > 1 and sum(len(words.plain(part)) for _, part in kept) + gap * (len(kept) - 1) > width:
        kept.remove(max(reversed(kept), key=lambda part: part[0]))
    line: Line = []
    for number, (_, part) in enumerate(kept):
        line += [(" " * gap, ""), *part] if number else part
    return line


def fit(parts: Sequence[tuple[int, Span]], width: int, gap: int = 3) -> Line:
    """The same of single spans."""
    return fit_lines([(rank, [span]) for rank, span in parts], width, gap)


def link_words(view: View) -> Span:
    """The link and its age: "● live 0.4 s", "▲ as of 21:04:17, 12 s ago, retry 3"."""
    if view.refused:
        return ("✗ no permission", "bold $bad")
    if not view.state.ready:
        again = f", retry {view.link.attempts}" if view.link.attempts else ""
        return (f"… connecting{again}", "$accent")
    if view.stale:
        return (f"▲ {view.as_of}", "bold $warn")
    return (f"link ● {figures.age(view.age_s)}", "$good")


def header_line(view: View, width: int) -> Line:
    where = view.state.api or "http"
    rights = (
        f"writes off: {view.writes_off}" if view.writes_off and view.state.ready else "operator, may write"
    )
    parts: list[tuple[int, Span]] = [
        (1, ("showcaller", "bold $accent")),
        (5, ("remote stage" if view.remote else "local stage", "$muted")),
        (3, (where if view.state.ready else "", "")),
        (4, (rights if view.state.ready else "", "$muted" if not view.writes_off else "$warn")),
        (0, link_words(view)),
    ]
    clock = figures.clock(view.wall) if view.wall else ""
    left = fit(parts, max(10, width - len(clock) - 4))
    gap = max(1, width - 2 - len(words.plain(left)) - len(clock))
    return [(" ", ""), *left, (" " * gap, ""), (clock, "$muted")]


def on_air_words(view: View, room: int) -> Span:
    """The right end of the pages' line: what is on air and how many watch, in so many cells."""
    streams = view.streams
    if not streams or room <= 12:
        return ("", "")
    if len(streams) == 1:
        stream = streams[0]
        look = words.stream(stream.state)
        on_air = figures.lasting(view.now - stream.since)
        watching = figures.plural(stream.viewers, "viewer")
        parts = [(1, f"{look.glyph} {stream.channel} {look.word}"), (2, on_air), (0, watching)]
        line = fit([(rank, (text, "")) for rank, text in parts], room, 2)
        return (figures.clip(words.plain(line), room), f"bold {look.style}")
    live = sum(stream.state == "live" for stream in streams)
    text = f"● {live} of {len(streams)} on air  {figures.plural(view.state.viewers, 'viewer')}"
    return (figures.clip(text, room), "bold $air")


@dataclass(frozen=True, slots=True)
class Spot:
    """Spans that do an action when they are clicked."""

    action: str
    line: Line


class Bar(Widget):
    """One line of spans and spots; drawn again only when it says something else."""

    DEFAULT_CSS = "Bar { height: 1; width: 100%; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts: list[Span | Spot] = []
        self._zones: list[tuple[int, int, str]] = []  # from cell, to cell, action

    def draw(self, parts: Sequence[Span | Spot]) -> None:
        if list(parts) == self._parts:
            return
        self._parts, self._zones, place = list(parts), [], 0
        for part in self._parts:
            length = cell_len(words.plain(part.line) if isinstance(part, Spot) else part[0])
            if isinstance(part, Spot):
                self._zones.append((place, place + length, part.action))
            place += length
        self.refresh()

    def render(self) -> Content:
        line: Line = []
        for part in self._parts:
            line += part.line if isinstance(part, Spot) else [part]
        return content(line)

    def on_click(self, event: events.Click) -> None:
        for start, end, action in self._zones:
            if start <= event.x < end:
                event.stop()
                self.post_message(Act(action))


class Header(Bar):
    def show(self, view: View) -> None:
        self.draw(header_line(view, self.size.width or 80))


class Tabs(Bar):
    """The pages and their number keys; where a terminal is too small it says so instead."""

    def __init__(self, page: str) -> None:
        super().__init__(id="tabs")
        self._page = page

    def show(self, view: View) -> None:
        columns, rows = self.app.size
        if columns < LEAST_COLUMNS or rows < LEAST_ROWS:
            text = f" ▲ {columns}x{rows} is small: {FULL_SIZE} shows all"
            self.draw([(figures.clip(text, columns), "bold $warn")])
            return
        parts: list[Span | Spot] = [(" ", "")]
        length = 1
        for number, page in enumerate(actions.PAGES, 1):
            here = page == self._page or (page == "fleet" and self._page == "node")
            text = f" {number} {TITLES[page]} "
            parts.append(Spot(page, [(text, "bold reverse" if here else "$muted")]))
            length += len(text)
        text, style = on_air_words(view, columns - length - 2)
        gap = max(0, columns - length - len(text) - 1)
        self.draw([*parts, (" " * gap, ""), (text, style)])


class KeyLine(Bar):
    """The next keys: those of the page, then the ones that are always there."""

    def __init__(self, page: str) -> None:
        super().__init__(id="keys")
        self._page = page
        self._view = View()

    def show(self, view: View) -> None:
        self._view = view
        width = self.size.width or 80
        rest = actions.footer(self._page)
        always = [actions.BY_ID[name] for name in actions.ALWAYS]
        off = bool(view.writes_off)

        def length(items: list[Action]) -> int:
            return sum(len(self._key(a)) + len(a.label) + 3 + 5 * (a.writes and off) for a in items) + 1

        while rest and length(rest + always) > width:
            rest.pop()
        parts: list[Span | Spot] = [(" ", "")]
        for action in rest + always:
            dead = action.writes and off
            word = f" {action.label}: off" if dead else f" {action.label}"
            key: Span = (self._key(action), "$muted" if dead else "bold $accent")
            parts += [Spot(action.id, [key, (word, "$muted" if dead else "")]), ("  ", "")]
        self.draw(parts)

    @staticmethod
    def _key(action: Action) -> str:
        return actions.key_name(action.keys[0])


class Entry(Input):
    """The line to enter something in: up and down go through what was entered before."""

    BINDINGS = [
        Binding("up", "older", show=False),
        Binding("down", "newer", show=False),
        Binding("escape", "leave", show=False),
        Binding("tab", "cursor_right", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(
            id="entry",
            compact=True,
            suggester=SuggestFromList(commands.suggestions()),
            select_on_focus=False,  # done in CommandBar.open, at once: later it would select what was typed
        )
        self._place = 0

    @property
    def past(self) -> list[str]:
        """What was entered before, on whichever page."""
        kept: list[str] = getattr(self.app, "entered", [])
        return kept

    def action_older(self) -> None:
        self._recall(self._place - 1)

    def action_newer(self) -> None:
        self._recall(self._place + 1)

    def _recall(self, place: int) -> None:
        if 0 <= place <= len(self.past):
            self._place = place
            self.value = self.past[place] if place < len(self.past) else ""
            self.cursor_position = len(self.value)

    def remember(self, line: str) -> None:
        if line and self.past[-1:] != [line]:
            self.past.append(line)
        self._place = len(self.past)

    async def action_leave(self) -> None:
        await self.app.run_action(("app", "act", ("back",)))

    async def action_submit(self) -> None:
        """Called, not posted: the next key belongs to what the line does."""
        assert isinstance(self.parent, CommandBar)
        await self.parent.entered(self.value.strip())


class CommandBar(Horizontal):
    """Shown while a command (`:`) or a filter (`/`) is entered, and as long as a filter hides something."""

    DEFAULT_CSS = """
    CommandBar { height: 1; display: none; background: $raised; }
    CommandBar.-open { display: block; }
    CommandBar > #prompt { width: 2; color: $accent; text-style: bold; padding-left: 1; }
    CommandBar > #entry { width: 1fr; background: $raised; }
    CommandBar > #said { width: auto; max-width: 70%; padding: 0 1; color: $warn; }
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        """`leave` puts the focus where keys go when no line is being entered."""
        super().__init__(id="command")
        self.kind = ""  # ":" or "/" while open
        self._leave = leave

    def compose(self) -> ComposeResult:
        yield Static("", id="prompt")
        yield Entry()
        yield Static("", id="said", markup=False)

    @property
    def entry(self) -> Entry:
        return self.query_one(Entry)

    def open(self, kind: str, value: str = "") -> None:
        self.kind = kind
        self.query_one("#prompt", Static).update(Content(kind))
        self.say("")
        self.add_class("-open")
        with self.prevent(Input.Changed):
            self.entry.value = value
        self.entry.action_select_all()
        self.entry.remember("")
        self.entry.placeholder = "a command, e.g. drain edge-2" if kind == ":" else "show only what holds ..."
        self.entry.suggester = SuggestFromList(commands.suggestions()) if kind == ":" else None
        self.screen.set_focus(self.entry)  # at once: the next key belongs to it

    def close(self) -> None:
        self.kind = ""
        self.remove_class("-open")
        if self.screen.focused is self.entry:  # its own has_focus follows later
            self.screen.set_focus(None)

    def say(self, text: str) -> None:
        self.query_one("#said", Static).update(Content(text))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.say("")
        if self.kind == "/":
            self.post_message(FilterChanged(event.value))

    async def entered(self, line: str) -> None:
        self.entry.remember(line)
        if self.kind == "/":
            self.post_message(FilterChanged(self.entry.value))  # what was typed last is not heard of yet
            self.close()
            self._leave()
        else:
            await self.app.run_action(("app", "enter_command", (line,)))


class Panel(Static):
    """A titled box of lines; drawn again only when they differ."""

    DEFAULT_CSS = """
    Panel { height: auto; border: round $line; border-title-color: $foreground; padding: 0 1;
            border-title-style: bold; border-subtitle-color: $muted; }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self.border_title = title
        self._lines: list[Line] | None = None

    @property
    def lines(self) -> list[Line]:
        return self._lines or []

    def show(self, lines: list[Line]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.update(Content("\n").join([content(line) for line in lines]))

    def title(self, text: str) -> None:
        if str(self.border_title) != text:
            self.border_title = text

    def on_resize(self) -> None:
        self.post_message(Remeasured())

    @property
    def room(self) -> int:
        """Cells across inside the border."""
        return max(10, self.content_size.width or self.size.width - 4)


def entry_lines(entries: Sequence[JournalEntry], width: int, rows: int) -> list[Line]:
    """Journal entries, one a line, as many as there are rows. Where there are more rows than entries the
    newest of them that are too long for a line are told whole."""
    lines: list[Line] = []
    shown = entries[:rows]
    spare = rows - len(shown)
    for entry in shown:
        head = f"{figures.clock(entry.at)}  {figures.clip(entry.actor, 14):<14} "
        room = max(8, width - len(head))
        whole = words.wrap([(entry.message, "")], room)
        if len(whole) - 1 > spare:
            whole = [[(figures.clip(entry.message, room), "")]]
        spare -= len(whole) - 1
        lines.append([(head, "$muted"), *whole[0]])
        lines += [[(" " * len(head), ""), *more] for more in whole[1:]]
    return lines or [[("Nothing is written about it yet.", "$muted")]]
