"""The Fleet's rows, the lines of Why, and what a drain would do. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from console.core.effects import drain_words, on_node
from console.screens.shared import costs, figures, words
from console.screens.shared.table import Column, Row
from console.screens.shared.view import COMING, SERVING, View
from console.screens.shared.words import Line
from controlplane.wire.api import DRAIN_S, NodeDetail
from controlplane.wire.nodes import NodeState, Role

COLUMNS = (
    Column("node", "node", 10),
    Column("state", "state", 20),
    Column("connections", "connections", 16, grows=True),
    Column("egress", "egress", 6, right=True, rank=1),
    Column("loss", "loss", 6, right=True, rank=2),
    Column("cpu", "cpu", 5, right=True, rank=3),
    Column("round", "round trip", 10, right=True, rank=5),
    Column("delay", "loop", 7, right=True, rank=6),
    Column("report", "report", 6, right=True, rank=1),
    Column("age", "node age", 8, right=True, rank=4),
    Column("version", "version", 8, rank=7),
    Column("pid", "pid", 7, right=True, rank=8),
)
HOLDS = (*SERVING, NodeState.TERMINATING)


def state_line(node: NodeDetail, now: float) -> Line:
    """The state and its age; of a drain how long until its deadline, for its age stands in Why."""
    look = words.node(node.state)
    text = f"{look.glyph} {look.word}"
    if node.state == NodeState.DRAINING and node.drain_deadline is not None:
        left = max(0, int(node.drain_deadline - now))
        text += f" {left // 60}:{left % 60:02d} left"
        if node.drain is not None and node.drain.waits:
            return [(f"▲ {look.word}, waits", "bold $warn")]
    else:
        text += f" {figures.age(now - node.state_since)}"
    return [(text, look.style)]


def row(node: NodeDetail, view: View, bar_width: int) -> Row:
    report_age = None if node.age_s is None else node.age_s + (view.age_s or 0.0)
    if node.connections is None or node.state not in HOLDS:
        reserved = f", {node.reserved} on their way" if node.reserved else ""
        room = f"room for {figures.count(node.capacity)}{reserved}" if node.state in COMING else "-"
        connections: Line = [(room, "$muted")]
    else:
        fraction = node.connections / node.capacity if node.capacity else None
        numbers = f"{figures.count(node.connections)}/{figures.count(node.capacity)}"
        full, empty = figures.bar(max(4, bar_width - 1 - max(7, len(numbers))), fraction)
        connections = [(full, words.load(fraction)), (empty, "$muted"), (f" {numbers:>7}", "")]
    cells: dict[str, Line] = {
        "node": [(node.id, "bold")],
        "state": state_line(node, view.now),
        "connections": connections,
        "egress": [(figures.short_rate(node.egress_bps), "")],
        "loss": [(figures.loss(node.loss), "bold $warn" if (node.loss or 0.0) > 0.01 else "")],
        "cpu": [(figures.share(node.cpu), "")],
        "round": [(figures.milliseconds(node.rtt_ms), "")],
        "delay": [(figures.milliseconds(node.loop_delay_ms), "")],
        "report": [(figures.age(report_age), "bold $warn" if (report_age or 0.0) > 3 else "$muted")],
        "age": [(figures.age(view.now - node.created_at), "$muted")],
        "version": [(node.version or "-", "$muted")],
        "pid": [(str(node.pid or "-"), "$muted")],
    }
    return Row(node.id, cells)


def drains(nodes: Iterable[NodeDetail], width: int, now: float) -> list[Line]:
    """How the drains of these go, a paragraph each, for above the journal."""
    lines: list[Line] = []
    for node in nodes:
        if node.drain is not None and node.drain.viewers:
            mark, style = ("▲", "bold $warn") if node.drain.waits else ("▼", "bold")
            age = figures.age(now - node.state_since)
            text = f"{mark} {node.id}, draining for {age}: {drain_words(node.drain)}."
            lines += words.wrap([(text, style)], width)
    return lines


def searched(node: NodeDetail) -> str:
    """What the filter looks at."""
    return (
        f"{node.id} {node.role} {node.region} {words.node(node.state).word} {node.state} {node.version or ''}"
    )


def title(view: View) -> str:
    """ "origin: 1 in service, 1/20   edge: 2 in service, 3/800 (400 connections, 60 %, 1..10, +1)"."""
    parts = []
    for role in view.roles():
        load = view.load(role)
        extra = f", {load.coming} coming" if load.coming else ""
        extra += f", {load.draining} draining" if load.draining else ""
        policies = {group.policy for group in view.state.groups.values() if group.role == role} - {None}
        policy = f" ({policies.pop()})" if len(policies) == 1 else " (policies)" if policies else ""
        full = f"{load.connections}/{figures.count(load.capacity)}"
        parts.append(f"{role}: {load.in_service} in service{extra}, {full}{policy}")
    return "   ".join(parts) or "Nodes"


@dataclass(frozen=True, slots=True)
class DrainEffect:
    """What draining one node does, as far as it can be told beforehand."""

    node: str
    role: Role
    viewers: int
    before: int
    after: int
    room: int  # free places on the other nodes of the role
    others: tuple[str, ...]
    last: bool  # none of the role would be left in service
    saves: str = ""  # an hour; empty: nothing, or it is not known


def drain_effect(node: NodeDetail, view: View) -> DrainEffect:
    peers = [n for n in view.nodes if n.role == node.role and n.state == NodeState.IN_SERVICE]
    others = [n for n in peers if n.id != node.id]
    return DrainEffect(
        node=node.id,
        role=node.role,
        viewers=node.connections or 0,
        before=len(peers),
        after=len(others),
        room=sum(max(0, n.capacity - (n.connections or 0)) for n in others),
        others=tuple(n.id for n in others),
        last=not others,
        saves=costs.saves(view.state.money),
    )


def drain_s(node: NodeDetail, view: View) -> float:
    """How long a drain of it lasts at most where nothing else is said."""
    group = view.state.groups.get((node.role, node.region))
    return DRAIN_S if group is None else group.drain_s


def drain_lines(effect: DrainEffect) -> list[Line]:
    """The effect and its scope in words, for the dialog."""
    lines: list[Line] = [
        [
            (f"{effect.node}: {figures.plural(effect.viewers, on_node(effect.role))}; ", "bold"),
            (f"{effect.before} -> {effect.after} {effect.role}s", "bold"),
        ],
    ]
    if effect.role is Role.EDGE:
        moved = "No new viewers come to it, and its own are moved at once, without a break. "
        over = "It ends when it is empty, or at the deadline: who is still there then begins anew."
        lines.append([(moved + over, "")])
    else:
        then = "what is still published to it then is published again, to another one."
        lines.append(
            [(f"No new broadcasts come to it. It ends when it is empty, or at the deadline: {then}", "")]
        )
    if effect.last:
        lines.append([(f"▲ It is the last {effect.role} in service: there is nowhere to go.", "bold $warn")])
    else:
        names = ", ".join(effect.others[:3]) + (
            f" and {len(effect.others) - 3} more" if len(effect.others) > 3 else ""
        )
        lines.append(
            [("They go to ", ""), (names, "bold"), (f". Room there: {figures.count(effect.room)}.", "")]
        )
        if effect.room < effect.viewers:
            lines.append([("▲ That is not room enough for all of them: add one first (+).", "bold $warn")])
    if effect.saves:
        lines.append([("Saves ", ""), (effect.saves, "bold"), (" an hour once it has ended.", "")])
    return lines
