"""The form that sets a group's policy, tries it on a crowd, or takes it away.

It stays open until the manager has taken what stands in it: what is refused is named at its field, and
nothing that was typed is lost. Asking and trying are the app's (SavePolicy, TryPolicy).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from console.core.errors import ConsoleError, Rejected, UsageError
from console.core.policies import (
    NAMES,
    WINDOW,
    PolicyWords,
    WrongFields,
    at_fields,
    changes,
    curves,
    read_curve,
    words_of,
)
from console.messages import CheckPolicy, SavePolicy, TryPolicy
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Checkbox, Choice, Dialog, Field, OneOf
from console.screens.shared.view import View
from console.screens.shared.words import Line
from controlplane.wire.fleet import Policy, PolicyView, Span, Unit, WhatIf
from controlplane.wire.money import money

LABELS = {
    "unit": ("Unit", "what load and capacity are counted in"),
    "capacity": ("Capacity", "what is planned with of one node, in the unit"),
    "spend_cap": ("Spend cap", "dollars an hour for the group's nodes, or none"),
    "alarm": ("Alarm", "share of the capacity above which nodes are added: 0.6 or 60%"),
    "in_fraction": ("In fraction", "one is drained when the others are filled to no more than this"),
    "min": ("Min", "so many nodes at least"),
    "max": ("Max", "so many nodes at most"),
    "increment": ("Increment", "how many nodes are added at once"),
    "launches": ("Launches", "launches under way at once"),
    "up_periods": ("Up periods", "seconds in a row that must want more"),
    "down_periods": ("Down periods", "seconds in a row that must want less"),
    "up_cooldown_s": ("Up cooldown", "from one launch to the next: 90s, 5m or none"),
    "down_cooldown_s": ("Down cooldown", "from a launch or a drain to a drain: 90s, 5m or none"),
    "drain_deadline_s": ("Drain within", "when a drained node ends at the latest: 5m"),
    "nodes": ("Prestage", "nodes that are there whatever the load"),
    "zone": ("Zone", "of the schedule: Europe/Berlin"),
    "events": ("Events", "nodes for the crowds of events, there before they begin"),
    "windows": ("Schedule", f"as in {WINDOW}"),
    "on": ("Try on", "the recorded load, or a crowd that is invented"),
    "crowd": ("Crowd", "people at moments: 0=0 10m=2000 2h=2000"),
}
ROWS = (
    ("unit",),
    ("capacity", "spend_cap"),
    ("alarm", "in_fraction"),
    ("min", "max"),
    ("increment", "launches"),
    ("up_periods", "down_periods"),
    ("up_cooldown_s", "down_cooldown_s"),
    ("drain_deadline_s", "nodes"),
    ("windows",),
    ("zone", "events"),
    ("on",),
    ("crowd",),
)
UNITS = tuple(unit.value for unit in Unit)
RECORDED, RECORDED_S = "last 24 h", 86_400.0
CROWDS = ("rush", "evening", "waves")


class Across(OneOf, inherit_bindings=False):
    """Left and right choose; up and down go on in the form."""

    BINDINGS = [
        Binding("right", "turn(1)", show=False),
        Binding("left", "turn(-1)", show=False),
    ]


class PolicyDialog(Dialog[str]):
    """The result says nothing: what was done is told by the app's own messages."""

    BINDINGS = [
        Binding("up", "row(-1)", show=False),
        Binding("down", "row(1)", show=False),
    ]
    DEFAULT_CSS = """
    PolicyDialog .pair { height: auto; width: 100%; }
    PolicyDialog .fault { height: auto; color: $bad; display: none; }
    PolicyDialog .fault.-said { display: block; }
    PolicyDialog #row-on { margin-top: 1; }
    PolicyDialog.-flat #row-on, PolicyDialog.-tiny #row-on { margin-top: 0; }
    PolicyDialog #hint { height: auto; color: $muted; margin: 1 0 0 2; }
    PolicyDialog.-flat #hint { margin-top: 0; }
    PolicyDialog.-tiny .pair { layout: vertical; height: auto; }
    """

    def __init__(self, view: View, found: PolicyView) -> None:
        self.group = found.group
        self._before = None if found.usual else found.policy
        self._words = words_of(found.policy)
        self._crowds = curves(peak(found.policy))
        self._faults: dict[str, str] = {}
        self._waits = False  # for the manager to take it
        self._refused_text: dict[str, str] = {}  # what stood in the fields when something was said of it
        remove = [] if found.usual else [Choice("remove", "Remove", "danger")]
        super().__init__(
            f"Policy of {found.group}",
            [state_line(view, found)],
            [CANCEL, *remove, Choice("try", "Try it"), Choice("save", "Save")],
            focus="capacity",
        )

    def fields(self) -> ComposeResult:
        for row in ROWS:
            with Horizontal(classes="pair", id=f"row-{row[0]}"):
                for name in row:
                    with Horizontal(classes="field -grows" if name in ("unit", "on") else "field"):
                        yield Label(f"  {LABELS[name][0]}")
                        yield self._field(name)
            yield Static("", classes="fault", id=f"fault-{row[0]}", markup=False)
        yield Static("", id="hint", markup=False)

    def _field(self, name: str) -> Widget:
        if name == "unit":
            unit = self._words.unit
            return Across(UNITS, UNITS.index(unit) if unit in UNITS else 0, id=name)
        if name == "events":
            return Checkbox("yes", self._words.events, id=name, compact=True)
        if name == "on":
            return Across((RECORDED, *CROWDS), id=name)
        if name == "crowd":
            return Field(self._crowds[CROWDS[0]], id=name)
        hint = "none; as in 12 fri,sat 19:30-23:30" if name == "windows" else LABELS[name][1]
        return Field(getattr(self._words, name), id=name, placeholder=hint)

    def on_mount(self) -> None:
        super().on_mount()
        self.watch(self.query_one("#on", Across), "index", self._crowd_chosen, init=False)

    def _crowd_chosen(self, index: int) -> None:
        if index:
            self.query_one("#crowd", Field).value = self._crowds[CROWDS[index - 1]]

    # --- moving about in it

    def action_row(self, step: int) -> None:
        """To the field above or below; from the last row to the choices, and round."""
        grid = [*ROWS, tuple(choice.id for choice in self._choices)]
        here = "" if self.focused is None else self.focused.id or ""
        row = next((number for number, names in enumerate(grid) if here in names), 0)
        column = grid[row].index(here) if here in grid[row] else 0
        there = grid[(row + step) % len(grid)]
        name = there[-1] if there is grid[-1] else there[min(column, len(there) - 1)]
        self.set_focus(self.query_one(f"#{name}"))

    def on_descendant_focus(self) -> None:
        super().on_descendant_focus()
        name = "" if self.focused is None else self.focused.id or ""
        label, hint = LABELS.get(name, ("", ""))
        self.query_one("#hint", Static).update(f"{label}: {hint}" if hint else "")
        self._mark()

    def _mark(self) -> None:
        """A fault is marked at its label too: ✗ Max."""
        for name in self._faults:
            field = self.query(f"#{name}").first().parent
            if field is not None:
                mark = "▸" if self.focused in field.children else "✗"
                field.query_one(Label).update(f"{mark} {LABELS[name][0]}")

    # --- what stands in it

    def words(self) -> PolicyWords:
        said: dict[str, Any] = {name: self.query_one(f"#{name}", Field).value for name in self._texts()}
        index = self.query_one("#unit", Across).index
        unit = UNITS[index] if self._words.unit in UNITS or index else self._words.unit
        return PolicyWords(**said, unit=unit, events=self.query_one("#events", Checkbox).value)

    def _texts(self) -> Iterator[str]:
        return (name for name in NAMES if name not in ("unit", "events"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Another text: what was said of it is not true any more."""
        event.stop()
        name = event.input.id or ""
        if event.input.value == self._refused_text.get(name):
            return
        if name in self._faults:
            self.show_faults({key: text for key, text in self._faults.items() if key != name})
        if not self._faults:
            self.wrong("")

    def show_faults(self, faults: Mapping[str, str]) -> None:
        """Each below its field, the first of them in focus; the others stay marked."""
        before, self._faults = self._faults, dict(faults)
        for row in ROWS:
            said = [f"✗ {LABELS[name][0]}: {faults[name]}" for name in row if name in faults]
            widget = self.query_one(f"#fault-{row[0]}", Static)
            widget.set_class(bool(said), "-said")
            widget.update("\n".join(said))
        for name in before.keys() - faults.keys():
            field = self.query(f"#{name}").first().parent
            if field is not None:
                field.query_one(Label).update(f"  {LABELS[name][0]}")
        self.on_descendant_focus()

    # --- what comes of it

    async def chosen(self, choice: str) -> None:
        if self._waits:
            return
        if choice == "remove":
            self.post_message(SavePolicy(self.group, None))
            return
        try:
            said = changes(self.words(), self._before)
        except WrongFields as error:
            self._refuse(error.faults)
            if error.rest.model_fields_set:
                self.post_message(CheckPolicy(self.group, error.rest, error.faults))
            return
        if choice == "try":
            self._try(said)
        elif not said.model_fields_set:
            self.wrong("Nothing differs from the policy in force")
        else:
            self.wait("Saving…")
            self.post_message(SavePolicy(self.group, said))

    def _try(self, said: Policy) -> None:
        index = self.query_one("#on", Across).index
        text = self.query_one("#crowd", Field).value
        changed = said if said.model_fields_set else None
        try:
            crowd = read_curve(text)
        except UsageError as error:
            self._refuse({"crowd": str(error)})
            return
        self._refuse({})
        invented = WhatIf(crowd=crowd, changes=changed)
        if index:
            self.post_message(TryPolicy(self.group, invented, None, f"a crowd of {text}"))
        else:
            recorded = WhatIf(on=Span(last_s=RECORDED_S), changes=changed)
            self.post_message(TryPolicy(self.group, recorded, invented, f"the {RECORDED}"))

    def wait(self, words: str) -> None:
        """Nothing more is done until the manager has answered; Cancel still closes the form."""
        self._waits = True
        self._refuse({})
        self.wrong(words, mark="…")

    def refused(self, error: ConsoleError) -> None:
        """The manager said no, or nobody answered: the form is as it was, and says why."""
        self._waits = False
        faults = error.problem.faults if isinstance(error, Rejected) else None
        if faults:
            self._refuse(at_fields(faults))
        elif isinstance(error, Rejected) and error.code == "bad_crowd":
            self._refuse({"crowd": error.problem.detail})
        else:
            self._refuse({})
            self.wrong(str(error))

    def checked(self, faults: Mapping[str, str], more: Mapping[str, str]) -> None:
        """What the manager says of the rest, where the form still shows what it was asked beside."""
        if self._faults == {name: text for name, text in faults.items() if name in LABELS}:
            self._refuse({**more, **faults})

    def _refuse(self, faults: Mapping[str, str]) -> None:
        self._refused_text = {field.id or "": field.value for field in self.query(Field)}
        known = {name: text for name, text in faults.items() if name in LABELS}
        self.show_faults(known)
        rest = "; ".join(text for name, text in faults.items() if name not in LABELS)
        counted = figures.plural(len(known), "field has a fault", "fields have faults")
        self.wrong(rest or (f"{counted}. Nothing was changed." if known else ""))
        if known:
            first = next(name for row in ROWS for name in row if name in known)
            self.set_focus(self.query_one(f"#{first}"))


def peak(policy: Policy) -> int:
    """A crowd that a policy has to do something about: it fills half of its nodes to the alarm."""
    room = float(policy.alarm) * policy.capacity * max(2, policy.max) / 2
    scale: int = 10 ** max(0, len(str(int(room))) - 2)
    return min(900_000, max(10, round(room / scale) * scale))


def state_line(view: View, found: PolicyView) -> Line:
    """ "In force. 3 edges, 1 coming; a node is $0.21 an hour."."""
    role = found.group.partition("@")[0]
    group = next((it for it in view.state.groups.values() if f"{it.role}@{it.region}" == found.group), None)
    line: Line = [("No policy yet: as usual. ", "bold $warn")] if found.usual else [("In force. ", "bold")]
    if group is not None:
        line.append((f"{figures.plural(group.in_service, role)} in service", ""))
        line.append((f", {figures.count(group.connections)} of {figures.count(group.capacity)} taken", ""))
    now = view.state.money
    if now is not None:
        line.append((f"; {money(now.node_hour, now.currency)} an hour each", "$muted"))
    return line


def remove_lines(view: View, group: str) -> list[Line]:
    """What taking a policy away means."""
    found = next((it for it in view.state.groups.values() if f"{it.role}@{it.region}" == group), None)
    nodes = "" if found is None else f"{figures.plural(found.desired, 'node stays', 'nodes stay')} wanted. "
    return [
        [
            (f"{group} is then steered by hand: ", "bold"),
            (nodes, ""),
            ("Nothing is added when a crowd comes or drained when it goes, and nothing is prestaged.", ""),
        ],
        [("Dead nodes are still replaced, and no connection is touched.", "")],
        [("A new policy begins as usual: what stands in the form now is gone with the old one.", "")],
    ]
