"""Leaving: end the stage, leave it running, or stay."""

from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Ask, Choice
from console.screens.shared.view import View
from console.screens.shared.words import Line


def quit_lines(view: View) -> list[Line]:
    """What each way out does, to whom."""
    lines: list[Line] = []
    streams = view.streams
    if streams:
        names = ", ".join(figures.clip(stream.channel, 20) for stream in streams[:3])
        more = f" and {len(streams) - 3} more" if len(streams) > 3 else ""
        watching = figures.plural(view.state.viewers, "viewer")
        lines.append([("● On air: ", "bold $air"), (f"{names}{more}, {watching}.", "bold")])
        lines.append([("Ending the stage ends the broadcast for all of them.", "bold $warn")])
        lines.append([])
    lines += [
        [
            ("Leave it running", "bold"),
            (": the stage goes on, and so does what is on air. ", ""),
            ("The next `showcaller` finds it; `showcaller stage down` ends it.", ""),
        ],
        [("End the stage", "bold"), (": publishers, stream manager and nodes end, in this order.", "")],
    ]
    return lines


class QuitDialog(Ask):
    def __init__(self, view: View) -> None:
        choices = [CANCEL, Choice("leave", "Leave it running"), Choice("end", "End the stage", "danger")]
        super().__init__("Quit", quit_lines(view), choices, focus="leave")
