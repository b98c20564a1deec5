"""Policies of node groups: looked at, tried on a crowd, set, taken away."""

from textual import work

from console.core.errors import ConsoleError, Rejected
from console.core.policies import at_fields, sound
from console.handlers.base import Handlers
from console.messages import (
    CheckPolicy,
    PolicyChecked,
    PolicySaved,
    PolicySeen,
    Said,
    SavePolicy,
    TryPolicy,
    WhatIfArrived,
)
from console.screens.fleet.policy import PolicyDialog, remove_lines
from console.screens.fleet.whatif import WhatIfDialog
from console.screens.shared.dialog import Ask, Choice
from controlplane.wire.fleet import Policy

NOTHING_RECORDED = "no_history"


class PolicyHandlers(Handlers):
    def do_policy(self, argument: str) -> None:
        group = argument.strip() or self._chosen_group()
        if group:
            self._look_at_policy(group)

    def _chosen_group(self) -> str | None:
        """That of the chosen node; without one the only group there is. Says so when it is not known."""
        state = self.look().state
        node = state.nodes.get((self.page.chosen_node() if self.page is not None else None) or "")
        if node is not None:
            return f"{node.role}@{node.region}"
        groups = [f"{it.role}@{it.region}" for it in state.groups.values()]
        if len(groups) == 1:
            return groups[0]
        known = f": {', '.join(groups)}" if groups else ""
        self.say(f"Which group? Choose a node of it, or enter :policy GROUP{known}", "warning")
        return None

    @work(exclusive=True, group="policy", exit_on_error=False)
    async def _look_at_policy(self, group: str) -> None:
        try:
            self.post_message(PolicySeen(await self._client().policy(group, usual=True)))
        except ConsoleError as error:
            self.post_message(Said(str(error), severity="error", title="No policy"))

    def on_policy_seen(self, message: PolicySeen) -> None:
        if self.screen is self.page:  # whoever asked is not busy elsewhere by now
            self.push_screen(PolicyDialog(self.look(), message.view))

    def on_save_policy(self, message: SavePolicy) -> None:
        group, changes = message.group, message.changes
        if changes is not None:
            self._save_policy(group, changes)
            return
        choices = [Choice("cancel", "Keep it"), Choice("remove", "Remove the policy", "danger")]
        words = remove_lines(self.look(), group)

        def remove(choice: str) -> None:
            self._clear_policy(group)

        self.ask(Ask(f"Remove the policy of {group}", words, choices), remove)

    @work(group="acts", exit_on_error=False)
    async def _save_policy(self, group: str, changes: Policy) -> None:
        try:
            self.post_message(PolicySaved(group, await self._client().set_policy(group, changes)))
        except ConsoleError as error:
            self.post_message(PolicySaved(group, None, error))

    @work(exclusive=True, group="policy", exit_on_error=False)
    async def on_check_policy(self, message: CheckPolicy) -> None:
        try:
            await self._client().check_policy(message.group, message.changes)
        except Rejected as error:
            found = at_fields(sound(error.problem.faults or [], message.faults))
            self.post_message(PolicyChecked(message.group, message.faults, found))
        except ConsoleError:  # nobody can be asked: then what is known here
            pass

    def on_policy_checked(self, message: PolicyChecked) -> None:
        form = self._form(message.group)
        if form is not None:
            form.checked(message.faults, message.more)

    @work(group="acts", exit_on_error=False)
    async def _clear_policy(self, group: str) -> None:
        try:
            await self._client().clear_policy(group)
            self.post_message(PolicySaved(group, None))
        except ConsoleError as error:
            self.post_message(PolicySaved(group, None, error))

    def on_policy_saved(self, message: PolicySaved) -> None:
        form = self._form(message.group)
        if message.error is not None:
            if form is not None:
                form.refused(message.error)
            else:
                self.say(str(message.error), "error", f"The policy of {message.group} is not changed")
            return
        if form is not None and self.screen is form:
            form.dismiss(None)
        done = "has no policy any more: it is steered by hand" if message.view is None else "has a new policy"
        self.say(f"{message.group} {done}")

    def _form(self, group: str) -> PolicyDialog | None:
        for screen in self.screen_stack:
            if isinstance(screen, PolicyDialog) and screen.group == group:
                return screen
        return None

    # --- what if

    def on_try_policy(self, message: TryPolicy) -> None:
        def answered(choice: str | None) -> None:
            self.workers.cancel_group(self, "whatif")
            form = self._form(message.group)
            if choice == "save" and form is not None:
                form.run_worker(form.chosen("save"), exit_on_error=False)

        self.push_screen(WhatIfDialog(message.group, message.words), answered)
        self._what_if(message)

    @work(exclusive=True, group="whatif", exit_on_error=False)
    async def _what_if(self, asked: TryPolicy) -> None:
        client = self._client()
        try:
            self.post_message(WhatIfArrived(await client.what_if(asked.group, asked.first)))
        except Rejected as error:
            if error.code != NOTHING_RECORDED or asked.second is None:
                self.post_message(WhatIfArrived(None, error))
                return
            try:
                view = await client.what_if(asked.group, asked.second)
            except ConsoleError as second:
                self.post_message(WhatIfArrived(None, second))
            else:
                note = "Nothing is recorded yet: this is the crowd that is invented in the form."
                self.post_message(WhatIfArrived(view, note=note))
        except ConsoleError as error:
            self.post_message(WhatIfArrived(None, error))

    def on_what_if_arrived(self, message: WhatIfArrived) -> None:
        shown = self.screen
        if not isinstance(shown, WhatIfDialog):
            return
        if message.error is None and message.view is not None:
            shown.arrived(message.view, message.note)
        elif message.error is not None:
            shown.dismiss(None)
            form = self._form(shown.group)
            if form is not None:
                form.refused(message.error)
