"""What travels inside the console: workers post these and touch no widget; screens post what a person asked
for. A message that only says "newer" replaces the one before it in the queue."""

from collections.abc import Mapping

from textual.message import Message

from console.core.errors import ConsoleError
from console.core.live import Link
from console.core.planning import EventWords
from console.core.target import Target
from controlplane.wire.api import LiveMessage, NodeInside
from controlplane.wire.drills import Drill, Milestone
from controlplane.wire.events import EventView, PreflightView
from controlplane.wire.fleet import Policy, PolicyView, WhatIf, WhatIfView
from controlplane.wire.nodes import Role


class Act(Message):
    """A person asked for an action of the registry (console.actions), with an argument or none."""

    def __init__(self, action: str, argument: str = "") -> None:
        super().__init__()
        self.action, self.argument = action, argument


class Remeasured(Message):
    """A part of a page has another size: what it says may have to be cut elsewhere."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Remeasured)


class Redraw(Message):
    """A page has something newer to show."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Redraw)


class FilterChanged(Message):
    """The text after `/` is another one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, FilterChanged)


class StageStep(Message):
    """Bringing the stage up, or ending it, came one step further."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line


class StageReady(Message):
    """There is a stream manager to speak to."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target


class StageFailed(Message):
    def __init__(self, error: ConsoleError) -> None:
        super().__init__()
        self.error = error


class FeedArrived(Message):
    """The live feed said something: every one counts, none may be passed over."""

    def __init__(self, item: LiveMessage) -> None:
        super().__init__()
        self.item = item


class LinkChanged(Message):
    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, LinkChanged)


class FeedRefused(Message):
    """The manager does not take our token: trying again does not help."""

    def __init__(self, error: ConsoleError) -> None:
        super().__init__()
        self.error = error


class InsideArrived(Message):
    """What is inside the node that is looked at; or why that cannot be told."""

    def __init__(self, node: str, inside: NodeInside | None, error: ConsoleError | None = None) -> None:
        super().__init__()
        self.node, self.inside, self.error = node, inside, error

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, InsideArrived) and message.node == self.node


class EventsArrived(Message):
    """The events that are planned; or why they cannot be told."""

    def __init__(self, events: list[EventView] | None, error: ConsoleError | None = None) -> None:
        super().__init__()
        self.events, self.error = events, error

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, EventsArrived)


class EventRefused(Message):
    """The manager did not take what was entered: it is asked for again, with its words."""

    def __init__(self, words: EventWords, before: EventView | None, error: ConsoleError) -> None:
        super().__init__()
        self.words, self.before, self.error = words, before, error


class PreflightArrived(Message):
    """Whether an event can begin."""

    def __init__(self, view: PreflightView) -> None:
        super().__init__()
        self.view = view


class PolicySeen(Message):
    """What a group goes by: its policy is about to be looked at, and perhaps changed."""

    def __init__(self, view: PolicyView) -> None:
        super().__init__()
        self.view = view


class SavePolicy(Message):
    """A person asked for this change of a group's policy; None: to take it away."""

    def __init__(self, group: str, changes: Policy | None) -> None:
        super().__init__()
        self.group, self.changes = group, changes


class CheckPolicy(Message):
    """Something in a form could not be read: what can be is looked at by the manager, so that all that is
    wrong is named."""

    def __init__(self, group: str, changes: Policy, faults: Mapping[str, str]) -> None:
        super().__init__()
        self.group, self.changes, self.faults = group, changes, dict(faults)


class PolicyChecked(Message):
    """What the manager found, by field, beside `faults`."""

    def __init__(self, group: str, faults: Mapping[str, str], more: Mapping[str, str]) -> None:
        super().__init__()
        self.group, self.faults, self.more = group, dict(faults), dict(more)


class PolicySaved(Message):
    """It was changed, or taken away; or why it was not."""

    def __init__(self, group: str, view: PolicyView | None, error: ConsoleError | None = None) -> None:
        super().__init__()
        self.group, self.view, self.error = group, view, error


class TryPolicy(Message):
    """A person asked what a changed policy would make of a crowd: first of `first`, or, where nothing of it
    is recorded, of `second`."""

    def __init__(self, group: str, first: WhatIf, second: WhatIf | None, words: str) -> None:
        super().__init__()
        self.group, self.first, self.second, self.words = group, first, second, words


class WhatIfArrived(Message):
    """What it would have made of it; or why that cannot be told. `note`: what was not done as asked."""

    def __init__(self, view: WhatIfView | None, error: ConsoleError | None = None, note: str = "") -> None:
        super().__init__()
        self.view, self.error, self.note = view, error, note


class AddRefused(Message):
    """A node was not added: the budget is not there for it."""

    def __init__(self, role: Role, error: ConsoleError) -> None:
        super().__init__()
        self.role, self.error = role, error


class Said(Message):
    """An action ended: words for the person."""

    def __init__(self, words: str, *, severity: str = "information", title: str = "") -> None:
        super().__init__()
        self.words, self.severity, self.title = words, severity, title


class DrillSeen(Message):
    """What a drill that was asked for would strike."""

    def __init__(self, drill: Drill) -> None:
        super().__init__()
        self.drill = drill


class DrillStep(Message):
    """Something of its recovery has happened."""

    def __init__(self, milestone: Milestone) -> None:
        super().__init__()
        self.milestone = milestone


class DrillWaits(Message):
    """What it waits for now."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, DrillWaits)


class DrillEnded(Message):
    def __init__(self, words: str, *, good: bool) -> None:
        super().__init__()
        self.words, self.good = words, good


class PublishFailed(Message):
    """A broadcast that was asked for from here did not come on air."""

    def __init__(self, channel: str, error: ConsoleError) -> None:
        super().__init__()
        self.channel, self.error = channel, error


class PublishStarted(Message):
    def __init__(self, channel: str) -> None:
        super().__init__()
        self.channel = channel
