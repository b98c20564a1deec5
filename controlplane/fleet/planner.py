"""`plan(snapshot, policy, now)`: what a node group needs, and why, in words.

    more    while load > alarm x capacity x (in service + launching), so many increments; at once, and without
            periods and cooldowns, when there are fewer nodes than the floor (min, or what is prestaged)
            also an increment when no node has room for somebody who is on one that drains, as the parties are
    less    one node, while load <= in_fraction x capacity x (n - 1), and never below the floor
            also, at once, what is wanted beyond max and is not there: after max was lowered, or a node that
            was added beyond it has died

What is wanted and held back, because it would be beyond the cap or the budget, carries nothing; it is
the first that is given up when there is too much.

Up comes before down, and all periods must agree. What is wanted may be held back, in this order: launching
has been stopped by faults; a cooldown runs; max; the spend cap; the stage's budget; so many launches are
under way. Nobody is ended while a node of the group is silent: missing figures are not a small load; nor
while those on it would fit nowhere, or not as the parties they are: another node would have to be added for
them, and would be ended in its turn.

A decision says what was wanted beside what is done, so that whoever keeps the count of periods (Past) needs
nothing else: `after` is the next evaluation's Past.
"""

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Literal

from controlplane.domain.nodes.rules import within_cap
from controlplane.fleet.snapshot import NO_PAST, Candidate, Past, Snapshot
from controlplane.wire.fleet import Policy
from controlplane.wire.money import hourly, money

Kind = Literal["add", "drain"]
Outcome = Literal["add", "drain", "held", "steady"]


@dataclass(frozen=True, slots=True)
class Action:
    kind: Kind
    count: int
    node: str | None = None  # which one to drain; none: one less is wanted, of those not launched yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    outcome: Outcome
    because: str  # one sentence
    actions: tuple[Action, ...] = ()
    wanted: int = 0  # nodes: above 0 more, below 0 less, held back or not
    held_by: str = ""  # a word for what held it back: "cooldown", "max", "cap" ...
    after: Past = NO_PAST


def plan(snapshot: Snapshot, policy: Policy, now: float) -> Decision:
    """See the module's docstring. `now` is in seconds, of any clock; the policy is one without faults."""
    needed = _needed(snapshot, policy)
    floor = max(policy.min, snapshot.around.floor)
    if (beyond := min(snapshot.around.held, snapshot.wanted - policy.max)) > 0:
        return _given_up(snapshot, policy, beyond)
    lacking = max(0, floor - snapshot.counted)
    if needed or lacking:
        return _more(snapshot, policy, now, needed, lacking)
    if _too_many(snapshot, policy, floor):
        return _less(snapshot, policy, now)
    if snapshot.around.held:
        return _held_back(snapshot, policy)
    past = replace(snapshot.past, agreed_up=0, agreed_down=0)
    return Decision(outcome="steady", because=f"{_filled(snapshot, policy)}.", after=past)


def _needed(snapshot: Snapshot, policy: Policy) -> int:
    """How many more nodes bring the load down to the alarm; whole increments."""
    a_node = policy.alarm * policy.capacity
    if snapshot.load <= a_node * snapshot.supplying:
        return policy.increment if snapshot.around.unplaced and not snapshot.launching else 0
    nodes = int((snapshot.load / a_node).to_integral_value(ROUND_CEILING)) - snapshot.supplying
    return -(-nodes // policy.increment) * policy.increment


def _too_many(snapshot: Snapshot, policy: Policy, floor: int) -> bool:
    rest = snapshot.supplying + snapshot.around.held - 1
    return (
        rest >= 0
        and snapshot.wanted - 1 >= floor
        and snapshot.load <= policy.in_fraction * policy.capacity * rest
    )


def _more(snapshot: Snapshot, policy: Policy, now: float, needed: int, lacking: int) -> Decision:
    past, around = snapshot.past, snapshot.around
    agreed = past.agreed_up + 1 if needed else 0
    after = replace(past, agreed_up=agreed, agreed_down=0)
    cooling = _left(past.last_up, policy.up_cooldown_s, now)
    # What is lacking is not waited for; while a cooldown runs, it is all there is.
    ready = needed if agreed >= policy.up_periods and not (lacking and cooling) else 0
    if lacking >= ready:
        count, why = lacking, _lacks(snapshot, policy, lacking)
    else:
        count, why = needed, _short_of(snapshot, policy)
        if policy.up_periods > 1:
            why += f", in {policy.up_periods} of {policy.up_periods} periods"
    if not count:
        why = _short_of(snapshot, policy)
        return Decision(
            outcome="steady",
            because=f"{why}, in {agreed} of {policy.up_periods} periods so far.",
            wanted=needed,
            after=after,
        )

    def held(word: str, reason: str) -> Decision:
        because = f"Wants +{count}: {why}; held: {reason}."
        return Decision(outcome="held", because=because, wanted=count, held_by=word, after=after)

    if around.stopped:
        return held("faults", f"too many {snapshot.called} nodes failed lately, none are launched")
    if cooling and not lacking:
        return held("cooldown", f"the cooldown of the last launch runs for {_seconds(cooling)} more")
    limits = [
        *_limits(snapshot, policy),
        (policy.launches - snapshot.launching, "launching", _launching_words(snapshot, policy)),
    ]
    granted = min(count, *(room for room, _, _ in limits))
    if granted <= 0:
        word, reason = next((word, reason) for room, word, reason in limits if room <= 0)
        return held(word, reason)
    word = reason = ""
    if granted < count:
        word, reason = next((word, reason) for room, word, reason in limits if room == granted)
        reason = f"; {count} were wanted, but {reason}"
    return Decision(
        outcome="add",
        because=f"+{granted}: {why}{reason}{_costs(snapshot, granted)}.",
        actions=(Action("add", granted),),
        wanted=count,
        held_by=word,
        after=replace(after, agreed_up=0, last_up=now),
    )


def _limits(snapshot: Snapshot, policy: Policy) -> list[tuple[int, str, str]]:
    """What nodes there may be more: how many, a word for what says so, and its reason."""
    room = snapshot.around.budget_room
    cap = within_cap(policy, snapshot.around.price, snapshot.paid)
    return [
        (policy.max - snapshot.counted, "max", _most_words(snapshot, policy)),
        (policy.max if cap is None else cap, "cap", _cap_words(snapshot, policy)),
        (policy.max if room is None else room, "budget", snapshot.around.budget_because),
    ]


def _given_up(snapshot: Snapshot, policy: Policy, beyond: int) -> Decision:
    """It was never launched, or has died: nobody is ended, and no cooldown begins."""
    absent = "1 that is not there is" if beyond == 1 else f"{beyond} that are not there are"
    wanted = f"{snapshot.wanted} {_nodes(snapshot, snapshot.wanted)}"
    verb = "was" if snapshot.wanted == 1 else "were"
    return Decision(
        outcome="drain",
        because=f"-{beyond}: {wanted} {verb} wanted, of at most {policy.max}: {absent} given up.",
        actions=(Action("drain", beyond),),
        wanted=-beyond,
        held_by="max",
        after=snapshot.past,
    )


def _held_back(snapshot: Snapshot, policy: Policy) -> Decision:
    """The load does not ask for them now; whoever wanted them did, as for one that has died."""
    held = snapshot.around.held
    limits = _limits(snapshot, policy)
    word, reason = next(((word, reason) for room, word, reason in limits if room <= 0), limits[-1][1:])
    verb = "is" if snapshot.counted == 1 else "are"
    there = f"{snapshot.counted} of {snapshot.wanted} {_nodes(snapshot, snapshot.wanted)} {verb} there"
    return Decision(
        outcome="held",
        because=f"Wants +{held}: {there}; held: {reason}.",
        wanted=held,
        held_by=word,
        after=replace(snapshot.past, agreed_up=0, agreed_down=0),
    )


def _less(snapshot: Snapshot, policy: Policy, now: float) -> Decision:
    past = snapshot.past
    if snapshot.silent:  # old figures agree with nothing: the periods begin anew with fresh ones
        return Decision(
            outcome="held",
            because=f"Would end one, held: no fresh figures of {', '.join(snapshot.silent[:3])}.",
            wanted=-1,
            held_by="metrics",
            after=replace(past, agreed_up=0, agreed_down=0),
        )
    agreed = past.agreed_down + 1
    after = replace(past, agreed_up=0, agreed_down=agreed)
    rest = snapshot.supplying + snapshot.around.held - 1
    share = _percent(policy.in_fraction)
    why = (
        f"{_amount(snapshot.load)} fit into {share} of {rest} {_nodes(snapshot, rest)} "
        f"({_amount(policy.in_fraction * policy.capacity * rest)})"
    )
    if agreed < policy.down_periods:
        return Decision(
            outcome="steady",
            because=f"{why}, in {agreed} of {policy.down_periods} periods so far.",
            wanted=-1,
            after=after,
        )

    def held(word: str, reason: str) -> Decision:
        because = f"Wants -1: {why}; held: {reason}."
        return Decision(outcome="held", because=because, wanted=-1, held_by=word, after=after)

    if people := snapshot.around.unplaced:
        whom = "1 who is" if people == 1 else f"{people} who are"
        return held("room", f"{whom} moved off another {snapshot.called} found no room so far")
    if left := max(_left(at, policy.down_cooldown_s, now) for at in (past.last_up, past.last_down)):
        return held("cooldown", f"the cooldown of the last change runs for {_seconds(left)} more")
    victim = choose_victim(snapshot.candidates)
    if victim is None:
        return held("kept", f"each {snapshot.called} has the last copy of a stream, or was started by hand")
    if victim.room is not None and victim.seats > victim.room:
        there = max(0, victim.room)
        return held("room", f"there are {there} seats for the {victim.seats} on {victim.node}")
    if victim.scattered:
        return held("room", f"the party of {victim.party} on {victim.node} may fit on no other as a whole")
    if policy.down_periods > 1:
        why += f", in {policy.down_periods} of {policy.down_periods} periods"
    if not victim.node:
        whom = "one that was wanted is not launched"
    elif victim.reported:
        whom = f"{victim.node} has {_amount(victim.load)}, the least"
    else:
        whom = f"{victim.node} has never reported"
    return Decision(
        outcome="drain",
        because=f"-1: {why}; {whom}{_costs(snapshot, -1)}.",
        actions=(Action("drain", 1, victim.node or None),),
        wanted=-1,
        after=replace(after, agreed_down=0, last_down=now),
    )


def word(decision: Decision) -> str:
    """As in: +2, -1, held +1."""
    number = sum(it.count if it.kind == "add" else -it.count for it in decision.actions)
    return f"{number:+d}" if number else f"held {decision.wanted:+d}"


def choose_victim(candidates: tuple[Candidate, ...]) -> Candidate | None:
    """Who is ended: first who never reported, then who carries least, then the youngest; nobody who has the
    last copy of a live stream."""
    free = [it for it in candidates if not it.kept]
    return min(free, key=lambda it: (bool(it.node), it.reported, it.load, it.age_s, it.node), default=None)


def _left(last: float | None, cooldown_s: float, now: float) -> float:
    """Seconds of a cooldown that are left. What lies in the future was before the clock was set back."""
    if last is None or not 0 <= now - last < cooldown_s:
        return 0.0
    return cooldown_s - (now - last)


# words


def _costs(snapshot: Snapshot, nodes: int) -> str:
    """What it adds to the bill, or takes off; nothing where nodes cost nothing."""
    price = snapshot.around.price * nodes
    return f"; {hourly(price, snapshot.around.currency)}" if price else ""


def _filled(snapshot: Snapshot, policy: Policy) -> str:
    supply = policy.capacity * snapshot.supplying
    load = _amount(snapshot.load)
    waiting = f", {_amount(snapshot.waiting)} of them waiting," if snapshot.waiting else ""
    if not supply:
        return f"{load}{waiting} and nothing to carry them" if snapshot.load else "No load and no nodes"
    return (
        f"{load}{waiting} of {_amount(Decimal(supply))} is {_percent(snapshot.load / supply, policy.alarm)}"
    )


def _short_of(snapshot: Snapshot, policy: Policy) -> str:
    """Why more are needed, where the floor is not the reason."""
    filled = _filled(snapshot, policy)
    if snapshot.load > policy.alarm * policy.capacity * snapshot.supplying:
        return f"{filled}, over the alarm of {_percent(policy.alarm)}"
    people = snapshot.around.unplaced
    verb = "finds" if people == 1 else "find"
    return f"{filled}, but {people} who {'is' if people == 1 else 'are'} moved off {verb} no room"


def _lacks(snapshot: Snapshot, policy: Policy, lacking: int) -> str:
    floor = lacking + snapshot.counted
    why = snapshot.around.floor_because if floor > policy.min else "the least there may be"
    verb = "is" if snapshot.counted == 1 else "are"
    return f"{snapshot.counted} of {floor} {_nodes(snapshot, floor)} {verb} there ({why})"


def _most_words(snapshot: Snapshot, policy: Policy) -> str:
    verb = "is" if snapshot.counted == 1 else "are"
    return f"{snapshot.counted} of at most {policy.max} {verb} there"


def _cap_words(snapshot: Snapshot, policy: Policy) -> str:
    if policy.spend_cap is None:
        return ""
    sign = snapshot.around.currency
    have = f"{snapshot.paid} at {money(snapshot.around.price, sign)} an hour"
    return f"{have} and one more would be over the cap of {money(policy.spend_cap, sign)}"


def _launching_words(snapshot: Snapshot, policy: Policy) -> str:
    verb = "is" if snapshot.launching == 1 else "are"
    return f"{snapshot.launching} {verb} being launched, of at most {policy.launches} at once"


def _nodes(snapshot: Snapshot, number: int) -> str:
    return snapshot.called if number == 1 else f"{snapshot.called}s"


def _amount(value: Decimal) -> str:
    """1,204 or 1,204.5"""
    return f"{_tenths(value):,f}"


def _percent(share: Decimal, beside: Decimal | None = None) -> str:
    """As in: 60.3 %. Also where it is only a little above `beside`, or below, it is not the same in words."""
    shown = _tenths(share * 100)
    if beside is not None and share != beside and shown == _tenths(beside * 100):
        shown = (share * 100).quantize(Decimal("0.001"), ROUND_UP if share > beside else ROUND_DOWN)
    return f"{shown:f} %"


def _tenths(value: Decimal) -> Decimal:
    rounded = value.quantize(Decimal("0.1"), ROUND_HALF_UP)
    return rounded.quantize(Decimal(1)) if rounded == rounded.to_integral_value() else rounded


def _seconds(value: float) -> str:
    return f"{max(1, round(value))} s"
