"""The console: brings the stage up or finds it, follows its live feed, and shows it on its pages.

Work that waits runs in exclusive async workers; they touch no widget and end in messages. What is drawn is a
View of the state, given to the page that is seen at most every `DRAW_S`. Nothing here ends a broadcast: the
stage is a set of other processes, and goes on when the console does not.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import events, work
from textual.binding import Binding
from textual.driver import Driver
from textual.filter import ANSIToTruecolor, LineFilter
from textual.screen import Screen
from textual.theme import Theme
from textual.widget import AwaitMount
from textual.widgets import Input
from textual.worker import Worker, WorkerState

from console import commands
from console.actions import ACTIONS, BY_ID, PAGES, is_character
from console.core.client import Client
from console.core.effects import as_left
from console.core.errors import ConsoleError
from console.core.live import Link, LinkState
from console.core.model import State
from console.core.stage import HeldByBudget, Report, keep_supervised, up
from console.core.target import ConsoleOptions, Target, find_target
from console.glyphs import Ascii, NoColour, ascii_wanted
from console.handlers.broadcasts import BroadcastHandlers
from console.handlers.drills import DrillHandlers
from console.handlers.events import EventHandlers
from console.handlers.fleet import FleetHandlers
from console.handlers.looking import LookingHandlers
from console.handlers.own import OwnHandlers
from console.handlers.policies import PolicyHandlers
from console.messages import (
    Act,
    EventsArrived,
    FeedArrived,
    FeedRefused,
    InsideArrived,
    LinkChanged,
    Said,
    StageFailed,
    StageReady,
    StageStep,
)
from console.screens.broadcast.screen import BroadcastScreen
from console.screens.broadcast.widgets import why_ended
from console.screens.events.screen import EventsScreen
from console.screens.fleet.screen import FleetScreen
from console.screens.inside.screen import InsideScreen
from console.screens.journal.screen import JournalScreen
from console.screens.overview.screen import OverviewScreen
from console.screens.shared.health import Marks
from console.screens.shared.page import Page
from console.screens.shared.view import Pending, View
from console.screens.start.screen import StartScreen
from controlplane.wire.api import LiveMessage
from themes import MONOCHROME, PALETTES, Palette

DRAW_S = 0.2  # what arrives is on screen that soon, and no more often
TICK_S = 0.5  # for what only the clock changes: ages, and a feed that says nothing
INSIDE_S = 1.0
NEWS_S = 120.0  # what happened longer ago than this is for the journal alone
JUST_UP_S = 60.0  # a stage younger than this has just come up
REFUSED_RETRY_S = 3.0

log = logging.getLogger(__name__)

Opener = Callable[[ConsoleOptions, Report], Awaitable[Target]]


async def open_stage(options: ConsoleOptions, report: Report) -> Target:
    """The stream manager to speak to: the one named, or the embedded stage, brought up if need be."""
    if options.api:
        report(f"calling the stream manager at {options.api}")
    else:
        report("looking for the stage on this machine")
        try:
            await up(options.stage, report=report)
        except HeldByBudget as error:  # its manager runs, and here is where something can be done about it
            report(f"{error} Opening its live feed")
        else:
            report("the stage is up: opening its live feed")
    return await asyncio.to_thread(find_target, options)


def theme_of(palette: Palette) -> Theme:
    """A palette in Textual's words; the palette's own names can be used in styles too ("$muted")."""
    return Theme(
        name=palette.name,
        dark=palette.dark,
        primary=palette.accent,
        secondary=palette.second,
        accent=palette.accent,
        foreground=palette.text,
        background=palette.background,
        surface=palette.surface,
        panel=palette.raised,
        success=palette.good,
        warning=palette.warn,
        error=palette.bad,
        variables=_variables(palette),
    )


def _variables(palette: Palette) -> dict[str, str]:
    own = {
        name: value
        for name, value in palette.colours().items()
        if name not in ("text", "background", "surface")
    }
    return {
        **own,
        "accent-line": palette.accent,
        "border": palette.accent,
        "border-blurred": palette.line,
        "scrollbar": palette.line,
        "scrollbar-hover": palette.accent,
        "scrollbar-active": palette.accent,
        "scrollbar-background": palette.background,
        "scrollbar-background-hover": palette.background,
        "scrollbar-background-active": palette.background,
        "input-cursor-background": palette.text,
        "input-cursor-foreground": palette.background,
        "input-selection-background": palette.cursor,
        "block-cursor-background": palette.cursor,
        "block-cursor-foreground": palette.text,
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": palette.raised,
        "block-cursor-blurred-foreground": palette.text,
        "block-hover-background": palette.raised,
    }


class ConsoleApp(
    LookingHandlers,
    FleetHandlers,
    PolicyHandlers,
    DrillHandlers,
    EventHandlers,
    BroadcastHandlers,
    OwnHandlers,
    inherit_bindings=False,
):
    TITLE = "showcaller"
    CSS_PATH = "console.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "overview": OverviewScreen,
        "fleet": FleetScreen,
        "broadcast": BroadcastScreen,
        "journal": JournalScreen,
        "events": EventsScreen,
    }
    COMMANDS = {commands.Everything}
    COMMAND_PALETTE_BINDING = "ctrl+p"
    # Characters act before the next key is looked at (priority): somebody who types `:drain` fast must not
    # press the keys d, r, a, i, n. While a line is being entered they are letters (see check_action).
    BINDINGS = [
        Binding(key, f"hot('{action.id}')", priority=True)
        if is_character(key)
        else Binding(key, f"act('{action.id}')")
        for action in ACTIONS
        for key in action.keys
        if key != "ctrl+p"
    ]

    def __init__(
        self,
        options: ConsoleOptions,
        *,
        opener: Opener = open_stage,
        ascii_only: bool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ascii_only = ascii_wanted() if ascii_only is None else ascii_only
        super().__init__()
        self.options = options
        self.client: Client | None = None
        self.pending: dict[str, Pending] = {}
        self.entered: list[str] = []  # lines after `:` and `/`, the newest last
        self.last_words = commands.PublishWords()
        self.started: dict[str, commands.PublishWords] = {}
        self._to_say = []
        self._opener, self._clock = opener, clock
        self._target: Target | None = None
        self._state = State()
        self._marks = Marks()
        self._link = Link(LinkState.CONNECTING)
        self._heard_at: float | None = None  # when the newest message came
        self._refused = ""
        self._spoke_to = ""  # the manager whose feed is followed
        self._drawn_at = 0.0
        self._draw_due = False
        self._inside_at = self._events_at = 0.0
        self._drawing = False
        for palette in (*PALETTES, MONOCHROME):
            self.register_theme(theme_of(palette))
        self.theme = MONOCHROME.name if self.no_color else self._palette()

    @property
    def _palette_file(self) -> Path:
        return self.options.stage.home.config / "palette"

    def _palette(self) -> str:
        """The palette chosen last time, here; the first of all when there was none."""
        try:
            name = self._palette_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            name = ""
        return name if name in {palette.name for palette in PALETTES} else PALETTES[0].name

    def remember_palette(self, name: str) -> None:
        try:
            self._palette_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._palette_file.write_text(name + "\n")
        except OSError as error:
            log.warning("the palette is not kept for next time: %s", error)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return _variables(PALETTES[0])

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual shows NO_COLOR as greys and knows no ASCII: these two are ours."""
        filters: list[LineFilter] = [f for f in super().get_line_filters() if isinstance(f, ANSIToTruecolor)]
        if self.no_color:
            filters.append(NoColour())
        if self.ascii_only:
            filters.append(Ascii())
        return filters

    def get_driver_class(self) -> type[Driver]:
        if sys.platform == "win32":
            return super().get_driver_class()
        from console.terminal import TerminalDriver

        return TerminalDriver

    # --- from the start to the feed

    def on_mount(self) -> None:
        if sys.platform != "win32" and not self.is_headless:
            from console.terminal import leave_on_signals

            leave_on_signals(self.exit)  # leaves the terminal as it was found
        heading = "Showcaller: a remote stage" if self.options.api else "Showcaller: bringing the stage up"
        self.push_screen(StartScreen(heading, "connect"))
        # In the app's own turn: a timer calls whenever its time has come, also while all is taken down.
        self.set_interval(TICK_S, partial(self.call_later, self._tick))
        self.action_connect()

    def action_connect(self) -> None:
        self._connect_stage()

    @work(exclusive=True, group="stage", exit_on_error=False)
    async def _connect_stage(self) -> None:
        try:
            self.post_message(StageReady(await self._opener(self.options, self.report_step)))
        except ConsoleError as error:
            log.warning("the stage did not come up: %s", error)
            self.post_message(StageFailed(error))

    def on_stage_step(self, message: StageStep) -> None:
        if isinstance(self.screen, StartScreen):
            self.screen.step(message.line)

    def on_stage_failed(self, message: StageFailed) -> None:
        if isinstance(self.screen, StartScreen):
            self.screen.fail(message.error)

    async def on_stage_ready(self, message: StageReady) -> None:
        await self._aim(message.target)
        if not self.options.api:
            self._keep_supervised()
        if self.current_mode not in self.MODES:
            await self.switch_mode("overview")

    @work(exclusive=True, group="supervision", exit_on_error=False)
    async def _keep_supervised(self) -> None:
        """While this console is open, a supervisor that dies is followed by one that adopts the stage."""
        await keep_supervised(self.options.stage.home, report=log.info)

    async def _aim(self, target: Target) -> None:
        """Speak to this manager from now on."""
        old, self.client = self.client, target.client()
        self._target, self._refused, self._spoke_to = target, "", ""
        if old is not None:
            await old.aclose()
        self._follow(target)

    @work(exclusive=True, group="feed", exit_on_error=False)
    async def _follow(self, target: Target) -> None:
        try:
            async with target.live() as source:
                async for item in source:
                    self.post_message(
                        FeedArrived(item) if isinstance(item, LiveMessage) else LinkChanged(item)
                    )
        except ConsoleError as error:
            self.post_message(FeedRefused(error))

    def on_feed_arrived(self, message: FeedArrived) -> None:
        first = not self._state.ready
        self._state = self._state.apply(message.item)
        if first:
            self._say_as_left()
        for channel in [c for c, p in self.pending.items() if p.error and c in self._state.streams]:
            del self.pending[channel]  # it is on air after all, from elsewhere
        self._heard_at = self._clock()
        self._marks = self._marks.follow(self._state.streams.values(), self._state.at)
        for entry in self._state.news:  # also of a snapshot that is not the first: it happened meanwhile
            late = self._state.at - entry.at > NEWS_S
            if entry.kind == "stream.ended" and entry.actor == "publisher" and not late:  # by itself
                self.say(f"{entry.subject} ended: {why_ended(entry)}")
        wait = self._drawn_at + DRAW_S - time.monotonic()
        if wait <= 0:
            self._draw()
        elif not self._draw_due:
            self._draw_due = True
            self.set_timer(wait, self._draw)

    def _say_as_left(self) -> None:
        """At the first word of a stage that has just come up: the number of nodes is one of before."""
        state = self._state
        if state.at - state.started_at < JUST_UP_S:
            oldest = state.journal[0].at if state.journal else None
            said = as_left(state.groups.values(), oldest, state.started_at)
            if said:
                self.say(f"{said}: drain what is too many (2 fleet, d)")

    def on_link_changed(self, message: LinkChanged) -> None:
        before, self._link = self._link, message.link
        if message.link.state is LinkState.UP:
            self._speaks_to(message.link.api, before.error)
        self._draw()
        if message.link.state is LinkState.DOWN and message.link.attempts % 3 == 2 and not self.options.api:
            self._find_again()

    def _speaks_to(self, api: str, why: str) -> None:
        """Calls go where the feed comes from; that it is another manager than before is said."""
        before, self._spoke_to = self._spoke_to, api
        if not api or before in ("", api) or self.client is None:
            return
        self.client.prefer(api)
        log.info("another stream manager is followed: %s, after %s: %s", api, before, why)
        because = f" ({why})" if why else ""
        self.say(f"{before} does not answer{because}", "warning", f"Now speaking to {api}")

    def on_feed_refused(self, message: FeedRefused) -> None:
        log.warning("the live feed is refused: %s", message.error)
        self._refused = str(message.error)
        self._draw()
        if not self.options.api:
            self.set_timer(REFUSED_RETRY_S, self._find_again)

    @work(exclusive=True, group="find", exit_on_error=False)
    async def _find_again(self) -> None:
        """The stage of this home may have been ended and brought up again at another address."""
        try:
            target = await asyncio.to_thread(find_target, self.options)
        except ConsoleError:
            return
        if target != self._target or self._refused:
            self.post_message(StageReady(target))

    # --- drawing

    def look(self) -> View:
        now = self._clock()
        return View(
            state=self._state,
            link=self._link,
            age_s=None if self._heard_at is None else max(0.0, now - self._heard_at),
            wall=now,
            remote=bool(self.options.api),
            refused=self._refused,
            pending=dict(self.pending),
            marks=self._marks,
            started=frozenset(self.started),
        )

    def _handle_exception(self, error: Exception) -> None:
        """A mistake ends the console: Textual shows it, and the log keeps it with its traceback."""
        log.critical("the console ends by a mistake of its own", exc_info=error)
        super()._handle_exception(error)

    def reset_counters(self, channel: str) -> None:
        stream = self._state.streams.get(channel)
        if stream is not None:
            self._marks = self._marks.reset(stream, self.look().now)

    def _tick(self) -> None:
        if getattr(self._driver, "gone", False):  # and nobody has told us
            signal.raise_signal(signal.SIGHUP)
            return
        self.say_what_waits()
        page = self.page
        if (
            isinstance(page, InsideScreen)
            and time.monotonic() - self._inside_at >= INSIDE_S
            and self.client is not None
        ):
            self._inside_at = time.monotonic()
            self._look_inside(page.node)
        if isinstance(page, EventsScreen) and time.monotonic() - self._events_at >= INSIDE_S:
            self._events_at = time.monotonic()
            self.look_at_events()
        if time.monotonic() - self._drawn_at >= TICK_S * 0.8:
            self._draw()

    def _draw(self) -> None:
        self._draw_due = False
        page = self.page
        if page is not None:
            self._drawn_at = time.monotonic()
            page.show(self.look())

    @work(exclusive=True, group="inside", exit_on_error=False)
    async def _look_inside(self, node: str) -> None:
        client = self.client
        if client is None:
            return
        try:
            self.post_message(InsideArrived(node, await client.node(node)))
        except ConsoleError as error:
            self.post_message(InsideArrived(node, None, error))

    def on_inside_arrived(self, message: InsideArrived) -> None:
        page = self.page
        if isinstance(page, InsideScreen) and page.node == message.node:
            page.arrived(message.inside, message.error)

    @work(exclusive=True, group="events", exit_on_error=False)
    async def look_at_events(self) -> None:
        client = self.client
        if client is None:
            return
        try:
            self.post_message(EventsArrived(await client.events()))
        except ConsoleError as error:
            self.post_message(EventsArrived(None, error))

    def on_events_arrived(self, message: EventsArrived) -> None:
        page = self.page
        if isinstance(page, EventsScreen):
            page.arrived(message.events, message.error)

    def on_said(self, message: Said) -> None:
        self.say(message.words, message.severity, message.title)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker that died of anything but a ConsoleError is a bug: say it and log it."""
        error = event.worker.error
        if event.state is not WorkerState.ERROR or error is None:
            return
        log.error("worker %s failed", event.worker.name, exc_info=error)
        bug = ConsoleError(
            f"a mistake in the console itself: {type(error).__name__}: {error}",
            f"The stage is not touched by it; please report it with {self.options.stage.home.log('console')}",
        )
        if isinstance(self.screen, StartScreen):
            self.screen.fail(bug)
        else:
            self.say(str(bug), "error")

    # --- what a person asks for

    async def on_event(self, event: events.Event) -> None:
        """Keys and pasted text one after the other, each done before the next is looked at.

        Textual puts a key into the queue of the widget that has the focus. A letter is written from there,
        but a key with a binding first travels up through the queues of all that it stands in, and meanwhile
        the letters typed after it are written, where the focus was before. So `Tab` `m` `a` wrote into the
        field that was to be left, and `BackSpace` `1` took away the 1. Here the binding of the focused
        widget, or of what it stands in, runs at once, and letters are written at once.
        """
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            await self._until_ready()
            await self._in_turn(event)
        else:
            await super().on_event(event)

    async def _until_ready(self) -> None:
        """Wait until the screen on top is there, its focus too: the next key is meant for it."""
        screen = self.screen
        if not screen.is_mounted:
            await AwaitMount(screen, [screen])
        wanted = self.AUTO_FOCUS if screen.AUTO_FOCUS is None else screen.AUTO_FOCUS
        if wanted and screen.focused is None:  # Textual does this too, later
            widget = next((widget for widget in screen.query(wanted) if widget.focusable), None)
            if isinstance(widget, Input):
                widget.select_on_focus = False  # it comes later too, and would select what was typed by then
            screen.set_focus(widget)

    async def _in_turn(self, event: events.Key | events.Paste) -> None:
        if isinstance(event, events.Key) and await self._check_bindings(event.key, priority=True):
            return
        field = self.focused
        if isinstance(field, Input) and (isinstance(event, events.Paste) or event.is_printable):
            await field.on_event(event)
        elif isinstance(event, events.Key):
            await self._check_bindings(event.key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the registry work on the pages it names, and never under a dialog."""
        if action == "hot" and isinstance(self.focused, Input):
            return False
        if action in ("act", "hot"):
            known = BY_ID.get(str(parameters[0])) if parameters else None
            if known is None:
                return False
            return isinstance(self.screen, Page) and self.screen.NAME in known.pages
        return True

    async def action_act(self, name: str, argument: str = "") -> None:
        await self.do(name, argument)

    async def action_hot(self, name: str) -> None:
        await self.do(name)

    async def on_act(self, message: Act) -> None:
        await self.do(message.action, message.argument)

    async def do(self, name: str, argument: str = "") -> None:
        """Do an action of the registry, or say why not now."""
        action = BY_ID[name]
        off = self.look().writes_off
        if action.writes and off:
            self.say(f"Not now: {off}. Nothing was changed", "warning", action.title)
            return
        page = self.page
        if page is not None and page.NAME not in action.pages:  # named in the palette or the command line
            await self.go(next(name for name in PAGES if name in action.pages))
        getattr(self, f"do_{name}")(argument)
        self._draw()

    async def action_enter_command(self, line: str) -> None:
        """Do what a line after `:` says."""
        page = self.page
        if page is None:
            return
        try:
            wanted = commands.parse(line)
        except commands.CommandError as error:
            page.bar.say(str(error))
            return
        page.bar.close()
        page.focus_body()
        await self.do(wanted.action.id, wanted.argument)

    async def on_unmount(self) -> None:
        if self.client is not None:
            await self.client.aclose()


def start_log(options: ConsoleOptions) -> None:
    """The console's own log: a file, for the screen belongs to the pages. Without a place for it: none."""
    root = logging.getLogger("console")
    root.propagate = False
    try:
        options.stage.home.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler: logging.Handler = logging.FileHandler(options.stage.home.log("console"), encoding="utf-8")
    except OSError:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def run(options: ConsoleOptions) -> int:
    """The console until it is left; its exit code."""
    start_log(options)
    log.info("console started")
    app = ConsoleApp(options)
    try:
        app.run()
    except Exception:
        log.critical("the console ends by a mistake of its own", exc_info=True)
        raise
    log.info("console left with %s", app.return_code)
    return app.return_code or 0
