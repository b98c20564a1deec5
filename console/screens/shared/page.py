"""A page: the frame and a body. The app gives it a View several times a second; it never asks for one."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.screen import Screen

from console.messages import FilterChanged, Redraw, Remeasured
from console.screens.shared.frame import CommandBar, Header, KeyLine, Tabs
from console.screens.shared.view import View


class Page(Screen[None]):
    NAME = ""
    HORIZONTAL_BREAKPOINTS = [
        (0, "-tiny"),
        (60, "-small"),
        (80, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (24, "-low"), (30, "-tall"), (44, "-high")]
    BINDINGS = [
        Binding("up", "scroll_body('up')", show=False),
        Binding("down", "scroll_body('down')", show=False),
        Binding("pageup", "scroll_body('page_up')", show=False),
        Binding("pagedown", "scroll_body('page_down')", show=False),
        Binding("home", "scroll_body('home')", show=False),
        Binding("end", "scroll_body('end')", show=False),
    ]
    AUTO_FOCUS = ""

    DEFAULT_CSS = """
    Page { background: $background; color: $foreground; layout: vertical; }
    Page > Header, Page > #keys { background: $raised; }
    Page > #body { height: 1fr; layout: vertical; overflow: hidden; }
    Page > #body { scrollbar-size-vertical: 1; }
    Page.-flat > #body, Page.-short > #body,
    Page.-tiny > #body, Page.-small > #body { overflow: hidden auto; }
    Page.-stale > #body { opacity: 60%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.filter_text = ""

    def compose(self) -> ComposeResult:
        yield Header(id="header")
        yield Tabs(self.NAME)
        with Container(id="body"):
            yield from self.body()
        yield CommandBar(self.focus_body)
        yield KeyLine(self.NAME)

    def body(self) -> ComposeResult:
        yield from ()

    # --- what the app calls

    def show(self, view: View) -> None:
        """Draw this view, soon. May be called at any time: before there is anything to draw on, and after.

        It is drawn when this page looks at its own messages, for then its parts are sure to be there: it does
        so from the moment it is composed until before the first part is taken down. That it is mounted says
        less: it still is while its parts go.
        """
        self.view = view
        self.post_message(Redraw())

    def on_redraw(self, message: Redraw) -> None:
        """Cheap when little differs."""
        message.stop()
        if self._goes:
            return
        view = self.view
        self.set_class(view.stale, "-stale")
        self.query_one(Header).show(view)
        self.query_one(Tabs).show(view)
        self.query_one(KeyLine).show(view)
        self.show_body(view)

    def show_body(self, view: View) -> None:
        raise NotImplementedError

    def chosen_node(self) -> str | None:
        """The node an action is about, when none is named."""
        return None

    def chosen_channel(self) -> str | None:
        """The broadcast an action is about, when none is named: the only one."""
        channels = list(self.view.state.streams)
        return channels[0] if len(channels) == 1 else None

    @property
    def bar(self) -> CommandBar:
        return self.query_one(CommandBar)

    def step_back(self) -> bool:
        """Close what is open, one thing at a time. False when there is nothing to close here."""
        if self.bar.kind == "/" or (not self.bar.kind and self.filter_text):
            self.bar.close()
            self.set_filter("")
            self.focus_body()
            return True
        if self.bar.kind:
            self.bar.close()
            self.focus_body()
            return True
        return False

    def focus_body(self) -> None:
        """Where keys go when no line is being entered. At once: the next key belongs there."""

    def action_scroll_body(self, where: str) -> None:
        """In a terminal that is too small for all of a page, the rest is a few keys away."""
        getattr(self.query_one("#body"), f"scroll_{where}")(animate=False)

    async def action_open_row(self, key: str) -> None:
        """Enter or a second click on a row of the page's table."""

    # --- events

    @property
    def _goes(self) -> bool:
        """It is taken down, or the console ends. When it was not whole by then, it is given no more parts."""
        return self._pruning or not self.app.is_running

    def on_mount(self) -> None:
        if not self._goes:
            self.show(self.view)
            self.focus_body()

    def on_screen_resume(self) -> None:
        self.show(self.view)

    def on_resize(self) -> None:
        self.post_message(Remeasured())

    def on_remeasured(self, message: Remeasured) -> None:
        message.stop()
        self.show(self.view)

    def on_filter_changed(self, message: FilterChanged) -> None:
        message.stop()
        self.set_filter(message.text)

    def set_filter(self, text: str) -> None:
        self.filter_text = text
        self.show(self.view)
