"""A table that is cheap to keep up to date: rows by key, fixed widths, one line drawn at a time.

Textual's DataTable draws everything again when one cell changes; here a row is compared with what it was and
only the lines that differ are drawn. The chosen row is remembered by its key, so it stays chosen while rows
come, go and change places. Columns that do not fit are left out, the least important first; one column takes
the space that is left.

A table is always in one of its states, each with its own words in place of rows: loading, empty (with the
reason and the next key), all hidden by the filter, error (with what happens next), no permission; and stale,
where the rows stay, dimmed, and the border says of when they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style as RichStyle
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.messages import Remeasured
from console.screens.shared.figures import clip
from console.screens.shared.ink import Ink
from console.screens.shared.words import Line, plain, wrap


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    title: str
    width: int  # cells; of the growing column, the least
    right: bool = False  # numbers line up on the right
    rank: int = 0  # columns of the highest rank are left out first
    grows: bool = False
    most: int = 0  # cells, where there is room for all that would be longer


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    cells: dict[str, Line]


class Table(ScrollView, can_focus=True):
    """Rows of cells with a cursor. Enter or a second click opens a row."""

    BINDINGS = [
        Binding("up,k", "cursor(-1)", "Up", show=False),
        Binding("down,j", "cursor(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
    ]
    COMPONENT_CLASSES = {"table--header", "table--cursor", "table--cursor-blurred", "table--words"}
    DEFAULT_CSS = """
    Table { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    Table > .table--header { color: $muted; text-style: bold; }
    Table > .table--cursor { background: $cursor; text-style: bold; }
    Table > .table--cursor-blurred { text-style: bold; }
    Table > .table--words { color: $muted; }
    """

    cursor: reactive[int] = reactive(0, repaint=False)

    class Chosen(Message):
        """Another row is under the cursor. A newer one makes an older one pointless."""

        def __init__(self, table: "Table", key: str | None, by_hand: bool) -> None:
            super().__init__()
            self.table, self.key, self.by_hand = table, key, by_hand

        @property
        def control(self) -> "Table":
            return self.table

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Table.Chosen)

    def __init__(self, columns: Sequence[Column], *, id: str | None = None, cursor: bool = True) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._shown: list[tuple[Column, int]] = []
        self._rows: list[Row] = []
        self._said: list[Line] = [[("Loading…", "$muted")]]
        self._words: list[Line] = self._said  # the same, broken into lines that fit
        self._has_cursor = cursor
        self.can_focus = cursor

    # --- what it is told

    def show_rows(self, rows: Sequence[Row]) -> None:
        """These rows, in this order. Draws only what differs."""
        before, chosen = self._rows, self.chosen
        self._rows, self._words, self._said = list(rows), [], []
        keys = [row.key for row in rows]
        if chosen in keys:
            self.cursor = keys.index(chosen)
        else:
            self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if len(before) != len(rows):
            self.virtual_size = Size(self.across, len(rows) + 1)
            self._fit()
        else:
            for index, (old, new) in enumerate(zip(before, rows, strict=True)):
                if old != new:
                    self._refresh_row(index)
        if self.chosen != chosen:
            self.post_message(self.Chosen(self, self.chosen, by_hand=False))

    def show_words(self, *lines: Line) -> None:
        """No rows: these words in their place."""
        if self._said == list(lines) and not self._rows:
            return
        self._said = list(lines)
        had = self.chosen
        self._rows = []
        self._wrap()
        self.virtual_size = Size(self.across, len(self._words) + 1)
        self.refresh()
        if had is not None:
            self.post_message(self.Chosen(self, None, by_hand=False))

    @property
    def chosen(self) -> str | None:
        """Key of the row under the cursor."""
        return self._rows[self.cursor].key if 0 <= self.cursor < len(self._rows) else None

    def choose(self, key: str) -> None:
        for index, row in enumerate(self._rows):
            if row.key == key:
                self._move(index)

    def to_end(self) -> None:
        """Choose the last row, as somebody who follows does."""
        self._move(len(self._rows) - 1, by_hand=False)

    def lines(self) -> list[str]:
        """What is drawn, as text: for tests."""
        return [plain(self._cells(row)) for row in self._rows]

    # --- keys and mouse

    def action_cursor(self, step: int) -> None:
        self._move(self.cursor + step)

    def action_page(self, step: int) -> None:
        self._move(self.cursor + step * max(1, self.size.height - 2))

    def action_edge(self, step: int) -> None:
        self._move(0 if step < 0 else len(self._rows) - 1)

    async def action_open(self) -> None:
        """Called, not posted: the next key is meant for what is opened."""
        if self.chosen is not None:
            await self.app.run_action(("screen", "open_row", (self.chosen,)), self)

    async def on_click(self, event: events.Click) -> None:
        index = event.y - 1 + (self.scroll_offset.y if event.y > 0 else 0)
        if event.y == 0 or not 0 <= index < len(self._rows):
            return
        again = index == self.cursor
        self._move(index)
        if again and event.chain > 1:
            await self.action_open()

    def _move(self, index: int, by_hand: bool = True) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if index == self.cursor or not self._rows:
            return
        before, self.cursor = self.cursor, index
        self._refresh_row(before)
        self._refresh_row(index)
        self.scroll_to_region(Region(0, index, 1, 2), animate=False, force=True)
        if by_hand:
            self.post_message(self.Chosen(self, self.chosen, by_hand=True))

    # --- drawing

    def on_resize(self) -> None:
        self._fit()
        self.post_message(Remeasured())

    def on_focus(self) -> None:
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        self._refresh_row(self.cursor)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def _fit(self) -> None:
        """Which columns fit, and how wide each is."""
        room = self.across - (2 if self._has_cursor else 0)
        columns = list(self._columns)
        while len(columns) > 1 and sum(c.width + 2 for c in columns) - 2 > room:
            columns.remove(max(reversed(columns), key=lambda c: c.rank))
        spare = max(0, room - (sum(c.width + 2 for c in columns) - 2))
        longer = {c.key: max(0, c.most - c.width) for c in columns}
        if sum(longer.values()) > spare:
            longer = dict.fromkeys(longer, 0)
        spare -= sum(longer.values())
        growing = [c for c in columns if c.grows]
        share = spare // len(growing) if growing else 0
        self._wrap()
        self._shown = [(c, c.width + longer[c.key] + (share if c.grows else 0)) for c in columns]
        if len(columns) == 1:  # the most important one takes what there is, also where that is too little
            self._shown = [(columns[0], max(1, room))]
        self.virtual_size = Size(self.across, max(len(self._rows), len(self._words)) + 1)
        self.refresh()

    def _wrap(self) -> None:
        width = max(10, self.across - 3)
        self._words = [part for line in self._said for part in wrap(line, width)]

    @property
    def across(self) -> int:
        """Cells a line has: the scrollbar, when there is one, takes one away."""
        return self.scrollable_content_region.width

    def width_of(self, key: str) -> int:
        """The present width of a column, 0 when it is left out: for bars that fill their cell."""
        return next((width for column, width in self._shown if column.key == key), 0)

    def _refresh_row(self, index: int) -> None:
        y = index + 1 - self.scroll_offset.y
        if 0 < y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _cells(self, row: Row) -> Line:
        return self._line([(column, width, row.cells.get(column.key, [])) for column, width in self._shown])

    @staticmethod
    def _line(cells: list[tuple[Column, int, Line]]) -> Line:
        line: Line = []
        for number, (column, width, cell) in enumerate(cells):
            if number:
                line.append(("  ", ""))
            used = 0
            body: Line = []
            for text, style in cell:
                cut = clip(text, width - used) if used < width else ""
                body.append((cut, style))
                used += cell_len(cut)
            fill = (" " * (width - used), "")
            line += [fill, *body] if column.right else [*body, fill]
        return line

    def render_line(self, y: int) -> Strip:
        width, base, ink = self.across, self.rich_style, Ink(self.app)
        margin: Line = [("  ", "")] if self._has_cursor else []
        if y == 0:
            header: RichStyle = self.get_component_rich_style("table--header")
            titles = self._line([(c, w, [(c.title, "")]) for c, w in self._shown])
            return ink.strip([*margin, *titles], width, base + header)
        index = y - 1 + self.scroll_offset.y
        if self._words:
            line = self._words[index] if index < len(self._words) else []
            return ink.strip([*margin, *line], width, base)
        if index >= len(self._rows):
            return Strip.blank(width, base)
        line = self._cells(self._rows[index])
        if not self._has_cursor:
            return ink.strip(line, width, base)
        if index != self.cursor:
            return ink.strip([("  ", ""), *line], width, base)
        name = "table--cursor" if self.has_focus else "table--cursor-blurred"
        return ink.strip([("▸ ", "$accent"), *line], width, base + self.get_component_rich_style(name))
