"""What the handlers of all pages stand on: the view, the page that is seen, how a thing is said and asked."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from textual import work
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen

from console import commands
from console.core.client import Client
from console.core.errors import ConsoleError
from console.core.target import ConsoleOptions, Target
from console.messages import (
    Said,
)
from console.screens.fleet.drill import DrillProgress
from console.screens.inside.screen import InsideScreen
from console.screens.shared.page import Page
from console.screens.shared.view import Pending, View

T = TypeVar("T")


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

    def go(self, page: str) -> AwaitComplete:
        """Show this page. Await it where the next step needs the page's widgets."""
        mounted = self.switch_mode(page) if self.current_mode != page else None
        while isinstance(self.screen, InsideScreen) and page == "fleet":
            self.pop_screen()
        return AwaitComplete(*([] if mounted is None else [mounted]))

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
