"""What of a recovery has happened: a pure fold of the live feed's states.

A drill is over when all goals of its kind are reached:

    kill-edge      noticed, another one asked for, its viewers back (and media to all of them), group whole
    kill-origin    noticed, another one asked for, its channels live again, the viewers fed, group whole
    kill-manager   noticed, the API answers, the feed resumes, channels live, viewers counted, groups whole

Nothing counts before the death is noticed, or another manager heard: until then everything looks as before.
"""

from collections.abc import Callable

from console.core.model import State
from console.core.units import count
from controlplane.wire.drills import Drill, DrillKind, Milestone
from controlplane.wire.nodes import NodeState, Role

UP = frozenset({NodeState.IN_SERVICE, NodeState.SUSPECT, NodeState.DRAINING})

Goal = Callable[[State], str]  # words once it is reached, empty before


class Recovery:
    def __init__(self, drill: Drill, before: State) -> None:
        """`before`: the state when the kill was ordered."""
        self.milestones: list[Milestone] = []
        self._drill, self._before = drill, before
        self._state = before
        self._live = [it.channel for it in before.streams.values() if it.state == "live"]
        if drill.kind is DrillKind.KILL_ORIGIN:
            self._live = [it for it in self._live if it in drill.blast.live]
        self._everybody = self._viewers = _watching(before)
        if drill.kind is DrillKind.KILL_EDGE:
            struck = before.nodes.get(drill.node or "")
            self._viewers = 0 if struck is None else struck.connections or 0
        self._open = self._goals()

    def _goals(self) -> dict[str, Goal]:
        outside: Goal = lambda state: ""  # noqa: E731  what the feed cannot tell: see `reach`
        goals: dict[str, Goal] = {}
        if self._drill.node is None:
            goals |= {"noticed": outside, "api": outside, "feed": self._feed}
        else:
            goals |= {"noticed": self._noticed, "asked": self._asked}
        if self._live and self._drill.kind is not DrillKind.KILL_EDGE:
            goals["streams"] = self._streams
        if self._viewers:
            goals["viewers"] = self._all_back
        return goals | {"whole": self._whole}

    @property
    def done(self) -> bool:
        return not self._open

    @property
    def viewers(self) -> tuple[int, int]:
        """How many of those who were struck are back, of how many."""
        elsewhere = self._everybody - self._viewers
        return max(0, min(self._viewers, _watching(self._state) - elsewhere)), self._viewers

    def follow(self, state: State, at_s: float) -> list[Milestone]:
        """What has happened by this state, `at_s` seconds after the kill was ordered."""
        self._state = state
        new: list[Milestone] = []
        for name, reached in list(self._open.items()):
            first = "noticed" if self._drill.node else "feed"
            if first in self._open and name != first:
                continue
            if words := reached(state):
                new.append(self._note(name, words, at_s))
        return new

    def reach(self, name: str, words: str, at_s: float) -> Milestone | None:
        """What was seen otherwise than by the feed; None when it was known."""
        return self._note(name, words, at_s) if name in self._open else None

    def _note(self, name: str, words: str, at_s: float) -> Milestone:
        del self._open[name]
        return self.note(name, words, at_s)

    def note(self, name: str, words: str, at_s: float) -> Milestone:
        """Something that is no goal of its own."""
        self.milestones.append(Milestone(name=name, at_s=round(at_s, 3), words=words))
        return self.milestones[-1]

    def missing(self) -> list[str]:
        """What has not happened, in words."""
        back, of = self.viewers
        role = self._drill.kind.role or "node"
        words = {
            "noticed": f"that the death of {self._drill.node or 'the stream manager'} is noticed",
            "asked": f"a launch of another {role}",
            "api": "an answer of the API",
            "feed": "the live feed",
            "streams": f"{_join(self._live)} live",
            "viewers": f"{of - back:,} of {count(of, 'viewer')} (or they have left)",
            "whole": f"another {role} in service" if self._drill.node else "all nodes in service",
        }
        if back == of:
            words["viewers"] = f"media for {count(of, 'viewer')}"
        return [words[name] for name in self._open]

    def progress(self) -> str:
        """The same for one line while it goes on."""
        back, of = self.viewers
        words = {
            "noticed": "its death to be noticed",
            "asked": "a launch",
            "api": "the API",
            "feed": "the feed",
            "streams": f"{_join(self._live)} live",
            "viewers": f"viewers {back:,}/{of:,}",
            "whole": f"another {self._drill.kind.role}" if self._drill.node else "all nodes",
        }
        return ", ".join(words[name] for name in self._open)

    # the goals

    def _noticed(self, state: State) -> str:
        node = state.nodes.get(self._drill.node or "")
        return "" if node is not None and node.state in UP else "noticed"

    def _asked(self, state: State) -> str:
        new = self._new(state)
        return f"{_join(new)} asked for" if new else ""

    def _feed(self, state: State) -> str:
        return "the feed goes on" if state.epoch != self._before.epoch else ""

    def _streams(self, state: State) -> str:
        if not all(_is_live(state, channel) for channel in self._live):
            return ""
        again = "" if self._drill.node is None else " again"
        return f"{_join(self._live)} live{again}"

    def _all_back(self, state: State) -> str:
        back, of = self.viewers
        if back < of or any(stream.starved for stream in state.streams.values()):
            return ""
        if not all(_is_live(state, channel) for channel in self._live):
            return ""
        what = {DrillKind.KILL_EDGE: "back", DrillKind.KILL_ORIGIN: "fed again"}
        own = f" ({'' if of == 1 else 'one is '}the drill's own)" if self._drill.blast.own else ""
        return f"{back:,} of {count(of, 'viewer')} {what.get(self._drill.kind, 'still there')}{own}"

    def _whole(self, state: State) -> str:
        role = self._drill.kind.role
        groups = [group for group in state.groups.values() if role is None or group.role == role]
        if not groups or any(group.in_service < group.desired for group in groups):
            return ""
        if role is None:
            number = sum(group.in_service for group in groups)
            return f"{number} of {count(number, 'node')} in service"
        new = [name for name in self._new(state) if state.nodes[name].state is NodeState.IN_SERVICE]
        return f"{_join(new)} in service" if new else f"all {role}s in service"

    def _new(self, state: State) -> list[str]:
        role = self._drill.kind.role
        return [
            node.id
            for node in state.nodes.values()
            if node.role == role and node.id not in self._before.nodes
        ]


def _watching(state: State) -> int:
    """Who is connected to edges: by the nodes' rows, for a node that dies takes its own along at once."""
    return sum(node.connections or 0 for node in state.nodes_of(Role.EDGE) if node.state in UP)


def _is_live(state: State, channel: str) -> bool:
    stream = state.streams.get(channel)
    return stream is not None and stream.state == "live" and not stream.starved


def _join(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
