"""What is of this console alone: its help, its palettes, and leaving it."""

from textual import work

from console.core.errors import ConsoleError
from console.core.stage import down
from console.handlers.base import Handlers
from console.messages import (
    StageFailed,
    StageStep,
)
from console.screens.help.screen import HelpScreen
from console.screens.quit.screen import QuitDialog
from console.screens.shared.view import View
from console.screens.start.screen import StartScreen
from themes import PALETTES


class OwnHandlers(Handlers):
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


def left_words(view: View) -> str:
    """What the terminal shows after the stage was left to itself."""
    if view.stale or not view.state.ready:
        return "The stage did not answer. See what still runs with: showcaller stage status"
    return f"The stage goes on at {view.state.api}. End it with: showcaller stage down"
