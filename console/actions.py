"""The one registry of what a person can do in the console.

Keys, the command palette, the `:` command line, the footer and the help are all made from it, and each action
names the plain command that does the same without a screen. What an action does stands in
console.handlers, as `do_<id>`; a test holds the two together.
"""

from dataclasses import dataclass

PAGES = ("overview", "fleet", "broadcast", "journal", "events")
EVERYWHERE = frozenset({*PAGES, "node"})


@dataclass(frozen=True, slots=True)
class Action:
    id: str
    keys: tuple[str, ...]  # as Textual names them; the first is the one shown
    label: str  # in the footer: one or two words
    title: str  # in the palette and the help: what it does
    command: str = ""  # the plain command
    words: tuple[str, ...] = ()  # after `:`; the first is the one shown
    usage: str = ""  # what may follow the word
    pages: frozenset[str] = EVERYWHERE
    writes: bool = False  # changes the stage: off while the link is down
    group: str = "Go and look"  # heading in the help


def _on(*pages: str) -> frozenset[str]:
    return frozenset(pages)


STEER, SEE, CAST, CONSOLE = "Fleet", "Go and look", "Broadcast", "This console"
PLAN = "Events"

ACTIONS: tuple[Action, ...] = (
    Action(
        "overview",
        ("1",),
        "overview",
        "Overview: is it all right?",
        "showcaller stage status",
        ("overview", "ov"),
        group=SEE,
    ),
    Action(
        "fleet", ("2",), "fleet", "Fleet: the nodes", "showcaller nodes", ("fleet", "nodes", "f"), group=SEE
    ),
    Action(
        "broadcast",
        ("3",),
        "broadcast",
        "Broadcast: what is on air",
        "showcaller streams",
        ("broadcast", "streams", "br"),
        group=SEE,
    ),
    Action(
        "journal",
        ("4",),
        "journal",
        "Journal: what happened and who did it",
        "showcaller journal -f",
        ("journal", "log", "j"),
        group=SEE,
    ),
    Action(
        "events",
        ("5",),
        "events",
        "Events: what is shown when, and for how many",
        "showcaller event list",
        ("events", "ev"),
        group=SEE,
    ),
    Action(
        "inside",
        ("enter",),
        "inside",
        "Look inside the chosen node: workers, sessions, streams",
        "showcaller node inspect NODE",
        ("inside", "node"),
        "NODE",
        _on("fleet"),
        group=SEE,
    ),
    Action(
        "why",
        ("w",),
        "why",
        "Why: the journal of the chosen node, or of the whole fleet",
        "showcaller fleet why",
        ("why",),
        "",
        _on("fleet"),
        group=SEE,
    ),
    Action(
        "filter",
        ("slash",),
        "filter",
        "Show only what holds a text (!text: what does not)",
        "",
        ("filter",),
        "TEXT",
        _on("fleet", "journal", "node", "events"),
        group=SEE,
    ),
    Action(
        "clear",
        ("c",),
        "clear filter",
        "Show everything again",
        "",
        ("clear",),
        "",
        _on("fleet", "journal", "node", "events"),
        group=SEE,
    ),
    Action(
        "follow",
        ("f",),
        "follow",
        "Follow the newest entries, or stay here",
        "showcaller journal -f",
        (),
        "",
        _on("journal"),
        group=SEE,
    ),
    Action("back", ("escape",), "back", "One step back", "", ("back",), "", group=SEE),
    Action(
        "add",
        ("plus", "a"),
        "add",
        "Add an edge (`:add origin` adds an origin)",
        "showcaller fleet add edge",
        ("add",),
        "[edge|origin]",
        _on("overview", "fleet"),
        True,
        STEER,
    ),
    Action(
        "drain",
        ("d",),
        "drain",
        "Drain the chosen node: no new viewers, it ends when it is empty",
        "showcaller fleet drain NODE --deadline 300s",
        ("drain",),
        "NODE [5m]",
        _on("fleet", "node"),
        True,
        STEER,
    ),
    Action(
        "policy",
        ("p",),
        "policy",
        "Policy: when the chosen group grows and shrinks; try it on a crowd, save it, remove it",
        "showcaller fleet policy set GROUP --max 20",
        ("policy",),
        "[GROUP]",
        _on("fleet"),
        True,
        STEER,
    ),
    Action(
        "undo",
        ("u",),
        "undo",
        "Undo the drain of the chosen node",
        "showcaller fleet undo NODE",
        ("undo", "undrain"),
        "NODE",
        _on("fleet", "node"),
        True,
        STEER,
    ),
    Action(
        "drill",
        ("K",),
        "drill",
        "Drill: kill the chosen node (`:drill manager`: the stream manager), measure the recovery",
        "showcaller drill kill-edge NODE",
        ("drill", "rehearse"),
        "[NODE|manager]",
        _on("fleet"),
        True,
        STEER,
    ),
    Action(
        "plan",
        ("n",),
        "new",
        "Plan an event: what is shown when, and for how many",
        'showcaller event add "TITLE" --start 20:00 --for 2h',
        ("plan", "event"),
        "",
        _on("events"),
        True,
        PLAN,
    ),
    Action(
        "edit",
        ("e",),
        "edit",
        "Change the chosen event",
        "showcaller event edit EVENT --start 20:30",
        ("edit",),
        "[EVENT]",
        _on("events"),
        True,
        PLAN,
    ),
    Action(
        "cancel",
        ("x",),
        "cancel",
        "Cancel the chosen event",
        "showcaller event cancel EVENT",
        ("cancel",),
        "[EVENT]",
        _on("events"),
        True,
        PLAN,
    ),
    Action(
        "preflight",
        ("p",),
        "preflight",
        "Go or no-go: whether the chosen event can begin",
        "showcaller event preflight EVENT",
        ("preflight", "go"),
        "[EVENT]",
        _on("events"),
        True,
        PLAN,
    ),
    Action(
        "start",
        ("b",),
        "broadcast",
        "Start a broadcast: a file or the test pattern",
        "showcaller publish SOURCE --channel NAME --detach",
        ("publish", "start", "b"),
        "[SOURCE [CHANNEL [BITRATE]] [loop] [copy]]",
        writes=True,
        group=CAST,
    ),
    Action(
        "stop",
        ("S",),
        "stop",
        "Stop the chosen broadcast, wherever it was started",
        "showcaller streams stop CHANNEL",
        ("stop",),
        "CHANNEL",
        _on("overview", "broadcast"),
        True,
        CAST,
    ),
    Action(
        "open",
        ("o",),
        "open page",
        "Open the watch page in a browser (without one: copy its address)",
        "showcaller streams",
        ("open", "watch"),
        "[CHANNEL]",
        _on("overview", "broadcast"),
        group=CAST,
    ),
    Action(
        "copy",
        ("y",),
        "copy address",
        "Copy the address of the watch page",
        "showcaller streams",
        ("copy",),
        "[CHANNEL]",
        _on("overview", "broadcast"),
        group=CAST,
    ),
    Action(
        "token",
        ("t",),
        "token",
        "Make a token, to publish from OBS or any WHIP client",
        "showcaller token create --publish CHANNEL",
        ("token",),
        "[CHANNEL]",
        _on("broadcast"),
        True,
        CAST,
    ),
    Action(
        "next_channel",
        ("right_square_bracket",),
        "next",
        "The next broadcast",
        "",
        (),
        "",
        _on("broadcast"),
        group=CAST,
    ),
    Action(
        "last_channel",
        ("left_square_bracket",),
        "previous",
        "The broadcast before",
        "",
        (),
        "",
        _on("broadcast"),
        group=CAST,
    ),
    Action(
        "reset",
        ("r",),
        "reset counters",
        "Count lost frames from now on",
        "",
        ("reset",),
        "",
        _on("broadcast"),
        group=CAST,
    ),
    Action("command", ("colon",), "command", "Enter a command by its name", "", (), group=CONSOLE),
    Action(
        "help",
        ("question_mark",),
        "keys",
        "All keys and commands",
        "showcaller --help",
        ("help", "keys"),
        group=CONSOLE,
    ),
    Action("palette", ("ctrl+p",), "all", "Find any action by its name", "", (), group=CONSOLE),
    Action(
        "theme",
        ("T",),
        "theme",
        "Another palette: dark, light, high contrast, colour-blind safe",
        "",
        ("theme",),
        "[NAME]",
        group=CONSOLE,
    ),
    Action(
        "quit",
        ("q", "ctrl+q", "ctrl+c"),
        "quit",
        "Quit: end the stage, or leave it running",
        "showcaller stage down",
        ("quit", "q", "exit"),
        group=CONSOLE,
    ),
)

BY_ID = {action.id: action for action in ACTIONS}

KEY_NAMES = {
    "plus": "+",
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "escape": "esc",
    "K": "shift+k",
    "S": "shift+s",
    "T": "shift+t",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def key_name(key: str) -> str:
    """A key as it stands on the keyboard."""
    return KEY_NAMES.get(key, key)


def is_character(key: str) -> bool:
    """Whether a key writes a character: `a`, `S`, `plus`; not `enter` or `ctrl+q`."""
    return len(key) == 1 or key in (
        "plus",
        "slash",
        "colon",
        "question_mark",
        "left_square_bracket",
        "right_square_bracket",
    )


ALWAYS = ("command", "help", "palette", "quit")
# The next keys of a page, the most wanted first; what does not fit is left out.
FOOTERS: dict[str, tuple[str, ...]] = {
    "overview": ("start", "open", "add", "stop", "copy"),
    "fleet": ("add", "drain", "policy", "undo", "inside", "why", "filter", "start", "drill"),
    "broadcast": ("start", "stop", "open", "copy", "token", "reset"),
    "journal": ("filter", "follow", "start"),
    "events": ("plan", "preflight", "edit", "cancel", "filter", "start"),
    "node": ("back", "drain", "undo", "filter"),
}


def footer(page: str) -> list[Action]:
    """The keys shown at the bottom of a page, without those that are always there."""
    return [BY_ID[name] for name in FOOTERS.get(page, ())]
