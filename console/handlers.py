"""What each action of the registry does: `do_<id>(argument)`, an argument only when one was entered.

A handler decides and asks; whatever waits for the stage runs in a worker, which ends in a message.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Container, Coroutine
from itertools import count
from typing import Any, TypeVar

from textual import work
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.message import Message
from textual.screen import ModalScreen, Screen

from console import commands
from console.core.client import Client
from console.core.drills import Rehearsal, Result
from console.core.errors import ConsoleError
from console.core.media_files import aside
from console.core.planning import EventWords, changes, request, words_of
from console.core.preflight import preflight, synthetic_viewer
from console.core.stage import PublisherSpec, down, start_publisher
from console.core.target import ConsoleOptions, Target
from console.core.units import show_state
from console.core.when import local_zone, show_span
from console.messages import (
    DrillEnded,
    DrillSeen,
    DrillStep,
    DrillWaits,
    EventRefused,
    PreflightArrived,
    PublishFailed,
    PublishStarted,
    Said,
    StageFailed,
    StageStep,
)
from console.screens.broadcast import dialogs
from console.screens.broadcast.screen import BroadcastScreen
from console.screens.events.dialogs import EventDialog
from console.screens.events.screen import EventsScreen
from console.screens.events.widgets import cancel_lines, preflight_lines, state_at
from console.screens.fleet.drain import Drain, DrainDialog
from console.screens.fleet.drill import MANAGER, DrillDialog, DrillProgress, called
from console.screens.fleet.screen import FleetScreen
from console.screens.help.screen import HelpScreen
from console.screens.inside.screen import InsideScreen
from console.screens.journal.screen import JournalScreen
from console.screens.quit.screen import QuitDialog
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Ask, Choice, Tell
from console.screens.shared.page import Page
from console.screens.shared.view import Pending, View
from console.screens.start.screen import StartScreen
from controlplane.wire.api import DrainView, StopView, TokenView
from controlplane.wire.drills import DrillKind, DrillRequest, kind_for
from controlplane.wire.events import EventState, EventView
from controlplane.wire.nodes import NodeState, Role
from themes import PALETTES

T = TypeVar("T")

LONGEST_CHANNEL = 63
DRILL_S = 60.0  # for a stage to recover


class Handlers(App[int]):
    """The part of the app that does what is asked. The rest (console.app) brings it data and draws."""

    options: ConsoleOptions
    client: Client | None = None
    pending: dict[str, Pending]
    last_words: commands.PublishWords
    started: dict[str, commands.PublishWords]  # by channel, of this console
    drilling: DrillProgress | None = None  # while a drill goes on
    _target: Target | None = None
    _to_say: list[tuple[str, str, str]]  # words, severity, title

    # --- what they stand on

    def look(self) -> View:
        raise NotImplementedError

    def remember_palette(self, name: str) -> None:
        raise NotImplementedError

    def reset_counters(self, channel: str) -> None:
        raise NotImplementedError

    @property
    def page(self) -> Page | None:
        """The page that is seen, below any dialog."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Page):
                return screen
        return None

    def say(self, words: str, severity: str = "information", title: str = "") -> None:
        """A toast. The same words again take the place of the old ones; under a dialog they wait until it is
        answered, for there they would lie over its choices."""
        self._to_say = [said for said in self._to_say if said[0] != words] + [(words, severity, title)]
        self.say_what_waits()

    def say_what_waits(self) -> None:
        if isinstance(self.screen, ModalScreen):
            return
        waiting, self._to_say = self._to_say, []
        for words, severity, title in waiting:
            for old in [toast for toast in self._notifications if toast.message == words]:
                self._unnotify(old)
            level: Any = severity
            timeout = 4 if severity == "information" else 8
            self.notify(words, severity=level, title=title, timeout=timeout, markup=False)

    def ask(self, screen: "Screen[T]", then: Callable[[T], None]) -> None:
        """Open a dialog; `then` gets its result, and is not called after Cancel."""

        def answered(result: T | None) -> None:
            if result is not None:
                then(result)

        self.push_screen(screen, answered)

    @work(group="acts", exit_on_error=False)
    async def perform(self, call: Coroutine[Any, Any, T], told: Callable[[T], str]) -> None:
        """Make a call that changes the stage, and say how it went."""
        try:
            result = await call
        except ConsoleError as error:
            self.post_message(Said(str(error), severity="error", title="Not done"))
        else:
            self.post_message(Said(told(result)))

    def _client(self) -> Client:
        assert self.client is not None  # writes are refused before there is one
        return self.client

    # --- go and look

    def go(self, page: str) -> AwaitComplete:
        """Show this page. Await it where the next step needs the page's widgets."""
        mounted = self.switch_mode(page) if self.current_mode != page else None
        while isinstance(self.screen, InsideScreen) and page == "fleet":
            self.pop_screen()
        return AwaitComplete(*([] if mounted is None else [mounted]))

    def do_overview(self, argument: str) -> None:
        self.go("overview")

    def do_fleet(self, argument: str) -> None:
        self.go("fleet")

    def do_broadcast(self, argument: str) -> None:
        self.go("broadcast")
        if argument and isinstance(self.page, BroadcastScreen):
            self.page.channel = argument

    def do_journal(self, argument: str) -> None:
        self.go("journal")
        if argument and self.page is not None:
            self.page.set_filter(argument)

    def do_inside(self, argument: str) -> None:
        node = self._node(argument)
        if node is not None:
            self.go("fleet")
            self.push_screen(InsideScreen(node))

    def do_why(self, argument: str) -> None:
        if isinstance(self.page, FleetScreen):
            self.page.toggle_why()

    def do_filter(self, argument: str) -> None:
        page = self.page
        if page is not None and argument:
            page.set_filter(argument)
        elif page is not None:
            page.bar.open("/", page.filter_text)

    def do_clear(self, argument: str) -> None:
        if self.page is not None:
            self.page.set_filter("")

    def do_follow(self, argument: str) -> None:
        if isinstance(self.page, JournalScreen):
            self.page.toggle_follow()

    def do_back(self, argument: str) -> None:
        page = self.page
        if page is None or page.step_back():
            return
        if isinstance(page, InsideScreen):
            self.pop_screen()
        elif self.current_mode != "overview":
            self.go("overview")

    # --- the fleet

    def do_add(self, argument: str) -> None:
        word = argument.strip().lower() or "edge"
        if word not in (Role.EDGE, Role.ORIGIN):
            self.say(f"{word!r} is not a role here: add edge, or add origin", "error")
            return
        role = Role(word)

        def told(made: DrainView) -> str:
            return (
                f"{made.node} asked for: it takes viewers when it is in service"
                if role is Role.EDGE
                else (f"{made.node} asked for: it takes broadcasts when it is in service")
            )

        self.perform(self._client().fleet_add(role), told)

    def do_drain(self, argument: str) -> None:
        name, _, deadline = argument.partition(" ")
        node, view = self._node(name), self.look()
        if node is None:
            return
        state = view.state.nodes[node].state
        if state == NodeState.DRAINING:
            self.say(f"{node} is draining already: u undoes it", "warning")
        elif state not in (NodeState.IN_SERVICE, NodeState.SUSPECT):
            self.say(f"{node} is {show_state(state)}: only a node in service can be drained", "warning")
        else:
            self.ask(DrainDialog(view, node, deadline.strip() or "5m"), self._drain)

    def _drain(self, wanted: Drain) -> None:
        def told(view: DrainView) -> str:
            left = figures.plural(view.viewers, "connection")
            return f"{view.node} is {show_state(view.state)}: {left} on it"

        self.perform(self._client().drain(wanted.node, wanted.deadline_s, wanted.channels), told)

    def do_undo(self, argument: str) -> None:
        node = self._node(argument)
        if node is None:
            return
        if self.look().state.nodes[node].state != NodeState.DRAINING:
            self.say(f"{node} is not draining: there is nothing to undo", "warning")
            return
        self.perform(self._client().undrain(node), lambda v: f"{v.node} is {show_state(v.state)} again")

    def do_drill(self, argument: str) -> None:
        if self.drilling is not None:
            self.say("A drill goes on: one at a time", "warning")
            return
        word = argument.strip().lower()
        if word == MANAGER:
            self._look_at_drill(DrillRequest(kind=DrillKind.KILL_MANAGER))
            return
        node = self._node(word)
        if node is not None:
            role = self.look().state.nodes[node].role
            self._look_at_drill(DrillRequest(kind=kind_for(role), node=node))

    def _rehearsal(self, request: DrillRequest) -> Rehearsal:
        assert self._target is not None  # writes are refused before there is one
        return Rehearsal(
            self._target,
            self.options.stage.home,
            request,
            timeout_s=DRILL_S,
            report=lambda milestone: self._post(DrillStep(milestone)),
            progress=lambda words, at_s: self._post(DrillWaits(words)),
        )

    def _post(self, message: Message) -> None:
        self.post_message(message)

    @work(group="drill", exit_on_error=False)
    async def _look_at_drill(self, request: DrillRequest) -> None:
        try:
            self.post_message(DrillSeen(await self._rehearsal(request).look()))
        except ConsoleError as error:
            self.post_message(Said(str(error), severity="error", title="No drill"))

    def on_drill_seen(self, message: DrillSeen) -> None:
        drill = message.drill

        def begin(request: DrillRequest) -> None:
            self.drilling = DrillProgress(f"kill {called(drill)}")
            self.push_screen(self.drilling)
            self._rehearse(request)

        self.ask(DrillDialog(drill), begin)

    @work(group="drill", exit_on_error=False)
    async def _rehearse(self, request: DrillRequest) -> None:
        ended = DrillEnded("The drill was broken off.", good=False)
        try:
            result = await self._rehearsal(request).run()
            ended = DrillEnded(outcome_words(result), good=result.recovered)
        except ConsoleError as error:
            ended = DrillEnded(str(error), good=False)
        finally:
            self.post_message(ended)

    def on_drill_step(self, message: DrillStep) -> None:
        if self.drilling is not None:
            self.drilling.step(message.milestone.at_s, message.milestone.words)

    def on_drill_waits(self, message: DrillWaits) -> None:
        if self.drilling is not None:
            self.drilling.waits(message.words)

    def on_drill_ended(self, message: DrillEnded) -> None:
        shown, self.drilling = self.drilling, None
        if shown is not None and self.screen is shown:
            shown.ended(message.words, good=message.good)
        else:
            self.say(message.words, "information" if message.good else "warning", "Drill")

    def _node(self, name: str) -> str | None:
        """The node that is meant: the one named, or the chosen one. Says so when there is none."""
        nodes = self.look().state.nodes
        node = name.strip() or (self.page.chosen_node() if self.page is not None else None)
        if not node:
            self.say("No node is chosen: choose one on the Fleet page (2), or name it", "warning")
        elif node not in nodes:
            self.say(f"There is no node {node}: the Fleet page (2) lists them", "error")
        else:
            return node
        return None

    # --- events

    def look_at_events(self) -> object:
        raise NotImplementedError

    def do_events(self, argument: str) -> None:
        self.go("events")
        self.look_at_events()

    def do_plan(self, argument: str) -> None:
        words = EventWords(title=argument.strip(), zone=local_zone() or "UTC")
        self._ask_for_event(words, None)

    def do_edit(self, argument: str) -> None:
        event = self._event(argument)
        if event is not None and self._is_due(event):
            self._ask_for_event(words_of(event), event)

    def _ask_for_event(self, words: EventWords, before: EventView | None, wrong: str = "") -> None:
        def plan(entered: EventWords) -> None:
            self._plan(entered, before)

        self.ask(EventDialog(words, before, wrong), plan)

    @work(group="acts", exit_on_error=False)
    async def _plan(self, words: EventWords, before: EventView | None) -> None:
        try:
            if before is None:
                event = await self._client().add_event(request(words))
            else:
                event = await self._client().edit_event(before.id, changes(words, words_of(before)))
        except ConsoleError as error:
            self.post_message(EventRefused(words, before, error))
            return
        when = show_span(event.starts_at, event.ends_at, event.zone, self.look().now)
        self.post_message(Said(f"{event.id} {event.title}: {when}, {event.expected:,} expected"))
        self.look_at_events()

    def on_event_refused(self, message: EventRefused) -> None:
        self._ask_for_event(message.words, message.before, str(message.error))

    def do_cancel(self, argument: str) -> None:
        event = self._event(argument)
        if event is None or not self._is_due(event):
            return

        def told(view: EventView) -> str:
            self.look_at_events()
            return f"{view.id} {view.title} is cancelled"

        def cancel(choice: str) -> None:
            self.perform(self._client().cancel_event(event.id, ""), told)

        choices = [Choice("cancel", "Keep it"), Choice("do", "Cancel the event", "danger")]
        self.ask(Ask(f"Cancel {event.id}", cancel_lines(event, self.look().now), choices), cancel)

    def do_preflight(self, argument: str) -> None:
        event = self._event(argument)
        if event is not None:
            self.say(f"Preflight of {event.id}: a viewer is on its way")
            self._preflight(event.id)

    @work(exclusive=True, group="preflight", exit_on_error=False)
    async def _preflight(self, event: str) -> None:
        try:
            self.post_message(PreflightArrived(await preflight(self._client(), event, synthetic_viewer)))
        except ConsoleError as error:
            self.post_message(Said(str(error), severity="error", title="No preflight"))

    def on_preflight_arrived(self, message: PreflightArrived) -> None:
        view = message.view
        if self.screen is not self.page or not isinstance(self.page, EventsScreen):
            # Whoever asked is busy elsewhere by now: a dialog would take the keys that are meant for that.
            word = "go" if view.go else "NO-GO"
            self.say(f"Preflight of {view.event.id}: {word}. p on the Events page (5) asks again", "warning")
            return
        title = figures.clip(f"Preflight: {view.event.id} {figures.harmless(view.event.title)}", 60)
        self.push_screen(Tell(title, preflight_lines(view)))

    def _event(self, name: str) -> EventView | None:
        """The event that is meant: the one named, or the chosen one. Says so when there is none."""
        page = self.page
        if not isinstance(page, EventsScreen):
            return None
        event = page.event(name.strip()) if name.strip() else page.chosen_event()
        if event is None:
            what = f"There is no event {name.strip()} here" if name.strip() else "No event is chosen"
            self.say(f"{what}: n plans one", "warning")
        return event

    def _is_due(self, event: EventView) -> bool:
        state = state_at(event, self.look().now)
        if state in (EventState.COMING, EventState.ON):
            return True
        word = "is over" if state is EventState.ENDED else "was cancelled"
        self.say(f"{event.id} {word}: it is not changed any more; n plans another one", "warning")
        return False

    # --- broadcasts

    def do_start(self, argument: str) -> None:
        if self.options.api:
            self.say(
                "This stage runs elsewhere: publish to it with `showcaller publish SOURCE --channel NAME`",
                "warning",
            )
            return
        on_air = frozenset({*self.look().state.streams, *(c for c, p in self.pending.items() if not p.error)})
        if argument:
            self._start_words(argument, on_air)
            return
        words = self._words_again()
        if words.channel in on_air:
            free = free_channel(words.channel, on_air)
            words = commands.PublishWords(words.source, free, words.bitrate, words.loop, words.copy)
        self.ask(dialogs.StartDialog(words, on_air), self._start)

    @work(group="start", exit_on_error=False)
    async def _start_words(self, argument: str, on_air: frozenset[str]) -> None:
        """Start what a line means; in a worker, for the disk its file is on may be slow."""
        try:
            spec = await aside(dialogs.make_spec, commands.parse_publish(argument), on_air)
        except (commands.CommandError, dialogs.FieldError) as error:
            self.say(str(error), "error", "Not started")
        else:
            self._start(spec)

    def _words_again(self) -> commands.PublishWords:
        """What to offer: the values of the broadcast that is looked at and failed, of the one that has ended
        just now, or the last ones."""
        page = self.page
        failed = self.pending.get((page.chosen_channel() if page is not None else None) or "")
        if failed is not None and failed.error:
            return dialogs.words_of(failed.spec)
        ended = self.look().last_ended()
        if ended is not None and isinstance(page, BroadcastScreen) and page.channel is None:
            return self.started.get(ended.subject, self.last_words)
        return self.last_words

    def _start(self, spec: PublisherSpec) -> None:
        self.last_words = self.started[spec.channel] = dialogs.words_of(spec)
        self.pending[spec.channel] = Pending(spec, time.time())
        self.go("broadcast")
        if isinstance(self.page, BroadcastScreen):
            self.page.channel = spec.channel
        self._publish(spec)

    @work(group="publish", exit_on_error=False)
    async def _publish(self, spec: PublisherSpec) -> None:
        try:
            await start_publisher(self.options.stage.home, self._client(), spec)
        except ConsoleError as error:
            self.post_message(PublishFailed(spec.channel, error))
        else:
            self.post_message(PublishStarted(spec.channel))

    def on_publish_started(self, message: PublishStarted) -> None:
        self.pending.pop(message.channel, None)
        self.say(f"{message.channel} is on air")

    def on_publish_failed(self, message: PublishFailed) -> None:
        known = self.pending.get(message.channel)
        if known is not None:
            self.pending[message.channel] = Pending(known.spec, known.since, str(message.error))
        self.say(str(message.error), "error", f"{message.channel} did not come on air")

    def do_stop(self, argument: str) -> None:
        channel, view = self._channel(argument), self.look()
        if channel is None:
            return
        stream = view.state.streams.get(channel)
        if stream is None:
            failed = self.pending.get(channel)
            if failed is not None and failed.error:
                self.pending.pop(channel)
            else:
                self.say(f"{channel} is not on air", "warning")
            return

        def told(ended: StopView) -> str:
            return f"{ended.channel} has ended; {figures.plural(ended.viewers, 'viewer')} were watching"

        def stop(choice: str) -> None:
            self.perform(self._client().stop_stream(channel), told)

        choices = [CANCEL, Choice("stop", "Stop", "danger")]
        self.ask(Ask(f"Stop {channel}", dialogs.stop_lines(channel, stream.viewers), choices), stop)

    def do_token(self, argument: str) -> None:
        channel = argument.strip() or (self.page.chosen_channel() if self.page is not None else None)

        def show(view: TokenView) -> str:
            self.push_screen(
                Tell("A token to publish with", dialogs.token_lines(view.whip, view.token, view.expires))
            )
            self.copy_to_clipboard(view.token)
            return "Token made, and copied where the terminal allows it"

        self.perform(self._client().create_token(channel or dialogs.DEFAULT_CHANNEL), show)

    def do_open(self, argument: str) -> None:
        address = self._watch(argument)
        if address is None:
            return
        if not has_browser():
            self.copy_to_clipboard(address)
            self.say(f"No browser here: copied {address}. Open it on a machine with one")
            return
        self.open_url(address)
        self.say(f"Opened {address}")

    def do_copy(self, argument: str) -> None:
        address = self._watch(argument)
        if address is not None:
            self.copy_to_clipboard(address)
            self.say(f"Copied {address} (where the terminal allows it)")

    def _watch(self, argument: str) -> str | None:
        channel = self._channel(argument)
        if channel is None:
            return None
        view = self.look()
        stream = view.state.streams.get(channel)
        return stream.watch if stream is not None else f"{view.state.watch.rstrip('/')}/{channel}"

    def _channel(self, name: str) -> str | None:
        channel = name.strip() or (self.page.chosen_channel() if self.page is not None else None)
        if not channel:
            several = len(self.look().state.streams) > 1
            self.say(
                "Which one? Choose it on the Broadcast page (3), or name it"
                if several
                else "Nothing is on air: b starts a broadcast",
                "warning",
            )
        return channel or None

    def do_next_channel(self, argument: str) -> None:
        if isinstance(self.page, BroadcastScreen):
            self.page.turn(1)

    def do_last_channel(self, argument: str) -> None:
        if isinstance(self.page, BroadcastScreen):
            self.page.turn(-1)

    def do_reset(self, argument: str) -> None:
        if self.page is not None and (channel := self.page.chosen_channel()):
            self.reset_counters(channel)

    # --- this console

    def do_command(self, argument: str) -> None:
        if self.page is not None:
            self.page.bar.open(":")

    def do_help(self, argument: str) -> None:
        self.push_screen(HelpScreen(self.page.NAME if self.page is not None else ""))

    def do_palette(self, argument: str) -> None:
        self.action_command_palette()

    def do_theme(self, argument: str) -> None:
        if self.no_color:
            self.say(
                "NO_COLOR is set: there are no colours to choose. Start without it for a palette", "warning"
            )
            return
        names = [palette.name for palette in PALETTES]
        if argument and argument not in names:
            self.say(f"No palette {argument!r}: {', '.join(names)}", "error")
            return
        if not argument:
            place = names.index(self.theme) if self.theme in names else -1
            argument = names[(place + 1) % len(names)]
        self.theme = argument
        self.remember_palette(argument)
        self.say(f"Palette: {next(p.title for p in PALETTES if p.name == argument)}")

    def do_quit(self, argument: str) -> None:
        view = self.look()
        if self.options.api:
            self.exit(0)
            return

        def leave(choice: str) -> None:
            if choice == "leave":
                self.exit(0, message=left_words(self.look()))
            else:
                self.run_worker(self.run_action("end_stage"))

        self.ask(QuitDialog(view), leave)

    def action_leave_start(self) -> None:
        """Leave before the console is up, or after the stage would not come up."""
        self.exit(0, message="What has been started goes on: see showcaller stage status")

    def action_end_stage(self) -> None:
        if not isinstance(self.screen, StartScreen):
            self.push_screen(StartScreen("Ending the stage", "end_stage"))
        self.end_stage()

    def report_step(self, line: str) -> None:
        self.post_message(StageStep(line))

    @work(exclusive=True, group="stage", exit_on_error=False)
    async def end_stage(self) -> None:
        self.post_message(StageStep("ending the stage"))
        self.workers.cancel_group(self, "supervision")  # or it would follow the supervisor with another one
        try:
            await down(self.options.stage.home, report=self.report_step)
        except ConsoleError as error:
            self.post_message(StageFailed(error))
        else:
            self.exit(0, message="The stage has ended.")


def free_channel(channel: str, taken: Container[str]) -> str:
    """A name like this one that is not on air: main-2 after main, main-3 after main-2."""
    stem, _, number = channel.rpartition("-")
    if not (stem and number.isdecimal() and number.isascii()):
        stem, number = channel, "1"
    names = (f"{stem[: LONGEST_CHANNEL - 1 - len(str(n))]}-{n}" for n in count(int(number) + 1))
    return next(name for name in names if name not in taken)


def outcome_words(result: Result) -> str:
    """What came of a drill: the journal's words, or why it has none."""
    if result.message:
        return result.message
    lacking = "; ".join(result.outcome.missing) or "nothing"
    return f"It could not be written into the journal ({result.unwritten}). Missing: {lacking}."


def left_words(view: View) -> str:
    """What the terminal shows after the stage was left to itself."""
    if view.stale or not view.state.ready:
        return "The stage did not answer. See what still runs with: showcaller stage status"
    return f"The stage goes on at {view.state.api}. End it with: showcaller stage down"


def has_browser() -> bool:
    """Whether a browser with a window can be opened: a text browser would fight for the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import webbrowser

    with contextlib.suppress(webbrowser.Error):
        return webbrowser.get() is not None
    return False
