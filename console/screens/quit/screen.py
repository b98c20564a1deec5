"""Leaving: end the stage, leave it running, or stay."""

from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Ask, Choice
from console.screens.shared.view import View
from console.screens.shared.words import Line


def quit_lines(view: View) -> list[Line]:
    """What each way out does, to whom; of a stage that does not answer, nothing is promised."""
    if view.stale or not view.state.ready:
        return silent_lines(view)
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


def silent_lines(view: View) -> list[Line]:
    """Nobody answers: it may be away for a moment, or ended from elsewhere."""
    since = f" ({view.as_of})" if view.state.ready else ""
    lines: list[Line] = [
        [("▲ The stream manager does not answer", "bold $warn"), (f"{since}: the stage may be down.", "")]
    ]
    if view.streams:
        names = ", ".join(figures.clip(stream.channel, 20) for stream in view.streams[:3])
        lines.append([(f"Then on air: {names}. What is there now, `showcaller stage status` says.", "")])
    return [
        *lines,
        [],
        [("Leave", "bold"), (": whatever still runs goes on.", "")],
        [("End the stage", "bold"), (": whatever still runs of it ends.", "")],
    ]


class QuitDialog(Ask):
    def __init__(self, view: View) -> None:
        leave = "Leave" if view.stale else "Leave it running"
        choices = [CANCEL, Choice("leave", leave), Choice("end", "End the stage", "danger")]
        super().__init__("Quit", quit_lines(view), choices, focus="leave")
