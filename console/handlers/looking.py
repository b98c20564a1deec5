"""Going from page to page, and looking: inside a node, at why, through a filter."""

from console.handlers.base import Handlers
from console.screens.broadcast.screen import BroadcastScreen
from console.screens.fleet.screen import FleetScreen
from console.screens.inside.screen import InsideScreen
from console.screens.journal.screen import JournalScreen


class LookingHandlers(Handlers):
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
