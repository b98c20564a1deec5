"""The rows and lines of the inside of a node. Pure."""

from collections.abc import Sequence

from console.screens.shared import figures, words
from console.screens.shared.table import Column, Row
from console.screens.shared.view import View
from console.screens.shared.words import Line
from controlplane.wire.api import NodeDetail, NodeInside
from controlplane.wire.nodes import SessionKind, SessionReport, WorkerInfo

KINDS = {
    SessionKind.WHIP: "publisher in",
    SessionKind.WHEP: "viewer out",
    SessionKind.RELAY_OUT: "relay out",
    SessionKind.RELAY_IN: "relay in",
}
WORKERS_SHOWN = 4  # one by one
COLUMNS = (
    Column("id", "session", 10),
    Column("kind", "kind", 12),
    Column("channel", "channel", 10),
    Column("state", "state", 11),
    Column("bitrate", "bitrate", 9, right=True),
    Column("loss", "loss", 7, right=True, rank=1),
    Column("round", "round trip", 10, right=True, rank=3),
    Column("jitter", "jitter", 7, right=True, rank=5),
    Column("takes", "can take", 9, right=True, rank=3),
    Column("nacks", "nacks", 6, right=True, rank=4),
    Column("plis", "plis", 5, right=True, rank=4),
    Column("remote", "remote", 15, rank=2, grows=True),
)


def row(session: SessionReport) -> Row:
    cells: dict[str, Line] = {
        "id": [(session.id[:8], "bold")],
        "kind": [(KINDS.get(session.kind, str(session.kind)), "")],
        "channel": [(session.channel, "")],
        "state": [
            (
                f"{'●' if session.state == 'connected' else '…'} {session.state}",
                "$good" if session.state == "connected" else "$muted",
            )
        ],
        "bitrate": [(figures.rate(session.bitrate_bps), "")],
        "loss": [(figures.loss(session.loss), "bold $warn" if (session.loss or 0.0) > 0.01 else "")],
        "round": [(figures.milliseconds(session.rtt_ms), "")],
        "jitter": [(figures.milliseconds(session.jitter_ms), "")],
        "takes": [(figures.rate(session.estimate_bps), "")],
        "nacks": [(figures.count(session.nacks), "")],
        "plis": [(figures.count(session.plis), "")],
        "remote": [(remote(session), "$muted")],
    }
    return Row(session.id, cells)


def remote(session: SessionReport) -> str:
    """Where the peer is; how it is reached only where that is not the usual way."""
    where = session.remote or "-"
    return f"{where} tcp" if (session.transport or "").startswith("tcp") else where


def searched(session: SessionReport) -> str:
    kind = KINDS.get(session.kind, "")
    return f"{session.id} {session.kind} {kind} {session.channel} {session.state} {remote(session)}"


def node_lines(node: NodeDetail, view: View, inside: NodeInside | None, width: int) -> list[Line]:
    """The node itself: state and why, what it carries, how it was measured."""
    look = words.node(node.state)
    reason = f": {node.state_reason}" if node.state_reason else ""
    since = f" for {figures.age(view.now - node.state_since)}"
    fraction = (node.connections or 0) / node.capacity if node.capacity else None
    full, empty = figures.bar(max(8, min(30, width - 50)), fraction)
    lines: list[Line] = [
        [
            (f"{look.glyph} {look.word}{since}", f"bold {look.style}"),
            (figures.clip(reason, width - 24), "$muted"),
        ],
        [
            ("connections ", "$muted"),
            (f"{figures.count(node.connections)} / {figures.count(node.capacity)} ", "bold"),
            (full, words.load(fraction)),
            (empty, "$muted"),
            (f"   reserved {node.reserved}", "$muted"),
            (can_take(node, width), "$muted"),
        ],
        [
            ("egress ", "$muted"),
            (f"{figures.rate(node.egress_bps):<10}", "bold"),
            ("ingress ", "$muted"),
            (f"{figures.rate(node.ingress_bps):<10}", "bold"),
            ("loss ", "$muted"),
            (f"{figures.loss(node.loss):<8}", ""),
            ("cpu ", "$muted"),
            (f"{figures.share(node.cpu):<6}", ""),
            ("loop ", "$muted"),
            (figures.milliseconds(node.loop_delay_ms), ""),
        ],
    ]
    gso = {True: "batched sends (GSO)", False: "plain sends (no GSO)", None: ""}[node.gso]
    made = "" if node.launch_s is None else f"in service after {figures.age(node.launch_s)}"
    facts = [
        f"{node.role} in {node.region}",
        f"pid {node.pid}" if node.pid else "",
        node.version or "",
        made,
        gso,
    ]
    lines.append([("  ".join(fact for fact in facts if fact), "$muted")])
    return lines + worker_lines(inside.workers if inside else [], width)


def worker_lines(workers: Sequence[WorkerInfo], width: int) -> list[Line]:
    """The first few one by one, and how many there are."""
    lines: list[Line] = []
    for worker in workers[:WORKERS_SHOWN]:
        text = (
            f"worker {worker.index}: pid {worker.pid}, UDP port {worker.udp_port}, {worker.fingerprint[:23]}…"
        )
        lines.append([(figures.clip(text, width), "")])
    if len(workers) > WORKERS_SHOWN:
        more = figures.plural(len(workers) - WORKERS_SHOWN, "more worker")
        lines.append([(figures.clip(f"and {more}, {len(workers)} in all", width), "$muted")])
    return lines


def can_take(node: NodeDetail, width: int) -> str:
    """What the ways of its viewers can take; where there is room to say it."""
    if node.estimate_p10_bps is None or width < 100:
        return ""
    return f"   nine viewers in ten can take {figures.rate(node.estimate_p10_bps)}"


def stream_lines(inside: NodeInside, width: int) -> list[Line]:
    lines: list[Line] = []
    for stream in inside.streams:
        size = f"{stream.width}x{stream.height} " if stream.width else ""
        fps = "-" if stream.fps is None else f"{stream.fps:.1f}"
        key = "" if stream.keyframe_age_s is None else f"  key frame {figures.age(stream.keyframe_age_s)} ago"
        text = (
            f"{stream.kind:<9} {stream.state:<8} {size}{stream.video_codec or ''}"
            f" {figures.rate(stream.bitrate_bps)}  {fps} fps  {figures.plural(stream.viewers, 'viewer')}{key}"
        )
        lines.append([(f"{stream.channel:<10} ", "bold"), (figures.clip(text, max(10, width - 11)), "")])
    return lines or [[("No stream on this node.", "$muted")]]


def counted(sessions: Sequence[SessionReport]) -> str:
    """ "Sessions: 3 viewer out, 1 relay in"."""
    numbers = {kind: sum(s.kind == kind for s in sessions) for kind in KINDS}
    parts = [f"{number} {KINDS[kind]}" for kind, number in numbers.items() if number]
    return "Sessions: " + (", ".join(parts) or "none")
