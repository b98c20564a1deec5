"""Nodes: add one, drain one, take a drain back."""

from textual import work

from console.core.effects import on_node
from console.core.errors import ConsoleError
from console.core.units import show_state
from console.handlers.base import Handlers
from console.messages import AddRefused, Said
from console.screens.fleet.add import Add, AddDialog
from console.screens.fleet.drain import Drain, DrainDialog
from console.screens.shared import figures
from controlplane.wire.api import DrainView
from controlplane.wire.nodes import NodeState, Role

OVER_BUDGET = "over_budget"  # the manager's word for it


class FleetHandlers(Handlers):
    def do_add(self, argument: str) -> None:
        word = argument.strip().lower() or "edge"
        if word not in (Role.EDGE, Role.ORIGIN):
            self.say(f"{word!r} is not a role here: add edge, or add origin", "error")
            return
        self._ask_to_add(Role(word))

    def _ask_to_add(self, role: Role, refused: str = "") -> None:
        def add(wanted: Add) -> None:
            self._add(wanted)

        self.ask(AddDialog(self.look(), role, refused), add)

    @work(group="acts", exit_on_error=False)
    async def _add(self, wanted: Add) -> None:
        try:
            made = await self._client().fleet_add(wanted.role, over_budget=wanted.over_budget)
        except ConsoleError as error:
            if error.code == OVER_BUDGET and not wanted.over_budget:
                self.post_message(AddRefused(wanted.role, error))
            else:
                self.post_message(Said(str(error), severity="error", title="Not done"))
            return
        what = "viewers" if wanted.role is Role.EDGE else "broadcasts"
        self.post_message(Said(f"{made.node} asked for: it takes {what} when it is in service"))

    def on_add_refused(self, message: AddRefused) -> None:
        """The budget was used up meanwhile: it is asked for again, with what that means."""
        if self.screen is self.page:
            self._ask_to_add(message.role, str(message.error))
        else:
            self.say(str(message.error), "error", "Not done")

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
            self.ask(DrainDialog(view, node, deadline.strip()), self._drain)

    def _drain(self, wanted: Drain) -> None:
        role = self.look().state.nodes[wanted.node].role

        def told(view: DrainView) -> str:
            left = figures.plural(view.viewers, on_node(role))
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
