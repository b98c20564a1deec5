"""Go or no-go: each line of a preflight as a pure function of what is known.

Green is what is ready; red is what will not be ready in time, or is not known; amber is what is not set up,
or is not due yet. Only red is a no-go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from statistics import median
from zoneinfo import ZoneInfo

from controlplane.domain.events.model import Event
from controlplane.domain.events.times import place, spoken
from controlplane.domain.money.model import Budget
from controlplane.domain.money.rules import Takes
from controlplane.wire.events import CheckView, EventState, Verdict
from controlplane.wire.money import money

SOON_S = 300.0  # before the start: from then on the broadcast has to be on air
SAMPLES = 3  # of a bitrate, a second apart: fewer say nothing
LOWEST, HIGHEST = 0.5, 2.0  # of the median: a bitrate within is steady
QUICK_S, SLOW_S = 0.25, 1.0  # a write of the database
STAGE = "the stage"  # the subject of a line that is about all of its groups

GREEN, AMBER, RED = Verdict.GREEN, Verdict.AMBER, Verdict.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """A node group, and what an event needs of it. Times are Unix seconds."""

    group: str
    role: str
    needed: int  # with the events that are on at the same time
    serving: int
    coming: int  # launching, or launched in a moment; not what is held back
    coming_by: float  # when those are there, by what launches take
    lacking_by: float  # and when the rest could be
    asked_at: float | None  # when the policy asks for them; None: it does not
    has_policy: bool
    launches: bool  # whether this manager launches nodes
    stopped: bool = False  # so many failed that none are launched
    held: str = ""  # why some that are wanted are not launched: the policy's max or cap, the budget
    most: int | None = None
    launch_words: str = ""
    least: int = 0  # that run in any case
    price: Decimal = Decimal(0)  # of a node, an hour
    sign: str = "$"  # of the currency
    cap: Decimal | None = None  # an hour

    def nodes(self, number: int) -> str:
        return f"{number:,} {self.role}{'' if number == 1 else 's'}"


def event_check(event: Event, now: float) -> CheckView:
    state, there = event.state(now), place(event.zone)
    if state is EventState.CANCELLED:
        at = spoken(event.cancelled_at or 0.0, there)
        return _red("event", event.name, f"it was cancelled {at}", "plan another one: showcaller event add")
    if state is EventState.ENDED:
        return _red(
            "event",
            event.name,
            f"it ended {spoken(event.ends_at, there)}",
            "plan another one: showcaller event add",
        )
    verb = "it is on since" if state is EventState.ON else "it begins"
    return _green("event", event.name, f"{verb} {spoken(event.starts_at, there)}")


def nodes_check(crew: Crew, event: Event, now: float) -> CheckView:
    """Whether the crowd has its nodes, or will have them as it comes."""
    have = f"{crew.nodes(crew.serving)} in service"
    if crew.serving >= crew.needed:
        return _green("nodes", crew.group, f"{have}, {crew.needed:,} needed")
    there = place(event.zone)
    if crew.coming:
        have += f" and {crew.coming:,} launching"
    lacking = crew.needed - crew.serving - crew.coming
    if lacking <= 0:
        says = f"{have}, {crew.needed:,} needed, there by {_clock(crew.coming_by, there)}"
        if crew.coming_by <= event.starts_at:
            return _green("nodes", crew.group, says)
        return _red("nodes", crew.group, f"{says}: after the start", _later(event))
    says = f"{have}, {crew.needed:,} needed: {lacking:,} {'is' if lacking == 1 else 'are'} lacking"
    if not crew.launches:
        step = "start them by hand: showcaller node token"
        return _red("nodes", crew.group, f"{says}, and none are launched here", step)
    if crew.stopped:
        step = f"see why: showcaller fleet why {crew.group}, showcaller journal"
        return _red("nodes", crew.group, f"{says}, and too many failed lately", step)
    change = f"showcaller fleet policy set {crew.group}"
    if crew.most is not None and crew.needed > crew.most:
        return _red(
            "nodes",
            crew.group,
            f"{says}, and there may be {crew.most:,} at most",
            f"{change} --max {crew.needed}",
        )
    if crew.held:
        step = f"see what holds them back: showcaller fleet why {crew.group}, showcaller fleet cost"
        return _red("nodes", crew.group, f"{says}, and held back: {crew.held}", step)
    if crew.asked_at is None:
        why = "the policy does not prestage for events" if crew.has_policy else "the group has no policy"
        return _red("nodes", crew.group, f"{says}, and {why}", f"{change} --prestage-events")
    if crew.asked_at > now:
        at = _clock(crew.asked_at, there)
        says = f"{says}; they are asked for at {at} (a launch takes {crew.launch_words})"
        return _amber("nodes", crew.group, says, "nothing: they come by themselves")
    by = f"{says}; they can be there by {_clock(crew.lacking_by, there)}"
    if crew.lacking_by <= event.starts_at:
        return _amber("nodes", crew.group, by, f"ask again then; showcaller fleet why {crew.group}")
    return _red("nodes", crew.group, f"{by}, after the start", _later(event))


def budget_check(crew: Crew, event: Event, budget: Budget) -> CheckView:
    """Whether the policy's cap pays for what the crowd needs. What it may cost without one, `budget` says."""
    an_hour = crew.price * crew.needed
    whole = an_hour * Decimal(event.ends_at - event.starts_at) / 3600
    price, hourly, all_of_it = (money(it, crew.sign) for it in (crew.price, an_hour, whole))
    cost = f"{crew.nodes(crew.needed)} at {price} cost {hourly} an hour, {all_of_it} in all"
    change = f"showcaller fleet policy set {crew.group} --spend-cap"
    if crew.cap is None:
        if budget.is_set:
            return _green("budget", crew.group, f"{cost}; no spend cap is set beside the stage's budget")
        return _amber("budget", crew.group, f"{cost}; no spend cap is set", f"{change} DOLLARS")
    cap = money(crew.cap, crew.sign)
    if an_hour > crew.cap:
        short = f"{cost}: over the cap of {cap} an hour"
        return _red("budget", crew.group, short, f"{change} {_enough(an_hour)}")
    return _green("budget", crew.group, f"{cost}, within the cap of {cap} an hour")


def stage_budget_check(takes: Takes, budget: Budget, event: Event, *, sign: str, held: str = "") -> CheckView:
    """Whether the budget of the stage pays for the nodes and the egress of an event that is not over.

    `held`: why nodes that have to be launched now cannot be, by the budget; empty: they can.
    """
    an_hour, whole = money(takes.hour, sign), money(takes.whole, sign)
    cost = f"nodes and egress cost up to {an_hour} an hour, {whole} in all"
    if not budget.is_set:
        step = "[budget] per_hour and per_month in the manager's settings"
        return _amber("budget", STAGE, f"{cost}; the stage has no budget", step)
    within, over, raised = [], [], []
    if budget.per_hour is not None:
        limit = f"the budget of {money(budget.per_hour, sign)} an hour"
        if takes.hour > budget.per_hour:
            over.append(limit)
            raised.append(f"per_hour to {_enough(takes.hour)}")
        else:
            within.append(limit)
    if budget.per_month is not None:
        for start, spent in takes.months:
            name = f"{datetime.fromtimestamp(start, UTC):%B}"
            limit = f"the {money(budget.per_month, sign)} of {name}, which comes to {money(spent, sign)}"
            (over if spent > budget.per_month else within).append(limit)
        if dear := [spent for _, spent in takes.months if spent > budget.per_month]:
            raised.append(f"per_month to {_enough(max(dear))}")
    if over:
        step = f"raise [budget] {' and '.join(raised)} in the manager's settings, or make it smaller: "
        step += f"showcaller event edit {event.name} --expected PEOPLE"
        return _red("budget", STAGE, f"{cost}: over {' and '.join(over)}", step)
    if held:
        step = "raise [budget] in the manager's settings, or drain what is not needed: "
        step += "showcaller fleet drain NODE"
        return _red("budget", STAGE, f"{cost}, but nothing is launched now: {held}", step)
    return _green("budget", STAGE, f"{cost}, within {' and '.join(within)}")


def _enough(amount: Decimal) -> str:
    """A number for the settings that `amount` is within."""
    return f"{amount.quantize(Decimal('0.01'), ROUND_CEILING)}"


def publisher_check(
    event: Event, now: float, state: str | None, samples: Sequence[float | None]
) -> CheckView:
    """Whether the broadcast is on air and steady. `samples` are its bitrates in bps, a second apart; None: it
    is not known. `state` is that of the live stream; None: nothing is on air."""
    channel = event.channel
    if state is None:
        return not_on_air("publisher", channel, event.starts_at, now, channel)
    if state != "live":
        step = f"look at the publisher: showcaller journal, showcaller streams stop {channel}"
        return _red("publisher", channel, f"{channel} is {state}", step)
    known = [it for it in samples if it is not None]
    if len(known) < SAMPLES:
        return _red("publisher", channel, "its bitrate is not known yet", "ask again in some seconds")
    usual, least, most = median(known), min(known), max(known)
    said = f"{_mbps(usual)} Mbps, from {_mbps(least)} to {_mbps(most)} in the last {len(known)} s"
    if usual <= 0 or least < LOWEST * usual or most > HIGHEST * usual:
        return _red("publisher", channel, f"it is not steady: {said}", "look at its uplink and its source")
    return _green("publisher", channel, said)


def not_on_air(check: str, subject: str, starts_at: float, now: float, channel: str) -> CheckView:
    """Nothing is on air: that is in order until a while before the start."""
    step = f"showcaller publish SOURCE --channel {channel}"
    if starts_at - now > SOON_S:
        says = f"nothing is on air on {channel} yet; it has to be {SOON_S / 60:.0f} min before the start"
        return _amber(check, subject, says, step)
    return _red(check, subject, f"nothing is on air on {channel}", step)


def database_check(took_s: float | None, error: str = "") -> CheckView:
    """`took_s`: of a write that was committed; None: it could not be, `error` says why."""
    if took_s is None:
        step = "free some disk space, or end who holds it"
        return _red("database", "", f"it cannot be written: {error}", step)
    says = f"a write took {took_s * 1000:.0f} ms"
    if took_s > SLOW_S:
        return _red("database", "", says, "look at the disk it is on, and who else writes there")
    if took_s > QUICK_S:
        return _amber("database", "", says, "look at the disk it is on")
    return _green("database", "", says)


def unset(subject: str, says: str, step: str) -> CheckView:
    """What is not configured."""
    return _amber("settings", subject, says, step)


def is_go(checks: Sequence[CheckView]) -> bool:
    return all(it.verdict is not RED for it in checks)


def _green(check: str, subject: str, says: str) -> CheckView:
    return CheckView(check=check, subject=subject, verdict=GREEN, says=says)


def _amber(check: str, subject: str, says: str, step: str) -> CheckView:
    return CheckView(check=check, subject=subject, verdict=AMBER, says=says, next=step)


def _red(check: str, subject: str, says: str, step: str) -> CheckView:
    return CheckView(check=check, subject=subject, verdict=RED, says=says, next=step)


def _later(event: Event) -> str:
    return f"begin later: showcaller event edit {event.name} --start WHEN"


def _clock(at: float, there: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(at, there):%H:%M:%S} {there.key}"


def _mbps(bps: float) -> str:
    return f"{bps / 1e6:.2f}"
