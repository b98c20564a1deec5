"""A death on purpose, and what came of it."""

from textual import work
from textual.message import Message

from console.core.drills import Rehearsal, Result
from console.core.errors import ConsoleError
from console.handlers.base import Handlers
from console.messages import (
    DrillEnded,
    DrillSeen,
    DrillStep,
    DrillWaits,
    Said,
)
from console.screens.fleet.drill import MANAGER, DrillDialog, DrillProgress, called
from controlplane.wire.drills import DrillKind, DrillRequest, kind_for

DRILL_S = 60.0  # for a stage to recover


class DrillHandlers(Handlers):
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


def outcome_words(result: Result) -> str:
    """What came of a drill: the journal's words, or why it has none."""
    if result.message:
        return result.message
    lacking = "; ".join(result.outcome.missing) or "nothing"
    return f"It could not be written into the journal ({result.unwritten}). Missing: {lacking}."
