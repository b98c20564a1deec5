"""When a drill may begin, what it strikes, and both in words. Pure.

Whoever confirms a drill reads these sentences, and the journal has them too: who is struck, where they can
go, how long that took here before, and what stays as it is.
"""

from collections.abc import Iterable, Sequence

from controlplane.domain.nodes.model import Group, Node
from controlplane.domain.nodes.states import REPORTING
from controlplane.domain.streams.model import Stream, StreamState
from controlplane.wire.drills import Blast, DrillKind, Outcome, Struck, Watched
from controlplane.wire.nodes import NodeState, Role

LONGEST_LAUNCH_S = 1800.0  # by the wall clock, which may have been set

#: Milestones that the sentence at the end is about; the others happen on the way there.
TOLD = frozenset({"viewers", "streams", "whole", "feed"})


def not_whole(groups: Iterable[Group], nodes: Sequence[Node], streams: Iterable[Stream]) -> list[str]:
    """What of a stage is not as it should be, in words. Empty: a drill measures itself alone."""
    found = []
    for group in groups:
        own = [node for node in nodes if (node.role, node.region) == (group.role, group.region)]
        serving = sum(1 for node in own if node.managed and node.state is NodeState.IN_SERVICE)
        if serving < group.desired:
            found.append(f"{serving} of {group.desired} {group.role}s in service")
        found += [f"{node.id} is suspect" for node in own if node.state is NodeState.SUSPECT]
    found += [
        f"{stream.channel} is {stream.state.value}"
        for stream in streams
        if stream.state is not StreamState.LIVE
    ]
    return found


def launch_s(role: Role, nodes: Iterable[Node]) -> float | None:
    """How long launches of a role took: the slowest of the nodes there are. None: none was measured."""
    took = [
        node.in_service_at - node.created_at
        for node in nodes
        if node.managed and node.role is role and node.in_service_at is not None and node.state in REPORTING
    ]
    return min(max(max(took), 0.0), LONGEST_LAUNCH_S) if took else None


def effect(kind: DrillKind, node: str | None, blast: Blast) -> list[str]:
    """The blast radius, in sentences."""
    if kind is DrillKind.KILL_EDGE:
        said = _of_edge(node or "", blast)
    elif kind is DrillKind.KILL_ORIGIN:
        said = _of_origin(node or "", blast)
    else:
        said = _of_manager(blast)
    return [*said, "One of the viewers is the drill's own."] if blast.own else said


def _of_edge(node: str, blast: Blast) -> list[str]:
    if not blast.viewers:
        return [
            f"{node} is killed at once, as a crash would do it. Nobody watches there.",
            _another(Role.EDGE, blast),
            "Nobody should see anything of it.",
        ]
    watched = [it for it in blast.channels if it.viewers]
    said = [f"{_count(it.viewers, 'viewer')} of {it.channel}" for it in watched]
    first = f"{node} is killed at once, as a crash would do it, with {_join(said)} on it."
    live = [it.channel for it in watched if it.live]
    if live:
        whom = _all_of(blast.viewers, "viewer")
        dark = f"{_are(live)} live and {_go(live)} dark for {whom}, for some seconds."
        last = f"{dark} Who watches elsewhere should see nothing of it."
    else:
        last = "Nothing of that is live: nobody sees anything but a wait."
    return [first, _where_to(Role.EDGE, blast.viewers, blast), last]


def _of_origin(node: str, blast: Blast) -> list[str]:
    if not blast.publishers:
        return [
            f"{node} is killed at once, as a crash would do it. Nothing is published there.",
            _another(Role.ORIGIN, blast),
            "Nobody should see anything of it.",
        ]
    names = [it.channel for it in blast.channels]
    watching = sum(it.viewers for it in blast.channels)
    said = [f"{node} is killed at once, as a crash would do it. {_join(names)} {_is(names)} published there."]
    said.append(_where_to(Role.ORIGIN, blast.publishers, blast))
    if blast.strangers:
        said.append(
            f"The {_plural(blast.strangers, 'publisher')} of {_join(blast.strangers)} {_is(blast.strangers)} "
            "not one of ours: back only if it tries again by itself."
        )
    live = blast.live
    if live and watching:
        said.append(
            f"{_are(live)} live and {_go(live)} dark for {_who_watch(watching)}, for some seconds, until "
            "published again; viewers keep their sessions."
        )
    elif live:
        said.append(f"{_are(live)} live, and nobody watches.")
    return said


def _of_manager(blast: Blast) -> list[str]:
    stops = (
        "Until another one answers nobody can join, publish or be moved; the API and every console stand "
        "still, and a node that dies is not replaced."
    )
    goes_on = "Media does not pass it: "
    if blast.viewers or blast.publishers:
        who = [_count(blast.viewers, "viewer")] if blast.viewers else []
        who += [_count(blast.publishers, "publisher")] if blast.publishers else []
        one = blast.viewers + blast.publishers == 1
        goes_on += f"{_join(who)} {'goes' if one else 'go'} on and should see nothing of it."
    else:
        goes_on += "what is on air would go on. Nothing is."
    return [
        "The stream manager is killed at once, as a crash would do it; its supervisor starts it again.",
        stops,
        goes_on,
    ]


def _where_to(role: Role, number: int, blast: Blast) -> str:
    """Where those on a node can go, and when."""
    thing = "viewer" if role is Role.EDGE else "publisher"
    who = _count(number, thing)
    wait = f"until a new {role} is up{_as_measured(blast)}"
    if not blast.others:
        return f"There is no other {role}: {_wait(who, number)} {wait}."
    names = _join(blast.others) if len(blast.others) <= 3 else f"The {len(blast.others)} other {role}s"
    have = "has" if len(blast.others) == 1 else "have"
    if not blast.waiting:
        return f"{names} {have} room for {_all_of(number, thing)}."
    if blast.room == 0:
        return f"{names} {have} no room: {_wait(who, number)} {wait}."
    rest = f"the other {blast.waiting:,}" if blast.waiting > 1 else "the other one"
    return f"{names} {have} room for {blast.room:,} of the {number:,}; {_wait(rest, blast.waiting)} {wait}."


def _another(role: Role, blast: Blast) -> str:
    if blast.others:
        return f"Another {role} takes its place{_as_measured(blast)}."
    what = "watch" if role is Role.EDGE else "publish"
    return f"There is no other {role}: nobody can {what} until a new one is up{_as_measured(blast)}."


def _as_measured(blast: Blast) -> str:
    if blast.launch_s is None:
        return " (no launch was measured here yet)"
    return f", about {blast.launch_s:.1f} s by the launches measured here"


def told(kind: DrillKind, node: str | None, outcome: Outcome) -> str:
    """What came of a drill, in a sentence or two."""
    what = f"{node} was" if kind.role is not None else "The stream manager was"
    if outcome.not_killed:
        return f"{what} not killed: {outcome.not_killed.rstrip('.')}."
    happened = [f"{it.words} after {it.at_s:.1f} s" for it in outcome.milestones if it.name in TOLD]
    seen = _saw(outcome.watched) or (
        f"no picture was watched: {outcome.unwatched}" if outcome.unwatched else ""
    )
    known = [*happened, *([seen] if seen else [])]
    if not outcome.missing and not outcome.stopped:
        return f"{what} killed on purpose: {', '.join(known) or 'all is as before'}."
    end = "the drill was stopped" if outcome.stopped else "this is missing"
    lacking = "; ".join(outcome.missing)
    if outcome.stopped:
        first = f"{what} killed on purpose, and {end} after {outcome.took_s:.1f} s"
        first += f", without {lacking}." if lacking else "."
    else:
        first = f"{what} killed on purpose, and {end} after {outcome.took_s:.1f} s: {lacking}."
    return f"{first} Until then: {', '.join(known)}." if known else first


def _saw(watched: Watched | None) -> str:
    if watched is None:
        return ""
    where = f" on {watched.edge}" if watched.edge else ""
    if not watched.playing:
        return f"a viewer of {watched.channel}{where} has seen nothing for {watched.longest_gap_s:.1f} s"
    return f"a viewer of {watched.channel}{where} saw nothing new for {watched.longest_gap_s:.1f} s"


# words


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _plural(names: Sequence[str], thing: str) -> str:
    return thing if len(names) == 1 else f"{thing}s"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _are(names: Sequence[str]) -> str:
    return f"{_join(names)} {_is(names)}"


def _go(names: Sequence[str]) -> str:
    return "goes" if len(names) == 1 else "go"


def _all_of(number: int, thing: str) -> str:
    return f"that {thing}" if number == 1 else "both" if number == 2 else f"all {number:,}"


def _wait(who: str, number: int) -> str:
    return f"{who} {'waits' if number == 1 else 'wait'}"


def _who_watch(number: int) -> str:
    return "the one who watches" if number == 1 else f"the {number:,} who watch"


def struck(channels: dict[str, int], live: Iterable[str]) -> list[Struck]:
    """Channels with their viewers, those with most first."""
    on_air = set(live)
    order = sorted(channels, key=lambda name: (-channels[name], name))
    return [Struck(channel=name, live=name in on_air, viewers=channels[name]) for name in order]
