"""Events: plan one, change it, cancel it, ask whether it can begin."""

from textual import work

from console.core.errors import ConsoleError
from console.core.planning import EventWords, changes, request, words_of
from console.core.preflight import preflight, synthetic_viewer
from console.core.when import local_zone, show_span
from console.handlers.base import Handlers
from console.messages import (
    EventRefused,
    PreflightArrived,
    Said,
)
from console.screens.events.dialogs import EventDialog
from console.screens.events.screen import EventsScreen
from console.screens.events.widgets import cancel_lines, preflight_lines, state_at
from console.screens.shared import figures
from console.screens.shared.dialog import Ask, Choice, Tell
from controlplane.wire.events import EventState, EventView


class EventHandlers(Handlers):
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
