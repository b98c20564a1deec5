"""The rows of Events, what is said of one, and the lines of a preflight. Pure."""

from collections.abc import Sequence

from console.core.when import show_moment, show_span, until
from console.screens.shared import figures, words
from console.screens.shared.table import Column, Row
from console.screens.shared.view import View
from console.screens.shared.words import Line
from controlplane.wire.events import EventState, EventView, PreflightView, Verdict
from controlplane.wire.nodes import Role

COLUMNS = (
    Column("event", "event", 6),
    Column("title", "title", 14, grows=True),
    Column("state", "state", 21, most=24),
    Column("when", "when", 16, most=21),
    Column("channel", "channel", 12, rank=2),
    Column("crowd", "expected", 9, right=True, rank=1),
    Column("zone", "zone", 16, rank=3),
)

LOOKS: dict[EventState, words.Look] = {
    EventState.COMING: words.Look("…", "coming", "$accent"),
    EventState.ON: words.Look("●", "on", "$air"),
    EventState.ENDED: words.Look("○", "ended", "$muted"),
    EventState.CANCELLED: words.Look("✗", "cancelled", "$muted"),
}

VERDICTS: dict[Verdict, words.Look] = {
    Verdict.GREEN: words.Look("●", "green", "$good"),
    Verdict.AMBER: words.Look("▲", "amber", "$warn"),
    Verdict.RED: words.Look("✗", "red", "bold $bad"),
}


def countdown(event: EventView, now: float) -> str:
    """ "in 2 days", "ends in 40 min", "5 min ago"."""
    state = state_at(event, now)
    if state is EventState.COMING:
        return until(event.starts_at, now)
    if state is EventState.ON:
        return f"ends {until(event.ends_at, now)}"
    cancelled = state is EventState.CANCELLED and event.cancelled_at is not None
    return until(event.cancelled_at or 0.0 if cancelled else event.ends_at, now)


def state_at(event: EventView, now: float) -> EventState:
    """By the clock: the manager's word for it is up to a second old."""
    if event.state is EventState.CANCELLED:
        return event.state
    if now >= event.ends_at:
        return EventState.ENDED
    return EventState.ON if now >= event.starts_at else EventState.COMING


def in_order(events: Sequence[EventView], now: float) -> list[EventView]:
    """What is on and to come, the next one first; then what is over, the last one first."""
    due = [it for it in events if state_at(it, now) in (EventState.ON, EventState.COMING)]
    over = [it for it in events if it not in due]
    return sorted(due, key=lambda it: it.starts_at) + sorted(over, key=lambda it: -it.starts_at)


def row(event: EventView, now: float) -> Row:
    look = LOOKS[state_at(event, now)]
    over = look.style == "$muted"
    cells: dict[str, Line] = {
        "event": [(event.id, "$muted" if over else "bold")],
        "title": [(figures.harmless(event.title), "$muted" if over else "")],
        "state": [(f"{look.glyph} {look.word}", look.style), (f" {countdown(event, now)}", "$muted")],
        "when": [(show_moment(event.starts_at, event.zone, now, seconds=False), "$muted" if over else "")],
        "channel": [(event.channel, "$muted" if over else "")],
        "crowd": [(figures.count(event.crowd), "$muted" if over else "")],
        "zone": [(event.zone, "$muted")],
    }
    return Row(event.id, cells)


def searched(event: EventView) -> str:
    """What the filter looks at."""
    return f"{event.id} {event.title} {event.state} {event.channel} {event.zone}"


def title(events: Sequence[EventView], now: float) -> str:
    """ "Events: 1 on, 2 to come, the next in 2 h 05"."""
    states = [state_at(event, now) for event in events]
    parts = []
    if on := states.count(EventState.ON):
        parts.append(f"{on} on")
    coming = [it for it, state in zip(events, states, strict=True) if state is EventState.COMING]
    if coming:
        first = min(it.starts_at for it in coming)
        parts += [f"{len(coming)} to come", f"the next {until(first, now)}"]
    return f"Events: {', '.join(parts)}" if parts else "Events"


def about_lines(event: EventView, view: View) -> list[Line]:
    """The chosen event: when it is in full, its broadcast, its crowd against the room there is."""
    now = view.now
    look = LOOKS[state_at(event, now)]
    span = show_span(event.starts_at, event.ends_at, event.zone, now)
    lines: list[Line] = [
        [(figures.harmless(event.title), "bold")],
        [(f"{look.glyph} {look.word} ", look.style), (f"{span}, {countdown(event, now)}", "")],
        [("channel ", "$muted"), (event.channel, "bold"), *on_air(event, view)],
    ]
    if event.state is EventState.CANCELLED:
        because = figures.harmless(event.cancel_reason)
        lines.append([(f"cancelled: {because}" if because else "cancelled, without a reason", "$muted")])
        return lines
    room = view.load(Role.EDGE)
    lines.append(
        [
            ("expected ", "$muted"),
            (figures.count(event.crowd), "bold"),
            (f"   {figures.plural(room.in_service, 'edge')} in service, ", "$muted"),
            (
                f"room for {figures.count(room.capacity)}",
                "$muted" if room.capacity >= event.crowd else "$warn",
            ),
        ]
    )
    if state_at(event, now) is not EventState.ENDED:
        asked = "" if event.checked_at is None else f"preflight {until(event.checked_at, now)}; "
        lines.append([(asked, "$muted"), ("p", "bold $accent"), (" asks whether it can begin", "$muted")])
    return lines


def on_air(event: EventView, view: View) -> Line:
    stream = view.state.streams.get(event.channel)
    if stream is None:
        return [("   not on air", "$muted")]
    look = words.stream(stream.state)
    return [
        ("   ", ""),
        (f"{look.glyph} {look.word}", look.style),
        (f" {figures.rate(stream.bitrate_bps)}", ""),
    ]


def preflight_lines(view: PreflightView) -> list[Line]:
    """Each line with its verdict, its reason, and below it what to do."""
    red = sum(1 for it in view.checks if it.verdict is Verdict.RED)
    amber = sum(1 for it in view.checks if it.verdict is Verdict.AMBER)
    what = f"{figures.plural(red, 'line is', 'lines are')} red" if red else "nothing is red"
    more = f", {amber} amber" if amber else ""
    lines: list[Line] = [
        [("GO", "bold $good") if view.go else ("NO-GO", "bold $bad"), (f": {what}{more}.", "bold")],
        [],
    ]
    for it in sorted(
        view.checks, key=lambda it: it.verdict is not Verdict.RED
    ):  # what holds it up comes first
        look = VERDICTS[it.verdict]
        name = f"{it.check} {it.subject}".rstrip()
        lines.append([(f"{look.glyph} {look.word:<5} ", look.style), (f"{name}: ", "bold"), (it.says, "")])
        if it.next:
            lines.append([(f"        next: {it.next}", "$muted")])
    return lines


def cancel_lines(event: EventView, now: float) -> list[Line]:
    when = f"it is on, and ends {until(event.ends_at, now)}." if event.starts_at <= now else ""
    when = when or f"it begins {until(event.starts_at, now)}."
    return [
        [(f"{event.id} {figures.harmless(event.title)}: ", "bold"), (when, "")],
        [(f"{event.crowd:,} people are expected. Nothing is prestaged for it any more;", "")],
        [("a broadcast that is on air goes on. This cannot be taken back.", "")],
    ]
